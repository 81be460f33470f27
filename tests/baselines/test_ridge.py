import numpy as np
import pandas as pd
import pytest

from bayestl.baselines.ridge import RidgeInteractions
from bayestl.data.options import Boolean, Real
from bayestl.data.space import ConfigSpace
from bayestl.data.table import MeasurementTable

SPACE = ConfigSpace({"a": Real(0, 1), "b": Real(0, 1), "on": Boolean()})


def test_main_effects_and_interactions_are_recovered():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.random(60), "b": rng.random(60), "on": rng.random(60) < 0.5})
    log_y = 1 + 2 * frame["a"] - frame["b"] + 1.5 * frame["a"] * frame["on"]
    frame["latency"], frame["environment"] = np.exp(log_y), "board"
    table = MeasurementTable.from_frame(frame, options=SPACE, metrics={"latency": "ms"})
    fitted = RidgeInteractions().fit(table.select(np.arange(40)), metric="latency", target="board")
    prediction = fitted.predict(frame[list(SPACE.names)].iloc[40:])
    np.testing.assert_allclose(prediction["q50"], frame["latency"].iloc[40:], rtol=0.02)
    assert (prediction["q95"] / prediction["q05"]).median() == pytest.approx(1.0, abs=0.05)

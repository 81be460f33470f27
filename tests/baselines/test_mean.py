import numpy as np
import pytest

from bayestl.baselines.mean import Mean


def test_it_is_the_geometric_mean_of_the_target_everywhere(measure, fresh):
    table = measure(30, 9, noise=0.2)
    values = table.of("board").frame["latency"]
    prediction = Mean().fit(table, metric="latency", target="board").predict(fresh)
    np.testing.assert_allclose(prediction["q50"], np.exp(np.log(values).mean()))
    plain = Mean(transform="identity").fit(table, metric="latency", target="board")
    assert plain.predict(fresh)["mean"].iloc[0] == pytest.approx(values.mean())

"""botorch's process behind the socket: in the metric's unit, repeatable, and it learns."""

import numpy as np
import pandas as pd
import pytest

from bayestl.data.options import Real
from bayestl.data.table import MeasurementTable
from bayestl.errors import FitError, UnknownEnvironment
from experiments.botorch_rival import BotorchMultiTaskGP

RECIPE = BotorchMultiTaskGP(source_rows=24, iterations=60)


def table(n_target):
    """Two sources and a target whose latency is theirs times a factor."""
    rng = np.random.default_rng(0)
    frames = []
    for name, factor, n in (("one", 1.0, 20), ("two", 50.0, 20), ("new", 4.0, n_target)):
        a, b = rng.random(n), rng.integers(2, size=n).astype(bool)
        latency = factor * np.exp(np.sin(3 * a) + 0.5 * b)
        frames.append(pd.DataFrame({"a": a, "b": b, "environment": name, "latency": latency}))
    return MeasurementTable.from_frame(
        pd.concat(frames), options={"a": Real(0, 1), "b": None}, metrics={"latency": "ms"}
    )


def fit(data, **arguments):
    return RECIPE.fit(data, metric="latency", target="new", **arguments)


def test_it_learns_from_few_points_and_a_seed_decides_what_it_is():
    data, test = table(8), table(60).of("new")
    fitted = fit(data, seed=1)
    predicted = fitted.predict(test.configurations())
    assert list(predicted.columns) == ["mean", "std", "q05", "q50", "q95"]
    assert np.median(np.abs(predicted["q50"] / test.frame["latency"] - 1)) < 0.1
    assert (fitted.diagnostics.n_source, fitted.diagnostics.n_target) == (24, 8)
    pd.testing.assert_frame_equal(predicted, fit(data, seed=1).predict(test.configurations()))


def test_what_it_cannot_answer_is_a_clear_error():
    with pytest.raises(FitError, match="measurements of 'latency' in 'new', got none"):
        fit(table(8).select(range(40)))
    with pytest.raises(UnknownEnvironment, match="fitted for 'new' alone"):
        fit(table(3)).predict([{"a": 0.5, "b": True}], environment="one")


def test_its_posterior_is_what_it_predicts_with():
    fitted, test = fit(table(8), seed=1), table(60).of("new").configurations()
    belief, predicted = fitted.posterior(test), fitted.predict(test)
    assert belief.covariance.shape == (60, 60)
    np.testing.assert_allclose(np.exp(belief.mean), predicted["q50"])
    std = np.sqrt(belief.variance + belief.noise_variance)
    np.testing.assert_allclose(np.exp(belief.mean + std * 1.6448536), predicted["q95"], rtol=1e-6)

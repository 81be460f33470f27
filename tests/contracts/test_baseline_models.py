"""Laws that every baseline and transfer strategy keeps as a `Model`, on tables of any size."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from bayestl.baselines.estimator import lasso, support_vectors
from bayestl.baselines.mean import Mean
from bayestl.baselines.ridge import RidgeInteractions
from bayestl.baselines.sparse_network import SparseNetwork
from bayestl.baselines.trees import BoostedTrees, PooledBoostedTrees, RandomForest
from bayestl.data.environment import Environment
from bayestl.data.options import Boolean, Categorical, Ordinal
from bayestl.data.space import ConfigSpace
from bayestl.data.table import MeasurementTable
from bayestl.errors import ConfigurationError, FitError, TableError, UnknownEnvironment
from bayestl.models.model import HasPosterior
from bayestl.transfer.bellwether import Bellwether
from bayestl.transfer.guided_sampling import GuidedSampling
from bayestl.transfer.model_shift import DirectTransfer, LinearShift, NonlinearShift, OffsetShift
from bayestl.transfer.sequential_network import SequentialMetaLearning
from bayestl.transfer.source_values import SourceValuesRidge

SPACE = ConfigSpace(
    {
        "batch": Ordinal((1, 2, 4, 8, 16, 32, 64, 128)),
        "mode": Categorical(("a", "b", "c")),
        "arena": Boolean(),
        "spin": Boolean(),
        "constant": Categorical(("only",)),
    },
    conditions={"spin": "mode == 'a'"},
)
TARGET_ONLY = [
    RandomForest(trees=60),
    BoostedTrees(),
    RidgeInteractions(),
    Mean(),
    support_vectors(),
    lasso(),
    SparseNetwork(width=16, steps=60),
]
FOREST = RandomForest(trees=30)
STRATEGIES = [
    DirectTransfer(FOREST),
    OffsetShift(FOREST),
    LinearShift(FOREST),
    NonlinearShift(FOREST, trees=60),
    SourceValuesRidge(),
    GuidedSampling(),
    GuidedSampling(prior="source"),
    Bellwether(LinearShift(FOREST), judge=FOREST),
    SequentialMetaLearning(width=8, steps=20),
]
ALL = [*TARGET_ONLY, PooledBoostedTrees(), *STRATEGIES]
BLIND = (Mean, DirectTransfer)  # to the options, or to how the target differs


def each(recipes):
    return pytest.mark.parametrize("recipe", recipes, ids=lambda recipe: type(recipe).__name__)


EVERY = each(ALL)


def configurations(n, seed):
    """n distinct configurations."""
    rng, result = np.random.default_rng(seed), {}
    while len(result) < n:
        values = {name: o.at(rng.random()) for name, o in SPACE.options.items() if name != "spin"}
        if values["mode"] == "a":
            values["spin"] = bool(rng.random() < 0.5)
        config = SPACE.configuration(values)
        result[SPACE.key(config)] = config
    return list(result.values())


def table(n_source=64, n_target=12, seed=0, shift=0.0):
    rows = []
    for place, (environment, n) in enumerate((("laptop", n_source), ("board", n_target))):
        rng = np.random.default_rng((seed, place))
        for config in configurations(n, rng.integers(1 << 30)):
            y = (1 + (environment == "board")) * config["batch"] ** 0.8
            y *= {"a": 1, "b": 2, "c": 0.7}[config["mode"]] * np.exp(0.05 * rng.normal())
            rows.append({**config, "environment": environment, "latency": y + shift})
    return MeasurementTable.from_frame(
        pd.DataFrame(rows),
        options=SPACE,
        metrics={"latency": "ms"},
        environments=[Environment("laptop"), Environment("board")],
    )


def fit(recipe, data, **arguments):
    return recipe.fit(data, metric="latency", target="board", **arguments)


def on_logarithms(recipe):
    if isinstance(recipe, Bellwether):
        return replace(recipe, strategy=on_logarithms(recipe.strategy))
    return replace(recipe, transform="log")


@EVERY
@pytest.mark.parametrize("n_target", [1, 2, 3, 4, 5, 25])
def test_a_prediction_is_a_frame_in_the_metrics_unit(recipe, n_target):
    fitted = fit(recipe, table(n_target=n_target))
    frame = SPACE.frame(configurations(15, 5)).set_axis(list("abcdefghijklmno"))
    prediction = fitted.predict(frame)
    assert list(prediction.columns) == ["mean", "std", "q05", "q50", "q95"]
    assert prediction.index.equals(frame.index)
    assert np.isfinite(prediction).all(axis=None)
    assert (prediction > 0).all(axis=None)
    assert (prediction["q05"] < prediction["q50"]).all()
    assert (prediction["q50"] < prediction["q95"]).all()
    pd.testing.assert_frame_equal(prediction, fitted.predict(frame, environment="board"))
    assert not isinstance(fitted, HasPosterior)
    few = any("not calibrated" in warning for warning in fitted.diagnostics.warnings)
    assert few == (n_target < 5)


@EVERY
def test_quantiles_are_those_asked_for(recipe):
    fitted = fit(recipe, table())
    prediction = fitted.predict(configurations(4, 5), quantiles=[0.01, 0.25, 0.975])
    assert list(prediction.columns) == ["mean", "std", "q01", "q25", "q97.5"]
    assert (prediction["q01"] <= prediction["q25"]).all()
    with pytest.raises(ValueError, match="between 0 and 1"):
        fitted.predict(configurations(1, 5), quantiles=[1.5])
    assert fitted.predict([]).shape == (0, 5)


@EVERY
def test_mean_and_std_are_those_of_a_log_normal_with_the_central_68_percent(recipe):
    prediction = fit(recipe, table(n_target=20)).predict(
        configurations(10, 5), quantiles=[0.159, 0.5, 0.841]
    )
    spread = np.log(prediction["q84.1"] / prediction["q15.9"]) / 2
    mean = prediction["q50"] * np.exp(spread**2 / 2)
    np.testing.assert_allclose(prediction["mean"], mean)
    np.testing.assert_allclose(prediction["std"], mean * np.sqrt(np.expm1(spread**2)), rtol=1e-6)


@EVERY
def test_a_fit_is_determined_by_its_rows_and_seed_whatever_their_order(recipe):
    data, fresh = table(), configurations(10, 5)
    first = fit(recipe, data, seed=3).predict(fresh)
    pd.testing.assert_frame_equal(first, fit(recipe, data, seed=3).predict(fresh))
    reverse = data.select(np.arange(len(data))[::-1])
    pd.testing.assert_frame_equal(first, fit(recipe, reverse, seed=3).predict(fresh))


@EVERY
def test_the_unit_of_the_metric_scales_the_prediction(recipe):
    data, fresh = table(), configurations(10, 5)
    frame = data.frame.assign(latency=data.frame["latency"] * 1024)
    other = MeasurementTable(frame, data.space, data.environments, data.metrics)
    first, second = fit(recipe, data).predict(fresh) * 1024, fit(recipe, other).predict(fresh)
    pd.testing.assert_frame_equal(first, second, rtol=1e-6)


@EVERY
def test_intervals_cover_new_measurements(recipe):
    inside = []
    for seed in range(6):
        test = table(1, 60, seed=seed + 100).of("board")
        y = test.frame["latency"].to_numpy()
        prediction = fit(recipe, table(n_target=20, seed=seed)).predict(test.configurations())
        inside += [*((prediction["q05"] <= y) & (y <= prediction["q95"]))]
    assert 0.82 < np.mean(inside) < 0.99


@each([recipe for recipe in ALL if not isinstance(recipe, BLIND)])
def test_it_learns(recipe):
    test = table(1, 60, seed=9).of("board")
    y = test.frame["latency"].to_numpy()
    prediction = fit(recipe, table(n_target=40)).predict(test.configurations())
    assert np.median(np.abs(prediction["q50"] / y - 1)) < 0.25


@EVERY
def test_values_that_are_not_positive_are_fitted_without_a_logarithm(recipe):
    fitted = fit(recipe, table(shift=-20.0))
    prediction = fitted.predict(configurations(20, 5))
    assert (prediction["q05"] < 0).any()
    assert (prediction["q05"] < prediction["q95"]).all()
    assert any("not positive" in warning for warning in fitted.diagnostics.warnings)
    with pytest.raises(FitError, match="log"):
        fit(on_logarithms(recipe), table(shift=-20.0))


@EVERY
def test_constant_measurements_predict_their_constant(recipe):
    data = table()
    frame = data.frame.assign(latency=7.0)
    fitted = fit(recipe, MeasurementTable(frame, data.space, data.environments, data.metrics))
    np.testing.assert_allclose(fitted.predict(configurations(5, 5))["q50"], 7.0, rtol=1e-3)


@EVERY
def test_where_no_option_varies_the_measurements_still_speak(recipe):
    rows = [
        {"mode": "only", "environment": environment, "latency": 5 + 0.1 * repeat}
        for environment in ("laptop", "server", "board")
        for repeat in range(5)
    ]
    data = MeasurementTable.from_frame(
        pd.DataFrame(rows),
        options=ConfigSpace({"mode": Categorical(("only",))}),
        metrics={"latency": "ms"},
    )
    prediction = fit(recipe, data).predict([{"mode": "only"}])
    assert prediction["q50"].item() == pytest.approx(5.2, rel=0.02)


@EVERY
def test_diagnostics_say_what_the_fit_stood_on(recipe):
    data = table(n_target=12)
    frame = data.frame.copy()
    frame.loc[frame.index[-3:], ["status", "latency"]] = ["timeout", np.nan]
    fitted = fit(recipe, MeasurementTable(frame, data.space, data.environments, data.metrics))
    diagnostics = fitted.diagnostics
    assert diagnostics.model == str(recipe)
    assert diagnostics.n_target == 9
    assert diagnostics.n_source == (0 if recipe in TARGET_ONLY else 64)
    assert diagnostics.dropped == {"timeout": 3}
    assert fitted.metric.unit == "ms"
    assert fitted.target == "board"


@EVERY
def test_bad_requests_are_clear_errors(recipe):
    data = table()
    with pytest.raises(TableError, match="unknown metric 'energy'"):
        recipe.fit(data, metric="energy", target="board")
    with pytest.raises(UnknownEnvironment, match="unknown environment 'moon'"):
        recipe.fit(data, metric="latency", target="moon")
    for seed in ("a", -1, None, 2**64):
        with pytest.raises(FitError, match="expected a seed as a whole number"):
            recipe.fit(data, metric="latency", target="board", seed=seed)
    fitted = fit(recipe, data)
    with pytest.raises(UnknownEnvironment, match="fit it with target='laptop'"):
        fitted.predict(configurations(1, 0), environment="laptop")
    with pytest.raises(ConfigurationError, match="batch"):
        fitted.predict([{"batch": 3}])


@EVERY
def test_every_seed_that_a_process_takes_is_one(recipe):
    data = table(n_source=16, n_target=6)
    fitted = recipe.fit(data, metric="latency", target="board", seed=2**64 - 1)
    assert fitted.diagnostics.n_target


@each(TARGET_ONLY)
def test_a_target_without_measurements_is_an_error_that_says_what_to_do(recipe):
    with pytest.raises(FitError, match=r"in 'board', got none; measure some.*TransferGP"):
        fit(recipe, table(n_target=0))


@each(STRATEGIES)
def test_a_strategy_predicts_before_the_target_is_measured(recipe):
    fitted = fit(recipe, table(n_target=0))
    prediction = fitted.predict(configurations(9, 5))
    assert (prediction["q95"] > 3 * prediction["q50"]).all()
    assert fitted.diagnostics.n_target == 0
    assert any("nothing was measured" in warning for warning in fitted.diagnostics.warnings)


@each(STRATEGIES)
def test_a_strategy_without_a_source_is_an_error_that_says_what_to_do(recipe):
    with pytest.raises(FitError, match=r"in a source environment, got none.*TargetOnlyGP"):
        fit(recipe, table(n_source=0))

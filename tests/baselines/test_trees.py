import sys

import numpy as np
import pytest

from bayestl.baselines.trees import BoostedTrees, PooledBoostedTrees, RandomForest
from bayestl.errors import FitError
from bayestl.models.observations import Observations
from bayestl.models.regression import Examples


def fitted(recipe, table):
    return recipe.fit(table, metric="latency", target="board")


def error(model, fresh, true_ms):
    return np.abs(model.predict(fresh)["q50"] / true_ms - 1).mean()


@pytest.mark.parametrize("recipe", [BoostedTrees(), PooledBoostedTrees()])
def test_a_missing_library_says_what_to_install(recipe, measure, monkeypatch):
    monkeypatch.setitem(sys.modules, "xgboost", None)
    with pytest.raises(FitError, match=r'pip install "\.\[boost\]"'):
        fitted(recipe, measure(5, 5))


def test_pooling_a_good_source_helps(measure, fresh, true_ms):
    def ratio(seed):
        table = measure(60, 8, seed=seed)
        pooled, alone = fitted(PooledBoostedTrees(), table), fitted(BoostedTrees(), table)
        return error(pooled, fresh, true_ms) / error(alone, fresh, true_ms)

    assert np.mean([ratio(seed) for seed in range(3)]) < 0.7


def test_pooling_works_before_the_target_is_measured(measure, fresh):
    model = fitted(PooledBoostedTrees(), measure(40, 0))
    prediction = model.predict(fresh)
    assert (prediction["q95"] > 3 * prediction["q50"]).all()
    assert model.diagnostics.n_source == 40
    assert model.diagnostics.n_target == 0
    assert any("not calibrated" in warning for warning in model.diagnostics.warnings)


@pytest.mark.parametrize("recipe", [RandomForest(), BoostedTrees()])
def test_a_target_only_model_is_blind_to_sources(recipe, measure, fresh):
    table = measure(30, 12)
    first, second = fitted(recipe, table), fitted(recipe, table.of("board"))
    assert first.predict(fresh).equals(second.predict(fresh))
    assert first.diagnostics.n_source == 0


def test_the_forest_judges_a_point_by_trees_that_did_not_draw_it(measure):
    table = measure(0, 20)
    model = fitted(RandomForest(trees=50), table)
    row = Examples.of(Observations.of(table.of("board"), "latency", "board", "auto")).repeats_row
    samples = model.regressor.estimators_samples_  # type: ignore[attr-defined]
    for tree, drawn in enumerate(samples):
        seen = np.isin(row, drawn)
        assert seen.any()
        assert not seen.all()
        assert (model.held_out.shares[seen, tree] == 0).all()
        assert (model.held_out.shares[~seen, tree] > 0).all()


@pytest.mark.parametrize(
    ("recipe", "parameters"),
    [
        (RandomForest, {"trees": 0}),
        (BoostedTrees, {"rounds": 0}),
        (BoostedTrees, {"learning_rate": float("nan")}),
        (PooledBoostedTrees, {"depth": -1}),
    ],
)
def test_ensembles_of_nothing_are_refused(recipe, parameters):
    with pytest.raises(FitError, match="expected at least one"):
        recipe(**parameters)

"""Ranking-weighted ensembles where it is known which process ranks the target."""

import numpy as np
import pandas as pd
import pytest

from bayestl.data.table import MeasurementTable
from bayestl.errors import FitError, UnknownEnvironment
from bayestl.models.gp import TargetOnlyGP
from bayestl.transfer.source_ensemble import RankingWeightedEnsemble, ranking_weights

EVERYWHERE = range(60)


def fit(table, recipe=None, **arguments):
    recipe = recipe or RankingWeightedEnsemble(draws=64)
    return recipe.fit(table, metric="latency", target="board", **arguments)


def weights(fitted):
    return fitted.diagnostics.details["weights"]


def error(fitted, grid, log_latency):
    return float(np.abs(np.log(fitted.predict(grid)["q50"].to_numpy()) - log_latency).mean())


def said(fitted):
    return " | ".join(fitted.diagnostics.warnings)


def test_a_process_weighs_as_often_as_it_loses_least_and_ties_are_shared():
    losses = np.array([[1, 3, 3], [4, 2, 2], [1, 1, 1], [3, 2, 4]])
    np.testing.assert_allclose(
        ranking_weights(losses), [(1 + 1 / 3) / 4, (0.5 + 1 / 3 + 1) / 4, (0.5 + 1 / 3) / 4]
    )


def test_a_source_that_ranks_clearly_worse_than_the_target_has_no_weight():
    losses = np.array([[9, 3, 4]] * 9 + [[0, 3, 4]])
    np.testing.assert_allclose(ranking_weights(losses), [0, 1, 0])
    losses = np.array([[5, 6, 4]] * 10)
    np.testing.assert_allclose(ranking_weights(losses), [0, 0, 1])


def test_the_source_that_ranks_as_the_target_does_is_believed(tabulate, truth, some, grid):
    rng = np.random.default_rng(2)
    table = tabulate(
        ("right", EVERYWHERE, truth),
        ("misleading", EVERYWHERE, rng.permutation(truth)),
        ("board", some(12), truth + 1),
    )
    fitted = fit(table)
    assert weights(fitted)["right"] > 0.8
    assert weights(fitted)["misleading"] == 0
    assert sum(weights(fitted).values()) == pytest.approx(1)
    assert fitted.diagnostics.details["offset"]["right"] == pytest.approx(1, abs=0.02)
    alone = TargetOnlyGP().fit(table, metric="latency", target="board")
    assert error(fitted, grid, truth + 1) < 0.5 * error(alone, grid, truth + 1)


def test_with_misleading_sources_alone_the_target_speaks_for_itself(tabulate, truth, some, grid):
    rng = np.random.default_rng(3)
    table = tabulate(
        *((f"wrong {i}", EVERYWHERE, rng.permutation(truth)) for i in range(3)),
        ("board", some(30), truth + 1),
    )
    fitted = fit(table)
    assert weights(fitted)["board"] > 0.95
    alone = TargetOnlyGP().fit(table, metric="latency", target="board")
    assert error(fitted, grid, truth + 1) < error(alone, grid, truth + 1) + 0.05


@pytest.mark.parametrize("n", [0, 1, 2])
def test_with_too_few_points_the_sources_count_alike(n, tabulate, truth, some, grid):
    table = tabulate(
        ("slow", EVERYWHERE, truth + 1),
        ("fast", EVERYWHERE, truth - 1),
        ("board", some(n), truth + 0.5),
    )
    fitted = fit(table)
    assert weights(fitted) == {"slow": 0.5, "fast": 0.5}
    assert error(fitted, grid, truth + (0.5 if n else 0.0)) < 0.05
    assert "all 2 sources count" in said(fitted)
    assert "wide by assumption" in said(fitted)
    assert ("nothing was measured" in said(fitted)) == (n == 0)


def test_intervals_are_those_of_the_mixture_and_cover(tabulate, truth, some, grid):
    rng = np.random.default_rng(4)
    different = truth + 1 + 0.3 * rng.normal(size=60)  # the source is wrong by that everywhere
    rows = some(20)
    table = tabulate(("laptop", EVERYWHERE, truth), ("board", rows, different))
    fresh = np.setdiff1d(np.arange(60), rows)
    prediction = fit(table).predict(grid.iloc[fresh], quantiles=(0.05, 0.95))
    y = np.exp(different[fresh])
    inside = (prediction["q05"] <= y) & (y <= prediction["q95"])
    assert 0.75 <= inside.mean() < 1


def test_a_fit_is_determined_by_its_rows_whatever_their_order(tabulate, truth, some, grid):
    rows = np.append(some(6), some(6)[:2])  # with repeats
    table = tabulate(("laptop", EVERYWHERE, truth), ("board", rows, 2 * truth), noise=0.1)
    first = fit(table, seed=3)
    reverse = table.select(np.arange(len(table))[::-1])
    pd.testing.assert_frame_equal(first.predict(grid), fit(reverse, seed=3).predict(grid))
    assert first.diagnostics.n_target == 8
    assert first.diagnostics.n_source == 60
    assert first.predict([]).shape == (0, 5)


def test_values_that_are_not_positive_are_fitted_without_a_logarithm(tabulate, truth, some, grid):
    table = tabulate(("laptop", EVERYWHERE, truth), ("board", some(6), truth + 1))
    frame = table.frame.assign(latency=np.log(table.frame["latency"]) - 3)
    moved = MeasurementTable(frame, table.space, table.environments, table.metrics)
    fitted = fit(moved)
    assert "not positive" in said(fitted)
    assert np.abs(fitted.predict(grid)["q50"] - (truth - 2)).mean() < 0.1
    with pytest.raises(FitError, match="log"):
        fit(moved, RankingWeightedEnsemble(transform="log"))


def test_bad_requests_are_clear_errors(tabulate, truth, some):
    table = tabulate(("laptop", range(20), truth), ("board", some(3), truth + 1))
    with pytest.raises(FitError, match="none outside 'board'"):
        fit(table.of("board"))
    with pytest.raises(FitError, match="at least one draw"):
        RankingWeightedEnsemble(draws=0)
    with pytest.raises(UnknownEnvironment, match="fit it with target='laptop'"):
        fit(table).predict([{"threads": 1}], environment="laptop")

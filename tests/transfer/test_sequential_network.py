"""Sequential meta-learning where it is known which source should come last."""

import numpy as np
import pandas as pd
import pytest

from bayestl.baselines.sparse_network import SparseNetwork
from bayestl.errors import FitError
from bayestl.transfer.sequential_network import CAREFUL_RATE, SequentialMetaLearning

EVERYWHERE = range(60)
SMALL = SequentialMetaLearning(width=16, steps=150)


def fit(recipe, table, **arguments):
    return recipe.fit(table, metric="latency", target="board", **arguments)


def error(fitted, grid, log_latency):
    return float(np.abs(np.log(fitted.predict(grid)["q50"].to_numpy()) - log_latency).mean())


@pytest.fixture
def sources(tabulate, truth, some):
    """(points) -> three sources, of which one is misleading and one noisy, and the target."""

    def table(points):
        rng = np.random.default_rng(1)
        return tabulate(
            ("clean", EVERYWHERE, truth),
            ("misleading", EVERYWHERE, -2 * truth),
            ("noisy", EVERYWHERE, truth + 0.1 * rng.normal(size=60)),
            ("board", some(points), truth + 1),
        )

    return table


def test_the_least_useful_source_comes_first_and_the_target_profits(sources, truth, grid):
    table = sources(6)
    fitted = fit(SMALL, table)
    details = fitted.diagnostics.details
    assert details["sequence"][0] == "misleading"
    assert max(details["errors"], key=details["errors"].get) == "misleading"
    assert fitted.diagnostics.n_source == 180
    alone = fit(SparseNetwork(width=16, steps=150), table)
    assert error(fitted, grid, truth + 1) < 0.7 * error(alone, grid, truth + 1)


@pytest.mark.parametrize("n", [0, 1, 3])
def test_with_few_points_it_is_the_sources_network_moved_to_their_level(
    n, tabulate, truth, some, grid
):
    table = tabulate(("laptop", EVERYWHERE, truth), ("board", some(n), truth + 1))
    fitted = fit(SMALL, table)
    assert error(fitted, grid, truth + (1 if n else 0)) < 0.2
    details = fitted.diagnostics.details
    assert details["rate"] == CAREFUL_RATE
    assert details["sequence"] == ("laptop",)
    assert details["errors"] == {}
    said = " ".join(fitted.diagnostics.warnings)
    assert ("nothing was measured" in said) == (n == 0)
    assert "not calibrated" in said


def test_a_target_that_differs_is_learnt(tabulate, truth, some, grid):
    table = tabulate(("laptop", EVERYWHERE, truth), ("board", some(40), 5 - truth))
    fitted = fit(SMALL, table)
    assert error(fitted, grid, 5 - truth) < 0.25 * np.std(truth)
    assert fitted.diagnostics.details["rate"] > CAREFUL_RATE


def test_a_fit_is_determined_by_its_rows_and_seed_whatever_their_order(sources, grid):
    table, recipe = sources(8), SequentialMetaLearning(width=8, steps=20)
    first = fit(recipe, table, seed=3).predict(grid)
    reverse = table.select(np.arange(len(table))[::-1])
    pd.testing.assert_frame_equal(first, fit(recipe, reverse, seed=3).predict(grid))


def test_intervals_cover(tabulate, truth, some, grid):
    inside = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        different = truth + 0.2 * rng.normal(size=60)
        rows = some(20)
        table = tabulate(("laptop", EVERYWHERE, truth), ("board", rows, different))
        fresh = np.setdiff1d(np.arange(60), rows)
        prediction = fit(SMALL, table).predict(grid.iloc[fresh])
        y = np.exp(different[fresh])
        inside.append((prediction["q05"] <= y) & (y <= prediction["q95"]))
    assert 0.75 < np.mean(inside) <= 0.99


def test_bad_requests_are_clear_errors(sources):
    with pytest.raises(FitError, match="none outside 'board'"):
        fit(SMALL, sources(3).of("board"))
    with pytest.raises(FitError, match="at least one neuron and one step"):
        SequentialMetaLearning(width=0)

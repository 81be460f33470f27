"""Sparse networks on a system of which it is known what they can learn."""

import numpy as np
import pandas as pd
import pytest

from bayestl.baselines.mean import Mean
from bayestl.baselines.sparse_network import SparseNetwork
from bayestl.errors import FitError

SMALL = {"width": 16, "steps": 150}


def fit(recipe, table, **arguments):
    return recipe.fit(table, metric="latency", target="board", **arguments)


def error(fitted, fresh, true_ms):
    return float(np.abs(fitted.predict(fresh)["q50"].to_numpy() / true_ms - 1).mean())


def test_it_learns_from_the_target(measure, fresh, true_ms):
    table = measure(0, 40)
    found = error(fit(SparseNetwork(**SMALL), table), fresh, true_ms)
    assert found < 0.15
    assert found < 0.5 * error(fit(Mean(), table), fresh, true_ms)


def test_pooled_it_learns_from_the_sources_too(measure, fresh, true_ms):
    table = measure(60, 6)
    pooled = fit(SparseNetwork(pooled=True, **SMALL), table)
    alone = fit(SparseNetwork(**SMALL), table)
    assert error(pooled, fresh, true_ms) < 0.7 * error(alone, fresh, true_ms)
    assert pooled.diagnostics.n_source == 60
    assert alone.diagnostics.n_source == 0


def test_pooled_it_needs_no_row_of_the_target(measure, fresh):
    fitted = fit(SparseNetwork(pooled=True, **SMALL), measure(40, 0))
    assert np.isfinite(fitted.predict(fresh)).all(axis=None)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_few_rows_are_not_searched_on(n, measure, fresh):
    prediction = fit(SparseNetwork(**SMALL), measure(0, n)).predict(fresh)
    assert np.isfinite(prediction).all(axis=None)
    assert (prediction["q05"] < prediction["q95"]).all()


def test_a_fit_is_determined_by_its_rows_and_seed_whatever_their_order(measure, fresh):
    table, recipe = measure(0, 12), SparseNetwork(width=8, steps=20)
    first = fit(recipe, table, seed=3).predict(fresh)
    reverse = table.select(np.arange(len(table))[::-1])
    pd.testing.assert_frame_equal(first, fit(recipe, reverse, seed=3).predict(fresh))
    assert not first.equals(fit(recipe, table, seed=4).predict(fresh))


def test_intervals_cover(measure, fresh, true_ms):
    inside = []
    for seed in range(3):
        table = measure(0, 20, noise=0.2, seed=seed)
        prediction = fit(SparseNetwork(**SMALL), table).predict(fresh)
        y = true_ms * np.exp(0.2 * np.random.default_rng(seed).normal(size=len(true_ms)))
        inside.append((prediction["q05"] <= y) & (y <= prediction["q95"]))
    assert 0.75 < np.mean(inside) <= 0.99


def test_a_network_of_nothing_is_refused():
    with pytest.raises(FitError, match="at least one neuron and one step"):
        SparseNetwork(steps=0)

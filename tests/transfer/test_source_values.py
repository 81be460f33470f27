"""Ridge regression on what the sources measured at the same configurations."""

import numpy as np
import pandas as pd
import pytest

import bayestl as bt
from bayestl.data.table import MeasurementTable
from bayestl.errors import ConfigurationError
from bayestl.transfer.source_values import SourceValuesRidge

EVERYWHERE = range(60)


def fit(table):
    return SourceValuesRidge().fit(table, metric="latency", target="board")


def said(fitted):
    return " | ".join(fitted.diagnostics.warnings)


@pytest.fixture
def odd(truth):
    """What no option explains, but every environment shares."""
    return truth + np.random.default_rng(8).normal(size=60)


def test_a_mixture_of_sources_is_recovered_at_configurations_not_measured(
    tabulate, truth, odd, some, grid
):
    log_latency = 0.5 + 0.6 * truth + 0.4 * odd
    table = tabulate(
        ("a", EVERYWHERE, truth), ("b", EVERYWHERE, odd), ("board", some(15), log_latency)
    )
    fitted = fit(table)
    error = np.abs(np.log(fitted.predict(grid)["q50"]) - log_latency)
    assert error.mean() < 0.03
    assert fitted.diagnostics.details["sources"] in (("a", "b"), ("b", "a"))
    assert fitted.diagnostics.n_target == 15
    assert fitted.diagnostics.n_source == 120


def test_repeats_of_a_source_are_averaged_on_the_log_scale(tabulate, truth, some, grid):
    once = tabulate(("a", EVERYWHERE, truth), ("board", some(9), truth + 1), noise=0.0)
    apart = np.random.default_rng(4).normal(size=60)
    twice = MeasurementTable.concat(
        [
            tabulate(("a", EVERYWHERE, truth - apart), noise=0.0),
            tabulate(("a", EVERYWHERE, truth + apart), noise=0.0),
            once.of("board"),
        ]
    )
    expected, got = fit(once).predict(grid)["q50"], fit(twice).predict(grid)["q50"]
    pd.testing.assert_series_equal(expected, got, rtol=1e-3)


def test_only_what_every_source_measured_can_be_asked_or_learned_from(tabulate, truth, some, grid):
    table = tabulate(
        ("a", range(40), truth), ("b", range(20, 60), truth), ("board", range(12, 48), truth)
    )
    fitted = fit(table)
    covered = fitted.covers(grid)
    np.testing.assert_array_equal(np.flatnonzero(covered), np.arange(20, 40))
    assert fitted.diagnostics.dropped == {"not measured in every source": 16}
    assert fitted.diagnostics.n_target == 20
    assert fitted.diagnostics.details["covered_configurations"] == 20
    assert len(fitted.predict(grid[covered])) == 20
    with pytest.raises(ConfigurationError, match=r"\(.*\) has measured, got 3 of 5.*row 17"):
        fitted.predict(grid.iloc[17:22])
    assert fitted.covers(grid.iloc[:0]).shape == (0,)
    with pytest.raises(ConfigurationError, match="threads"):
        fitted.covers([{"threads": 3, "layout": "nchw", "memory": 100}])


@pytest.mark.parametrize("n", [1, 2])
def test_with_few_points_an_offset_to_the_mean_of_the_sources(n, tabulate, truth, some, grid):
    table = tabulate(
        ("a", EVERYWHERE, truth - 1), ("b", EVERYWHERE, truth + 1), ("board", some(n), truth + 2)
    )
    fitted = fit(table)
    assert np.abs(np.log(fitted.predict(grid)["q50"]) - truth - 2).mean() < 0.05
    assert "only an offset was fitted: a ridge regression takes 3" in said(fitted)


def test_a_target_measured_elsewhere_is_as_one_not_measured(tabulate, truth, grid):
    table = tabulate(("a", range(30), truth), ("board", range(30, 40), truth + 5))
    fitted = fit(table)
    assert "nothing was measured" in said(fitted)
    assert fitted.diagnostics.n_target == 0
    error = np.abs(np.log(fitted.predict(grid.iloc[:30])["q50"]) - truth[:30])
    assert error.mean() < 0.05


def test_a_source_without_rows_is_left_out_and_said(tabulate, truth, some, grid):
    table = tabulate(("a", EVERYWHERE, truth), ("empty", [], truth), ("board", some(6), truth + 1))
    fitted = fit(table)
    assert "want of a usable measurement: empty" in said(fitted)
    assert fitted.covers(grid).all()


def test_a_useless_source_is_shrunk_away(tabulate, truth, some, grid):
    rng = np.random.default_rng(3)
    useless = [(f"s{i}", EVERYWHERE, rng.normal(size=60)) for i in range(8)]
    table = tabulate(*useless, ("a", EVERYWHERE, truth), ("board", some(20), truth), noise=0.1)
    error = np.abs(np.log(fit(table).predict(grid)["q50"]) - truth)
    assert error.mean() < 0.5 * np.abs(truth - truth.mean()).mean()


def test_the_recorded_table_is_predicted_where_its_source_was_measured():
    table = bt.datasets.load("demo")
    target = table.of("2-cores").usable("latency")
    rows = np.random.default_rng(0).permutation(len(target))
    few, test = target.select(rows[:60]), target.select(rows[60:])
    seen = MeasurementTable.concat([table.of("one-core"), few])
    fitted = SourceValuesRidge().fit(seen, metric="latency", target="2-cores")
    test = test.select(fitted.covers(test.configurations()))
    y = test.frame["latency"].to_numpy()
    prediction = fitted.predict(test.configurations())
    assert len(y) > 20
    assert np.median(np.abs(prediction["q50"] / y - 1)) < 0.4
    assert ((prediction["q05"] <= y) & (y <= prediction["q95"])).mean() > 0.75

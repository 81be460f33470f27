"""Direct transfer and the shifts on tables whose shift is known."""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pytest
from sklearn.svm import SVR

import bayestl as bt
from bayestl.baselines.trees import RandomForest
from bayestl.data.table import MeasurementTable
from bayestl.errors import FitError
from bayestl.models.gp import TargetOnlyGP
from bayestl.transfer.model_shift import DirectTransfer, LinearShift, NonlinearShift, OffsetShift

ALL = [DirectTransfer, OffsetShift, LinearShift, NonlinearShift]
EVERY = pytest.mark.parametrize("strategy", ALL)
EVERY_SHIFT = pytest.mark.parametrize("strategy", ALL[1:])
EVERYWHERE = range(60)


@dataclass(frozen=True)
class Counted:
    """A forest that counts its fits and remembers what they saw."""

    seen: list[MeasurementTable] = field(default_factory=list, compare=False)

    def fit(self, table, *, metric, target, seed=0):
        self.seen.append(table)
        return RandomForest(trees=20).fit(table, metric=metric, target=target, seed=seed)


def fit(recipe, table, **arguments):
    return recipe.fit(table, metric="latency", target="board", **arguments)


def error(fitted, grid, log_latency):
    return float(np.abs(np.log(fitted.predict(grid)["q50"].to_numpy()) - log_latency).mean())


def said(fitted):
    return " | ".join(fitted.diagnostics.warnings)


def test_direct_transfer_is_the_sources_model_unchanged(tabulate, truth, some, grid):
    table = tabulate(("laptop", EVERYWHERE, truth), ("board", some(8), truth + 1))
    alone = TargetOnlyGP().fit(table.of("laptop"), metric="latency", target="laptop")
    fitted = fit(DirectTransfer(), table)
    expected = alone.predict(grid)["q50"]
    pd.testing.assert_series_equal(fitted.predict(grid)["q50"], expected, rtol=1e-6)
    assert fitted.diagnostics.details["sources"] == ("laptop",)


def test_an_offset_is_recovered(tabulate, truth, some, grid):
    table = tabulate(("laptop", EVERYWHERE, truth), ("board", some(5), truth + 1.5))
    fitted = fit(OffsetShift(), table)
    assert fitted.diagnostics.details["offset"] == pytest.approx(1.5, abs=0.02)
    assert error(fitted, grid, truth + 1.5) < 0.03
    assert error(fit(DirectTransfer(), table), grid, truth + 1.5) == pytest.approx(1.5, abs=0.02)


@pytest.mark.parametrize("slope", [0.4, 2.0, -0.7])
def test_a_line_is_recovered_whatever_its_sign(tabulate, truth, some, grid, slope):
    table = tabulate(("laptop", EVERYWHERE, truth), ("board", some(8), 1 + slope * truth))
    fitted = fit(LinearShift(), table)
    details = fitted.diagnostics.details
    assert details["slope"] == pytest.approx(slope, abs=0.03)
    assert details["offset"] == pytest.approx(1, abs=0.1)
    assert error(fitted, grid, 1 + slope * truth) < 0.05
    assert ("runs against" in said(fitted)) == (slope < 0)


def test_a_forest_recovers_what_no_line_does(tabulate, truth, some, grid):
    bent = np.where(truth > np.median(truth), 3.0, 1.0)
    table = tabulate(("laptop", EVERYWHERE, truth), ("board", some(25), bent))
    curved, straight = fit(NonlinearShift(), table), fit(LinearShift(), table)
    assert error(curved, grid, bent) < 0.5 * error(straight, grid, bent)


@EVERY
def test_an_offset_cannot_mend_a_source_of_the_wrong_sign_but_intervals_say_so(
    strategy, tabulate, truth, some, grid
):
    table = tabulate(("laptop", EVERYWHERE, truth), ("board", some(15), 6 - truth))
    fitted = fit(strategy(), table)
    prediction, y = fitted.predict(grid), np.exp(6 - truth)
    assert ((prediction["q05"] <= y) & (y <= prediction["q95"])).mean() > 0.8
    mended = strategy in (LinearShift, NonlinearShift)
    assert (error(fitted, grid, 6 - truth) < 0.25) == mended


@EVERY
def test_the_right_one_of_several_sources_is_kept(strategy, tabulate, truth, some, grid):
    rng = np.random.default_rng(3)
    table = tabulate(
        ("noise", EVERYWHERE, rng.permutation(truth)),
        ("right", some(50), truth),
        ("constant", EVERYWHERE, np.full(60, 4.0)),
        ("board", some(12), truth + 0.1),
    )
    fitted = fit(strategy(RandomForest(trees=50)), table)
    details = fitted.diagnostics.details
    assert details["sources"] == ("right",)
    assert set(details["leave_one_out"]) == {"noise", "right", "constant"}
    assert min(details["leave_one_out"], key=details["leave_one_out"].get) == "right"
    alone = fit(strategy(RandomForest(trees=50)), table.of("right", "board"))
    np.testing.assert_allclose(
        np.log(fitted.predict(grid)["q50"]), np.log(alone.predict(grid)["q50"]), atol=0.1
    )


@EVERY
@pytest.mark.parametrize("n", [0, 1, 2])
def test_with_too_few_points_the_sources_are_averaged(strategy, n, tabulate, truth, some, grid):
    table = tabulate(
        ("slow", EVERYWHERE, truth + 1),
        ("fast", EVERYWHERE, truth - 1),
        ("board", some(n), truth + 0.5),
    )
    fitted = fit(strategy(), table)
    offset = 0.0 if n == 0 or strategy is DirectTransfer else 0.5
    assert error(fitted, grid, truth + offset) < 0.05
    assert set(fitted.diagnostics.details["sources"]) == {"slow", "fast"}
    assert "all 2 sources count" in said(fitted)
    assert ("nothing was measured" in said(fitted)) == (n == 0)
    only_offset = n > 0 and strategy in (LinearShift, NonlinearShift)
    assert ("only an offset was fitted" in said(fitted)) == only_offset


@EVERY_SHIFT
def test_a_source_that_predicts_one_value_leaves_an_offset(strategy, tabulate, truth, some, grid):
    table = tabulate(("laptop", EVERYWHERE, 0 * truth), ("board", some(10), truth), noise=0.0)
    fitted = fit(strategy(RandomForest(trees=20)), table)
    assert np.ptp(fitted.predict(grid)["q50"]) == 0
    flat = strategy is LinearShift
    assert ("laptop predicts the same everywhere" in said(fitted)) == flat


@EVERY
def test_a_source_without_rows_is_left_out_and_said(strategy, tabulate, truth, some, grid):
    table = tabulate(
        ("laptop", EVERYWHERE, truth), ("empty", [], truth), ("board", some(6), truth + 1)
    )
    fitted = fit(strategy(RandomForest(trees=20)), table)
    assert "want of a usable measurement: empty" in said(fitted)
    without = fit(strategy(RandomForest(trees=20)), table.of("laptop", "board"))
    pd.testing.assert_frame_equal(fitted.predict(grid), without.predict(grid))


@EVERY
def test_the_base_is_fitted_once_a_source_and_never_to_the_target(
    strategy, tabulate, truth, some, grid
):
    base = Counted()
    table = tabulate(("a", EVERYWHERE, truth), ("b", some(30), truth), ("board", some(20), truth))
    fit(strategy(base), table).predict(grid)
    assert [seen.environment_names for seen in base.seen] == [("a",), ("b",)]


@EVERY_SHIFT
def test_repeats_are_one_point_that_counts_for_all_of_them(strategy, tabulate, truth, some, grid):
    rows = some(9)
    repeated = [*rows, rows[0], rows[0]]
    table = tabulate(("laptop", EVERYWHERE, truth), ("board", repeated, truth), noise=0.2)
    fitted = fit(strategy(RandomForest(trees=20)), table)
    assert fitted.diagnostics.n_target == 11
    assert fitted.diagnostics.details["calibration_points"] == 9
    assert len(fitted.held_out.residuals) == 11


def test_configurations_that_the_source_cannot_tell_apart_stay_points_of_their_own(
    tabulate, truth, some
):
    table = tabulate(("laptop", [0], truth), ("board", some(9), truth))
    fitted = fit(OffsetShift(RandomForest(trees=5)), table)
    assert fitted.diagnostics.details["calibration_points"] == 9


def test_a_base_without_a_logarithm_may_predict_what_has_none(tabulate, truth, some, grid):
    table = tabulate(("laptop", EVERYWHERE, 3 * truth), ("board", some(9), truth))
    fitted = fit(LinearShift(bt.RidgeInteractions(transform="identity")), table)
    source = table.of("laptop")
    base = bt.RidgeInteractions(transform="identity").fit(source, metric="latency", target="laptop")
    assert (base.predict(grid)["q50"] <= 0).any()
    assert np.isfinite(fitted.predict(grid)).all(axis=None)


def test_the_warnings_of_the_base_are_passed_on(tabulate, truth, some):
    table = tabulate(("laptop", some(2), truth), ("board", some(6), truth))
    fitted = fit(LinearShift(RandomForest(trees=20)), table)
    assert "laptop: intervals rest on" in said(fitted)


def test_no_tree_is_refused():
    with pytest.raises(FitError, match="at least one tree, got 0"):
        NonlinearShift(trees=0)


@EVERY
@pytest.mark.parametrize("base", [RandomForest, SVR(), "forest"])
def test_a_base_is_a_recipe(strategy, base):
    with pytest.raises(FitError, match=r"expected a recipe, such as TransferGP\(\).*got "):
        strategy(base)


@pytest.mark.parametrize(
    "recipe",
    [OffsetShift(RandomForest(trees=5)), NonlinearShift(RandomForest(trees=5), trees=30)],
    ids=["line", "forest"],
)
def test_intervals_cover_where_the_source_must_be_chosen(recipe, tabulate, truth, grid):
    """Six sources of which none is right: the choice itself must not narrow the intervals."""
    inside = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        sources = [(f"s{i}", EVERYWHERE, truth + rng.normal(size=60)) for i in range(6)]
        rows = rng.permutation(60)
        table = tabulate(*sources, ("board", rows[:8], truth + 0.3 * rng.normal(size=60)))
        prediction = fit(recipe, table).predict(grid.iloc[rows[8:]])
        y = np.exp(truth[rows[8:]])
        inside += [*((prediction["q05"] <= y) & (y <= prediction["q95"]))]
    assert np.mean(inside) > 0.85


@EVERY_SHIFT
def test_on_the_recorded_table_a_shift_beats_direct_transfer(strategy):
    table = bt.datasets.load("demo")
    target = table.of("2-cores").usable("latency")
    rows = np.random.default_rng(0).permutation(len(target))
    few, test = target.select(rows[:20]), target.select(rows[20:])
    seen = MeasurementTable.concat([table.of("one-core"), few])
    y = test.frame["latency"].to_numpy()

    def ape(recipe):
        fitted = recipe.fit(seen, metric="latency", target="2-cores")
        prediction = fitted.predict(test.configurations())
        inside = (prediction["q05"] <= y) & (y <= prediction["q95"])
        return np.median(np.abs(prediction["q50"] / y - 1)), inside.mean()

    shifted, covered = ape(strategy())
    direct, _ = ape(DirectTransfer())
    assert shifted < 0.6 * direct
    assert 0.8 < covered <= 1

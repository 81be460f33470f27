"""The bellwether of tables in which it is known which source speaks for the others."""

import numpy as np
import pandas as pd
import pytest

from bayestl.baselines.trees import RandomForest
from bayestl.errors import FitError
from bayestl.models.conformalized import Conformal
from bayestl.models.gp import TargetOnlyGP
from bayestl.transfer import bellwether
from bayestl.transfer.bellwether import Bellwether
from bayestl.transfer.model_shift import LinearShift, OffsetShift

EVERYWHERE = range(60)
FOREST = RandomForest(trees=30)
RECIPE = Bellwether(LinearShift(FOREST), judge=FOREST)


def fit(recipe, table, **arguments):
    return recipe.fit(table, metric="latency", target="board", **arguments)


@pytest.fixture
def community(tabulate, truth, some):
    """Three sources that see the same with ever less noise, and one that is misleading."""

    def table(points=8):
        rng = np.random.default_rng(1)
        return tabulate(
            ("noisy", EVERYWHERE, truth + 0.8 * rng.normal(size=60)),
            ("misleading", EVERYWHERE, rng.permutation(truth)),
            ("clean", EVERYWHERE, 3 * truth + 5),
            ("fair", EVERYWHERE, truth + 0.3 * rng.normal(size=60)),
            ("board", some(points), truth + 1),
        )

    return table


def test_the_source_that_ranks_the_others_best_is_transferred_from(community, grid):
    table = community()
    fitted = fit(RECIPE, table)
    details = fitted.diagnostics.details
    assert details["bellwether"] == "clean"
    assert details["sources"] == ("clean",)
    scores = details["rank_correlation"]
    assert max(scores, key=scores.get) == "clean"
    assert min(scores, key=scores.get) == "misleading"
    assert scores["clean"] > 0.5
    alone = fit(LinearShift(FOREST), table.of("clean", "board"))
    pd.testing.assert_frame_equal(fitted.predict(grid), alone.predict(grid))
    assert fitted.diagnostics.n_source == 60


def test_the_choice_does_not_depend_on_the_target(community):
    scores = [
        fit(RECIPE, community(points)).diagnostics.details["rank_correlation"] for points in (0, 8)
    ]
    assert scores[0] == scores[1]


def test_a_single_source_is_taken_without_a_judge(tabulate, truth, some, grid):
    table = tabulate(("laptop", EVERYWHERE, truth), ("board", some(5), truth + 1))
    fitted = fit(Bellwether(OffsetShift()), table)
    assert fitted.diagnostics.details["bellwether"] == "laptop"
    assert fitted.diagnostics.details["rank_correlation"] == {}
    expected = fit(OffsetShift(), table).predict(grid)
    pd.testing.assert_frame_equal(fitted.predict(grid), expected)


def test_many_rows_are_judged_by_some_of_them_whatever_their_order(community, monkeypatch):
    def scores(table):
        return fit(RECIPE, table).diagnostics.details["rank_correlation"]

    monkeypatch.setattr(bellwether, "JUDGED_ROWS", 40)
    table = community()
    few = scores(table)
    assert scores(table.select(np.arange(len(table))[::-1])) == few
    monkeypatch.setattr(bellwether, "JUDGED_ROWS", 60)
    assert scores(table) != few


def test_a_constant_source_agrees_with_nobody(tabulate, truth, some):
    table = tabulate(
        ("constant", EVERYWHERE, np.full(60, 2.0)),
        ("laptop", EVERYWHERE, truth),
        ("board", some(5), truth + 1),
        noise=0.0,
    )
    scores = fit(RECIPE, table).diagnostics.details["rank_correlation"]
    assert scores == {"constant": 0.0, "laptop": 0.0}


def test_a_source_without_rows_is_left_out_and_said(tabulate, truth, some):
    table = tabulate(
        ("laptop", EVERYWHERE, truth), ("empty", [], truth), ("board", some(6), truth + 1)
    )
    fitted = fit(RECIPE, table)
    assert fitted.diagnostics.details["bellwether"] == "laptop"
    assert any("usable measurement: empty" in w for w in fitted.diagnostics.warnings)


def test_a_posterior_of_the_strategy_stays(tabulate, truth, some, grid):
    table = tabulate(("laptop", EVERYWHERE, truth), ("board", some(6), truth + 1))
    fitted = fit(Bellwether(TargetOnlyGP()), table)
    assert fitted.posterior(grid).mean.shape == (60,)


def test_what_is_no_recipe_is_refused():
    with pytest.raises(FitError, match="expected a recipe"):
        Bellwether(LinearShift)
    with pytest.raises(FitError, match="expected a recipe"):
        Bellwether(judge=RandomForest)


def test_a_strategy_that_keeps_its_diagnostics_to_itself_is_refused(tabulate, truth, some):
    table = tabulate(("laptop", EVERYWHERE, truth), ("board", some(6), truth + 1))
    with pytest.raises(FitError, match="wrap the Bellwether"):
        fit(Bellwether(Conformal(LinearShift(FOREST))), table)
    with pytest.raises(FitError, match="none outside 'board'"):
        fit(RECIPE, table.of("board"))

"""What chosen measurements spare: its arithmetic, its searches and their cache."""

from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from bayestl.models.sequential.sequential_gp import SequentialGP
from bayestl.study.method import Method
from experiments import active
from experiments.active import (
    Ranked,
    across_scenarios,
    draw,
    first_reached,
    measurements_needed,
    overall,
    search,
    simple_regret,
    spread,
    steps_needed,
)
from tests.staged_study import scenario

NEVER = float("inf")


def arguments(cache=None, fresh=()):
    return SimpleNamespace(cache=cache, fresh=list(fresh), workers=1)


def frame(**curves):
    """Errors of one seed by method, at 5, 10, 20 and 40 measurements of one scenario."""
    return pd.DataFrame(
        [
            {"scenario": "s", "method": m.replace("_", " "), "budget": b, "seed": 0, "mape": e}
            for m, errors in curves.items()
            for b, e in zip((5, 10, 20, 40), errors, strict=True)
        ]
    ).assign(error="")


@pytest.mark.parametrize(
    ("wanted", "needed"),
    [(20, 5), (16, 5), (8, 10), (8 * 2**0.5, 10 / 2**0.5), (2, 40), (1, NEVER)],
)
def test_between_budgets_a_curve_is_straight_in_logarithms(wanted, needed):
    curve = pd.Series({10: 8.0, 5: 16.0, 20: 9.0, 40: 2.0})
    assert first_reached(curve, wanted) == pytest.approx(needed)


def test_after_a_failed_fit_only_the_budget_itself_counts():
    assert first_reached(pd.Series({5: NEVER, 10: 3.0}), 4.0) == 10


def test_a_share_is_over_what_the_reference_itself_needs():
    some = frame(random=(16, 8, 4, 4.0), better=(8, 4, 2, 1), worse=(20, 18, 16, 8))
    needed = measurements_needed(some, "random").set_index(["method", "matched"])
    assert needed.loc[("random", 40), "needed"] == 20  # it is no better with 40
    assert needed["share"]["better"].to_list() == pytest.approx([0.5, 0.5, 0.5])
    assert needed["share"]["worse"].to_list() == [4, NEVER, NEVER]
    assert needed["error"]["worse"].to_list() == [8, 4, 4]


def test_the_mean_curve_has_shares_of_its_own():
    first, second = frame(random=(16, 8, 4, 2), other=(8, 4, 2, 1)), frame(random=(4, 2, 1, 0.5))
    second = pd.concat([second, frame(other=(9, 8, 7, 6))]).assign(scenario="t")
    means = overall(pd.concat([first, second]))
    assert across_scenarios(means).loc["random"].to_list() == [1, 1, 1]
    needed = first_reached(means.loc["other"], 4.0)
    assert across_scenarios(means).loc["other", 10] == pytest.approx(needed / 10)


def test_a_scenario_counts_by_its_mean_over_the_seeds():
    first, second = frame(random=(16, 8, 4, 2)), frame(random=(32, 16, 8, 4)).assign(seed=1)
    some = pd.concat([first, second, pd.concat([first, second]).assign(scenario="t")])
    assert overall(some).loc["random"].to_list() == pytest.approx([24, 12, 6, 3])
    assert measurements_needed(some, "random")["error"].to_list() == [12, 6, 3, 12, 6, 3]


def test_a_quantile_next_to_infinity_is_infinite():
    table = pd.DataFrame({"m": "x", "v": [1.0, 2.0, 3.0, NEVER]})
    found = spread(table, ["m"], "v").loc["x"]
    assert found.to_list() == [2.5, 1.75, NEVER, 1, 4]
    assert spread(table.assign(v=NEVER), ["m"], "v")["median"].to_list() == [NEVER]


def test_regret_is_that_of_the_best_so_far():
    split = scenario().split(0)
    values = split.pool.frame["latency"].to_numpy()
    path = [3, int(values.argmax()), int(values.argmin()), 0]
    regret = simple_regret(split, path)
    assert regret[:2] == pytest.approx([values[3] / values.min() - 1] * 2)
    assert regret[2:] == [0, 0]


def test_steps_are_counted_until_it_is_good_enough():
    regrets = pd.DataFrame(
        {"scenario": "s", "method": "m", "seed": [0, 1], "regret": [[0.2, 0.05, 0.0], [0.06] * 3]}
    )
    assert steps_needed(regrets)["steps"].to_list() == [2, NEVER]


def test_the_sources_rank_the_pool_unseen():
    split = scenario().split(0)
    (order,) = Ranked().choose(SequentialGP(), split, [12], 0)
    assert sorted(order) == list(range(12))
    values = split.pool.frame["latency"].to_numpy()
    assert np.corrcoef(values[order].argsort().argsort(), range(12))[0, 1] > 0.9
    hidden = split.pool.frame.assign(latency=1.0)
    unseen = replace(split, pool=replace(split.pool, frame=hidden))
    assert Ranked().choose(SequentialGP(), unseen, [12], 0) == [order]


@dataclass(frozen=True)
class Backwards:
    """The pool's last rows first."""

    def choose(self, model, split, budgets, seed):
        return [list(range(len(split.pool)))[::-1][:budget] for budget in budgets]


def test_a_search_is_done_once_with_a_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(active, "SEARCHES", {"a": Method(None), "b": Method(None, Backwards())})
    once = search([scenario()], [0, 1], 6, arguments(tmp_path))
    assert once[["method", "seed"]].to_numpy().tolist() == [["a", 0], ["b", 0], ["a", 1], ["b", 1]]
    split = scenario().split(0)
    assert once["regret"][0] == simple_regret(split, range(6))
    assert once["regret"][1] == simple_regret(split, range(11, 5, -1))
    pd.testing.assert_frame_equal(once, search([scenario()], [0, 1], 6, arguments()))

    def refuse(task):
        raise AssertionError(f"{task.name} again")

    monkeypatch.setattr(active.Search, "rows", refuse)
    pd.testing.assert_frame_equal(once, search([scenario()], [0, 1], 6, arguments(tmp_path)))
    with pytest.raises(AssertionError, match="b again"):
        search([scenario()], [0], 6, arguments(tmp_path, fresh=["b"]))
    with pytest.raises(AssertionError, match="a again"):
        search([scenario()], [0], 7, arguments(tmp_path))


def test_a_figure_names_every_method():
    some = frame(random=(16, 8, 4, 2), target_only__random=(9, 8, 7, 6))
    some["method"] = some["method"].str.replace("  ", ", ")
    regrets = pd.DataFrame(
        {"method": ["expected improvement", "random"], "regret": [[0.1, 0.0], [0.2, 0.1]]}
    )
    texts = [text.get_text() for axes in draw(some, regrets).axes for text in axes.texts]
    assert {"random", "target only, random", "expected improvement"} <= set(texts)


def test_every_scenario_leaves_something_to_choose_and_to_judge():
    for one in active.chosen_scenarios(active.QUICK):
        split = one.split(0)
        assert len(split.pool) == active.POOL_OF_FEW
        assert len(split.test) >= 90

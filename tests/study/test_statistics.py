"""Ratios, counts, intervals and ranks, on results small enough to be computed by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import friedmanchisquare

from bayestl.errors import TableError
from bayestl.study.statistics import (
    against,
    best_rivals,
    bootstrap_interval,
    cell_means,
    critical_difference,
    errors,
    failure_counts,
    geometric_mean,
    ratios,
    ratios_to_best,
    win_counts,
)

FAILED = None


def results(*rows, budget=5):
    """Results from (scenario, seed, {method: error or FAILED}) rows."""
    return pd.DataFrame(
        [
            {
                "scenario": scenario,
                "group": "g",
                "budget": budget,
                "seed": seed,
                "method": method,
                "error": "FitError: no" if value is FAILED else "",
                "mape": np.nan if value is FAILED else float(value),
            }
            for scenario, seed, values in rows
            for method, value in values.items()
        ]
    )


def grid(table):
    """Results with one seed from a (scenarios, methods) array; methods are A, B, ..."""
    return results(
        *((f"s{i}", 0, dict(zip("ABCDEFGHIJ", row, strict=False))) for i, row in enumerate(table))
    )


def test_a_cell_is_the_mean_over_its_seeds():
    frame = results(("s", 0, {"A": 8, "B": 1}), ("s", 1, {"A": 12}), ("t", 0, {"A": 4, "B": 2}))
    means = cell_means(frame)
    assert means.loc[("s", 5)].to_dict() == {"A": 10, "B": 1}
    assert means.loc[("t", 5)].to_dict() == {"A": 4, "B": 2}


def test_a_failed_fit_has_an_infinite_error_and_one_not_run_has_none():
    frame = results(("s", 0, {"A": FAILED, "B": 1}), ("s", 1, {"A": 2}))
    table = errors(frame)
    assert table["A"].tolist() == [np.inf, 2]
    assert table["B"].fillna(-1).tolist() == [1, -1]
    assert cell_means(frame).loc[("s", 5), "A"] == np.inf
    assert failure_counts(frame).to_dict() == {"A": 1, "B": 0}


def test_results_from_a_csv_file_are_the_same(tmp_path):
    frame = grid([[1, 2], [FAILED, 2]])
    frame.to_csv(tmp_path / "t.csv", index=False)
    again = pd.read_csv(tmp_path / "t.csv")
    pd.testing.assert_frame_equal(errors(again), errors(frame))
    assert failure_counts(again).to_dict() == {"A": 1, "B": 0}


def test_a_rank_correlation_counts_as_what_it_lacks():
    frame = results(("s", 0, {"A": 1, "B": FAILED})).assign(spearman=[0.9, np.nan])
    assert errors(frame, "spearman").loc[("s", 5, 0)].tolist() == pytest.approx([0.1, np.inf])


def test_two_rows_of_one_cell_are_refused():
    frame = results(("s", 0, {"A": 1}), ("s", 0, {"A": 2}))
    with pytest.raises(TableError, match="several of 'A' at 's', 5, 0"):
        errors(frame)
    with pytest.raises(TableError, match=r"columns \['crps'\]"):
        errors(frame, "crps")


def test_a_ratio_is_of_means_over_common_seeds():
    frame = results(("s", 0, {"A": 8}), ("s", 1, {"A": 12, "B": 6}), ("s", 2, {"B": 1}))
    assert ratios(frame, "B").loc[("s", 5)].to_dict() == {"A": 2, "B": 1}
    assert ratios(frame, "A").loc[("s", 5)].to_dict() == {"A": 1, "B": 0.5}


def test_a_ratio_tells_who_failed():
    frame = grid([[1, 2, FAILED], [FAILED, 3, 3], [FAILED, 3, FAILED], [4, 0, 2]])
    assert ratios(frame, "A")["C"].fillna(-1).tolist() == [np.inf, 0, -1, 0.5]
    assert ratios(frame, "A")["A"].fillna(-1).tolist() == [1, -1, -1, 1]
    assert ratios(frame, "B")["B"].tolist() == [1, 1, 1, 1]
    assert ratios_to_best(frame)["C"].tolist() == [np.inf, 1, np.inf, np.inf]
    assert ratios_to_best(frame)["B"].iloc[:3].tolist() == [2, 1, 1]


def test_where_all_failed_nobody_is_the_best():
    frame = grid([[FAILED, FAILED], [1, 2]])
    assert ratios_to_best(frame).iloc[0].isna().all()
    assert win_counts(frame)["wins"].to_dict() == {"A": 1, "B": 0}


def test_who_errs_by_nothing_is_the_best_and_nobody_failed():
    found = ratios_to_best(grid([[0, 0, 3], [1, 2, FAILED]]))
    assert found.to_numpy().tolist() == [[1, 1, np.inf], [1, 2, np.inf]]


def test_a_ratio_of_what_may_be_negative_is_refused():
    with pytest.raises(TableError, match="never negative"):
        ratios(grid([[1, -2]]), "A")
    with pytest.raises(TableError, match="one of the methods"):
        ratios(grid([[1, 2]]), "Z")


def test_the_best_rival_is_chosen_with_hindsight():
    frame = grid([[4, 2, 8], [4, 8, 16], [4, FAILED, FAILED], [FAILED, 1, 1]])
    found = best_rivals(frame, "A")
    assert found["ratio"].tolist() == [2, 0.5, 0, np.inf]
    assert found["best_rival"].tolist()[:2] == ["B", "B"]
    assert best_rivals(frame, "A", ["C"])["ratio"].tolist() == [0.5, 0.25, 0, np.inf]


def test_a_cell_without_a_rival_has_no_ratio():
    frame = results(("s", 0, {"A": 1}), ("t", 0, {"A": 1, "B": 2}), ("u", 0, {"B": 1}))
    found = best_rivals(frame, "A")
    assert found["ratio"].isna().tolist() == [True, False, True]


def test_a_geometric_mean_leaves_failures_to_be_counted():
    assert geometric_mean(pd.Series([0.5, 8, np.inf, 0, np.nan])) == pytest.approx(2)
    assert np.isnan(geometric_mean(pd.Series([np.inf])))


def test_against_counts_wins_ties_losses_failures_and_what_is_missing():
    frame = grid(
        [
            [10, 5],  # B wins
            [10, 10.05],  # within one percent
            [10, 20],
            [10, FAILED],
            [FAILED, 10],
            [FAILED, FAILED],
        ]
    )
    frame = pd.concat([frame, results(("t", 0, {"A": 1}))])
    found = against(frame, "A", resamples=50).loc["B"]
    assert found["ratio"] == pytest.approx((0.5 * 1.005 * 2) ** (1 / 3))
    assert found["low"] < found["ratio"] < found["high"]
    counts = found[["wins", "ties", "losses", "cells", "failures", "reference_failures", "missing"]]
    assert counts.tolist() == [2, 2, 2, 6, 2, 2, 1]
    assert against(frame, "A", margin=0, resamples=2).loc["B", "losses"] == 3


def test_against_puts_the_best_first_and_leaves_the_reference_out():
    assert against(grid([[1, 3, 2]]), "A").index.tolist() == ["C", "B"]


def test_wins_are_clear_and_ties_are_shared():
    found = win_counts(grid([[1, 2, 3], [1, 1.005, 3], [FAILED, 5, 4], [2, 2, 2]]))
    assert found.loc["A"].to_dict() == {"wins": 1, "ties": 2, "failures": 1, "cells": 4}
    assert found.loc["B"].to_dict() == {"wins": 0, "ties": 2, "failures": 0, "cells": 4}
    assert found.loc["C"].to_dict() == {"wins": 1, "ties": 1, "failures": 0, "cells": 4}
    assert found.index.tolist() == ["A", "C", "B"]


def test_an_interval_draws_whole_scenarios():
    cells = pd.MultiIndex.from_product([["s", "t"], [3, 5]], names=["scenario", "budget"])
    apart = pd.Series([4.0, 4.0, 0.25, 0.25], index=cells)
    # two scenarios: (s, s), (s, t), (t, s) or (t, t), so 4, 1 or 1/4 and nothing between
    assert bootstrap_interval(apart) == pytest.approx((0.25, 4))
    assert bootstrap_interval(apart, confidence=0.4) == pytest.approx((1, 1))
    # the same spread inside each scenario is no doubt about another scenario
    within = pd.Series([4.0, 0.25, 4.0, 0.25], index=cells)
    assert bootstrap_interval(within) == pytest.approx((1, 1))


def test_an_interval_covers_the_true_ratio_as_often_as_it_says():
    rng = np.random.default_rng(0)
    inside = 0
    for trial in range(200):
        ratio = np.exp(0.3 + rng.normal(size=40))
        index = pd.MultiIndex.from_product([range(40), [5]], names=["scenario", "budget"])
        low, high = bootstrap_interval(
            pd.Series(ratio, index), confidence=0.8, resamples=200, seed=trial
        )
        inside += low < np.exp(0.3) < high
    assert 0.7 < inside / 200 < 0.88


def test_an_interval_depends_on_its_seed_alone_and_one_scenario_has_none():
    index = pd.MultiIndex.from_product([range(9), [5]], names=["scenario", "budget"])
    ratio = pd.Series(np.arange(1.0, 10), index)
    assert bootstrap_interval(ratio, seed=1) == bootstrap_interval(ratio, seed=1)
    assert bootstrap_interval(ratio, seed=1) != bootstrap_interval(ratio, seed=2)
    assert np.isnan(bootstrap_interval(ratio[:1])).all()


@pytest.mark.parametrize("ties", [False, True])
def test_friedmans_statistic_is_that_of_scipy(ties):
    rng = np.random.default_rng(3)
    table = rng.integers(1, 6, size=(12, 5)) if ties else rng.random((12, 5)) + np.arange(5) / 5
    found = critical_difference(grid(table))
    expected = friedmanchisquare(*table.T)
    assert found.statistic == pytest.approx(expected.statistic)
    assert found.p_value == pytest.approx(expected.pvalue)
    assert found.scenarios == 12


@pytest.mark.parametrize(("methods", "quantile"), [(2, 1.960), (5, 2.728), (10, 3.164)])
def test_the_critical_difference_has_the_quantiles_of_demsars_table(methods, quantile):
    table = np.random.default_rng(0).random((30, methods))
    found = critical_difference(grid(table))
    assert found.distance == pytest.approx(
        quantile * np.sqrt(methods * (methods + 1) / 180), rel=1e-3
    )


def test_only_methods_of_the_frame_are_ranked():
    with pytest.raises(TableError, match=r"some of the methods \['A', 'B'\], got 'Z'"):
        critical_difference(grid([[1, 2], [2, 1]]), ["A", "Z"])


def test_groups_are_the_largest_runs_that_do_not_differ():
    # ranks: A always first, B and C second and third in turn, D last
    table = [[1, 2, 3, 4], [1, 3, 2, 4]] * 8
    found = critical_difference(grid(table))
    assert found.ranks.to_dict() == {"A": 1, "B": 2.5, "C": 2.5, "D": 4}
    assert found.distance == pytest.approx(2.569 * np.sqrt(20 / 96), rel=1e-3)  # 1.17
    assert found.groups == (("B", "C"),)
    few = critical_difference(grid(table[:6]))  # 1.91: A to C, and B to D, but not A to D
    assert few.groups == (("A", "B", "C"), ("B", "C", "D"))


def test_where_friedman_finds_nothing_no_two_methods_differ():
    found = critical_difference(grid([[1, 2, 3], [3, 2, 1], [2, 1, 3]]))
    assert found.p_value > 0.05
    assert [set(group) for group in found.groups] == [{"A", "B", "C"}]
    alike = critical_difference(grid([[1, 1], [2, 2]]))
    assert (alike.statistic, alike.p_value) == (0, 1)


def test_failures_share_the_last_ranks():
    found = critical_difference(grid([[1, FAILED, 9, FAILED], [2, 1, 3, FAILED]]))
    assert found.ranks.to_dict() == {"A": 1.5, "B": 2.25, "C": 2.5, "D": 3.75}


def test_a_scenario_counts_once_however_many_budgets_it_has():
    first = grid([[1, 2], [2, 1], [1, 2]])
    again = [first.assign(budget=budget) for budget in (5, 10, 20)]
    found, alone = critical_difference(pd.concat(again)), critical_difference(first)
    assert found.ranks.equals(alone.ranks)
    assert found.p_value == alone.p_value
    assert found.scenarios == 3


def test_a_scenario_with_a_missing_cell_is_left_out_and_named():
    frame = grid([[1, 2], [1, 2], [2, 1]])
    frame = frame[~((frame["scenario"] == "s2") & (frame["method"] == "A"))]
    found = critical_difference(frame)
    assert found.incomplete == ("s2",)
    assert found.scenarios == 2
    assert critical_difference(grid([[1, 2, 3]] * 3), ["A", "C"]).ranks.to_dict() == {
        "A": 1,
        "C": 2,
    }
    with pytest.raises(TableError, match="two scenarios"):
        critical_difference(frame[frame["scenario"] != "s1"])

"""The gate's arithmetic: densities from quantiles, ratios from errors, results kept on disk."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.special import ndtri
from scipy.stats import norm
from scipy.stats import t as student

from experiments import few_shot
from experiments.few_shot import OURS, Job, log_density, run, summarise_cells, verdict

LEVELS = few_shot._LEVELS


def rows(*errors, scenario="s", **more):
    """One row a (method, seed, error)."""
    columns = {"budget": 5, "coverage90": 0.9, "nlpd": 1.0, "fit_seconds": 1.0, "error": ""}
    return pd.DataFrame(
        [
            {**columns, "scenario": scenario, "method": m, "seed": s, "mape": e, **more}
            for m, s, e in errors
        ]
    )


def test_the_density_of_a_gaussian_is_exact_from_its_quantiles():
    y = np.linspace(-30, 30, 61)
    quantiles = np.tile(1 + 2 * ndtri(LEVELS), (61, 1))
    np.testing.assert_allclose(log_density(y, quantiles, LEVELS), norm.logpdf(y, 1, 2), rtol=1e-5)


@pytest.mark.parametrize("freedom", [3, 10])
def test_the_density_of_a_heavy_tail_is_close_and_stays_so_far_out(freedom):
    y = np.array([-300.0, -40, -5, -1, 0, 0.5, 3, 12, 100])
    quantiles = np.tile(student.ppf(LEVELS, freedom), (len(y), 1))
    expected = student.logpdf(y, freedom)
    np.testing.assert_allclose(log_density(y, quantiles, LEVELS), expected, atol=0.5)


def test_a_density_depends_on_its_own_row_alone():
    centres = np.array([[0.0], [10.0]])
    quantiles = centres + ndtri(LEVELS)
    found = log_density(np.array([0.0, 10.0]), quantiles, LEVELS)
    np.testing.assert_allclose(found, norm.logpdf(0))


def test_the_ratio_is_ours_over_the_best_rival_in_hindsight():
    cells = summarise_cells(
        rows(
            (OURS, 0, 8), (OURS, 1, 12), ("Mean", 0, 30), ("Mean", 1, 50), ("RandomForest", 0, 5)
        ).pipe(lambda first: pd.concat([first, rows(("RandomForest", 1, 20))]))
    )
    assert cells.loc[("s", 5), "best_rival"] == "RandomForest"
    assert cells.loc[("s", 5), "ratio"] == pytest.approx(10 / 12.5)


def test_a_rival_that_ran_on_fewer_seeds_is_compared_on_those():
    cells = summarise_cells(rows((OURS, 0, 8), (OURS, 1, 12), ("Mean", 1, 6), ("Mean", 0, np.nan)))
    assert cells.loc[("s", 5), "ratio"] == pytest.approx(12 / 6)


def test_a_failure_of_ours_is_the_worst_cell_and_not_a_missing_one():
    some = rows((OURS, 0, 8), (OURS, 1, np.nan), ("Mean", 0, 10), ("Mean", 1, 10))
    some.loc[1, "error"] = "FitError: no"
    found = verdict(some, summarise_cells(some), is_staged=False)
    assert (found["worst_ratio"], found["cells_missed"]) == (np.inf, 1)


def test_a_side_line_is_shown_but_is_no_rival():
    cells = summarise_cells(rows((OURS, 0, 8), ("MultiTaskGP", 0, 1), ("Mean", 0, 10)))
    assert cells.loc[("s", 5), "MultiTaskGP"] == 1
    assert cells.loc[("s", 5), "best_rival"] == "Mean"


def test_the_verdict_has_the_geometric_mean_and_the_worst_cell():
    some = pd.concat(
        [
            rows((OURS, 0, 5), ("Mean", 0, 10), nlpd=1.0, coverage90=0.8),
            rows((OURS, 0, 20), ("Mean", 0, 10), scenario="bad", budget=20, coverage90=1.0),
            rows(("TargetOnlyGP", 0, 50), nlpd=3.0),
            rows(("Mean", 1, np.nan), error="FitError: no"),
        ]
    )
    found = verdict(some, summarise_cells(some), is_staged=False)
    assert found["geometric_mean_ratio"] == pytest.approx(1.0)
    assert (found["worst_ratio"], found["worst_cell"]) == (2.0, "bad n=20")
    assert found["ratio_by_budget"] == {5: 0.5, 20: 2.0}
    assert found["cells_missed"] == 1
    assert found["median_ratio"] == pytest.approx(1.25)
    assert list(found["always_used"]) == [OURS, "Mean", "TargetOnlyGP"]
    assert list(found["always_used"].values()) == pytest.approx([1.0, 1.0, 5.0])
    assert found["coverage90"] == pytest.approx(0.9)
    assert found["nlpd_advantage"] == {"TargetOnlyGP": 2.0}
    assert found["failures"] == {"Mean": 1}
    json.dumps(found)


def test_a_result_is_computed_once_and_kept_by_recipe(tmp_path, monkeypatch):
    judged = []

    def judge(job):
        judged.append(job)
        return {**vars(job), "error": "", "mape": 1.0, "seconds": 0.0}

    monkeypatch.setattr(few_shot, "judge", judge)
    jobs = [Job("staged/invented/constant/target", 0, budget, "Mean") for budget in (3, 5)]
    first = run(jobs, 1, tmp_path)
    assert run(jobs, 1, tmp_path) == first
    assert judged == jobs
    monkeypatch.setitem(few_shot.METHODS, "Mean", few_shot.RandomForest(trees=3))
    run(jobs, 1, tmp_path)
    assert len(judged) == 4


def test_a_fit_that_fails_ends_one_cell_and_not_the_run(monkeypatch):
    class Broken:
        def fit(self, table, **arguments):
            raise ValueError("no")

    monkeypatch.setitem(few_shot.METHODS, "Mean", Broken())
    row = few_shot.judge(Job("staged/invented/constant/target", 0, 3, "Mean"))
    assert row["error"] == "ValueError: no"


def test_a_judged_fit_has_every_figure():
    row = few_shot.judge(Job("staged/invented/constant/target", 0, 10, "TargetOnlyGP"))
    assert row["error"] == ""
    assert 0 < row["mape"] < 200
    assert 0.5 < row["coverage90"] <= 1
    assert np.isfinite([row["nlpd"], row["crps"], row["interval_score"]]).all()

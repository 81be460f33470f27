"""The gate's arithmetic, and which methods run where."""

import json

import numpy as np
import pandas as pd
import pytest

from experiments import few_shot
from experiments.few_shot import OURS, SCORES, summarise_cells, verdict
from experiments.scenarios import scenarios


def rows(*errors, scenario="s", **more):
    """One row a (method, seed, error)."""
    columns = {"budget": 5, "coverage90": 0.9, "nlpd": 1.0, "fit_seconds": 1.0, "error": ""}
    return pd.DataFrame(
        [
            {**columns, "scenario": scenario, "method": m, "seed": s}
            | {**dict.fromkeys(SCORES, e), **more}
            for m, s, e in errors
        ]
    )


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


def test_each_score_has_the_rival_that_is_best_by_it():
    some = pd.concat(
        [
            rows((OURS, 0, 4), median_ape=1, crps=3),
            rows(("Mean", 0, 2), median_ape=8, crps=6),
            rows(("RandomForest", 0, 16), median_ape=2, crps=np.nan),
            rows(("MultiTaskGP", 0, 1)),
        ]
    )
    found = verdict(some, summarise_cells(some), is_staged=False)
    assert found["ratio_by_score"] == pytest.approx({"mape": 2, "median_ape": 0.5, "crps": 0.5})


def test_public_data_have_a_mean_of_their_own():
    some = pd.concat(
        [
            rows((OURS, 0, 4), ("Mean", 0, 2), scenario="system/x264/e0"),
            rows((OURS, 0, 4), ("Mean", 0, 4), scenario="cores/one-core"),
        ]
    )
    found = verdict(some, summarise_cells(some), is_staged=False)
    assert found["ratio_by_data"] == pytest.approx({"public": 2, "own": 1})


@pytest.mark.parametrize(("slow_seeds", "expected"), [(0, [0]), (1, [0, 1])])
def test_methods_run_where_they_apply(slow_seeds, expected):
    wanted = [s for s in scenarios() if s.name in ("system/x264/e0", "hardware/azure/Adiac")]
    names = ("SourceValuesRidge", "BotorchMultiTaskGP")
    found = few_shot.studies(wanted, names, (3,), range(2), slow_seeds)
    aligned, *slow = found
    assert [s.name for s in aligned.scenarios] == ["system/x264/e0"]
    assert list(aligned.seeds) == [0, 1]
    assert len(found) == len(expected)
    for study in slow:
        assert list(study.methods) == ["BotorchMultiTaskGP"]
        assert list(study.seeds) == [0]


def test_the_gate_runs_on_staged_sources(capsys, monkeypatch):
    options = ["--staged", "--quick", "--scenario", "invented/constant", "--budget", "3", "--json"]
    monkeypatch.setattr("sys.argv", ["few_shot", *options])
    few_shot.main()
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["failures"] == {}
    assert result["worst_cell"] == "staged/invented/constant/target n=3"
    assert result["seeds"] == 1
    assert "/" not in result["command"].replace("invented/constant", "")

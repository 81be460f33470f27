"""Harm is counted where it is done, by stage, and failures are harm."""

import json

import numpy as np
import pandas as pd
import pytest

from bayestl.study.scenario import RecordedScenario
from experiments.negative_transfer import (
    METHODS,
    OURS,
    REFERENCE,
    by_stage,
    rank_correlation,
    real,
    verdict,
)
from experiments.scenarios import staged
from tests.staged_study import table


def results(errors, scenario="staged/invented/flipped/target", group="staged", budget=5):
    """Results of one seed from method -> error, or None for a fit that failed."""
    rows = [
        {
            "scenario": scenario,
            "group": group,
            "budget": budget,
            "seed": 0,
            "method": method,
            "error": "FitError: no" if error is None else "",
            "mape": np.nan if error is None else float(error),
        }
        for method, error in errors.items()
    ]
    return pd.DataFrame(rows)


def test_a_ratio_above_the_limit_is_harm_and_the_claim_fails():
    frame = pd.concat(
        [
            results({REFERENCE: 10, OURS: 10.9, "LinearShift": 5}),
            results({REFERENCE: 10, OURS: 11.1, "LinearShift": 20}, budget=50),
            results({REFERENCE: 10, OURS: 2, "LinearShift": 10}, "real/sac/e0", "real"),
        ]
    )
    found = verdict(by_stage(frame))
    assert not found["holds"]
    ours = found["methods"][OURS]
    assert ours["worst_ratio"] == pytest.approx(1.11)
    assert ours["worst_cell"] == "staged/invented/flipped/target n=50"
    assert (ours["cells_harmed"], ours["cells"]) == (1, 3)
    assert ours["ratio_by_stage"] == pytest.approx({"flipped": (1.09 * 1.11) ** 0.5, "real": 0.2})
    assert ours["worst_by_stage"]["flipped"] == pytest.approx(1.11)
    assert ours["ratio_by_budget"]["50"] == pytest.approx(1.11)
    assert found["methods"]["LinearShift"]["geometric_mean_ratio"] == pytest.approx(1)
    assert verdict(by_stage(frame[frame["budget"] == 5]))["holds"]


def test_a_failure_is_harm_and_the_result_is_json():
    frame = results({REFERENCE: 10, OURS: None, "LinearShift": 5})
    found = verdict(by_stage(frame))
    assert not found["holds"]
    assert found["methods"][OURS]["cells_harmed"] == 1
    assert found["methods"][OURS]["worst_ratio"] is None
    assert found["failures"] == {OURS: 1}
    json.dumps(found, allow_nan=False)


def test_results_are_grouped_by_what_is_wrong_with_the_sources():
    frames = [results({REFERENCE: 1}, s.name, s.group) for s in (*staged(), *real())]
    assert set(by_stage(pd.concat(frames))["group"]) == {
        *("unrelated", "flipped", "constant", "outliers", "one-of-ten", "real")
    }


def test_the_rank_correlation_is_over_configurations_that_both_have():
    scenario = RecordedScenario("g", "new", ("known",), "latency", table)
    assert rank_correlation(scenario) == pytest.approx(1)


def test_every_pair_is_told_in_both_directions_under_names_of_their_own():
    names = [s.name for s in real()]
    assert len(set(names)) == len(names) == 8
    assert {(s.sources, s.target) for s in real()} == {((s.target,), s.sources[0]) for s in real()}


def test_the_claim_is_about_methods_that_are_run():
    assert {OURS, REFERENCE} <= set(METHODS)

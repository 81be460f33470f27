"""Coverage and scores are averaged over the fits that went well, and compared on common ones."""

import json

import numpy as np
import pandas as pd
import pytest

from experiments.calibration import OURS, miscalibration, verdict
from experiments.few_shot import advantages


def results(*rows):
    """Results from (method, scenario, budget, coverage of 90 % intervals, nlpd) rows."""
    return pd.DataFrame(
        [
            {
                "scenario": scenario,
                "group": scenario[0],
                "budget": budget,
                "seed": 0,
                "method": method,
                "error": "" if np.isfinite(held) else "FitError: no",
                "mape": 1.0,
                "coverage50": held - 0.4,
                "coverage80": held - 0.1,
                "coverage90": held,
                "coverage95": held + 0.05,
                "crps": 1 - held,
                "interval_score": 1.0,
                "nlpd": nlpd,
            }
            for method, scenario, budget, held, nlpd in rows
        ]
    )


def test_scores_are_means_without_failures_which_are_counted():
    frame = results(
        (OURS, "a1", 3, 0.85, 1.0),
        (OURS, "a1", 10, 0.95, 3.0),
        (OURS, "b1", 3, np.nan, np.nan),
        ("LinearShift", "b1", 3, 0.7, np.nan),
    )
    found = verdict(frame)
    assert found["methods"][OURS]["coverage90"] == pytest.approx(0.9)
    assert found["methods"][OURS]["nlpd"] == pytest.approx(2)
    assert found["methods"]["LinearShift"]["nlpd"] is None
    assert found["by_budget"][OURS]["3"]["coverage90"] == pytest.approx(0.85)
    assert list(found["by_group"][OURS]) == ["a"]
    assert found["failures"] == {OURS: 1}
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize(
    ("held", "met"), [((0.85, 0.93), True), ((0.78, 0.98), False), ((0.83, 0.85), False)]
)
def test_marks_are_for_all_fits_and_for_every_budget(held, met):
    rows = [(OURS, "a1", budget, share, 1.0) for budget, share in zip((3, 10), held, strict=True)]
    assert verdict(results(*rows))["meets_marks"] == met


def test_scenarios_that_miss_in_opposite_directions_are_both_miscalibrated():
    frame = results((OURS, "a1", 3, 0.8, 1.0), (OURS, "b1", 3, 1.0, 1.0))
    assert miscalibration(frame) == {OURS: pytest.approx(0.1)}


def test_an_advantage_is_over_the_fits_that_both_made():
    frame = results(
        (OURS, "a1", 3, 0.9, 1.0),
        (OURS, "b1", 3, 0.9, 100.0),
        ("TargetOnlyGP", "a1", 3, 0.9, 3.0),
        ("LinearShift", "a1", 3, 0.9, np.nan),
    )
    assert advantages(frame, "nlpd") == {"TargetOnlyGP": pytest.approx(2)}
    assert advantages(frame, "crps") == pytest.approx({"TargetOnlyGP": 0, "LinearShift": 0})

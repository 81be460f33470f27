"""The seed study's answers are ratios of the best on each side, by budget."""

import pandas as pd
import pytest

from experiments import seed_study


def frame(errors):
    """Two scenarios at one budget, whose errors differ by a factor that cancels."""
    return pd.DataFrame(
        [
            {"scenario": s, "budget": 5, "seed": 0, "method": m, "error": "", "mape": f * e}
            for s, f in (("a", 1.0), ("b", 3.0))
            for m, e in errors.items()
        ]
    )


def test_each_side_is_its_best_with_hindsight():
    found = seed_study.answers(
        frame(
            {
                "RandomForest": 20.0,
                "Lasso": 16.0,
                "LinearShift": 10.0,
                "GuidedSampling": 12.0,
                "GuidedSampling (Bayesian)": 8.0,
                "TargetOnlyGP": 4.0,
                "TransferGP": 5.0,
            }
        )
    )
    ratios = {question: by_budget["5"]["ratio"] for question, by_budget in found.items()}
    assert ratios == pytest.approx(
        {
            "influential": 8 / 16,
            "influential_in_the_study": 12 / 16,
            "crossover": 16 / 10,
            "crossover_with_a_process": 4 / 10,
            "coregionalization": 5 / 10,
            "coregionalization_over_all": 5 / 4,
            "transfer_alone": 5 / 4,
        }
    )


def test_scenarios_have_one_source_each_and_names_of_their_own():
    found = seed_study.scenarios()
    assert all(len(scenario.sources) == 1 for scenario in found)
    assert len({scenario.name for scenario in found}) == len(found) == 12

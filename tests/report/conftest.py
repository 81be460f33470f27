"""A report with every part, small enough to draw in seconds."""

import numpy as np
import pandas as pd
import pytest

from bayestl.data.measurement import Metric
from bayestl.report.content import Change, Improvement, Report

LATENCY = Metric("latency", "ms")


def predictions(*methods: str) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    measured = np.exp(rng.normal(3, 0.5, 8))
    middle = measured * np.exp(rng.normal(0, 0.1, 8))
    one = pd.DataFrame({"measured": measured, "q05": 0.8 * middle, "q50": middle})
    one["q95"] = 1.2 * middle
    if not methods:
        return one
    return pd.concat([one.assign(method=name) for name in methods], ignore_index=True)


def changes() -> pd.DataFrame:
    """As `what_changed` gives them."""
    return pd.DataFrame(
        {
            "option": ["threads", "level", "arena"],
            "other": ["", "arena", ""],
            "source": [0.1, 0.05, 0.02],
            "target": [0.6, 0.04, 0.02],
            "difference": [0.5, -0.01, 0.0],
            "low": [0.4, -0.03, -0.01],
            "high": [0.6, 0.01, 0.01],
            "change": [0.9, 0.08, 0.0],
            "factor": [1.6, 1.05, 1.0],
            "probability": [0.999, 0.4, 0.1],
        }
    )


def full_report(**changed: object) -> Report:
    environments = ["one core", "all cores"]
    default = {"threads": 1, "level": "all", "arena": True}
    parts: dict = {
        "title": "SqueezeNet on all cores",
        "metric": LATENCY,
        "lede": "A finding.",
        "facts": [("error of predictions", "5.0 %")],
        "improvement": Improvement(default, {**default, "threads": 2}, 34.2, 21.1, (1.5, 1.8)),
        "methods": pd.DataFrame(
            {
                "method": ["TransferGP", "RandomForest"],
                "mape": [5.0, 20.0],
                "spearman": [0.95, 0.8],
                "coverage90": [0.9, 0.8],
            }
        ),
        "learning": pd.DataFrame(
            {
                "method": ["TransferGP", "TransferGP", "RandomForest", "RandomForest"],
                "n_target": [5, 25, 5, 25],
                "mape": [9.0, 5.0, 40.0, 20.0],
            }
        ),
        "predictions": predictions("TransferGP", "RandomForest"),
        "effects": pd.DataFrame(
            {
                "option": ["threads", "level", "arena"],
                "effect": [0.6, 0.2, 0.0],
                "low": [0.5, 0.1, 0.0],
                "high": [0.7, 0.3, 0.05],
                "best": ["2", "all", "true"],
                "ratio": [1.9, 1.4, 1.0],
            }
        ),
        "correlation": pd.DataFrame([[1.0, 0.9], [0.9, 1.0]], environments, environments),
        "change": Change(*environments, effects=changes()),
        "trials": pd.DataFrame({"number": [1, 2, 3], "value": [34.2, np.nan, 21.1]}),
        "failures": pd.DataFrame({"status": ["timeout"], "count": [1], "example": ["60 s"]}),
        "environments": pd.DataFrame({"environment": environments, "measurements": [50, 25]}),
        "warnings": ["The governor is powersave."],
        "provenance": {"seed": "0"},
    }
    return Report(**(parts | changed))


@pytest.fixture(scope="session")
def make_report():
    """A function that makes the report, with some parts changed."""
    return full_report


@pytest.fixture(scope="session")
def make_predictions():
    """A function that makes predictions of the named methods."""
    return predictions

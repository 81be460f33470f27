"""Do intervals hold what they promise, on every transfer and where the sources mislead?

    BAYESTL_DATA=FOLDER python -m experiments.calibration [--quick] [--seeds 1] [--workers 2]
        [--cache FOLDER] [--json [FILE]] [--figure FILE]

The scenarios of `few_shot`, and those with staged sources, with 3 to 50 random rows of the
target. For each method and budget: the share of other measurements inside central intervals of
50, 80, 90 and 95 %, and on the logarithm the continuous ranked probability score and, for
processes, the negative log density. Scores are means over the fits that went well; two methods'
are compared on the fits that both made. With the `--cache` of `few_shot` its fits are not
made again.

The marks: of `TransferGP`, 90 % intervals hold 87 to 93 % in all, and 80 to 97 % at every budget.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from bayestl.models.model import Model
from bayestl.report.study import NOMINAL, calibration
from bayestl.study.study import Study
from experiments import command, few_shot
from experiments.scenarios import available, scenarios, staged

OURS = "TransferGP"
METHODS: Mapping[str, Model] = {
    name: few_shot.METHODS[name]
    for name in (
        *(OURS, "TargetOnlyGP", "LinearShift", "GuidedSampling (Bayesian)"),
        *("PooledBoostedTrees", "RandomForest"),
    )
}
"""The recipes of `few_shot`, so that both can share a cache."""

QUICK = (
    "image-size/latency/800x800",
    "cores/amd-epyc-2c/onnxruntime/squeezenet/all-cores",
    "staged/invented/flipped/target",
)
QUICK_METHODS = (OURS, "TargetOnlyGP", "LinearShift")
BUDGETS = (3, 10, 50)
COVERAGE = [f"coverage{percentage}" for percentage in NOMINAL]
SCORES = [*COVERAGE, "crps", "interval_score", "nlpd"]

IN_ALL, AT_EVERY_BUDGET = (0.87, 0.93), (0.80, 0.97)
"""Between which the coverage of our 90 % intervals must lie."""


def main() -> None:
    arguments = command.study_parser(__doc__, seeds=1).parse_args()
    every = [*scenarios(), *staged()]
    study = Study(
        available([s for s in every if not arguments.quick or s.name in QUICK]),
        {n: m for n, m in METHODS.items() if not arguments.quick or n in QUICK_METHODS},
        (5, 20) if arguments.quick else BUDGETS,
        range(1 if arguments.quick else arguments.seeds),
    )
    frame = study.run(**command.execution(arguments)).frame
    result = verdict(frame)
    show(result)
    command.show_failures(frame)
    command.publish(
        {"seeds": len(study.seeds), "scenarios": frame["scenario"].nunique(), **result}, arguments
    )
    command.publish_figure(calibration(frame, methods=list(study.methods)), arguments)


def verdict(frame: pd.DataFrame) -> dict[str, Any]:
    """Each method's scores in all, by budget and by group, and whether ours meet the marks."""
    sound = frame[frame["error"] == ""]
    by_budget = sound.groupby(["method", "budget"], sort=False)[SCORES].mean()
    ours = by_budget.xs(OURS, level="method")["coverage90"].tolist()
    in_all = float(sound.loc[sound["method"] == OURS, "coverage90"].mean())
    return {
        "meets_marks": bool(
            _between(in_all, IN_ALL) and all(_between(held, AT_EVERY_BUDGET) for held in ours)
        ),
        "methods": _nested(sound.groupby("method", sort=False)[SCORES].mean()),
        "by_budget": {
            str(name): _nested(rows.droplevel("method"))
            for name, rows in by_budget.groupby(level="method", sort=False)
        },
        "by_group": {
            str(name): _nested(rows.groupby("group", sort=False)[SCORES].mean())
            for name, rows in sound.groupby("method", sort=False)
        },
        "miscalibration": miscalibration(sound),
        "better_by": {score: few_shot.advantages(sound, score) for score in ("crps", "nlpd")},
        "failures": command.failures(frame),
    }


def miscalibration(sound: pd.DataFrame) -> dict[str, float]:
    """Method -> how far a scenario's coverage is from what is promised, on average.

    The absolute difference, averaged over scenarios and the four intervals: two scenarios
    that miss in opposite directions do not make up for each other.
    """
    held = sound.groupby(["method", "scenario"], sort=False)[COVERAGE].mean()
    distance = (held - np.array(NOMINAL) / 100).abs().mean(axis=1)
    means = distance.groupby(level="method", sort=False).mean()
    return {str(name): float(value) for name, value in means.items()}


def show(result: Mapping[str, Any]) -> None:
    """Print the scores in all, and the coverage by budget."""
    methods = pd.DataFrame(result["methods"]).T.assign(miscalibration=result["miscalibration"])
    print(methods.to_string(float_format="{:.3f}".format))
    print("\nmeasurements inside 90 % intervals, by number of target measurements")
    by_budget = {
        name: {budget: scores["coverage90"] for budget, scores in budgets.items()}
        for name, budgets in result["by_budget"].items()
    }
    print(pd.DataFrame(by_budget).T.to_string(float_format="{:.3f}".format))
    for score, rivals in result["better_by"].items():
        listed = ", ".join(f"{name}: {value:.3f}" for name, value in rivals.items())
        print(f"{OURS}'s {score} is lower, on the same fits, by {listed}")
    print(
        f"\nmarks for {OURS}, {IN_ALL} in all and {AT_EVERY_BUDGET} at every budget: "
        f"{'met' if result['meets_marks'] else 'missed'}"
    )


def _between(value: float, limits: tuple[float, float]) -> bool:
    return limits[0] <= value <= limits[1]


def _nested(table: pd.DataFrame) -> dict[str, dict[str, float | None]]:
    """Row -> column -> value, as JSON: a score that there is not is None."""
    return {
        str(row): {
            str(name): float(value) if np.isfinite(value) else None
            for name, value in values.items()
        }
        for row, values in table.iterrows()
    }


if __name__ == "__main__":
    main()

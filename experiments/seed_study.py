"""The seed study's question, asked again: which knowledge of a source pays in a new environment?

    BAYESTL_DATA=FOLDER python -m experiments.seed_study [--quick] [--seeds 3] [--workers 2]
        [--cache FOLDER] [--json [FILE]] [--figure FILE]

Iqbal, Kotthoff and Jamshidi (OpML 2019) transferred models of a DNN's time and energy between
environments. Here are their strategies and regressors, on their measurements of a Jetson TX2
(time, and what their power monitor summed) and on bayestl's own (cores, batch and network
of engines on a CPU): one source of 300 rows, 3 to 80 random rows of the target, others to
judge on. All strategies get the same rows but guided sampling with a design, which is given
those rows nearest to what it asks for. The answers:

- `influential`: does it pay to transfer influential options and interactions? Guided sampling
  over the best regressor without transfer; `influential_in_the_study` without the prior, as the
  study knows it
- `crossover`: from which budget on does a regressor without transfer win? The best without over
  the best of the study's strategies; `crossover_with_a_process` where `TargetOnlyGP`, which the
  study did not have, is one of those without
- `coregionalization`: `TransferGP` over the best of the study's strategies;
  `coregionalization_over_all` over the best of all other methods; and `transfer_alone` over
  `TargetOnlyGP`, which tells what the sources add to a process from what the process adds

where the best is the best with hindsight. Each is the geometric mean over cells by budget, with a
95 % interval over the scenarios.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from bayestl.baselines.estimator import (
    decision_tree,
    lasso,
    neural_network,
    splines,
    support_vectors,
)
from bayestl.baselines.trees import BoostedTrees, RandomForest
from bayestl.models.gp import TargetOnlyGP
from bayestl.models.model import Model
from bayestl.models.transfer_gp import TransferGP
from bayestl.report.study import error_against_budget
from bayestl.study.method import Designed, Method
from bayestl.study.scenario import RecordedScenario
from bayestl.study.statistics import bootstrap_interval, cell_means, geometric_mean
from bayestl.study.study import Study
from bayestl.transfer.guided_sampling import GuidedSampling
from bayestl.transfer.model_shift import DirectTransfer, LinearShift, NonlinearShift
from experiments import command
from experiments.remembered import Remembered
from experiments.scenarios import available, inference_table, tx2_table

BUDGETS = (3, 5, 10, 20, 40, 80)
SOURCE_ROWS, POOL_ROWS, TEST_ROWS = 300, 80, 300

WITHOUT: Mapping[str, Model] = {
    "DecisionTree": decision_tree(),
    "RandomForest": RandomForest(),
    "BoostedTrees": BoostedTrees(),
    "SupportVectors": support_vectors(),
    "NeuralNetwork": neural_network(),
    "Splines": splines(),
    "Lasso": lasso(),
}
"""Regressors on the target's measurements alone."""

STRATEGIES: Mapping[str, Model | Method] = {
    "DirectTransfer": DirectTransfer(Remembered(RandomForest())),
    "LinearShift": LinearShift(Remembered(RandomForest())),
    "NonlinearShift": NonlinearShift(Remembered(RandomForest())),
    "GuidedSampling": GuidedSampling(),
    "GuidedSampling (design)": Method(GuidedSampling(), Designed()),
}
"""The study's ways to transfer, the shifts over a forest."""

OURS: Mapping[str, Model | Method] = {
    "TargetOnlyGP": TargetOnlyGP(),
    "GuidedSampling (Bayesian)": GuidedSampling(prior="source"),
    "GuidedSampling (Bayesian, design)": Method(GuidedSampling(prior="source"), Designed()),
    "TransferGP": TransferGP(),
}
"""Gaussian processes, and the study's idea as a prior."""

SHOWN = (
    *("TransferGP", "LinearShift", "GuidedSampling", "GuidedSampling (Bayesian)"),
    *("DirectTransfer", "RandomForest"),
)


def main() -> None:
    arguments = command.study_parser(__doc__, seeds=3).parse_args()
    wanted = available(scenarios())
    study = Study(
        wanted[::-6] if arguments.quick else wanted,
        {**WITHOUT, **STRATEGIES, **OURS},
        (5, 20) if arguments.quick else BUDGETS,
        range(1 if arguments.quick else arguments.seeds),
    )
    results = study.run(**command.execution(arguments))
    answered = answers(results.frame)
    show(results.frame, answered)
    command.show_failures(results.frame)
    means = cell_means(results.frame).groupby(level="budget").median()
    command.publish(
        {
            "scenarios": [scenario.name for scenario in study.scenarios],
            "seeds": len(study.seeds),
            "median_mape": {str(b): row.to_dict() for b, row in means.iterrows()},
            "failures": command.failures(results.frame),
            **answered,
        },
        arguments,
    )
    command.publish_figure(error_against_budget(results.frame, methods=SHOWN), arguments)


def scenarios() -> list[RecordedScenario]:
    """One source and one target each: image sizes of the TX2, and bayestl's own environments."""
    sizes = ("200x200", "400x400", "600x600", "800x800")
    found = [
        _scenario(f"tx2 {metric}", target, source, metric, tx2_table, metric)
        for metric in ("latency", "power_sum")
        for source, target in (*pairwise(sizes), (sizes[-1], sizes[0]))
    ]
    ours = "amd-epyc-2c/onnxruntime"
    for group, target, source in (
        ("inference cores", "squeezenet/all-cores", "squeezenet/one-core"),
        ("inference cores", "bert_mini/one-core", "bert_mini/all-cores"),
        ("inference batch", "squeezenet/all-cores/batch-4", "squeezenet/all-cores"),
        ("inference network", "mobilenet_v2/all-cores", "squeezenet/all-cores"),
    ):
        names = (f"{ours}/{source}", f"{ours}/{target}")
        table = partial(inference_table, environments=names)
        found.append(_scenario(group, names[1], names[0], "latency", table))
    return found


def _scenario(
    group: str, target: str, source: str, metric: str, table: Any, label: str = ""
) -> RecordedScenario:
    return RecordedScenario(
        group, target, (source,), metric, table, label, SOURCE_ROWS, POOL_ROWS, TEST_ROWS
    )


def answers(frame: pd.DataFrame) -> dict[str, Any]:
    """Question -> budget -> the geometric mean of the ratio, and its interval."""
    means = cell_means(frame)

    def best(names: Sequence[str]) -> pd.Series:
        return means[[name for name in names if name in means]].min(axis=1)

    without, strategies = best([*WITHOUT]), best([*STRATEGIES])
    guided = [name for name in map(str, means) if name.startswith("GuidedSampling")]
    ours = means["TransferGP"]
    return {
        "influential": _by_budget(best(guided) / without),
        "influential_in_the_study": _by_budget(
            best([name for name in guided if name in STRATEGIES]) / without
        ),
        "crossover": _by_budget(without / strategies),
        "crossover_with_a_process": _by_budget(best([*WITHOUT, "TargetOnlyGP"]) / strategies),
        "coregionalization": _by_budget(ours / strategies),
        "coregionalization_over_all": _by_budget(
            ours / best([name for name in map(str, means) if name != "TransferGP"])
        ),
        "transfer_alone": _by_budget(ours / means["TargetOnlyGP"]),
    }


def _by_budget(ratios: pd.Series) -> dict[str, dict[str, float | None]]:
    found = {}
    for budget, of_budget in ratios.groupby(level="budget"):
        low, high = bootstrap_interval(of_budget)
        values = {"ratio": geometric_mean(of_budget), "low": low, "high": high}
        found[str(budget)] = {k: v if np.isfinite(v) else None for k, v in values.items()}
    return found


def show(frame: pd.DataFrame, answered: Mapping[str, Any]) -> None:
    """Print the median error over scenarios, and the answers."""
    means = cell_means(frame).groupby(level="budget").median()
    print("median MAPE [%] over scenarios, by number of target measurements")
    print(means.T.to_string(float_format="{:.3g}".format))
    for question, by_budget in answered.items():
        print(f"\n{question}")
        for budget, found in by_budget.items():
            interval = "" if found["low"] is None else f" ({found['low']:.2f}-{found['high']:.2f})"
            print(f"  {budget:>3} measurements: {found['ratio']:.2f}{interval}")


if __name__ == "__main__":
    main()

"""How accurate few target measurements make each method, on public data: the gate.

    BAYESTL_DATA=FOLDER python -m experiments.few_shot [--quick] [--seeds 10] [--workers 2]
        [--scenario NAME ...] [--budget N ...] [--methods A,B] [--botorch-seeds 2]
        [--cache FOLDER [--fresh METHOD ...]] [--staged | --unseen] [--json [FILE]] [--figure FILE]

A cell is a scenario and a budget. In each, every method is given the same measurements
and judged by the same others, for several seeds; its error is the mean over the seeds
of the mean absolute percentage error of the median prediction. The ratio of a cell is our
error over that of the best rival, chosen with hindsight; a rival that ran on fewer seeds is
compared on those. The same mean is told for the median percentage error and the continuous ranked
probability score, each with the rival that is best by it: a mean of percentage errors is mostly
about the few configurations that no method foresees. `--quick` leaves the joint models out. With
`--staged` the sources mislead, and the only rival is the process that does not see them; with
`--unseen` sources and targets are others. What is fitted to the sources alone is kept from budget
to budget, in ours as in the shifts, which changes no prediction. With `--cache` nothing is computed
twice; a cell is stored under its data and its recipe, not under the code behind it: forget with
`--fresh` what the code changed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from bayestl.baselines.mean import Mean
from bayestl.baselines.trees import BoostedTrees, PooledBoostedTrees, RandomForest
from bayestl.models.gp import MultiTaskGP, TargetOnlyGP
from bayestl.models.model import Model
from bayestl.models.transfer_gp import TransferGP
from bayestl.report.study import error_against_budget
from bayestl.study.scenario import RecordedScenario
from bayestl.study.statistics import best_rivals, cell_means, geometric_mean
from bayestl.study.study import Results, Study
from bayestl.transfer.guided_sampling import GuidedSampling
from bayestl.transfer.model_shift import DirectTransfer, LinearShift, NonlinearShift, OffsetShift
from bayestl.transfer.source_values import SourceValuesRidge
from experiments import command
from experiments.botorch_rival import BotorchMultiTaskGP
from experiments.remembered import Remembered, RememberedSources
from experiments.scenarios import BUDGETS, OWN_GROUPS, available, scenarios, staged, unseen

OURS = "TransferGP"
METHODS: Mapping[str, Model] = {
    OURS: RememberedSources(TransferGP()),
    "MultiTaskGP": MultiTaskGP(),
    "Mean": Mean(),
    "RandomForest": RandomForest(),
    "BoostedTrees": BoostedTrees(),
    "TargetOnlyGP": TargetOnlyGP(),
    "PooledBoostedTrees": PooledBoostedTrees(),
    "DirectTransfer": DirectTransfer(Remembered(TargetOnlyGP())),
    "OffsetShift": OffsetShift(Remembered(TargetOnlyGP())),
    "LinearShift": LinearShift(Remembered(TargetOnlyGP())),
    "NonlinearShift": NonlinearShift(Remembered(TargetOnlyGP())),
    "SourceValuesRidge": SourceValuesRidge(),
    "GuidedSampling": GuidedSampling(),
    "GuidedSampling (Bayesian)": GuidedSampling(prior="source"),
    "BotorchMultiTaskGP": BotorchMultiTaskGP(),
}
SIDE_LINES = ("MultiTaskGP",)
"""Ours as well: shown, but no rival."""

GP_RIVALS = ("TargetOnlyGP", "BotorchMultiTaskGP")
"""Whose log density is compared with ours."""

ALIGNED_ONLY = ("SourceValuesRidge",)
"""Methods that need the sources' values at the configurations that are asked for."""

SLOW = ("BotorchMultiTaskGP",)
"""Methods that run on the first seeds alone."""

SCORES = ("mape", "median_ape", "crps")
"""By which methods are compared; a mean of percentage errors is large where a few are wild."""

WORST_MARK, STAGED_MARK = 1.15, 1.10
"""What a cell's ratio may not exceed, and what it may not where the sources mislead."""

QUICK = (
    "framework/aws-gpu1-theano-micro/Coffee",
    "system/imagemagick/e0",
    "cores/amd-epyc-2c/onnxruntime/squeezenet/all-cores",
)


def main() -> None:
    arguments = _arguments()
    every = staged if arguments.staged else unseen if arguments.unseen else scenarios
    wanted = available(every())
    if arguments.scenario:
        wanted = [s for s in wanted if any(name in s.name for name in arguments.scenario)]
    elif arguments.quick:
        wanted = [s for s in wanted if s.name in QUICK or s.group == "staged"]
    seeds = range(1 if arguments.quick else arguments.seeds)
    budgets = arguments.budget or ((5, 20) if arguments.quick else BUDGETS)
    whole = tuple(n for n in METHODS if not arguments.quick or n not in (*SIDE_LINES, *SLOW))
    usual = (OURS, "TargetOnlyGP") if arguments.staged else whole
    methods = arguments.methods.split(",") if arguments.methods else usual
    unknown = sorted(set(methods) - set(METHODS))
    if unknown or not wanted:
        sys.exit(f"unknown {', '.join(unknown) or 'scenario'}; methods: {', '.join(METHODS)}")
    rows = Results.concat(
        [
            study.run(**command.execution(arguments, study.methods))
            for study in studies(wanted, methods, budgets, seeds, arguments.botorch_seeds)
        ]
    ).frame
    cells = summarise_cells(rows)
    result = verdict(rows, cells, arguments.staged)
    show(cells, result, arguments.staged)
    command.show_failures(rows)
    result["cells"] = cells.reset_index().to_dict("records")
    command.publish({"seeds": len(seeds), **result}, arguments)
    command.publish_figure(error_against_budget(rows), arguments)


def studies(
    wanted: Sequence[RecordedScenario],
    methods: Sequence[str],
    budgets: Sequence[int],
    seeds: Sequence[int],
    slow_seeds: int,
) -> list[Study]:
    """What is run: every method wherever it applies, and the slow ones on few seeds."""
    aligned = [scenario for scenario in wanted if scenario.source_rows is None]
    planned = (
        (wanted, [name for name in methods if name not in (*ALIGNED_ONLY, *SLOW)], seeds),
        (aligned, [name for name in methods if name in ALIGNED_ONLY], seeds),
        (wanted, [name for name in methods if name in SLOW], seeds[:slow_seeds]),
    )
    return [
        Study(where, {name: METHODS[name] for name in names}, budgets, drawn)
        for where, names, drawn in planned
        if where and names and drawn
    ]


def summarise_cells(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a scenario and budget: every method's mean error, the best rival, the ratio.

    The ratio is that of means over the seeds that both ran on, for the rival that makes it
    largest; NaN where no rival ran, infinite where ours failed.
    """
    means = cell_means(rows)
    if OURS not in means:
        return means.assign(best_rival=None, ratio=float("nan"))
    return means.join(best_rivals(rows, OURS, _rivals(rows)))


def verdict(rows: pd.DataFrame, cells: pd.DataFrame, is_staged: bool) -> dict[str, Any]:
    """The figures that the gate asks for."""
    ratio = cells["ratio"].dropna()
    ours = rows[rows["method"] == OURS]
    densities = rows[rows["nlpd"].notna()]
    better = advantages(densities, "nlpd")
    result: dict[str, Any] = {"failures": command.failures(rows)}
    if len(ratio):
        worst = ratio.sort_values().reset_index().iloc[-1]
        result |= {
            "geometric_mean_ratio": geometric_mean(ratio),
            "worst_ratio": float(ratio.max()),
            "worst_cell": f"{worst['scenario']} n={worst['budget']}",
            "ratio_by_budget": ratio.groupby(level="budget").apply(geometric_mean).to_dict(),
            "median_ratio": float(ratio.median()),
            "ratio_by_score": _by_score(rows),
            "ratio_by_data": _by_data(ratio),
            "always_used": _always_used(cells, rows["method"].unique()),
            "cells_missed": int((ratio > (STAGED_MARK if is_staged else WORST_MARK)).sum()),
        }
    if not is_staged:
        result |= {
            "coverage90": float(ours["coverage90"].mean()),
            "coverage90_by_budget": ours.groupby("budget")["coverage90"].mean().to_dict(),
            "nlpd": densities.groupby("method")["nlpd"].mean().to_dict(),
            "nlpd_advantage": {rival: better[rival] for rival in GP_RIVALS if rival in better},
            "fit_seconds": rows.groupby("method")["fit_seconds"].median().to_dict(),
        }
    return result


def _rivals(rows: pd.DataFrame) -> list[str]:
    return [name for name in rows["method"].unique() if name not in (OURS, *SIDE_LINES)]


def _by_score(rows: pd.DataFrame) -> dict[str, float]:
    """Score -> geometric mean of ours over that of the rival that is best by it in the cell."""
    rivals = _rivals(rows)
    return {s: geometric_mean(best_rivals(rows, OURS, rivals, s)["ratio"]) for s in SCORES}


def _by_data(ratio: pd.Series) -> dict[str, float]:
    """Geometric means over cells of public data and of the data set that bayestl comes with."""
    own = ratio.index.get_level_values("scenario").str.split("/").str[0].isin(OWN_GROUPS)
    means = ratio.groupby(np.where(own, "own", "public")).apply(geometric_mean)
    return {str(data): float(mean) for data, mean in means.items()}


def _always_used(cells: pd.DataFrame, methods: Sequence[str]) -> dict[str, float]:
    """Method -> geometric mean of its error over that of the best rival of the cell."""
    best = cells[OURS] / cells["ratio"]
    ratios = {name: (cells[name] / best).dropna() for name in methods}
    means = {name: geometric_mean(ratio) for name, ratio in ratios.items() if len(ratio)}
    return dict(sorted(means.items(), key=lambda item: item[1]))


def advantages(sound: pd.DataFrame, score: str) -> dict[str, float]:
    """Rival -> by how much our mean score is lower, on the fits that both made."""
    keys = ["scenario", "budget", "seed"]
    table = sound.pivot_table(index=keys, columns="method", values=score)
    if OURS not in table:
        return {}
    differences = table.drop(columns=OURS).sub(table[OURS], axis=0).mean()
    return {str(name): float(value) for name, value in differences.dropna().items()}


def show(cells: pd.DataFrame, result: Mapping[str, Any], is_staged: bool) -> None:
    """Print the cells, and what the gate asks beside what it got."""
    with pd.option_context("display.width", 250, "display.max_columns", 30):
        print(cells.to_string(float_format="{:.3g}".format))
    print()
    if "worst_ratio" in result:
        if not is_staged:
            mean = result["geometric_mean_ratio"]
            print(f"geometric mean of ratios {mean:.3f}; the mark is 0.85")
            print("by data: " + _listed(result["ratio_by_data"]))
        print(
            f"worst ratio {result['worst_ratio']:.3f} at {result['worst_cell']}; the mark is "
            f"{STAGED_MARK if is_staged else WORST_MARK}, missed in {result['cells_missed']} "
            f"of {len(cells)} cells"
        )
        print("by budget: " + _listed(result["ratio_by_budget"]))
        print(f"median ratio {result['median_ratio']:.3f}")
        print("geometric mean by score: " + _listed(result["ratio_by_score"]))
        print("each method, always used, over the best rival: " + _listed(result["always_used"]))
    if not is_staged:
        print(f"coverage of 90 % intervals {result['coverage90']:.3f}; the mark is 0.87 to 0.93")
        print(f"by budget: {_listed(result['coverage90_by_budget'])}; the mark is 0.80 to 0.97")
        print("mean negative log density: " + _listed(result["nlpd"]))
        print(
            f"better than rivals on the same fits by {_listed(result['nlpd_advantage'])} nats; "
            "the mark is more than 0 for each"
        )
        print("median CPU seconds of a fit, sources kept: " + _listed(result["fit_seconds"]))


def _listed(figures: Mapping[Any, float]) -> str:
    return ", ".join(f"{name}: {value:.3f}" for name, value in figures.items())


def _arguments() -> argparse.Namespace:
    parser = command.study_parser(__doc__, seeds=10)
    other = parser.add_mutually_exclusive_group()
    other.add_argument("--staged", action="store_true", help="sources that mislead instead")
    other.add_argument("--unseen", action="store_true", help="targets by which nothing was chosen")
    parser.add_argument("--scenario", action="append", help="part of a name; may be repeated")
    parser.add_argument("--budget", type=int, action="append", choices=BUDGETS)
    parser.add_argument("--botorch-seeds", type=int, default=2, help="it is slow")
    parser.add_argument("--methods", help="comma-separated; all unless given")
    return parser.parse_args()


if __name__ == "__main__":
    main()

"""How accurate few target measurements make each method, on public data: the gate.

    BAYESTL_DATA=FOLDER python -m experiments.few_shot [--quick] [--seeds 10] [--workers 2]
        [--scenario NAME ...] [--budget N ...] [--methods A,B] [--botorch-seeds 2]
        [--cache FOLDER [--fresh METHOD ...]] [--staged] [--json]

A cell is a scenario and a budget. In each, every method is given the same measurements
and judged by the same others, for several seeds; its error is the mean over the seeds
of the mean absolute percentage error of the median prediction. The ratio of a cell is our
error over that of the best rival, chosen with hindsight; a rival that ran on fewer seeds is
compared on those. With `--staged` the sources mislead, and the only rival is the process that
does not see them. With `--cache` nothing is computed twice: a run that was stopped goes on, and
`--fresh METHOD`, which forgets the stored results of one method, leaves its rivals alone. A
result is stored under its recipe, not under the code behind it: forget what the code changed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from itertools import groupby
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtri
from scipy.stats import norm
from scipy.stats import t as student

from bayestl.baselines.mean import Mean
from bayestl.baselines.trees import BoostedTrees, PooledBoostedTrees, RandomForest
from bayestl.data.files import write_whole
from bayestl.models.gp import MultiTaskGP, TargetOnlyGP
from bayestl.models.model import Fitted, Model
from bayestl.models.transfer_gp import TransferGP
from bayestl.study.metrics import coverage, crps, interval_score, mape, median_ape
from bayestl.study.statistics import best_rivals, cell_means, geometric_mean
from bayestl.transfer.guided_sampling import GuidedSampling
from bayestl.transfer.model_shift import DirectTransfer, LinearShift, NonlinearShift, OffsetShift
from bayestl.transfer.source_values import SourceValuesRidge
from experiments.botorch_rival import BotorchMultiTaskGP
from experiments.remembered import Remembered
from experiments.scenarios import BUDGETS, Scenario, scenarios, staged

OURS = "TransferGP"
METHODS: Mapping[str, Model] = {
    OURS: TransferGP(),
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

PROCESSES = (OURS, *SIDE_LINES, *GP_RIVALS)
"""What has a log density to speak of; the intervals of the others are ranks."""

ALIGNED_ONLY = ("SourceValuesRidge",)
"""Methods that need the sources' values at the configurations that are asked for."""

WORST_MARK, STAGED_MARK = 1.15, 1.10
"""What a cell's ratio may not exceed, and what it may not where the sources mislead."""

QUICK = (
    "hardware/azure/Adiac",
    "framework/aws-gpu1-theano-micro/Coffee",
    "workload/feature3-tf/StarLightCurves",
    "image-size/latency/800x800",
    "system/imagemagick/e0",
    "system/x264/e0",
)

_BELOW = (1e-6, 1e-5, 1e-4, 1e-3, 3e-3, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4)
_LEVELS = (*_BELOW, 0.5, *(round(1 - level, 6) for level in reversed(_BELOW)))
_INTERVAL = [_LEVELS.index(level) for level in (0.05, 0.5, 0.95)]
_PROTOCOL = 1  # of what a stored result means


@dataclass(frozen=True)
class Job:
    """One fit and its judgement."""

    scenario: str
    seed: int
    budget: int
    method: str

    def file(self, cache_folder: Path) -> Path:
        """Where the result is kept; another recipe or scenario is another file."""
        recipe = repr(METHODS[self.method])
        what = f"{_PROTOCOL} {recipe} {_by_name()[self.scenario]!r}"
        key = sha256(what.encode()).hexdigest()[:12]
        folder = cache_folder / self.method / self.scenario.replace("/", "_")
        return folder / f"{self.seed}-{self.budget}-{key}.json"


def main() -> None:
    arguments = _arguments()
    wanted = staged() if arguments.staged else scenarios()
    if arguments.scenario:
        wanted = [s for s in wanted if any(name in s.name for name in arguments.scenario)]
    elif arguments.quick and not arguments.staged:
        wanted = [s for s in wanted if s.name in QUICK]
    seeds = arguments.seeds or (2 if arguments.quick else 10)
    budgets = arguments.budget or ((5, 20) if arguments.quick else BUDGETS)
    every = (OURS, "TargetOnlyGP") if arguments.staged else tuple(METHODS)
    methods = arguments.methods.split(",") if arguments.methods else every
    unknown = sorted(set(methods) - set(METHODS))
    if unknown or not wanted:
        sys.exit(f"unknown {', '.join(unknown) or 'scenario'}; methods: {', '.join(METHODS)}")
    jobs = [
        Job(scenario.name, seed, budget, method)
        for seed in range(seeds)
        for scenario in wanted
        for budget in budgets
        for method in methods
        if (scenario.aligned or method not in ALIGNED_ONLY)
        and (method != "BotorchMultiTaskGP" or seed < arguments.botorch_seeds)
    ]
    if arguments.cache:
        for job in jobs:
            if job.method in arguments.fresh:
                job.file(arguments.cache).unlink(missing_ok=True)
    rows = pd.DataFrame(run(jobs, arguments.workers, arguments.cache))
    cells = summarise_cells(rows)
    result = verdict(rows, cells, arguments.staged)
    show(cells, result, arguments.staged)
    if arguments.json:
        flat = cells.reset_index().astype(object)
        result["cells"] = flat.where(flat.notna(), None).to_dict("records")  # JSON has no NaN
        print(json.dumps({"seeds": seeds, **result}))


def run(jobs: Sequence[Job], workers: int, cache_folder: Path | None) -> list[dict[str, Any]]:
    """One row a job, read from the cache where it is there."""
    rows, missing = [], []
    for job in jobs:
        path = job.file(cache_folder) if cache_folder else None
        if path and path.exists():
            rows.append(json.loads(path.read_text()))
        else:
            missing.append(job)
    # one split and one fit of the sources for as many jobs as can share it
    blocks = [list(block) for _, block in groupby(missing, lambda job: (job.scenario, job.seed))]
    if workers < 2:
        for block in blocks:
            rows += _judged(block, cache_folder)
        return rows
    with ProcessPoolExecutor(workers, get_context("spawn"), _one_thread) as pool:
        futures = [pool.submit(_judged, block, cache_folder) for block in blocks]
        for future in as_completed(futures):
            rows += future.result()
    return rows


def _judged(jobs: Sequence[Job], cache_folder: Path | None) -> list[dict[str, Any]]:
    rows = []
    for job in jobs:
        row = judge(job)
        rows.append(row)
        if cache_folder:
            path = job.file(cache_folder)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, lambda file, row=row: file.write(json.dumps(row).encode()))
        said = row["error"] or f"{row['mape']:.2f} % in {row['seconds']:.1f} s"
        place = f"{job.scenario} n={job.budget} seed={job.seed} {job.method}"
        print(f"{place}: {said}", file=sys.stderr, flush=True)
    return rows


def judge(job: Job) -> dict[str, Any]:
    """The job's row: errors [%], calibration on the logarithmic scale, CPU seconds.

    A fit that fails is a row with an `error` and no figures: it ends one cell, not the run.
    """
    scenario, recipe = _by_name()[job.scenario], METHODS[job.method]
    split = scenario.split(job.seed, job.budget)
    row: dict[str, Any] = {**vars(job), "group": scenario.group, "error": ""}
    measured = split.test.frame[split.metric].to_numpy(dtype=float)
    began = time.process_time()
    try:
        fitted = recipe.fit(split.train, metric=split.metric, target=split.target, seed=job.seed)
        fit_seconds = time.process_time() - began
        scores = _scores(measured, fitted, split.test.configurations(), job.method in PROCESSES)
    except Exception as error:
        return {**row, "error": f"{type(error).__name__}: {error}"}
    seconds = time.process_time() - began
    return {**row, **scores, "fit_seconds": fit_seconds, "seconds": seconds}


def _scores(
    measured: np.ndarray, fitted: Fitted, configs: pd.DataFrame, is_process: bool
) -> dict[str, float]:
    prediction = fitted.predict(configs, quantiles=_LEVELS).iloc[:, 2:].to_numpy(dtype=float)
    logs, y = np.log(np.maximum(prediction, 1e-300)), np.log(measured)
    low, middle, high = prediction[:, _INTERVAL].T
    log_low, log_middle, log_high = logs[:, _INTERVAL].T
    std = np.maximum((log_high - log_low) / (2 * ndtri(0.95)), 1e-9)
    return {
        "mape": mape(measured, middle),
        "median_ape": median_ape(measured, middle),
        "coverage90": coverage(measured, low, high),
        "interval_score": interval_score(y, log_low, log_high),
        "crps": crps(y, log_middle, std),
        "nlpd": float(-log_density(y, logs, _LEVELS).mean()) if is_process else float("nan"),
    }


def log_density(y: np.ndarray, quantiles: np.ndarray, levels: Sequence[float]) -> np.ndarray:
    """(n,) log densities at y of distributions known by their (n, k) quantiles.

    Between two quantiles the normal score Phi^-1(level) is a straight line in y. Beyond the
    outermost, the density is that of the Student's t around the median that has this
    quantile and the third one from its end, and no heavier than needed. Exact for a Gaussian, close
    for heavier tails; it asks nothing of a model but its quantiles.

    Parameters
    ----------
    levels : k of them, ascending and symmetric around 0.5
    """
    z, rows = ndtri(np.asarray(levels)), np.arange(len(y))
    slopes = np.diff(z) / np.maximum(np.diff(quantiles, axis=1), 1e-12)
    segment = np.clip((quantiles[:, 1:-1] <= y[:, None]).sum(axis=1), 0, len(z) - 2)
    slope = slopes[rows, segment]
    inside = norm.logpdf(z[segment] + slope * (y - quantiles[rows, segment])) + np.log(slope)
    centre = quantiles[:, len(z) // 2]
    above = np.abs(y - centre)
    upper, lower = quantiles - centre[:, None], centre[:, None] - quantiles
    side = np.where((y > centre)[:, None], upper[:, [-1, -3]], lower[:, [0, 2]])
    outer, inner = np.maximum(side, 1e-12).T
    freedom = _freedom(outer / inner, levels[-1], levels[-3])
    scale = inner / student.ppf(levels[-3], freedom)
    return np.where(above > outer, student.logpdf(above, freedom, scale=scale), inside)


def _freedom(ratios: np.ndarray, outer: float, inner: float) -> np.ndarray:
    """(n,) degrees of freedom at which two quantiles of Student's t have the given ratios."""
    grid = np.geomspace(1e8, 1, 200)
    known = student.ppf(outer, grid) / student.ppf(inner, grid)
    return np.exp(np.interp(ratios, known, np.log(grid)))


def summarise_cells(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a scenario and budget: every method's mean error, the best rival, the ratio.

    The ratio is that of means over the seeds that both ran on, for the rival that makes it
    largest; NaN where no rival ran, infinite where ours failed.
    """
    means = cell_means(rows)
    if OURS not in means:
        return means.assign(best_rival=None, ratio=float("nan"))
    rivals = [name for name in map(str, means) if name not in (OURS, *SIDE_LINES)]
    return means.join(best_rivals(rows, OURS, rivals))


def verdict(rows: pd.DataFrame, cells: pd.DataFrame, is_staged: bool) -> dict[str, Any]:
    """The figures that the gate asks for."""
    ratio = cells["ratio"].dropna()
    ours = rows[rows["method"] == OURS]
    densities = rows[rows["method"].isin(PROCESSES)]
    failed = rows[rows["error"] != ""]
    result: dict[str, Any] = {"failures": failed["method"].value_counts().to_dict()}
    if len(ratio):
        worst = ratio.sort_values().reset_index().iloc[-1]
        result |= {
            "geometric_mean_ratio": geometric_mean(ratio),
            "worst_ratio": float(ratio.max()),
            "worst_cell": f"{worst['scenario']} n={worst['budget']}",
            "ratio_by_budget": ratio.groupby(level="budget").apply(geometric_mean).to_dict(),
            "median_ratio": float(ratio.median()),
            "always_used": _always_used(cells, rows["method"].unique()),
            "cells_missed": int((ratio > (STAGED_MARK if is_staged else WORST_MARK)).sum()),
        }
    if not is_staged:
        result |= {
            "coverage90": float(ours["coverage90"].mean()),
            "coverage90_by_budget": ours.groupby("budget")["coverage90"].mean().to_dict(),
            "nlpd": densities.groupby("method")["nlpd"].mean().to_dict(),
            "nlpd_advantage": _advantages(densities),
            "fit_seconds": rows.groupby("method")["fit_seconds"].median().to_dict(),
        }
    return result


def _always_used(cells: pd.DataFrame, methods: Sequence[str]) -> dict[str, float]:
    """Method -> geometric mean of its error over that of the best rival of the cell."""
    best = cells[OURS] / cells["ratio"]
    ratios = {name: (cells[name] / best).dropna() for name in methods}
    means = {name: geometric_mean(ratio) for name, ratio in ratios.items() if len(ratio)}
    return dict(sorted(means.items(), key=lambda item: item[1]))


def _advantages(rows: pd.DataFrame) -> dict[str, float]:
    """Rival -> by how much our mean log density is better, on the fits that both made."""
    nlpd = rows.pivot_table(index=["scenario", "budget", "seed"], columns="method", values="nlpd")
    if OURS not in nlpd:
        return {}
    return {rival: float((nlpd[rival] - nlpd[OURS]).mean()) for rival in GP_RIVALS if rival in nlpd}


def show(cells: pd.DataFrame, result: Mapping[str, Any], is_staged: bool) -> None:
    """Print the cells, and what the gate asks beside what it got."""
    with pd.option_context("display.width", 250, "display.max_columns", 30):
        print(cells.to_string(float_format="{:.3g}".format))
    print()
    if "worst_ratio" in result:
        if not is_staged:
            mean = result["geometric_mean_ratio"]
            print(f"geometric mean of ratios {mean:.3f}; the mark is 0.85")
        print(
            f"worst ratio {result['worst_ratio']:.3f} at {result['worst_cell']}; the mark is "
            f"{STAGED_MARK if is_staged else WORST_MARK}, missed in {result['cells_missed']} "
            f"of {len(cells)} cells"
        )
        print("by budget: " + _listed(result["ratio_by_budget"]))
        print(f"median ratio {result['median_ratio']:.3f}")
        print("each method, always used, over the best rival: " + _listed(result["always_used"]))
    if not is_staged:
        print(f"coverage of 90 % intervals {result['coverage90']:.3f}; the mark is 0.87 to 0.93")
        print(f"by budget: {_listed(result['coverage90_by_budget'])}; the mark is 0.80 to 0.97")
        print("mean negative log density: " + _listed(result["nlpd"]))
        print(
            f"better than rivals on the same fits by {_listed(result['nlpd_advantage'])} nats; "
            "the mark is more than 0 for each"
        )
        print("median CPU seconds of a fit: " + _listed(result["fit_seconds"]))
    if result["failures"]:
        print(f"fits that failed: {result['failures']}")


def _listed(figures: Mapping[Any, float]) -> str:
    return ", ".join(f"{name}: {value:.3f}" for name, value in figures.items())


@cache
def _by_name() -> dict[str, Scenario]:
    return {scenario.name: scenario for scenario in [*scenarios(), *staged()]}


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Accuracy with few target measurements")
    parser.add_argument("--quick", action="store_true", help="6 scenarios, 2 seeds, budgets 5, 20")
    parser.add_argument("--staged", action="store_true", help="sources that mislead instead")
    parser.add_argument("--scenario", action="append", help="part of a name; may be repeated")
    parser.add_argument("--budget", type=int, action="append", choices=BUDGETS)
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--botorch-seeds", type=int, default=2, help="it is slow")
    parser.add_argument("--methods", help="comma-separated; all unless given")
    parser.add_argument("--workers", type=int, default=1, help="processes of one thread each")
    parser.add_argument("--cache", type=Path, help="folder that keeps every result")
    parser.add_argument("--fresh", action="append", default=[], help="method to forget")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    return parser.parse_args()


if __name__ == "__main__":
    # before any worker starts; the main process keeps what it was started with
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"
    main()

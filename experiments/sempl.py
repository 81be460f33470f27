"""Configurable systems in several environments, in SeMPL's protocol: who is most accurate?

    BAYESTL_DATA=FOLDER python -m experiments.sempl [--quick] [--seeds 3] [--workers 2]
        [--system NAME ...] [--size 1] [--networks] [--published FILE]
        [--cache FOLDER] [--json FILE] [--figure FILE]

SeMPL (Gong and Chen, FSE 2024) gives a method every row of a system's other environments and
a few random rows of the target, each environment in turn, and judges it by the mean relative
error [%] on all other rows of the target. Run k draws its rows with the seed 2 k; the same
rows are drawn here, for the first `--seeds` of its 30 runs. `--size` is the position of the
number of target rows among SeMPL's five, of which 1 is the smallest.

What others reached is read, not run again: `--published` names a CSV file with the columns
`system`, `target_env`, `size` (S1 to S5), `method` and `mean_mre_pct`, SeMPL's own means over 30
runs, by default `published/sempl_results.csv` in the folder that `BAYESTL_DATA` names. Methods
with "+e" there have one feature more, the environment, and in two systems one row more.

First a forest with scikit-learn's defaults, fitted to the raw values of the same rows, is
compared with SeMPL's ("RF"), over all systems, targets and sizes: unless both agree, nothing else
can be compared. A clone of SeMPL has that forest's error of every run as well, in
`results/RQ1_raw_results/RF`; where it is there, both are compared run by run. Then ours, and a
ridge regression from the sources' values at the very configuration that is asked for: the protocol
measures every source everywhere, so whoever has such data can have that. What is judged is the
median prediction, which is not bent towards the metric, although a relative error rewards low
predictions. Systems are told by two summaries over their targets, the mean error and the mean
rank, since one hard target can make the mean.

With `--networks`, those in the manner of SeMPL and of DeepPerf are fitted to the same rows as well,
beside what the originals reached (some CPU seconds a fit).
"""

from __future__ import annotations

import argparse
import os
import random
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from bayestl.baselines.sparse_network import SparseNetwork
from bayestl.data.space import ConfigSpace
from bayestl.data.table import MeasurementTable
from bayestl.datasets.repository import DATA_VARIABLE
from bayestl.datasets.sempl import REPOSITORY, SYSTEMS, sempl
from bayestl.models.model import Model
from bayestl.models.regression import Examples, FittedRegression, Trained
from bayestl.models.scaling import TransformName
from bayestl.models.transfer_gp import TransferGP
from bayestl.report.drawing import drawn, scale
from bayestl.report.theme import LIGHT, Theme
from bayestl.study.scenario import Split
from bayestl.study.statistics import cell_means
from bayestl.study.study import Results, Study
from bayestl.transfer.sequential_network import SequentialMetaLearning
from bayestl.transfer.source_values import SourceValuesRidge
from experiments.command import execution, publish, publish_figure, study_parser
from experiments.own_features import fit_at_target
from experiments.remembered import RememberedSources

SIZES: Mapping[str, tuple[int, ...]] = {
    "deeparch": (12, 24, 36, 48, 60),
    "exastencils": (106, 181, 355, 485, 695),
    "imagemagick": (11, 24, 45, 66, 70),
    "sac": (58, 116, 174, 232, 290),
    "x264": (24, 53, 81, 122, 141),
}
"""How many rows of the target are given."""

RUNS = 30
"""How many SeMPL has."""

OURS = "TransferGP"
METHODS: Mapping[str, Model] = {
    OURS: RememberedSources(TransferGP()),
    "SourceValuesRidge": SourceValuesRidge(),
}

NETWORKS: Mapping[str, Model] = {
    "SequentialMetaLearning": SequentialMetaLearning(),
    "SparseNetwork": SparseNetwork(),
}

MATCHED = "RF"
"""What SeMPL calls the forest that is fitted again."""

MARK = 0.9
"""What the errors of both forests have to correlate by."""

_SCENARIO = r"(?P<system>.*)/S(?P<size>\d)/(?P<target>.*)"

DECADES = 100
"""A panel whose errors span more than this ratio has room for ticks at powers of ten alone."""

_RUN_HERE = (*METHODS, *NETWORKS)

STORED = Path("results", "RQ1_raw_results", "RF")
"""Where a clone of SeMPL holds a file a system and size, with the forest's error of every run."""

QUICK = ("imagemagick",)


@dataclass(frozen=True)
class Target:
    """One environment of a system, at one of SeMPL's sizes; a seed is the number of a run."""

    system: str
    environment: str
    size: int

    @property
    def name(self) -> str:
        return f"{self.system}/S{self.size}/{self.environment}"

    @property
    def group(self) -> str:
        return self.system

    @property
    def rows(self) -> int:
        """How many rows of the target are given."""
        return SIZES[self.system][self.size - 1]

    def split(self, seed: int) -> Split:
        """SeMPL's run of that number, from 0."""
        table = _table(self.system)
        others = [name for name in table.environment_names if name != self.environment]
        of_target = table.of(self.environment)
        given, judged = run_rows(len(of_target), self.rows, seed)
        return Split(
            sources=table.of(*others),
            pool=of_target.select(given),
            test=of_target.select(judged),
            metric="time",
            target=self.environment,
        )


@dataclass(frozen=True)
class RawOptions:
    """Features: the options' numbers as the files have them, categories among them.

    Parameters
    ----------
    space : the space of the table
    """

    space: ConfigSpace

    def of(self, configurations: pd.DataFrame) -> np.ndarray:
        """(n, options)"""
        return configurations[list(self.space.names)].to_numpy(dtype=float)


@dataclass(frozen=True)
class RawForest:
    """Recipe: the forest of SeMPL's comparison, which sees neither logarithms nor sources.

    scikit-learn's defaults, and no more than a point prediction: its intervals are not
    calibrated.
    """

    transform: TransformName = "identity"

    def fit(
        self, table: MeasurementTable, *, metric: str, target: str, seed: int = 0
    ) -> FittedRegression:
        """The forest fitted to the target's usable rows; see `Model.fit`."""
        train = partial(_forest, seed=seed)
        return fit_at_target(self, RawOptions, train, table, metric, target)


def main() -> None:
    arguments = _arguments()
    systems = arguments.system or (QUICK if arguments.quick else tuple(SYSTEMS))
    runs = range(min(2, arguments.seeds) if arguments.quick else arguments.seeds)
    published = read_published(arguments.published)
    forests = _study(systems, range(1, 6), {MATCHED: RawForest()}, runs, arguments)
    matched = match(forests, published)
    matched["by_run"] = match_runs(forests, read_runs(systems))
    _show_match(matched)
    methods = {**METHODS, **NETWORKS} if arguments.networks else METHODS
    ours = _study(systems, [arguments.size], methods, runs, arguments)
    table = beside(ours, published)
    places = summarise(table)
    _show(places, table, arguments.size, len(runs))
    covered = _coverage(ours)
    print("coverage of its 90 % intervals: " + ", ".join(f"{k} {v}" for k, v in covered.items()))
    publish_figure(draw(table, theme=LIGHT), arguments)
    publish(
        {
            "size": f"S{arguments.size}",
            "runs": len(runs),
            "published_runs": RUNS,
            "matched": matched,
            "systems": places,
            "targets": table.to_dict("records"),
            "coverage90": covered,
        },
        arguments,
    )


def run_rows(count: int, given: int, run: int) -> tuple[list[int], list[int]]:
    """Positions of the rows that a run of SeMPL gives and judges on, of `count` of a target.

    SeMPL draws the rows to judge on first, and the others, sorted, into a random order.
    """
    draw = random.Random(2 * run)
    judged = draw.sample(range(count), count - given)
    return draw.sample(sorted(set(range(count)) - set(judged)), given), judged


def read_published(path: Path | None) -> pd.DataFrame:
    """system, target, size, method and error [%] of every published result.

    Ends the program if there is no such file.
    """
    if path is None:
        folder = os.environ.get(DATA_VARIABLE)
        if not folder:
            sys.exit(f"{DATA_VARIABLE} expected to name the folder of public data; see --help")
        path = Path(folder) / "published" / "sempl_results.csv"
    needed = ["system", "target_env", "size", "method", "mean_mre_pct"]
    try:
        frame = pd.read_csv(path, usecols=needed)
    except (OSError, ValueError) as error:
        sys.exit(f"{path}: expected a CSV file with the columns {', '.join(needed)}: {error}")
    return pd.DataFrame(
        {
            "system": frame["system"],
            "target": "e" + frame["target_env"].astype(str),
            "size": frame["size"].str.removeprefix("S").astype(int),
            "method": frame["method"],
            "error": frame["mean_mre_pct"],
        }
    )


def errors(results: Results) -> pd.DataFrame:
    """The same of what was run here: means over the runs."""
    means = cell_means(results.frame).reset_index().drop(columns="budget")
    means = means.melt("scenario", var_name="method", value_name="error")
    named = means["scenario"].str.extract(_SCENARIO).astype({"size": int})
    return pd.concat([named, means[["method", "error"]]], axis=1)


def match(forests: Results, published: pd.DataFrame) -> dict[str, Any]:
    """How well our errors of the published rival agree with those that SeMPL has stored."""
    keys = ["system", "target", "size", "method"]
    both = errors(forests).merge(published, on=keys, suffixes=("", "_published"))
    here, there = both["error"].to_numpy(), both["error_published"].to_numpy()
    ratio = pd.Series(here / there, index=both["system"])
    return {
        "rival": MATCHED,
        "cells": len(both),
        "runs": int(forests.frame["seed"].nunique()),
        "correlation": float(np.corrcoef(here, there)[0, 1]),
        "correlation_of_logarithms": float(np.corrcoef(np.log(here), np.log(there))[0, 1]),
        "median_ratio": float(ratio.median()),
        "median_ratio_by_system": ratio.groupby(level=0).median().to_dict(),
    }


def read_runs(systems: Sequence[str]) -> pd.DataFrame:
    """system, target, size, seed and error [%] of the runs of SeMPL's forest; none, if it has none.

    A file has a line ``Run 1``, and then one an environment, ``Environment 0 RF RE: 9.9``.
    """
    rows = []
    for system in systems:
        folder = REPOSITORY.files().parent / STORED
        stem = Path(SYSTEMS[system][0]).stem
        for size, given in enumerate(SIZES[system], start=1):
            for path in sorted(folder.glob(f"RF_{stem}_?_{given}_*.txt")):
                for run in re.split(r"^Run (?=\d)", path.read_text(), flags=re.MULTILINE)[1:]:
                    seed = int(run.split(maxsplit=1)[0]) - 1
                    for target, error in re.findall(r"Environment (\d+) RF M?RE: (\S+)", run):
                        rows.append((system, f"e{target}", size, seed, float(error)))
    return pd.DataFrame(rows, columns=["system", "target", "size", "seed", "error"])


def match_runs(forests: Results, stored: pd.DataFrame) -> dict[str, Any] | None:
    """How well both forests agree run by run; None where fewer than two runs are stored.

    `correlation` is of all errors, `correlation_within` of their logarithms less the mean of
    the system, target and size: what one draw of rows makes better or worse.
    """
    cell = ["system", "target", "size"]
    named = forests.frame["scenario"].str.extract(_SCENARIO).astype({"size": int})
    found = pd.concat([named, forests.frame[["seed", "mape"]]], axis=1)
    both = found.merge(stored, on=[*cell, "seed"])
    if both["seed"].nunique() < 2:
        return None
    errors_of = both[["mape", "error"]]
    logs = errors_of.transform(np.log)
    within = logs - logs.groupby([both[name] for name in cell]).transform("mean")
    systems = within.groupby(both["system"])
    return {
        "runs": int(both["seed"].nunique()),
        "pairs": len(both),
        "correlation": _correlation(errors_of),
        "correlation_of_logarithms": _correlation(logs),
        "correlation_within": _correlation(within),
        "correlation_within_by_system": {str(k): _correlation(rows) for k, rows in systems},
    }


def _correlation(pairs: pd.DataFrame) -> float:
    """Pearson's, of a frame's two columns."""
    return float(np.corrcoef(pairs.to_numpy(), rowvar=False)[0, 1])


def beside(ours: Results, published: pd.DataFrame) -> pd.DataFrame:
    """A row a target and method, ours and the published: error [%] and its rank."""
    found = errors(ours)
    here = found[["system", "target", "size"]].drop_duplicates()
    both = pd.concat([found, published.merge(here)], ignore_index=True)
    both["rank"] = both.groupby(["system", "target"])["error"].rank()
    return both.sort_values(["system", "target", "error"], ignore_index=True)


def summarise(table: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """system -> each method's mean error and mean rank over the targets, and our places."""
    result = {}
    for system, rows in table.groupby("system"):
        means = rows.groupby("method")[["error", "rank"]].mean()
        result[str(system)] = {
            "targets": int(rows["target"].nunique()),
            "mean_error": means["error"].sort_values().to_dict(),
            "mean_rank": means["rank"].sort_values().to_dict(),
            "place_by_error": int(means["error"].rank(method="min")[OURS]),
            "place_by_rank": int(means["rank"].rank(method="min")[OURS]),
        }
    return result


@drawn
def draw(table: pd.DataFrame, *, theme: Theme = LIGHT) -> Figure:
    """Every method's error in every system: a dot a target, a bar at their mean."""
    ranks = table.groupby("method")["rank"].mean().sort_values(ascending=False)
    height = {name: position for position, name in enumerate(ranks.index)}
    systems = list(table["system"].unique())
    figure = Figure(figsize=(1.2 + 1.75 * len(systems), 1.0 + 0.22 * len(height)))
    panels = figure.subplots(1, len(systems), sharey=True, squeeze=False)[0]
    for axes, system in zip(panels, systems, strict=True):
        rows = table[table["system"] == system]
        for method, errors_of in rows.groupby("method")["error"]:
            colour = theme.accent if method in _RUN_HERE else theme.muted
            at = height[method]
            axes.plot(errors_of, [at] * len(errors_of), "o", ms=3, color=colour, alpha=0.45)
            axes.plot([errors_of.mean()], [at], "|", ms=9, mew=2.0, color=colour)
        scale(axes.xaxis, rows["error"].to_numpy(), log=True)
        if rows["error"].max() > DECADES * rows["error"].min():
            axes.xaxis.set_major_locator(LogLocator())
        axes.set_title(system, pad=6)
        axes.tick_params(length=0)
    panels[0].set_yticks(list(height.values()), list(height))
    for text in panels[0].get_yticklabels():
        if text.get_text() in _RUN_HERE:
            text.set(color=theme.accent, fontweight="bold" if text.get_text() == OURS else "normal")
    figure.supxlabel("mean relative error [%]", fontsize=9, color=theme.muted)
    return figure


def _forest(examples: Examples, *, seed: int) -> Trained:
    from sklearn.ensemble import RandomForestRegressor

    forest = RandomForestRegressor(random_state=seed, n_jobs=1).fit(examples.x, examples.z)
    return Trained(forest, (), np.zeros((len(examples.z), 0), dtype=bool))


def _study(
    systems: Sequence[str],
    sizes: Sequence[int],
    methods: Mapping[str, Model],
    runs: range,
    arguments: argparse.Namespace,
) -> Results:
    """One study a system and size, whose targets are given as many rows.

    Ends the program if a fit failed: it would have no place beside published means.
    """
    parts = []
    for system in systems:
        for size in sizes:
            targets = [Target(system, f"e{k}", size) for k in range(SYSTEMS[system][1])]
            study = Study(targets, methods, [targets[0].rows], runs)
            parts.append(study.run(**execution(arguments, methods)))
    results = Results.concat(parts)
    if len(results.failures):
        failed = results.failures.iloc[0]
        sys.exit(
            f"{len(results.failures)} fits failed, {failed['method']} first: {failed['error']}"
        )
    return results


def _coverage(results: Results) -> dict[str, float]:
    """system -> share of the target's rows inside our 90 % intervals."""
    rows = results.frame[results.frame["method"] == OURS]
    shares = rows.groupby("group")["coverage90"].mean()
    return {str(system): round(float(share), 3) for system, share in shares.items()}


def _show_match(matched: Mapping[str, Any]) -> None:
    print(
        f"{matched['rival']} fitted again on the same rows: its errors correlate "
        f"{matched['correlation']:.3f} with those that are published (logarithms "
        f"{matched['correlation_of_logarithms']:.3f}; the mark is {MARK}), median ratio "
        f"{matched['median_ratio']:.3f}, over {matched['cells']} systems, targets and sizes"
    )
    if by_run := matched["by_run"]:
        print(
            f"run by run: {by_run['correlation_of_logarithms']:.3f} (logarithms), "
            f"{by_run['correlation_within']:.3f} within a system, target and size, over "
            f"{by_run['pairs']} pairs of {by_run['runs']} runs"
        )
    else:
        print(f"not compared run by run: it takes two runs, and {STORED} in the clone of SeMPL")


def _show(
    places: Mapping[str, Mapping[str, Any]], table: pd.DataFrame, size: int, runs: int
) -> None:
    print(f"\nmean relative error [%] at S{size}: {runs} runs of ours, {RUNS} published")
    for system, found in places.items():
        print(f"\n{system}, {SIZES[system][size - 1]} rows of the target")
        ranks = found["mean_rank"]
        for method, error in found["mean_error"].items():
            by_target = table[(table["system"] == system) & (table["method"] == method)]
            each = " ".join(f"{e:8.1f}" for e in by_target.sort_values("target")["error"])
            print(f"  {method:23}{error:8.2f}   rank {ranks[method]:5.2f}   {each}")
    first = {
        by: [system for system, found in places.items() if found[f"place_by_{by}"] == 1]
        for by in ("error", "rank")
    }
    worst = max(max(f["place_by_error"], f["place_by_rank"]) for f in places.values())
    print(
        f"\n{OURS} is first in {len(first['error'])} of {len(places)} systems by mean error, in "
        f"{len(first['rank'])} by mean rank, and never below place {worst}"
    )


@cache
def _table(system: str) -> MeasurementTable:
    return sempl(system)


def _arguments() -> argparse.Namespace:
    made = study_parser(__doc__, seeds=3)
    made.add_argument("--system", action="append", choices=[*SYSTEMS], help="may be repeated")
    made.add_argument("--size", type=int, default=1, choices=range(1, 6), help="1 is the smallest")
    made.add_argument("--networks", action="store_true", help="fit SeMPL's and DeepPerf's kind")
    made.add_argument("--published", type=Path, help="CSV file of published results")
    return made.parse_args()


if __name__ == "__main__":
    main()

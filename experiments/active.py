"""Measurements that are chosen, on recorded tables: how many do they spare?

    BAYESTL_DATA=FOLDER python -m experiments.active [--quick] [--seeds 3] [--workers 2]
        [--cache FOLDER [--fresh METHOD ...]] [--json [FILE]] [--figure FILE]

To model: each method chooses from a pool of 250 random configurations of the target (150 of
bayestl's own data set) and is judged on others. The process that is fitted in the end is the same,
`TransferGP`, whoever chose; two curves without the sources stand beside it. What counts is how
many measurements a method needs for the error that random ones reach at 10, 20 and 40, in a
scenario's mean over the seeds, read between budgets on logarithmic axes. One that does not get
there within 40 is counted as more than 40.

To optimise: each method measures one configuration of the pool after the other, until one is within
5 % of the smallest measured value in the pool.

With `--cache` nothing is computed twice, unless the code changed: forget with `--fresh`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from bayestl.acquisition.improvement import ExpectedImprovement
from bayestl.acquisition.variance import IntegratedVariance, PosteriorVariance
from bayestl.data.files import write_whole
from bayestl.models.gp import TargetOnlyGP
from bayestl.models.model import Model
from bayestl.models.transfer_gp import TransferGP
from bayestl.report.drawing import drawn, headed, label_right, scale, series_colour
from bayestl.report.theme import LIGHT, Theme
from bayestl.study.execution import execute
from bayestl.study.method import Active, Designed, Method
from bayestl.study.progress import reporting
from bayestl.study.scenario import RecordedScenario, Scenario, Split
from bayestl.study.statistics import errors, geometric_mean
from bayestl.study.study import Study
from bayestl.transfer.guided_sampling import GuidedSampling
from experiments import command
from experiments.remembered import RememberedSources
from experiments.scenarios import scenarios

SCENARIOS = (
    "image-size/latency/800x800",
    "image-size/power_sum/200x200",
    "hardware/azure/Adiac",
    "hardware/aws-gpu-micro/Coffee",
    "framework/aws-gpu-micro/Coffee",
    "workload/feature3-tf/StarLightCurves",
    "cores/amd-epyc-2c/onnxruntime/bert_mini/one-core",
    "network/amd-epyc-2c/onnxruntime/mobilenet_v2/all-cores",
)
QUICK = SCENARIOS[-2:]
"""On bayestl's own data set."""

POOL, POOL_OF_FEW = 250, 150
"""Configurations of the target that may be measured; where only some 250 are recorded."""

BUDGETS = (3, 5, 10, 15, 20, 30, 40)
QUICK_BUDGETS = (5, 10)
BATCH = 5
MATCHED = (10, 20, 40)
"""The budgets at which the errors of random measurements are to be matched."""

WITHIN = 0.05
"""How far from the best of the pool is good enough."""

SEARCHED, QUICK_SEARCHED = 30, 8
"""How many configurations a search may measure."""

TRANSFER = RememberedSources(TransferGP())
ALONE = TargetOnlyGP()
ALONE_PREFIX = "target only, "

RANDOM = "random"
CHOSEN = "integrated variance"
MODELS: Mapping[str, Method] = {
    CHOSEN: Method(TRANSFER, Active(IntegratedVariance(), batch=BATCH)),
    "posterior variance": Method(TRANSFER, Active(PosteriorVariance(), batch=BATCH)),
    RANDOM: Method(TRANSFER),
    "guided sampling's design": Method(TRANSFER, Designed(GuidedSampling())),
    f"{ALONE_PREFIX}{CHOSEN}": Method(ALONE, Active(IntegratedVariance(), initial=3, batch=BATCH)),
    f"{ALONE_PREFIX}{RANDOM}": Method(ALONE),
}


@dataclass(frozen=True)
class Ranked:
    """The pool from the smallest predicted value on, none of its measurements seen."""

    def choose(
        self, model: Model, split: Split, budgets: Sequence[int], seed: int
    ) -> list[list[int]]:
        fitted = model.fit(split.train([]), metric=split.metric, target=split.target, seed=seed)
        value = fitted.predict(split.pool.configurations(), quantiles=(0.5,))["q50"].to_numpy()
        order = np.argsort(value, kind="stable").tolist()
        return [order[:budget] for budget in budgets]


SEARCHES: Mapping[str, Method] = {
    "expected improvement": Method(TRANSFER, Active(ExpectedImprovement())),
    "the sources' best first": Method(TRANSFER, Ranked()),
    RANDOM: Method(TRANSFER),
    f"{ALONE_PREFIX}expected improvement": Method(ALONE, Active(ExpectedImprovement(), initial=3)),
}


def main() -> None:
    arguments = command.study_parser(__doc__, seeds=3).parse_args()
    wanted = chosen_scenarios(QUICK if arguments.quick else SCENARIOS)
    seeds = range(1 if arguments.quick else arguments.seeds)
    budgets = QUICK_BUDGETS if arguments.quick else BUDGETS
    study = Study(wanted, MODELS, budgets, seeds)
    frame = study.run(**command.execution(arguments, MODELS)).frame
    print("Error in per cent, geometric mean over the scenarios:")
    means = overall(frame)
    print(means.to_string(float_format="{:.2f}".format), "\n")
    needed = measurements_needed(frame, RANDOM)
    shares = spread(needed, ["matched", "method"], "share")
    print("Measurements over those that random ones need for the same error:")
    print(shares.to_string(float_format="{:.2f}".format), "\n")
    across = across_scenarios(means)
    print("The same on the geometric mean over the scenarios:")
    print(across.to_string(float_format="{:.2f}".format), "\n")
    alone = frame[frame["method"].str.startswith(ALONE_PREFIX)]
    needed_alone = measurements_needed(alone, f"{ALONE_PREFIX}{RANDOM}")
    shares_alone = spread(needed_alone, ["matched", "method"], "share")
    print("The same without sources:")
    print(shares_alone.to_string(float_format="{:.2f}".format), "\n")
    longest = QUICK_SEARCHED if arguments.quick else SEARCHED
    regrets = search(wanted, seeds, longest, arguments)
    steps = steps_needed(regrets)
    found = spread(steps, ["method"], "steps")
    print(f"Measurements until within {WITHIN:.0%} of the best of the pool:")
    print(found.to_string(float_format="{:.2f}".format))
    command.show_failures(frame)
    result = {
        "seeds": len(seeds),
        "failures": command.failures(frame),
        "mape": means.reset_index().to_dict("records"),
        "shares": shares.reset_index().to_dict("records"),
        "needed": needed.to_dict("records"),
        "across": across.reset_index().to_dict("records"),
        "shares_target_only": shares_alone.reset_index().to_dict("records"),
        "needed_target_only": needed_alone.to_dict("records"),
        "search": found.reset_index().to_dict("records"),
        "steps": steps.to_dict("records"),
    }
    command.publish(result, arguments)
    command.publish_figure(draw(frame, regrets), arguments)


def chosen_scenarios(names: Sequence[str]) -> list[RecordedScenario]:
    """The named ones, with a pool that leaves something to choose."""
    known = {scenario.name: scenario for scenario in scenarios()}
    return [
        replace(known[name], pool_rows=POOL_OF_FEW if "onnxruntime" in name else POOL)
        for name in names
    ]


def overall(frame: pd.DataFrame) -> pd.DataFrame:
    """method x budget: the geometric mean over scenarios of the mean error over seeds."""
    means = errors(frame).groupby(level=["scenario", "budget"]).mean()
    return means.groupby(level="budget").agg(geometric_mean).T


def measurements_needed(frame: pd.DataFrame, reference: str) -> pd.DataFrame:
    """One row a scenario, method and entry of `MATCHED`: `error` [%] and `needed` for it.

    `needed` is infinite for a method that does not reach what the reference does; `share` is
    over what the reference itself needs, at most the budget at which it is matched.
    """
    means = errors(frame).groupby(level=["scenario", "budget"]).mean()
    rows = []
    for scenario, curves in means.groupby(level="scenario"):
        known = curves.droplevel("scenario")
        for matched in sorted(set(MATCHED) & set(known.index)):
            wanted = known[reference].to_dict()[matched]
            own = first_reached(known[reference], wanted)
            for method, curve in known.items():
                needed = first_reached(curve, wanted)
                rows.append((scenario, method, matched, wanted, needed, needed / own))
    columns = ["scenario", "method", "matched", "error", "needed", "share"]
    return pd.DataFrame(rows, columns=columns)


def across_scenarios(means: pd.DataFrame) -> pd.DataFrame:
    """method x entry of `MATCHED`: the share of random ones' measurements on the mean's curve.

    Parameters
    ----------
    means : method x budget, see `overall`
    """
    curves = means.rename_axis("method").reset_index().melt("method", None, "budget", "mape")
    one = curves.assign(scenario="all", seed=0, error="")
    needed = measurements_needed(one.astype({"budget": int}), RANDOM)
    return needed.pivot_table(index="method", columns="matched", values="share", sort=False)


def first_reached(curve: pd.Series, wanted: float) -> float:
    """The number of measurements at which an error first falls to the wanted one.

    Between two budgets the curve is a straight line in logarithms. The first budget if the error
    is small enough there already, infinity if it never is.

    Parameters
    ----------
    curve : errors by budget
    """
    curve = curve.sort_index()
    budgets, values = curve.index.to_numpy(float), curve.to_numpy(float)
    below = np.flatnonzero(values <= wanted)
    if not len(below):
        return float("inf")
    at = below[0]
    if at == 0 or not np.isfinite(values[at - 1]):
        return float(budgets[at])
    part = np.log(values[at - 1] / wanted) / np.log(values[at - 1] / values[at])
    return float(budgets[at - 1] * (budgets[at] / budgets[at - 1]) ** part)


def spread(table: pd.DataFrame, by: list[str], column: str) -> pd.DataFrame:
    """The column's median and quartiles, how many values are infinite (`never`), and of how many.

    A quantile between a number and infinity is infinite.
    """
    groups = table.groupby(by, sort=False)[column]
    return pd.DataFrame(
        {
            "median": groups.agg(lambda values: _quantile(values, 0.5)),
            "lower": groups.agg(lambda values: _quantile(values, 0.25)),
            "upper": groups.agg(lambda values: _quantile(values, 0.75)),
            "never": groups.agg(lambda values: int(np.isinf(values).sum())),
            "of": groups.size(),
        }
    )


def _quantile(values: pd.Series, level: float) -> float:
    if np.isinf(np.quantile(values, level, method="higher")):
        return float("inf")
    largest = values[np.isfinite(values)].max()  # infinities beyond the quantile move nothing
    return float(np.quantile(values.clip(upper=largest), level))


@dataclass(frozen=True)
class Search:
    """One method's path through a pool, and how far the best it has met is from the best there.

    Parameters
    ----------
    scenario, seed : which pool
    name, method : who searches
    length : how many configurations it measures
    """

    scenario: Scenario
    seed: int
    name: str
    method: Method
    length: int

    def rows(self) -> Iterator[dict[str, Any]]:
        """The one row: `regret`, a list by measurement."""
        split = self.scenario.split(self.seed)
        (path,) = self.method.choice.choose(self.method.model, split, [self.length], self.seed)
        yield {**self.key, "error": "", "regret": simple_regret(split, path)}

    def failed(self, reason: str) -> Iterator[dict[str, Any]]:
        """The row where a worker died."""
        yield {**self.key, "error": reason, "regret": [float("inf")] * self.length}

    @property
    def key(self) -> dict[str, Any]:
        """What tells it from others."""
        return {"scenario": self.scenario.name, "method": self.name, "seed": self.seed}

    @property
    def place(self) -> Path:
        """Where its row is kept, under a hash of what it depends on."""
        digest = self.scenario.split(self.seed).digest
        what = f"{version('bayestl')} {digest} {self.method!r} {self.seed} {self.length}"
        return Path("searches", f"{hashlib.sha256(what.encode()).hexdigest()[:24]}.json")


def simple_regret(split: Split, path: Sequence[int]) -> list[float]:
    """By measurement: by which part the best value so far is larger than the pool's smallest."""
    values = split.pool.frame[split.metric].to_numpy(float)
    return (np.minimum.accumulate(values[list(path)]) / values.min() - 1).tolist()


def search(
    wanted: Sequence[Scenario], seeds: Sequence[int], length: int, arguments: argparse.Namespace
) -> pd.DataFrame:
    """One row a scenario, seed and method of `SEARCHES`: its `regret`, a list by measurement."""
    tasks = [
        Search(scenario, seed, name, method, length)
        for scenario in wanted
        for seed in seeds
        for name, method in SEARCHES.items()
    ]
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    places: dict[tuple[Any, ...], Path] = {}

    with reporting(len(tasks), True) as report:

        def missing() -> Iterator[Search]:
            for task in tasks:
                key = tuple(task.key.values())
                if arguments.cache:
                    places[key] = arguments.cache / task.place
                known = _stored(places[key]) if key in places else None
                if known is None or task.name in arguments.fresh:
                    yield task
                else:
                    found[key] = known
                    report(task.name, task.scenario.name, False)

        def keep(row: dict[str, Any]) -> None:
            key = row["scenario"], row["method"], row["seed"]
            found[key] = row
            if key in places and not row["error"]:
                places[key].parent.mkdir(parents=True, exist_ok=True)
                write_whole(places[key], lambda file: file.write(json.dumps(row).encode()))
            report(row["method"], row["scenario"], True)

        how = command.execution(arguments, ())
        execute(missing(), keep, how["executor"], how["workers"])
    return pd.DataFrame([found[tuple(task.key.values())] for task in tasks])


def steps_needed(regrets: pd.DataFrame) -> pd.DataFrame:
    """One row a search: `steps`, the measurements until it is good enough, or infinity."""
    within = [np.flatnonzero(np.array(regret) <= WITHIN) for regret in regrets["regret"]]
    steps = [float(found[0] + 1) if len(found) else float("inf") for found in within]
    return regrets[["scenario", "method", "seed"]].assign(steps=steps)


@drawn
def draw(frame: pd.DataFrame, regrets: pd.DataFrame, *, theme: Theme = LIGHT) -> Figure:
    """Above the errors over the budget, below the share of searches that are good enough."""
    figure = Figure(figsize=(7.2, 6.4))
    above, below = figure.subplots(2, 1)
    means = overall(frame)
    labels = []
    for method, curve in means.iterrows():
        colour, line = _style(str(method), theme)
        above.plot(curve.index, curve, line, color=colour, marker="o", markersize=3.5)
        labels.append((float(curve.iloc[-1]), str(method), colour))
    for axis, values in ((above.xaxis, means.columns), (above.yaxis, means)):
        scale(axis, np.asarray(values, dtype=float), log=True)
    above.set_xticks(means.columns, [str(budget) for budget in means.columns])
    headed(above, "To model", "geometric mean over scenarios of the mean error", theme)
    above.set_xlabel("target measurements")
    above.set_ylabel("mean absolute percentage error")
    label_right(above, labels)
    labels = []
    for method, searches in regrets.groupby("method", sort=False):
        good = (np.array(searches["regret"].tolist()) <= WITHIN).mean(axis=0)
        colour, line = _style(str(method), theme)
        below.step(np.arange(1, len(good) + 1), good, line, color=colour, where="post")
        labels.append((float(good[-1]), str(method), colour))
    below.set_ylim(0, 1)
    below.yaxis.set_major_formatter(PercentFormatter(1))
    headed(below, "To optimise", f"searches within {WITHIN:.0%} of the best of the pool", theme)
    below.set_xlabel("target measurements")
    below.set_ylabel("share of searches")
    label_right(below, labels)
    return figure


def _style(method: str, theme: Theme) -> tuple[str, str]:
    """A colour says how measurements are chosen, dashes that there are no sources."""
    ways = (CHOSEN, RANDOM, "posterior variance", "guided sampling's design")
    ways = (*ways, "expected improvement", "the sources' best first")
    way = method.removeprefix(ALONE_PREFIX)
    return series_colour(theme, ways.index(way)), "--" if way != method else "-"


def _stored(path: Path) -> dict[str, Any] | None:
    """A search's row, if it is in the cache; a damaged file is not."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


if __name__ == "__main__":
    main()

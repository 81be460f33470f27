"""The main job once through: measure, model, choose, verify, report.

    source      50 configurations measured on one core
    test        the default and 30 random configurations of the target, set aside
    campaign    25 measurements of the target, chosen in pairs as the model learns
    compare     every method, given the same measurements, judged on the test
    verify      the best configurations found, measured again in turn with the default

The target is all cores of this machine, or a larger batch where there is only one core.
With a recorded table the same steps replay it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from bayestl.baselines.trees import PooledBoostedTrees, RandomForest
from bayestl.campaign.budget import Budget, Stop
from bayestl.campaign.campaign import Campaign
from bayestl.campaign.events import Event
from bayestl.campaign.loop import Result, run
from bayestl.campaign.plan import Plan
from bayestl.campaign.store import SQLiteStore
from bayestl.campaign.survey import Survey
from bayestl.data.environment import Environment
from bayestl.data.sampling import sample
from bayestl.data.space import ConfigSpace, Configuration
from bayestl.data.table import MeasurementTable
from bayestl.errors import CampaignError
from bayestl.measure.disturbance import watched
from bayestl.measure.replay import ReplayRunner
from bayestl.measure.runner import LocalRunner, Runner
from bayestl.measure.sampling import Sampling
from bayestl.models.gp import MultiTaskGP, TargetOnlyGP
from bayestl.models.model import Fitted, Model
from bayestl.models.transfer_gp import TransferGP
from bayestl.report.campaign import campaign_report
from bayestl.report.content import Improvement
from bayestl.report.page import write
from bayestl.study.comparison import Comparison, compare

METRIC = "latency"
STORE = "demo.db"
NETWORK = "squeezenet"
N_SOURCE, N_TEST, BUDGET, N_CANDIDATES = 50, 31, 25, 500
LEARNING = (5, 10, 15, 25)
SAMPLING = Sampling(warmup_limit_s=0.3, sample_s=0.15)
"""Shorter than usual: processes differ from each other more than calls within one."""

WATCHED_S = 1.0
"""How long it is watched, before the first measurement, what else runs here."""

FINALISTS, VERIFICATIONS = 2, 3
"""How many of the best configurations are measured again, in turn with the default; how often."""

METHODS: Mapping[str, Model] = {
    "TransferGP": TransferGP(),
    "MultiTaskGP": MultiTaskGP(),
    "TargetOnlyGP": TargetOnlyGP(),
    "RandomForest": RandomForest(),
    "PooledBoostedTrees": PooledBoostedTrees(),
}


@dataclass(frozen=True)
class Began:
    """A step of the demo begins."""

    title: str


Observer = Callable[[Began | Event], None]


@dataclass(frozen=True)
class Bench:
    """What the demo works on: a runner, two environments, and configurations for each purpose.

    `note` says what a reader of its numbers should know.
    """

    runner: Runner
    source: Environment
    target: Environment
    source_space: ConfigSpace
    target_space: ConfigSpace
    source_configurations: Sequence[Configuration]
    test_configurations: Sequence[Configuration]
    candidates: Sequence[Configuration]
    note: str = ""


def live(seed: int = 0) -> Bench:
    """The bench of this machine: onnxruntime on one core, and on all of them.

    Where others use the machine all the time, disturbed measurements are taken as they come:
    waiting for a quiet moment would take for ever.

    Raises
    ------
    EngineUnavailable
        If onnxruntime is not installed.
    """
    cores = sorted(os.sched_getaffinity(0))
    seen, limit, note = watched(cores, WATCHED_S), LocalRunner.disturbance_limit, ""
    if seen is not None and limit is not None and seen.share > limit:
        limit = None
        note = f"This machine is busy ({seen}): its times are taken as they come, and vary more"
    runner = LocalRunner(sampling=SAMPLING, disturbance_limit=limit)
    one = Environment(
        "one-core", engine="onnxruntime", network=NETWORK, settings={"cores": str(cores[0])}
    )
    if len(cores) > 1:
        every = ",".join(map(str, cores))
        target = replace(one, name=f"{len(cores)}-cores", settings={"cores": every})
    else:
        target = replace(one, name="batch-4", settings={**one.settings, "batch": 4})
    source_space, target_space = runner.space(one), runner.space(target)
    drawn = sample(target_space, N_TEST - 1 + N_CANDIDATES, method="uniform", seed=seed + 1)
    fresh = [c for c in target_space.records(drawn) if c != target_space.default]
    return Bench(
        runner,
        runner.describe(one),
        runner.describe(target),
        source_space,
        target_space,
        source_configurations=source_space.records(sample(source_space, N_SOURCE, seed=seed)),
        test_configurations=[target_space.default, *fresh[: N_TEST - 1]],
        candidates=fresh[N_TEST - 1 :],
        note=note,
    )


def recorded(table: MeasurementTable, seed: int = 0) -> Bench:
    """The bench of a recorded table, its first environment the source, its second the target."""
    runner = ReplayRunner(table)
    source, target = table.environments
    space = table.space
    rng = np.random.default_rng(seed)

    def shuffled(environment: Environment) -> list[Configuration]:
        known = space.records(runner.configurations(environment))
        mixed = [known[i] for i in rng.permutation(len(known))]
        return [c for c in mixed if c != space.default]

    rest = shuffled(target)
    return Bench(
        runner,
        source,
        target,
        space,
        space,
        source_configurations=[space.default, *shuffled(source)][:N_SOURCE],
        test_configurations=[space.default, *rest[: N_TEST - 1]],
        candidates=rest[N_TEST - 1 :],
    )


@dataclass(frozen=True)
class Outcome:
    """What the demo found; `summary` has it as plain values.

    Parameters
    ----------
    bench, seed : what it worked on, and the seed of every choice
    campaign, result : the campaign and how it ended
    test : the measurements that no method was given
    comparison : every method on the test
    improvement : the best configuration found beside the default, each value the median
        of its repeated measurements
    seconds : wall clock of the whole demo
    """

    bench: Bench
    campaign: Campaign
    result: Result
    test: MeasurementTable
    comparison: Comparison
    improvement: Improvement
    seconds: float

    def summary(self) -> dict[str, Any]:
        """The outcome as plain JSON values."""
        final = self.comparison.final.set_index("method")
        table = self.campaign.table(self.result.state)
        source, target = self.bench.source.name, self.bench.target.name
        return {
            "source": source,
            "target": target,
            "n_source": len(table.of(source)),
            "n_target": len(table.of(target)),
            "n_test": len(self.test),
            "mape": final["mape"].to_dict(),
            "spearman": final["spearman"].to_dict(),
            "coverage90": final["coverage90"].to_dict(),
            "default_ms": self.improvement.default_value,
            "best_ms": self.improvement.best_value,
            "best": dict(self.improvement.best),
            "seconds": self.seconds,
        }

    def write_report(self, folder: Path) -> Path:
        """The path of the page that tells it."""
        content = campaign_report(
            self.campaign,
            self.result.state,
            self.comparison.fitted["TransferGP"],
            title=f"From {self.bench.source.name} to {self.bench.target.name}",
            comparison=self.comparison,
            improvement=self.improvement,
            provenance={"bayestl": version("bayestl"), "test": f"{len(self.test)} measurements"},
        )
        return write(content, folder)


class Interrupted(Exception):
    """Ctrl-C ended a step; what was measured is in the store."""


def run_demo(bench: Bench, folder: Path, observer: Observer, seed: int = 0) -> Outcome:
    """Every step, with its measurements in a store in `folder`.

    Raises
    ------
    Interrupted
        By Ctrl-C; the same call goes on.
    """
    started = time.perf_counter()
    steps = _Steps(bench, SQLiteStore(folder / STORE), observer)
    source = steps.survey(f"measure {bench.source.name}", "source", bench.source_configurations)
    test = steps.survey("set a test aside", "test", bench.test_configurations)
    campaign = Campaign(
        space=bench.target_space,
        target=bench.target,
        metric=METRIC,
        metrics=bench.runner.metrics,
        source=source,
        budget=Budget(measurements=BUDGET),
        batch=2,
        candidates=bench.candidates,
        seed=seed,
    )
    result = steps.pursue(f"learn {bench.target.name}", campaign, "campaign")
    observer(Began("compare the methods"))
    comparison = _compare(campaign.table(result.state), test, bench.target.name, seed)
    best = _best(comparison.fitted["TransferGP"], bench.candidates)
    again = [bench.target_space.default, *best] * VERIFICATIONS
    verified = steps.survey("verify the best", "verification", again)
    improvement = _improvement(verified, test, bench.target_space)
    seconds = time.perf_counter() - started
    return Outcome(bench, campaign, result, test, comparison, improvement, seconds)


@dataclass(frozen=True)
class _Steps:
    """The steps that measure; each is a log of its own in the store."""

    bench: Bench
    store: SQLiteStore
    observer: Observer

    def pursue(self, title: str, plan: Plan, name: str) -> Result:
        self.observer(Began(title))
        result = run(plan, self.bench.runner, self.store, name=name, observer=self.observer)
        if result.reason is Stop.INTERRUPTED:
            raise Interrupted
        return result

    def survey(
        self, title: str, name: str, configurations: Sequence[Configuration]
    ) -> MeasurementTable:
        """The measurements of `configurations`: in the source by that name, else in the target."""
        bench = self.bench
        of_source = name == "source"
        environment = bench.source if of_source else bench.target
        space = bench.source_space if of_source else bench.target_space
        plan = Survey(space, environment, bench.runner.metrics, configurations)
        return plan.table(self.pursue(title, plan, name).state)


def _compare(table: MeasurementTable, test: MeasurementTable, target: str, seed: int) -> Comparison:
    available = len(table.of(target).usable(METRIC))
    budgets = [*(n for n in LEARNING if n < available), available]
    return compare(METHODS, table, test, metric=METRIC, target=target, budgets=budgets, seed=seed)


def _best(fitted: Fitted, candidates: Sequence[Configuration]) -> list[Configuration]:
    """What the model expects to be fastest; the luckiest of many measurements is no proof."""
    expected = fitted.predict(candidates)["q50"].to_numpy()
    return [dict(candidates[i]) for i in np.argsort(expected)[:FINALISTS]]


def _improvement(
    verified: MeasurementTable, test: MeasurementTable, space: ConfigSpace
) -> Improvement:
    """The default beside the fastest of the verified configurations, which it may be itself.

    Raises
    ------
    CampaignError
        If the default has no value, neither verified nor in the test.
    """
    medians = {key: float(np.median(v)) for key, v in verified.repeats(METRIC).items()}
    default, before = space.key(space.default), test.repeats(METRIC)
    note = f"Each is the median of {VERIFICATIONS} further measurements, taken in turn."
    if default not in medians:
        if default not in before:
            raise CampaignError(
                "expected a value of the default configuration, which everything is compared "
                "with, but every measurement of it failed or was disturbed; run the demo again "
                "in a new folder once the machine is idle"
            )
        medians[default] = float(np.median(before[default]))
        note = "The default could not be verified; its value is that of the test."
    best = min(medians, key=medians.__getitem__)
    return Improvement(
        space.default,
        dict(zip(space.names, best, strict=True)),
        medians[default],
        medians[best],
        note=note,
    )

"""The main job once through: measure, model, choose, verify, report.

    source      50 configurations measured on one core
    test        the default and 30 random configurations of the target, set aside
    campaign    25 measurements of the target, chosen one by one as the model learns
    compare     every method, given the same measurements, judged on the test
    verify      the best configuration found, measured again in turn with the default

The target is all cores of this machine, or a larger batch where there is only one core.
With a recorded table the same steps replay it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bayestl.baselines.trees import PooledBoostedTrees, RandomForest
from bayestl.campaign.budget import Budget, Stop
from bayestl.campaign.campaign import Campaign
from bayestl.campaign.events import Event
from bayestl.campaign.loop import Result, run
from bayestl.campaign.plan import Plan
from bayestl.campaign.store import SQLiteStore
from bayestl.campaign.survey import Survey
from bayestl.data.environment import Environment
from bayestl.data.measurement import Metric
from bayestl.data.sampling import sample
from bayestl.data.space import Configuration, ConfigSpace
from bayestl.data.table import MeasurementTable
from bayestl.errors import EngineError
from bayestl.measure.replay import ReplayRunner
from bayestl.measure.runner import LocalRunner, Runner
from bayestl.models.gp import MultiTaskGP, TargetOnlyGP
from bayestl.models.model import Fitted, HasPosterior, Model
from bayestl.models.transfer_gp import TransferGP
from bayestl.study.comparison import Comparison, compare

METRIC = "latency"
NETWORK = "squeezenet"
N_SOURCE, N_TEST, BUDGET = 50, 31, 25
LEARNING = (5, 10, 15, 20, 25)
VERIFICATIONS = 3
"""How often the best and the default configuration are measured again, in turn."""

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
    """What the demo works on: a runner, two environments, and configurations for each purpose."""

    runner: Runner
    source: Environment
    target: Environment
    source_space: ConfigSpace
    target_space: ConfigSpace
    source_configurations: Sequence[Configuration]
    test_configurations: Sequence[Configuration]
    candidates: Sequence[Configuration]


def live(seed: int = 0) -> Bench:
    """The bench of this machine: onnxruntime on one core, and on all of them.

    Raises
    ------
    EngineUnavailable
        If onnxruntime is not installed.
    """
    runner = LocalRunner()
    cores = sorted(os.sched_getaffinity(0))
    one = Environment(
        "one-core", engine="onnxruntime", network=NETWORK, settings={"cores": str(cores[0])}
    )
    if len(cores) > 1:
        every = ",".join(map(str, cores))
        target = replace(one, name=f"{len(cores)}-cores", settings={"cores": every})
    else:
        target = replace(one, name="batch-4", settings={**one.settings, "batch": 4})
    source_space, target_space = runner.space(one), runner.space(target)
    drawn = sample(target_space, N_TEST - 1 + 1_000, method="uniform", seed=seed + 1)
    fresh = [c for c in target_space.records(drawn) if c != target_space.default]
    return Bench(
        runner,
        runner.describe(one),
        runner.describe(target),
        source_space,
        target_space,
        source_configurations=source_space.records(sample(source_space, N_SOURCE, seed=seed)),
        test_configurations=[target_space.default, *fresh[: N_TEST - 1]],
        candidates=[target_space.default, *fresh[N_TEST - 1 :]],
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
        candidates=[space.default, *rest[N_TEST - 1 :]],
    )


@dataclass(frozen=True)
class Outcome:
    """What the demo found; see `summary` for it as plain values.

    Parameters
    ----------
    bench : what it worked on
    campaign, result : the campaign and how it ended
    source, target : the campaign's table by environment; `test` what was set aside
    comparison : every method on the test
    best, default_ms, best_ms : the best configuration found, and both latencies as
        verified: medians of the repeated measurements
    seconds : wall clock of the whole demo
    """

    bench: Bench
    campaign: Campaign
    result: Result
    table: MeasurementTable
    test: MeasurementTable
    comparison: Comparison
    best: Configuration
    default_ms: float
    best_ms: float
    seconds: float

    def summary(self) -> dict[str, Any]:
        """The outcome as plain JSON values."""
        final = self.comparison.final.set_index("method")
        return {
            "source": self.bench.source.name,
            "target": self.bench.target.name,
            "n_source": len(self.table.of(self.bench.source.name)),
            "n_target": len(self.table.of(self.bench.target.name)),
            "n_test": len(self.test),
            "mape": final["mape"].to_dict(),
            "spearman": final["spearman"].to_dict(),
            "coverage90": final["coverage90"].to_dict(),
            "default_ms": self.default_ms,
            "best_ms": self.best_ms,
            "best": dict(self.best),
            "seconds": self.seconds,
        }


class Interrupted(Exception):
    """Ctrl-C ended a step; what was measured is in the store."""


def run_demo(bench: Bench, folder: Path, observer: Observer, seed: int = 0) -> Outcome:
    """Every step, its measurements stored in `folder`/demo.db."""
    started = time.perf_counter()
    store = SQLiteStore(folder / "demo.db")

    def pursue(title: str, plan: Plan, name: str) -> Result:
        observer(Began(title))
        result = run(plan, bench.runner, store, name=name, observer=observer)
        if result.reason is Stop.INTERRUPTED:
            raise Interrupted
        return result

    def survey(title: str, name: str, environment: Environment, space: ConfigSpace,
               configurations: Sequence[Configuration]) -> MeasurementTable:  # fmt: skip
        plan = Survey(space, environment, bench.runner.metrics, configurations)
        return plan.table(pursue(title, plan, name).state)

    source = survey(
        f"Source {bench.source.name}", "source", bench.source, bench.source_space,
        bench.source_configurations,
    )  # fmt: skip
    test = survey(
        f"Test on {bench.target.name}", "test", bench.target, bench.target_space,
        bench.test_configurations,
    )  # fmt: skip
    campaign = Campaign(
        space=bench.target_space,
        target=bench.target,
        metric=METRIC,
        metrics=bench.runner.metrics,
        source=source,
        budget=Budget(measurements=BUDGET),
        candidates=bench.candidates,
        seed=seed,
    )
    result = pursue(f"Campaign on {bench.target.name}", campaign, "campaign")
    table = campaign.table(result.state)
    observer(Began("Compare the methods"))
    available = len(table.of(bench.target.name).usable(METRIC))
    budgets = [n for n in LEARNING if n < available] + [available]
    comparison = compare(
        METHODS, table, test, metric=METRIC, target=bench.target.name, budgets=budgets, seed=seed
    )
    best = _best(comparison.fitted["TransferGP"], bench)
    again = survey(
        "Verify the best", "verification", bench.target, bench.target_space,
        [bench.target_space.default, best] * VERIFICATIONS,
    )  # fmt: skip
    default_ms, best_ms = _verified(again, bench.target_space, best)
    return Outcome(
        bench, campaign, result, table, test, comparison, best, default_ms, best_ms,
        time.perf_counter() - started,
    )  # fmt: skip


def _best(fitted: Fitted, bench: Bench) -> Configuration:
    """The candidate that the model expects to be best; a lucky measurement does not win."""
    predicted = fitted.predict(bench.candidates)["q50"].to_numpy()
    return dict(bench.candidates[int(np.argmin(predicted))])


def _verified(
    table: MeasurementTable, space: ConfigSpace, best: Configuration
) -> tuple[float, float]:
    """Median latency of the default and of the best configuration, measured in turn."""
    usable = table.usable(METRIC)
    keys = pd.Series(map(space.key, space.records(usable.frame)))
    values = usable.frame[METRIC]
    medians = [float(values[keys == space.key(c)].median()) for c in (space.default, best)]
    return medians[0], medians[1]

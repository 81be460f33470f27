"""A campaign that measures a formula, for tests; run as a script it is there to be killed.

As a script it reads the seconds of a measurement and a store's path a line, and forks a
process that runs the campaign on it, so that the libraries are loaded once and not at each of
many kills. What the process has acknowledged it writes to ACKS beside the store, and what it
began to RUNS.
"""

import math
import os
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pandas as pd

from bayestl.acquisition.uninformed import RandomSampling
from bayestl.campaign.budget import Budget
from bayestl.campaign.campaign import Campaign
from bayestl.campaign.events import Measured
from bayestl.campaign.loop import run
from bayestl.campaign.store import SQLiteStore
from bayestl.campaign.survey import Survey
from bayestl.data.environment import Environment
from bayestl.data.measurement import Measurement, Metric, Status
from bayestl.data.options import Boolean, Categorical, Integer, Real
from bayestl.data.sampling import sample
from bayestl.data.space import ConfigSpace
from bayestl.data.table import ENVIRONMENT
from bayestl.errors import FitError
from bayestl.models.model import Diagnostics
from bayestl.models.scaling import quantile_column

METRICS = (Metric("latency", "ms"), Metric("energy", "J"))
SPACE = ConfigSpace(
    {
        "threads": Integer(1, 8),
        "ratio": Real(0.0, 1.0),
        "mode": Categorical(("fast", "small", "plain")),
        "spin": Boolean(),
    },
    constraints=["not (mode == 'small' and threads == 8)"],
    conditions={"spin": "threads > 2"},
)
SOURCE = Environment("one-core", settings={"cores": "0"})
TARGET = Environment("all-cores")


def formula(configuration, environment: str) -> Measurement:
    """What a configuration gives: deterministic, some fail, some are always disturbed."""
    threads, ratio = configuration["threads"], configuration["ratio"]
    mode = ("fast", "small", "plain").index(configuration["mode"])
    status = Status.OK
    if threads == 5 and mode == 1:
        status = Status.OOM
    elif threads == 6 and mode == 2:
        status = Status.CONTAMINATED
    latency = (3 + ratio**2 + mode) / threads * (2 if environment == TARGET.name else 1)
    values = {"latency": latency, "energy": 3 * latency} if status is Status.OK else {}
    return Measurement(configuration, environment, status, values, seconds=0.5)


@dataclass
class FormulaRunner:
    """A runner over `formula` that keeps what it was asked."""

    metrics = METRICS
    seen: list = field(default_factory=list)

    def space(self, environment):
        return SPACE

    def describe(self, environment):
        return environment

    def run(self, configuration, environment):
        self.seen.append((environment.name, SPACE.key(configuration)))
        return formula(configuration, environment.name)


@dataclass(frozen=True)
class FittedMean:
    space: ConfigSpace
    metric: Metric
    target: str
    mean: float
    std: float
    count: int

    @property
    def diagnostics(self):
        return Diagnostics("MeanModel", 0, self.count)

    def predict(self, configs, environment=None, quantiles=(0.05, 0.5, 0.95)):
        frame = self.space.frame(configs)
        values = {"mean": self.mean, "std": self.std}
        for quantile in quantiles:
            spread = NormalDist().inv_cdf(quantile) * self.std / self.mean
            values[quantile_column(quantile)] = self.mean * math.exp(spread)
        return pd.DataFrame(values, index=frame.index)


@dataclass(frozen=True)
class MeanModel:
    """The target's mean everywhere, surer with every point."""

    spread: float = 1.0

    def fit(self, table, *, metric, target, seed=0):
        rows = table.usable(metric)
        values = rows.frame.loc[rows.frame[ENVIRONMENT] == target, metric].to_numpy()
        if not len(values):
            raise FitError("no target row")
        std = self.spread * float(np.mean(values)) / len(values)
        mean = float(np.mean(values))
        return FittedMean(table.space, table.metric(metric), target, mean, std, len(values))


def survey(count: int = 6, seed: int = 1) -> Survey:
    return Survey(SPACE, SOURCE, METRICS, SPACE.records(sample(SPACE, count, seed=seed)))


def campaign(**changes) -> Campaign:
    settings = {
        "source": survey(),
        "model": MeanModel(),
        "acquisition": RandomSampling(),
        "budget": Budget(12),
        "candidates": 50,
    }
    return Campaign(SPACE, TARGET, "latency", METRICS, **{**settings, **changes})


class SlowRunner(FormulaRunner):
    """Takes its time and notes each measurement before it is made."""

    def __init__(self, runs: int, seconds: float) -> None:
        super().__init__()
        self.runs, self.seconds = runs, seconds

    def run(self, configuration, environment):
        os.write(self.runs, f"{environment.name} {SPACE.key(configuration)}\n".encode())
        time.sleep(self.seconds)
        return super().run(configuration, environment)


def perform(path: Path, seconds: float) -> None:
    """Run the campaign on the store at `path`, noting what is acknowledged."""
    acks = os.open(path.with_name("ACKS"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    runs = os.open(path.with_name("RUNS"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def acknowledge(event) -> None:
        if isinstance(event, Measured):
            m, key = event.measurement, SPACE.key(event.trial.configuration)
            line = f"{event.trial.number} {m.environment} {key} {dict(m.values)}\n"
            os.write(acks, line.encode())

    runner = SlowRunner(runs, seconds)
    run(campaign(), runner, SQLiteStore(path), name="a", observer=acknowledge)


def serve() -> None:
    """Fork a process for each path on standard input; answer with its id, then its end."""
    with tempfile.TemporaryDirectory() as folder:  # whatever is loaded late is loaded now
        perform(Path(folder) / "store.sqlite", 0.0)
    print("ready", flush=True)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            seconds, path = line.rstrip("\n").split(" ", 1)
            perform(Path(path), float(seconds))
            os._exit(0)
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    # where tests run in the background, an interrupt would be ignored
    signal.signal(signal.SIGINT, signal.default_int_handler)
    serve()

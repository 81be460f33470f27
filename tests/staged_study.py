"""Scenarios and recipes for tests of studies, in a module that worker processes can import."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from bayestl.baselines.mean import Mean
from bayestl.data.table import MeasurementTable
from bayestl.study.scenario import RecordedScenario


def table(seed: int = 0) -> MeasurementTable:
    """Two environments of 30 configurations, one 1.5 times the other."""
    rng = np.random.default_rng(3)
    threads, batch = np.repeat([1, 2, 4, 8, 16, 32], 5), np.tile([1, 2, 3, 4, 5], 6)
    fast = (batch + 0.5) / threads**0.7 * np.exp(0.02 * rng.normal(size=30))
    frames = [
        pd.DataFrame({"threads": threads, "batch": batch, "environment": name, "latency": values})
        for name, values in (("known", fast), ("new", 1.5 * fast))
    ]
    return MeasurementTable.from_frame(
        pd.concat(frames), options=["threads", "batch"], metrics={"latency": "ms"}
    )


def scenario(label: str = "", pool_rows: int = 12) -> RecordedScenario:
    return RecordedScenario(
        "staged", "new", ("known",), "latency", table, label=label, pool_rows=pool_rows
    )


@dataclass(frozen=True)
class Counted:
    """The mean of the target; every fit leaves a line in a file, and may be deadly.

    Parameters
    ----------
    log : the file
    deaths : how many fits end their process
    fails : whether every fit fails
    """

    log: str
    deaths: int = 0
    fails: bool = False

    def fit(self, table, *, metric, target, seed=0):
        with Path(self.log).open("a") as file:
            file.write(f"{seed} {len(table.of(target))}\n")
        if len(Path(self.log).read_text().splitlines()) <= self.deaths:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fails:
            raise RuntimeError("as staged")
        return Mean().fit(table, metric=metric, target=target, seed=seed)

"""Nineteen environments measured at 4,096 configurations each: fitted in minutes, with gaps.

    BAYESTL_DATA=... python -m benchmarks.grid [--threads 2] [--json]

`SequentialGP` on the largest files of DeepArch-Xplorer, the last environment being the target
with 20 measurements, in a fresh process. Files that end early leave gaps. Printed are seconds,
peak memory, rows, and the mean and median absolute percentage error at the target's other
configurations.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np

from bayestl.data.table import ENVIRONMENT, MeasurementTable
from bayestl.datasets.deeparch import deeparch
from bayestl.models.sequential.sequential_gp import SequentialGP
from benchmarks.apart import apart, peak_mib, setting, timed

METRIC, ENVIRONMENTS, N_TARGET = "latency", 19, 20


def fitted() -> dict[str, Any]:
    """What it took."""
    table = deeparch().usable(METRIC)
    counts = table.frame[ENVIRONMENT].value_counts(sort=True)
    names = counts.index[:ENVIRONMENTS].tolist()
    table = table.of(*names)
    where = table.frame[ENVIRONMENT].to_numpy()
    asked = np.random.default_rng(0).permutation(np.flatnonzero(where == names[-1]))
    known = np.concatenate([np.flatnonzero(where != names[-1]), asked[:N_TARGET]])
    train, test = table.select(known), table.select(asked[N_TARGET:])
    before = peak_mib()
    model, fit = timed(lambda: SequentialGP().fit(train, metric=METRIC, target=names[-1]))
    answer, predict = timed(lambda: model.predict(test.configurations()))
    after, refit = timed(lambda: model.refit(train))
    right = test.frame[METRIC].to_numpy(dtype=float)
    errors = 100.0 * np.abs(answer["q50"].to_numpy() / right - 1.0)
    conditioned = model.diagnostics.details["conditioned_on"]
    assert isinstance(train, MeasurementTable)
    return {
        "environments": len(names),
        "rows": len(train),
        "conditioned_on": sum(conditioned.values()),
        "fit_wall": fit.wall,
        "fit_cpu": fit.cpu,
        "predict_wall": predict.wall,
        "refit_wall": refit.wall,
        "refit_cpu": refit.cpu,
        "before_mib": before,
        "peak_mib": peak_mib(),
        "mape": float(errors.mean()),
        "median_ape": float(np.median(errors)),
        "warnings": list(after.diagnostics.warnings),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="A grid of environments and configurations")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    arguments = parser.parse_args()
    found = apart(fitted, threads=arguments.threads)
    for name, number in found.items():
        print(f"{name:15} {number:.1f}" if isinstance(number, float) else f"{name:15} {number}")
    if arguments.json:
        known = setting("python -m benchmarks.grid --json")
        print(json.dumps({**known, "threads": arguments.threads, **found}))


if __name__ == "__main__":
    main()

"""Fitting and predicting on a GPU beside the CPU, at rising numbers of source measurements.

    python -m benchmarks.device [--device auto] [--rows 2000 10000] [--matrix-free]
        [--rank 4000] [--json]

`SequentialGP` on so many source and 20 target measurements of 15 options with a known truth, every
row conditioned on; each fit in a process of its own. `fit` and `predict` (2,000 configurations with
variance) are seconds of the clock, the device's first use excluded, and `cpu` those of all
threads; `error` is the mean absolute percentage error at these configurations, `apart` by how
much means and standard deviations differ from those of the CPU, relative and at the most. Past
40,000 rows no matrix is formed; `--matrix-free` does without one on the device at any size, and
without a GPU on the CPU, so that exact answers show what that costs and by how much it differs;
with fewer landmarks by `--rank` small sizes show what many rows meet.

A size that does not fit into the memory is told as such. On a machine without a GPU take
`--rows 500 2000`; 40,000 rows on a CPU take 13 GB and minutes, 100,000 hours: leave them to
`--only-device`, with `--rows 2000 10000 40000 100000`.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np
import torch

from bayestl.errors import FitError
from bayestl.models.gaussian_process import solver
from bayestl.models.gaussian_process.device import device_of, name_of
from bayestl.models.sequential.sequential_gp import SequentialGP
from benchmarks.apart import apart, setting, timed
from benchmarks.synthetic import METRIC, SOURCE, TARGET, Truth, configurations

ROWS, N_TARGET, N_TEST = (2_000, 10_000), 20, 2_000


def measured(device: str, rows: int, matrix_free: bool, rank: int) -> dict[str, Any]:
    """What it took on a device, and what came out."""
    truth, asked = Truth(0), configurations(N_TEST, 99)
    table = truth.measured(rows, N_TARGET)
    recipe = SequentialGP(device=device, most_rows=rows)
    warm = truth.measured(50, N_TARGET)  # what a device does once, at its first use
    recipe.fit(warm, metric=METRIC, target=TARGET).predict(asked.head(5))
    if matrix_free:
        solver.DENSE_ROWS, solver.RANK = 0, rank
    try:
        fitted, fit = timed(lambda: recipe.fit(table, metric=METRIC, target=TARGET))
    except FitError as error:
        return {"device": name_of(device_of(device)), "rows": rows, "refused": str(error)}
    answer, predict = timed(lambda: fitted.predict(asked))
    right = np.exp(truth.log_metric(asked, TARGET))
    found = dict(fitted.diagnostics.details["solved"][SOURCE])
    where = device_of(device)
    return {
        **found,
        "fit": fit.wall,
        "predict": predict.wall,
        "cpu": fit.cpu + predict.cpu,
        "peak_gb": torch.cuda.max_memory_allocated(where) / 1e9 if where.type == "cuda" else None,
        "error": float(100.0 * np.abs(answer["q50"] / right - 1.0).mean()),
        "mean": answer["mean"].tolist(),
        "std": answer["std"].tolist(),
    }


def compared(here: dict[str, Any], there: dict[str, Any]) -> dict[str, float]:
    """How far two answers are apart."""
    return {
        name: float(np.max(np.abs(np.array(there[name]) / np.array(here[name]) - 1.0)))
        for name in ("mean", "std")
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Fits on a GPU and on the CPU")
    parser.add_argument("--device", default="auto", help="beside the CPU: cuda, cuda:1, auto")
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS)
    parser.add_argument("--matrix-free", action="store_true", help="form no matrix at any size")
    parser.add_argument("--rank", type=int, default=solver.RANK, help="with --matrix-free")
    parser.add_argument("--only-device", action="store_true", help="not on the CPU")
    parser.add_argument("--threads", type=int, default=2, help="of the CPU")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    arguments = parser.parse_args()
    device = str(device_of(arguments.device))
    ways = dict.fromkeys([("cpu", False), (device, arguments.matrix_free)])
    result = []
    for rows in arguments.rows:
        found = [
            apart(measured, name, rows, free, arguments.rank, threads=arguments.threads)
            for name, free in (list(ways)[-1:] if arguments.only_device else ways)
        ]
        if len(found) == 2 and all("fit" in row for row in found):
            found[1]["apart"] = compared(*found)
        for row in found:
            told = {k: v for k, v in row.items() if k not in ("mean", "std")}
            print({k: float(f"{v:.3g}") if isinstance(v, float) else v for k, v in told.items()})
            result.append(told)
    if arguments.json:
        command = f"python -m benchmarks.device --rows {' '.join(map(str, arguments.rows))}"
        command += f" --matrix-free --rank {arguments.rank}" if arguments.matrix_free else ""
        known = {**setting(command), "threads": arguments.threads}
        print(json.dumps({**known, "results": result}))


if __name__ == "__main__":
    main()

"""How accurate each method is in the demo: several runs on this machine, with the spread.

    python -m experiments.demo_accuracy [--quick] [--runs 5] [--replay] [--json [FILE]]

A run measures its own source, test and campaign with its own seed, and every method is
given the same measurements. The table has one row a method: the median of the mean
absolute percentage error over the runs, its range, the coverage of 90 % intervals, and in
how many runs TransferGP had the smaller error. With `--quick` it is one run on the recorded table.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import pandas as pd

from bayestl.datasets.catalogue import load
from bayestl.demo import live, recorded, run_demo
from experiments import command


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0, help="of the first run")
    parser.add_argument("--replay", action="store_true", help="on the recorded table")
    arguments = parser.parse_args()
    runs, count = [], 1 if arguments.quick else arguments.runs
    for seed in range(arguments.seed, arguments.seed + count):
        replayed = arguments.replay or arguments.quick
        bench = recorded(load("demo"), seed) if replayed else live(seed)
        with tempfile.TemporaryDirectory() as folder:
            outcome = run_demo(bench, Path(folder), lambda _: None, seed)
        final = outcome.comparison.final.assign(run=seed, seconds=outcome.seconds)
        print(final[["run", "method", "mape", "spearman", "coverage90"]].to_string(index=False))
        runs.append(final)
    everything = pd.concat(runs)
    table = summarise(everything)
    print(table.to_string(float_format="{:.3g}".format))
    command.publish({"runs": count, "methods": table.to_dict("index")}, arguments)


def summarise(everything: pd.DataFrame) -> pd.DataFrame:
    """One row a method, from one row a method and run."""
    error = everything.pivot_table(index="run", columns="method", values="mape")
    return pd.DataFrame(
        {
            "mape_median": error.median(),
            "mape_min": error.min(),
            "mape_max": error.max(),
            "coverage90": everything.groupby("method")["coverage90"].mean(),
            "transfer_wins": error.gt(error["TransferGP"], axis=0).sum(),
        }
    ).sort_values("mape_median")


if __name__ == "__main__":
    main()

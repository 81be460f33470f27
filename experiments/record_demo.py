"""Record the table that `bayestl demo --replay` replays: `bayestl/datasets/demo.parquet`.

    python -m experiments.record_demo --output bayestl/datasets/demo.parquet

The two environments of the demo, each at the default configuration and a random sample,
the default several times, interleaved in random order so that a drift of the machine
does not look like a difference between environments. Takes about five minutes; an
interrupted recording goes on where it was when started again with the same store.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from bayestl.campaign.loop import run
from bayestl.campaign.store import SQLiteStore
from bayestl.campaign.survey import Survey
from bayestl.data.readers import write_table
from bayestl.data.sampling import sample
from bayestl.data.table import MeasurementTable
from bayestl.demo import live
from experiments.progress import show

BLOCKS = 10
REPEATS_OF_DEFAULT = 6


def main() -> None:
    parser = argparse.ArgumentParser(description="Record the table of bayestl demo --replay")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--store", type=Path, default=Path("demo-recording.db"))
    parser.add_argument("--source", type=int, default=80, help="configurations of the source")
    parser.add_argument("--target", type=int, default=200, help="configurations of the target")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    bench, rng = live(arguments.seed), np.random.default_rng(arguments.seed)
    store, tables = SQLiteStore(arguments.store), []
    blocks = []
    for environment, space, size in (
        (bench.source, bench.source_space, arguments.source),
        (bench.target, bench.target_space, arguments.target),
    ):
        drawn = space.records(sample(space, size, method="uniform", seed=arguments.seed))
        order = rng.permutation(np.array([*drawn, *[space.default] * REPEATS_OF_DEFAULT]))
        blocks.append([(environment, space, list(b)) for b in np.array_split(order, BLOCKS)])
    for number, block in enumerate(zip(*blocks, strict=True)):
        for environment, space, configurations in block:
            plan = Survey(space, environment, bench.runner.metrics, configurations)
            name = f"{environment.name} {number}"
            result = run(plan, bench.runner, store, name=name, observer=show)
            tables.append(plan.table(result.state))
    table = MeasurementTable.concat(tables)
    write_table(table, arguments.output)
    print(table.frame.groupby(["environment", "status"])["latency"].describe().to_string())


if __name__ == "__main__":
    main()

"""A million predictions with variance: seconds and memory.

    python -m benchmarks.prediction [--rows 1000000] [--threads 2] [--json]

`TransferGP` on 1,000 source and 20 target measurements of 15 options, in a fresh process, asked
for mean, standard deviation and three quantiles of so many configurations by one call.
`peak_mib` counts everything, the libraries and the configurations too.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from bayestl.models.transfer_gp import TransferGP
from benchmarks.apart import apart, peak_mib, setting, timed
from benchmarks.synthetic import METRIC, TARGET, Truth, configurations


def predicted(rows: int) -> dict[str, Any]:
    """What it took."""
    table = Truth(0).measured(1_000, 20)
    fitted = TransferGP().fit(table, metric=METRIC, target=TARGET)
    before, asked = peak_mib(), configurations(rows, 7)
    answer, cost = timed(lambda: fitted.predict(asked))
    assert len(answer) == rows
    return {
        "rows": rows,
        "members": sum(weight > 0 for weight in fitted.stack.weights.values()),
        "wall": cost.wall,
        "cpu": cost.cpu,
        "before_mib": before,
        "peak_mib": peak_mib(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Very many predictions")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    arguments = parser.parse_args()
    found = apart(predicted, arguments.rows, threads=arguments.threads)
    print({name: round(number, 1) for name, number in found.items()})
    if arguments.json:
        command = f"python -m benchmarks.prediction --rows {arguments.rows} --json"
        print(json.dumps({**setting(command), "threads": arguments.threads, **found}))


if __name__ == "__main__":
    main()

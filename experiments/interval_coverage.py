"""What doubt about hyperparameters does to intervals and accuracy.

    python -m experiments.interval_coverage [--seeds 10] [--json]

On the recorded demo table: 50 random source rows and 5, 10 or 25 random target rows, judged on
the target's other rows. One row a method and budget, the mean over the seeds and the
standard deviation between them: the coverage of 90 % intervals and the mean absolute
percentage error. `best alone` is the joint process with the best hyperparameters, `mixed` what
`MultiTaskGP` answers with; `SequentialGP` integrates the target's hyperparameters out,
`TransferGP` weighs it against a process of the target alone; the forest is for comparison.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bayestl.baselines.trees import RandomForest
from bayestl.data.table import ENVIRONMENT, MeasurementTable
from bayestl.datasets.catalogue import load
from bayestl.models.gp import FittedGP, MultiTaskGP
from bayestl.models.sequential import SequentialGP
from bayestl.models.transfer_gp import TransferGP
from bayestl.study.comparison import compare

METRIC, BUDGETS, N_SOURCE = "latency", (5, 10, 25), 50


@dataclass(frozen=True)
class BestAlone:
    """`MultiTaskGP`, sure of its hyperparameters."""

    def fit(self, table: MeasurementTable, *, metric: str, target: str, seed: int = 0) -> FittedGP:
        return MultiTaskGP().at_mode(table, metric=metric, target=target, seed=seed)


def main() -> None:
    parser = argparse.ArgumentParser(description="Coverage with and without mixing")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    arguments = parser.parse_args()
    models = {
        "best alone": BestAlone(),
        "mixed": MultiTaskGP(),
        "SequentialGP": SequentialGP(),
        "TransferGP": TransferGP(),
        "forest": RandomForest(),
    }
    table = load("demo").usable(METRIC)
    source, target = table.environment_names
    where, scores = table.frame[ENVIRONMENT].to_numpy(), []
    for seed in range(arguments.seeds):
        rng = np.random.default_rng(seed)
        known = rng.permutation(np.flatnonzero(where == source))[:N_SOURCE]
        asked = rng.permutation(np.flatnonzero(where == target))
        given = table.select(np.concatenate([known, asked[: max(BUDGETS)]]))
        test = table.select(asked[max(BUDGETS) :])
        found = compare(
            models, given, test, metric=METRIC, target=target, budgets=BUDGETS, seed=seed
        )
        scores.append(found.scores.assign(seed=seed))
    columns = ["coverage90", "mape", "median_ape"]
    grouped = pd.concat(scores).groupby(["n_target", "method"])[columns]
    result = grouped.agg(["mean", "std"])
    print(result.round(3).to_string())
    if arguments.json:
        flat = result.reset_index()
        flat.columns = ["_".join(filter(None, pair)) for pair in flat.columns]
        print(json.dumps(flat.to_dict("records")))


if __name__ == "__main__":
    main()

"""What doubt about hyperparameters does to intervals and accuracy.

    python -m experiments.interval_coverage [--quick] [--seeds 10] [--workers 2]
        [--cache FOLDER] [--json [FILE]] [--figure FILE]

On the recorded demo table: 50 random source rows and 5, 10 or 25 random target rows, judged on
the target's other rows. One row a method and budget, the mean over the seeds and the
standard deviation between them: the coverage of 90 % intervals and the mean absolute
percentage error. `best alone` is the joint process with the best hyperparameters, `mixed` what
`MultiTaskGP` answers with; `SequentialGP` integrates the target's hyperparameters out,
`TransferGP` weighs it against a process of the target alone; the forest is for comparison.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bayestl.baselines.trees import RandomForest
from bayestl.data.table import ENVIRONMENT, MeasurementTable
from bayestl.datasets.catalogue import load
from bayestl.models.gp import FittedGP, MultiTaskGP
from bayestl.models.model import Model
from bayestl.models.sequential.sequential_gp import SequentialGP
from bayestl.models.transfer_gp import TransferGP
from bayestl.report.study import calibration
from bayestl.study.scenario import Split
from bayestl.study.study import Study
from experiments import command

BUDGETS, SOURCE_ROWS = (5, 10, 25), 50


@dataclass(frozen=True)
class BestAlone:
    """`MultiTaskGP`, sure of its hyperparameters."""

    def fit(self, table: MeasurementTable, *, metric: str, target: str, seed: int = 0) -> FittedGP:
        return MultiTaskGP().at_mode(table, metric=metric, target=target, seed=seed)


METHODS: Mapping[str, Model] = {
    "best alone": BestAlone(),
    "mixed": MultiTaskGP(),
    "SequentialGP": SequentialGP(),
    "TransferGP": TransferGP(),
    "forest": RandomForest(),
}


@dataclass(frozen=True)
class Demo:
    """The transfer of the demo's table; every row of the target that is not drawn is judged on."""

    name: str = "demo"
    group: str = "demo"

    def split(self, seed: int) -> Split:
        """The sources' and the pool's rows in an order drawn with the seed."""
        table = load("demo").usable("latency")
        source, target = table.environment_names
        where = table.frame[ENVIRONMENT].to_numpy()
        rng = np.random.default_rng(seed)
        known = rng.permutation(np.flatnonzero(where == source))[:SOURCE_ROWS]
        asked = rng.permutation(np.flatnonzero(where == target))
        pool, test = np.split(asked, [max(BUDGETS)])
        rows = (table.select(known), table.select(pool), table.select(test))
        return Split(*rows, metric="latency", target=target)


def main() -> None:
    arguments = command.study_parser(__doc__, seeds=10).parse_args()
    study = Study(
        [Demo()],
        METHODS,
        BUDGETS[:1] if arguments.quick else BUDGETS,
        range(1 if arguments.quick else arguments.seeds),
    )
    frame = study.run(**command.execution(arguments)).frame
    table = summarise(frame)
    print(table.round(3).to_string())
    command.show_failures(frame)
    result = {
        "seeds": len(study.seeds),
        "failures": command.failures(frame),
        "methods": table.reset_index().to_dict("records"),
    }
    command.publish(result, arguments)
    command.publish_figure(calibration(frame, methods=list(METHODS)), arguments)


def summarise(frame: pd.DataFrame) -> pd.DataFrame:
    """One row a budget and method: each score's mean over the seeds and standard deviation."""
    scores = frame.groupby(["budget", "method"])[["coverage90", "mape", "median_ape"]]
    table = scores.agg(["mean", "std"])
    return table.set_axis(["_".join(pair) for pair in table.columns], axis="columns")


if __name__ == "__main__":
    main()

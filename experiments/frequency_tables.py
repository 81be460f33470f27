"""What it is worth to know which clocks each board offers.

    python -m experiments.frequency_tables [--quick] [--seeds 20] [--workers 2]
        [--cache FOLDER] [--json [FILE]] [--figure FILE]

Two invented boards clock GPU and memory from tables of their own. A network's latency is what
takes as long at any clock, and what is computed and moved at a speed that follows a clock's
value, its fraction of the board's highest, or its rank in the board's table: one scenario each.
The shares of the three, the effects of the other options and the noise are drawn with the
seed. 200 random rows of the small board are given, and 3 to 20 of the large one. One row a
scenario, budget and method: the mean absolute percentage error on the large board, the geometric
mean over the seeds, and the mean coverage of 90 % intervals there, of `TransferGP` told the
boards' levels, and not told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd

from bayestl.data.environment import Environment
from bayestl.data.options import Boolean, Categorical, Integer, Ordinal
from bayestl.data.space import ConfigSpace
from bayestl.data.table import MeasurementTable
from bayestl.models.model import Model
from bayestl.models.sequential.placing import PRIOR, Scale
from bayestl.models.transfer_gp import FittedTransferGP, TransferGP
from bayestl.report.study import error_against_budget
from bayestl.study.scenario import RecordedScenario
from bayestl.study.statistics import geometric_mean
from bayestl.study.study import Study
from experiments import command

BUDGETS, SOURCE_ROWS, ROWS, NOISE = (3, 5, 10, 20), 200, 500, 0.02

BOARDS = {
    "small": {
        "gpu_mhz": (115, 180, 230, 306, 408, 510, 620, 720, 820, 950, 1100, 1300),
        "memory_mhz": (204, 408, 665, 800, 1065, 1331, 1600),
    },
    "large": {
        "gpu_mhz": (200, 300, 420, 520, 670, 905, 1032, 1198, 1236, 1338, 1500, 1700, 1950, 2200),
        "memory_mhz": (408, 665, 1331, 1600, 2133, 3199),
    },
}
"""Board -> option -> what it offers."""

SPACE = ConfigSpace(
    {
        "gpu_mhz": Integer(100, 2200),
        "memory_mhz": Integer(200, 3200),
        "threads": Ordinal((1, 2, 4, 8)),
        "precision": Categorical(("fp32", "fp16", "int8")),
        "fused": Boolean(),
    }
)


@dataclass(frozen=True)
class Untold:
    """`TransferGP` without the boards' levels."""

    def fit(
        self, table: MeasurementTable, *, metric: str, target: str, seed: int = 0
    ) -> FittedTransferGP:
        bare = tuple(replace(environment, levels={}) for environment in table.environments)
        bare_table = replace(table, environments=bare)
        return TransferGP().fit(bare_table, metric=metric, target=target, seed=seed)


METHODS: Mapping[str, Model] = {"levels known": TransferGP(), "not known": Untold()}


def measured(scale: Scale, seed: int) -> MeasurementTable:
    """The boards' measurements, with clocks that act on a scale."""
    rng = np.random.default_rng([seed, list(PRIOR).index(scale)])
    shares = rng.dirichlet([2.0, 3.0, 3.0])  # fixed, computed, moved: at the middle of the clocks
    threads, fused = rng.uniform(-0.4, 0.0), rng.uniform(-0.3, 0.0)
    precision = dict(zip(("fp32", "fp16", "int8"), rng.normal(0.0, 0.3, 3), strict=True))
    faster = rng.normal(0.0, 0.5)
    frames = []
    for board, offered in BOARDS.items():
        frame = pd.DataFrame(
            {
                **{option: rng.choice(levels, ROWS) for option, levels in offered.items()},
                "threads": rng.choice([1, 2, 4, 8], ROWS),
                "precision": rng.choice(list(precision), ROWS),
                "fused": rng.random(ROWS) < 0.5,
            }
        )
        gpu, memory = (_speed(frame[o].to_numpy(float), offered[o], scale) for o in offered)
        computed = shares[1] / gpu * np.exp(frame["precision"].map(precision))
        latency = shares[0] + computed + shares[2] / memory
        effects = threads * np.log2(frame["threads"]) + fused * frame["fused"]
        noise = NOISE * rng.normal(size=ROWS) + (faster if board == "large" else 0.0)
        frames.append(frame.assign(board=board, latency=latency * np.exp(effects + noise)))
    return MeasurementTable.from_frame(
        pd.concat(frames, ignore_index=True),
        options=SPACE,
        environment="board",
        environments=[Environment(board, levels=levels) for board, levels in BOARDS.items()],
        metrics={"latency": "ms"},
    )


def _speed(clock: np.ndarray, offered: Sequence[int], scale: Scale) -> np.ndarray:
    """Around 1 in the middle of what is offered."""
    if scale == "value":
        return clock / 1_000
    if scale == "fraction":
        return 2.0 * clock / offered[-1]
    return 0.2 + 1.6 * np.searchsorted(offered, clock) / (len(offered) - 1)


def scenario(scale: Scale) -> RecordedScenario:
    """The transfer from the small board to the large one."""
    return RecordedScenario(
        group=f"by {scale}",
        target="large",
        sources=("small",),
        metric="latency",
        table=partial(measured, scale),
        source_rows=SOURCE_ROWS,
        pool_rows=max(BUDGETS),
    )


def main() -> None:
    arguments = command.study_parser(__doc__, seeds=20).parse_args()
    study = Study(
        [scenario(scale) for scale in (list(PRIOR)[:1] if arguments.quick else PRIOR)],
        METHODS,
        BUDGETS[:1] if arguments.quick else BUDGETS,
        range(1 if arguments.quick else arguments.seeds),
    )
    frame = study.run(**command.execution(arguments)).frame
    table = summarise(frame)
    print(table.round(2).to_string())
    command.show_failures(frame)
    result = {
        "seeds": len(study.seeds),
        "failures": command.failures(frame),
        "errors": table.reset_index().to_dict("records"),
    }
    command.publish(result, arguments)
    command.publish_figure(error_against_budget(frame), arguments)


def summarise(frame: pd.DataFrame) -> pd.DataFrame:
    """One row a scenario, budget and method: the geometric mean error, and the mean coverage."""
    within = frame.groupby(["group", "budget", "method"])
    return within.agg({"mape": geometric_mean, "coverage90": "mean"})


if __name__ == "__main__":
    main()

"""Do sources that mislead make a model worse than one that never saw them?

    BAYESTL_DATA=FOLDER python -m experiments.negative_transfer [--quick] [--seeds 2] [--workers 2]
        [--cache FOLDER] [--json [FILE]] [--figure FILE]

Every method is given 300 rows of the sources and 3 to 50 random rows of the target. Its error is
the mean over the seeds of the mean absolute percentage error, and its ratio that to the error of
`TargetOnlyGP`, a process of the target alone, on the same rows. The sources are

- staged: functions drawn for the purpose, and the TX2's measurements tampered with, in the five
  stages of `staged_sources`;
- real: of each of three public data sets, and of the package's own, a pair of environments
  that agree least, one source and one target, with nothing tampered with. No two environments
  of these data have nothing in common; the rank correlation between the two is told beside the
  result.

The claim: `TransferGP` is never more than 10 % worse than the process of the target alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, partial
from typing import Any

import numpy as np
import pandas as pd

from bayestl.data.table import ENVIRONMENT, MeasurementTable
from bayestl.datasets.help import help_nasbench201
from bayestl.datasets.sempl import sempl
from bayestl.models.model import Model
from bayestl.report.study import ratio_against_budget
from bayestl.study.metrics import spearman
from bayestl.study.scenario import RecordedScenario
from bayestl.study.statistics import against, geometric_mean, ratios
from bayestl.study.study import Study
from bayestl.transfer.source_ensemble import RankingWeightedEnsemble
from experiments import command, few_shot
from experiments.scenarios import (
    SOURCE_ROWS,
    TEST_ROWS,
    available,
    inference_table,
    staged,
    tx2_table,
)

OURS, REFERENCE = "TransferGP", "TargetOnlyGP"
LIMIT = 1.10
"""A ratio to the reference above this is harm."""

METHODS: Mapping[str, Model] = {
    **{
        name: few_shot.METHODS[name]
        for name in (
            *(OURS, REFERENCE, "MultiTaskGP"),
            *("LinearShift", "DirectTransfer", "PooledBoostedTrees"),
        )
    },
    "RankingWeightedEnsemble": RankingWeightedEnsemble(),
}
"""The recipes of `few_shot`, so that both can share a cache."""

SHOWN = (OURS, "LinearShift", "RankingWeightedEnsemble", "MultiTaskGP", "PooledBoostedTrees")
BUDGETS = (3, 10, 50)
NETWORKS = range(0, 15_625, 10)
"""Of NAS-Bench-201 every tenth network."""

QUICK = (
    "staged/invented/flipped/target",
    "real/engines/amd-epyc-2c/onnxruntime/bert_mini/one-core",
)
QUICK_METHODS = (OURS, REFERENCE, "LinearShift", "PooledBoostedTrees")


def main() -> None:
    arguments = command.study_parser(__doc__, seeds=2).parse_args()
    every = [*staged(), *real()]
    wanted = available([s for s in every if not arguments.quick or s.name in QUICK])
    study = Study(
        wanted,
        {n: m for n, m in METHODS.items() if not arguments.quick or n in QUICK_METHODS},
        (5, 20) if arguments.quick else BUDGETS,
        range(1 if arguments.quick else arguments.seeds),
    )
    frame = by_stage(study.run(**command.execution(arguments)).frame)
    correlations = {s.name: rank_correlation(s) for s in wanted if s.group == "real"}
    result = verdict(frame)
    show(frame, result, correlations)
    command.show_failures(frame)
    command.publish(
        {"seeds": len(study.seeds), "rank_correlation": correlations, **result}, arguments
    )
    figure = ratio_against_budget(frame, REFERENCE, limit=LIMIT, methods=SHOWN)
    command.publish_figure(figure, arguments)


def real() -> list[RecordedScenario]:
    """Of each data set, ours among them, one source and one target that agree least, both ways."""
    return [
        *_pair("nas-bench-201", ("titan_rtx_1", "eyeriss"), "latency", _nas_bench),
        *_pair("sac", ("e0", "e2"), "time", _sac),
        *_pair("tx2", ("200x200", "800x800"), "power_sum", tx2_table),
        *_pair("engines", _ENGINES, "latency", partial(inference_table, environments=_ENGINES)),
    ]


def by_stage(frame: pd.DataFrame) -> pd.DataFrame:
    """The results grouped by what is wrong with the sources: the stage, or `real`."""
    parts = frame["scenario"].str.split("/")
    is_staged = frame["group"] == "staged"
    return frame.assign(group=frame["group"].where(~is_staged, parts.str[2]))


def rank_correlation(scenario: RecordedScenario) -> float:
    """Spearman's, between the source and the target over the configurations that both have."""
    table = scenario.table(0).usable(scenario.metric)
    medians = []
    for name in (*scenario.sources, scenario.target):
        rows = table.of(name)
        keys = [rows.space.key(c) for c in rows.space.records(rows.configurations())]
        values = rows.frame[scenario.metric].to_numpy(dtype=float)
        medians.append(pd.Series(values, index=pd.Index(keys, tupleize_cols=False)))
    source, target = (values.groupby(level=0).median() for values in medians)
    both = source.index.intersection(target.index)
    return spearman(source[both].to_numpy(), target[both].to_numpy())


def verdict(frame: pd.DataFrame) -> dict[str, Any]:
    """What the claim asks: each method's ratios to the reference, and in how many cells it harms.

    A cell in which a method failed and the reference did not is harm.
    """
    table = ratios(frame, REFERENCE).drop(columns=REFERENCE)
    stages = dict(zip(frame["scenario"], frame["group"], strict=True))
    stage = [stages[name] for name in table.index.get_level_values("scenario")]
    overall = against(frame, REFERENCE).to_dict("index")
    methods = {}
    for name, ratio in table.items():
        worst = ratio.dropna().sort_values(kind="stable").reset_index().tail(1)
        cells = [f"{row.scenario} n={row.budget}" for row in worst.itertuples()]
        found = overall[name]
        methods[str(name)] = {
            "geometric_mean_ratio": _finite(found["ratio"]),
            "interval95": [_finite(found["low"]), _finite(found["high"])],
            "worst_ratio": _finite(ratio.max()),
            "worst_cell": cells[0] if cells else None,
            "cells_harmed": int((ratio > LIMIT).sum()),
            "cells": int(ratio.notna().sum()),
            "ratio_by_stage": _means(ratio.groupby(stage, sort=False)),
            "worst_by_stage": {str(k): _finite(v.max()) for k, v in ratio.groupby(stage)},
            "ratio_by_budget": _means(ratio.groupby(level="budget")),
        }
    return {
        "claim": f"{OURS} is never more than {LIMIT - 1:.0%} worse than {REFERENCE}",
        "holds": methods[OURS]["cells_harmed"] == 0,
        "methods": methods,
        "failures": command.failures(frame),
    }


def show(frame: pd.DataFrame, result: Mapping[str, Any], correlations: Mapping[str, float]) -> None:
    """Print every cell's ratio of ours, and the methods side by side."""
    ours = ratios(frame, REFERENCE)[OURS].unstack("budget")  # noqa: PD010 - of an index
    print(f"error of {OURS} over that of {REFERENCE}, by number of target measurements")
    print(ours.to_string(float_format="{:.2f}".format))
    for name, correlation in correlations.items():
        print(f"rank correlation of source and target in {name}: {correlation:.2f}")
    columns = ["geometric_mean_ratio", "worst_ratio", "cells_harmed", "cells", "worst_cell"]
    methods = pd.DataFrame(result["methods"]).T[columns]
    print(f"\nover {REFERENCE}\n{methods.to_string(float_format='{:.2f}'.format)}")
    print(f"\n{result['claim']}: {'holds' if result['holds'] else 'does not hold'}")


_ENGINES = (
    "amd-epyc-2c/onnxruntime/mobilenet_v2/all-cores",
    "amd-epyc-2c/onnxruntime/bert_mini/one-core",
)


def _pair(
    label: str, names: tuple[str, str], metric: str, table: Any
) -> Sequence[RecordedScenario]:
    return [
        RecordedScenario(
            group="real",
            target=target,
            sources=(source,),
            metric=metric,
            table=table,
            label=label,
            source_rows=SOURCE_ROWS,
            pool_rows=max(BUDGETS),
            test_rows=TEST_ROWS,
        )
        for source, target in (names, names[::-1])
    ]


@cache
def _nas_bench(seed: int) -> MeasurementTable:
    return help_nasbench201(environments=["titan_rtx_1", "eyeriss"], networks=NETWORKS)


@cache
def _sac(seed: int) -> MeasurementTable:
    table = sempl("sac")
    return table.select(np.flatnonzero(table.frame[ENVIRONMENT].isin(["e0", "e2"])))


def _means(groups: Any) -> dict[str, float | None]:
    return {str(name): _finite(geometric_mean(ratio)) for name, ratio in groups}


def _finite(value: Any) -> float | None:
    """The value as JSON, which has neither infinities nor NaN."""
    return float(value) if np.isfinite(value) else None


if __name__ == "__main__":
    main()

"""Latency of NAS-Bench-201 networks on new devices, in HELP's protocol: who orders them best?

    BAYESTL_DATA=FOLDER python -m experiments.help [--quick] [--seeds 3] [--workers 2]
        [--pool trimmed|whole] [--cache FOLDER] [--json FILE] [--figure FILE]

HELP (Lee et al., NeurIPS 2021) learns from nine devices and orders 1,000 other networks on six
new ones by 10 measurements there, and 10 more of reference networks: 20 in all. Its score is the
mean Spearman correlation over the six, 0.932. The protocol keeps the middle 80 % of networks by
their true latency on the target, among those that may be measured and those that are tested
("trimmed"); a user does not know them, so the figures that count are those of all ("whole").

What a method is given:

- edges: which operation is on each of the cell's six edges, in all methods
- counts: how many edges have each operation, as four further options, which HELP's graph
  network adds up as well; in all methods too. `OperationCosts` counts in either case: it is the
  table of layer costs that anyone would fit first, to the target's measurements alone
- the sources' measurements of networks 0 to 899, but for "sources everywhere", where
  they have measured the tested networks as well: `SourceValuesRidge` needs them

A method that has "chosen" in its name asks for its measurements, ten at a time, by the expected
reduction of `TransferGP`'s variance over the pool; the others are given random ones, all the same.
"No log" is a transform of `identity`: a latency is a sum over layers, not a product.
The number of floating-point operations, one of HELP's own rivals, is computed first and
compared with what HELP prints for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from bayestl.acquisition.variance import IntegratedVariance
from bayestl.baselines.trees import BoostedTrees, PooledBoostedTrees, RandomForest
from bayestl.data.environment import Environment
from bayestl.data.space import ConfigSpace
from bayestl.data.table import ENVIRONMENT, MeasurementTable
from bayestl.datasets.help import OPERATIONS, SPACE, help_nasbench201
from bayestl.models.conformal import Regressor
from bayestl.models.gp import TargetOnlyGP
from bayestl.models.model import Model
from bayestl.models.regression import FittedRegression, cross_validated
from bayestl.models.scaling import TransformName
from bayestl.models.transfer_gp import TransferGP
from bayestl.report.drawing import MARKERS, WIDTH, drawn, scale, series_colour
from bayestl.report.theme import LIGHT, Theme
from bayestl.study.method import Active, Method
from bayestl.study.metrics import spearman
from bayestl.study.scenario import Scenario, Split
from bayestl.study.study import Study
from bayestl.transfer.guided_sampling import GuidedSampling
from bayestl.transfer.model_shift import LinearShift
from bayestl.transfer.source_values import SourceValuesRidge
from bayestl.transfer.sources import SourcePredictions, Transfer
from experiments.command import (
    execution,
    failures,
    publish,
    publish_figure,
    show_failures,
    study_parser,
)
from experiments.help_protocol import KNOWN, SOURCES, TARGETS, TESTED
from experiments.own_features import fit_at_target
from experiments.remembered import Remembered, RememberedSources

TRIM = 0.1
"""The share of the fastest and of the slowest networks that the protocol leaves out."""

PUBLISHED = {
    "HELP, 20 measurements": (0.987, 0.989, 0.985, 0.802, 0.890, 0.940),
    "BRP-NAS, 900 measurements": (0.814, 0.796, 0.801, 0.666, 0.847, 0.811),
    "FLOPs": (0.950, 0.826, 0.900, 0.765, 0.846, 0.437),
}
"""Spearman correlations on `TARGETS` that HELP prints (table 3), trimmed."""

HELP = 0.932
"""HELP's mean."""

BUDGETS = (10, 20)
TARGET = "target"
"""What every target is called, so that sources are fitted once for all: they are the same."""

EVERYWHERE = "sources everywhere"
WORK = {"none": 0, "skip_connect": 0, "nor_conv_1x1": 1, "nor_conv_3x3": 9, "avg_pool_3x3": 0}
"""Multiplications of an operation, in those of a 1x1 convolution; the same in every stage."""


@dataclass(frozen=True)
class NasBench:
    """HELP's transfer to one device.

    Parameters
    ----------
    device : the target
    trimmed : whether the fastest and slowest networks are left out
    counts : whether the number of edges of each operation is given beside the edges
    everywhere : whether the sources have measured the tested networks too
    sources : devices
    known : how many networks may be measured
    """

    device: str
    trimmed: bool = True
    counts: bool = False
    everywhere: bool = False
    sources: tuple[str, ...] = SOURCES
    known: int = KNOWN

    @property
    def group(self) -> str:
        parts = ["trimmed" if self.trimmed else "whole", "counts" if self.counts else "edges"]
        return ", ".join([*parts, *([EVERYWHERE] if self.everywhere else [])])

    @property
    def name(self) -> str:
        return f"{self.group}/{self.device}"

    def split(self, seed: int) -> Split:
        """The networks that may be measured in an order drawn with the seed; the tests stay."""
        latency = _table((self.device,), self.counts).frame["latency"].to_numpy()
        pool = np.arange(self.known)
        test = np.arange(KNOWN, KNOWN + TESTED)
        if self.trimmed:
            pool, test = (middle(rows, latency) for rows in (pool, test))
        target = _called(_table((self.device,), self.counts))
        drawn = np.random.default_rng([seed, TARGETS.index(self.device)]).permutation(pool)
        networks = np.concatenate([np.arange(self.known), test if self.everywhere else []])
        table = _table(self.sources, self.counts)
        rows = np.concatenate(
            [place * (KNOWN + TESTED) + networks for place in range(len(self.sources))]
        )
        return Split(
            table.select(rows), target.select(drawn), target.select(test), "latency", TARGET
        )


def middle(rows: np.ndarray, latency: np.ndarray) -> np.ndarray:
    """The rows between the fastest and the slowest share of them, as HELP's loader keeps them."""
    ranked = rows[np.argsort(latency[rows], kind="stable")]
    return ranked[int(len(rows) * TRIM) : int(len(rows) * (1 - TRIM))]


@cache
def _table(devices: tuple[str, ...], counts: bool) -> MeasurementTable:
    """The devices one after the other, networks 0 to 1,899 in each."""
    networks = range(KNOWN + TESTED)
    table = help_nasbench201(environments=devices, networks=networks, counts=counts)
    place = pd.Categorical(table.frame[ENVIRONMENT], categories=devices, ordered=True)
    ordered = table.select(np.argsort(place.codes, kind="stable"))
    return ordered.of(*devices)


def _called(table: MeasurementTable) -> MeasurementTable:
    """The table of one device, whose environment is called `TARGET`."""
    (device,) = table.environments
    return MeasurementTable.from_frame(
        table.frame.assign(**{ENVIRONMENT: TARGET}),
        options=table.space,
        metrics=table.metrics,
        environments=[Environment(TARGET, device.hardware, workload=device.workload)],
    )


@dataclass(frozen=True)
class OperationCounts:
    """Features: how many edges have each operation but `none`.

    Parameters
    ----------
    space : the union space of the table
    """

    space: ConfigSpace

    def of(self, configurations: pd.DataFrame) -> np.ndarray:
        """(n, 4) counts."""
        edges = configurations[list(SPACE.names)]
        return np.column_stack([(edges == name).sum(axis=1) for name in OPERATIONS[1:]]).astype(
            float
        )


@dataclass(frozen=True)
class OperationCosts:
    """Recipe: a cost for each operation, added up over the edges; from the target alone.

    Ridge regression, its penalty chosen by leave-one-out error: the layer-wise predictor, with
    costs that come from whole networks.

    Parameters
    ----------
    transform : `identity`, so that costs add up; or `log` or `auto`
    """

    transform: TransformName = "identity"

    def fit(
        self, table: MeasurementTable, *, metric: str, target: str, seed: int = 0
    ) -> FittedRegression:
        """The costs fitted to the target's usable rows; see `Model.fit`."""
        train = partial(cross_validated, fit=_ridge, seed=seed)
        return fit_at_target(self, OperationCounts, train, table, metric, target)


@dataclass(frozen=True)
class SourceModelsRidge:
    """Recipe: ridge regression from what a model of each source predicts to the target's value.

    What `SourceValuesRidge` does with measurements, for networks that no source has measured.

    Parameters
    ----------
    base : recipe of a source's model
    transform : `log`, `identity` or `auto`
    """

    base: Model
    transform: TransformName = "identity"

    def fit(
        self, table: MeasurementTable, *, metric: str, target: str, seed: int = 0
    ) -> FittedRegression:
        """The regression on the target's usable rows; see `Model.fit`."""
        transfer = Transfer.of(self, table, metric, target)
        features = SourcePredictions.by(self.base, transfer, seed)
        examples = transfer.examples(features)
        trained = cross_validated(examples, fit=_ridge, seed=seed)
        return transfer.fitted(features, examples, trained)


def _ridge(x: np.ndarray, z: np.ndarray, weights: np.ndarray) -> Regressor:
    """On standardised features, with the penalty of the least leave-one-out error."""
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    ridge: Any = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-4, 3, 15)))
    return ridge.fit(x, z, ridgecv__sample_weight=weights)


OURS = RememberedSources(TransferGP())
ADDING = RememberedSources(TransferGP("identity"))
"""Without the logarithm, as layers' costs add up in a latency and do not multiply."""

CHOSEN = Active(IntegratedVariance(), batch=10)
OF_A_SOURCE = Remembered(TargetOnlyGP("identity"))
"""One a source is kept, which takes memory: shifts are not tried with the logarithm as well."""

METHODS: dict[str, Method | Model] = {
    "TransferGP": OURS,
    "TransferGP, chosen": Method(OURS, CHOSEN),
    "TransferGP, no log": ADDING,
    "TransferGP, no log, chosen": Method(ADDING, CHOSEN),
    "OperationCosts": OperationCosts(),
    "OperationCosts, chosen": Method(OperationCosts(), replace(CHOSEN, learner=ADDING)),
    "SourceModelsRidge, no log": SourceModelsRidge(OF_A_SOURCE),
    "LinearShift, no log": LinearShift(OF_A_SOURCE, "identity"),
    "GuidedSampling": GuidedSampling(),
    "TargetOnlyGP": TargetOnlyGP(),
    "RandomForest": RandomForest(),
    "BoostedTrees": BoostedTrees(),
    "PooledBoostedTrees": PooledBoostedTrees(),
    "PooledBoostedTrees, no log": PooledBoostedTrees(transform="identity"),
}
"""Everyone with the defaults, and who gains by it without the logarithm as well."""

WITH_SOURCES_EVERYWHERE: dict[str, Method | Model] = {
    "TransferGP": OURS,
    "TransferGP, no log": ADDING,
    "SourceValuesRidge": SourceValuesRidge(),
    "SourceValuesRidge, no log": SourceValuesRidge("identity"),
}
QUICK_METHODS = ("TransferGP", "TransferGP, no log, chosen", "OperationCosts", "RandomForest")


def main() -> None:
    options = study_parser(__doc__, seeds=3)
    options.add_argument("--pool", choices=("trimmed", "whole"), help="one of them; both if unset")
    arguments = options.parse_args()
    proxies = flops_correlations()
    print("Spearman correlation of FLOPs, trimmed:")
    print(proxies.to_string(float_format="{:.3f}".format), "\n")
    made = studies(arguments)
    frame = pd.concat([s.run(**execution(arguments, tuple(s.methods))).frame for s in made])
    table = summarise(frame)
    print(f"Mean Spearman correlation over the targets; HELP reports {HELP} (trimmed, 20):")
    print(table.to_string(float_format="{:.3f}".format))
    show_failures(frame)
    devices = by_device(frame)
    result = {
        "published": {name: dict(zip(TARGETS, v, strict=True)) for name, v in PUBLISHED.items()},
        "flops": proxies.to_dict("index"),
        "seeds": arguments.seeds,
        "failures": failures(frame),
        "means": _records(table),
        "devices": _records(devices),
    }
    publish(result, arguments)
    publish_figure(ranking(table), arguments)


def studies(arguments: Any) -> list[Study]:
    """What is compared; with `--quick` one seed, two devices and a third of the sources' rows."""
    if arguments.quick:
        scenario = partial(NasBench, sources=SOURCES[3:6], known=300)
        cells: Sequence[Scenario] = [scenario(d, counts=True) for d in ("fpga", "raspi4")]
        return [Study(cells, {name: METHODS[name] for name in QUICK_METHODS}, BUDGETS, [0])]
    seeds = range(arguments.seeds)
    pools = [t for t in (True, False) if arguments.pool in (None, "trimmed" if t else "whole")]
    cells = [NasBench(d, t, c) for t in pools for c in (True, False) for d in TARGETS]
    paired = [NasBench(d, trimmed=t, everywhere=True) for t in pools for d in TARGETS]
    return [
        Study(cells, METHODS, BUDGETS, seeds),
        Study(paired, WITH_SOURCES_EVERYWHERE, BUDGETS, seeds),
    ]


def flops_correlations() -> pd.DataFrame:
    """How well the number of multiplications orders the tested networks, beside what HELP prints.

    Trimmed; a row a device. It agrees with the printed number up to which networks were tested.
    """
    rows = {}
    for device, printed in zip(TARGETS, PUBLISHED["FLOPs"], strict=True):
        table = _table((device,), False)
        latency = table.frame["latency"].to_numpy()
        work = table.configurations().apply(lambda edge: edge.map(WORK)).sum(axis=1).to_numpy()
        test = middle(np.arange(KNOWN, KNOWN + TESTED), latency)
        rows[device] = {"ours": spearman(latency[test], work[test]), "printed": printed}
    frame = pd.DataFrame.from_dict(rows, orient="index")
    frame.loc["mean"] = frame.mean()
    return frame


def by_device(frame: pd.DataFrame) -> pd.DataFrame:
    """One row a group, method, budget and device: means over the seeds."""
    device = frame["scenario"].str.split("/").str[-1]
    cells = frame.assign(device=device).groupby(["group", "method", "budget", "device"], sort=False)
    means = cells[["spearman", "mape", "coverage90", "seconds"]].mean()
    means["failed"] = cells["error"].agg(lambda errors: int((errors != "").sum()))
    return means


def summarise(frame: pd.DataFrame) -> pd.DataFrame:
    """One row a group, method and budget: means over devices of means over seeds.

    A failed fit orders nothing: its correlation counts as 0.
    """
    sound = frame.assign(spearman=frame["spearman"].fillna(0.0))
    per_seed = sound.groupby(["group", "method", "budget", "seed"], sort=False)["spearman"].mean()
    groups = by_device(sound).groupby(["group", "method", "budget"], sort=False)
    means = groups[["spearman", "mape", "coverage90", "seconds"]].mean()
    seeds = per_seed.groupby(["group", "method", "budget"], sort=False)
    means.insert(1, "lowest", seeds.min())
    means.insert(2, "highest", seeds.max())
    return means.assign(failed=groups["failed"].sum())


def _records(table: pd.DataFrame) -> list[dict[Any, Any]]:
    return table.reset_index().round(5).to_dict("records")


@drawn
def ranking(table: pd.DataFrame, *, theme: Theme = LIGHT) -> Figure:
    """One panel a group: what each method's mean correlation lacks to 1; the line is HELP's."""
    groups = list(dict.fromkeys(table.index.get_level_values("group")))
    columns = min(2, len(groups))
    rows = -(-len(groups) // columns)
    shown = {
        group: (1 - table.loc[group]["spearman"]).unstack("budget")  # noqa: PD010 - of an index
        for group in groups
    }
    tallest = max(map(len, shown.values()))
    figure = Figure(figsize=(WIDTH, 0.8 + rows * (0.5 + 0.2 * tallest)))
    panels = figure.subplots(rows, columns, sharex=True, squeeze=False).ravel()
    for panel in panels[len(groups) :]:
        panel.set_visible(False)
    for panel, (group, lacking) in zip(panels, shown.items(), strict=False):
        lacking = lacking.sort_index(axis="columns")
        lacking = lacking.sort_values(lacking.columns[-1], ascending=False)
        panel.axvline(1 - HELP, color=theme.muted, linewidth=1, linestyle="--")
        for place, budget in enumerate(lacking.columns):
            panel.plot(
                lacking[budget],
                range(len(lacking)),
                linestyle="none",
                marker=MARKERS[place],
                markersize=5,
                color=series_colour(theme, place),
                label=f"{budget} measurements",
            )
        panel.set_yticks(range(len(lacking)), list(lacking.index), fontsize=7)
        panel.set_title(group, fontsize=9)
    scale(panels[0].xaxis, np.concatenate([v.to_numpy().ravel() for v in shown.values()]), log=True)
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside upper right", ncols=2, fontsize=8
    )
    said = f"1 − mean Spearman correlation; dashed: HELP's {1 - HELP:.3f}"
    figure.supxlabel(said, color=theme.muted, fontsize=9)
    return figure


if __name__ == "__main__":
    main()

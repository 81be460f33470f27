"""The transfers that methods are judged on: from which environments to which.

`scenarios()` lists those on public data, clones of repositories in the folder that
`BAYESTL_DATA` names (see `bayestl.datasets`), `staged()` those with sources that mislead.
`Scenario.split` draws what a method is given and what it is judged by.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np

from bayestl.data.table import ENVIRONMENT, MeasurementTable
from bayestl.datasets.catalogue import load
from bayestl.datasets.deeparch import deeparch
from bayestl.datasets.sempl import SYSTEMS, sempl
from bayestl.datasets.tx2 import tx2
from experiments.staged_sources import STAGES, flawed_tx2, invented, sources_of

BUDGETS = (3, 5, 10, 20, 50)
"""Numbers of target measurements; a smaller set is part of a larger one."""

TEST_ROWS = 500
"""At most so many further rows of the target are predicted."""

SOURCE_ROWS = 300
"""So many random rows each source contributes, where it is not measured everywhere."""


class Split(NamedTuple):
    """What a method is given (`train`), and the target's rows that it is judged by (`test`)."""

    train: MeasurementTable
    test: MeasurementTable
    metric: str
    target: str


@dataclass(frozen=True)
class Scenario:
    """A target environment, and the sources that are known before it.

    Parameters
    ----------
    group : what changes between the sources and the target
    target, sources : environments of the table
    metric : what is predicted
    source_rows : how many random rows each source contributes; None is every row
    label : tells two scenarios of one group and target apart
    table : from a seed to the measurements; recorded ones are the same for every seed
    """

    group: str
    target: str
    sources: tuple[str, ...]
    metric: str
    source_rows: int | None
    table: Callable[[int], MeasurementTable] = field(repr=False, compare=False)
    label: str = ""

    @property
    def name(self) -> str:
        """Unique among all scenarios."""
        return "/".join(filter(None, (self.group, self.label, self.target)))

    @property
    def aligned(self) -> bool:
        """Whether the sources are measured at the very configurations that are asked for."""
        return self.source_rows is None

    def split(self, seed: int, budget: int) -> Split:
        """The sources' rows with `budget` random rows of the target, and other rows to test on.

        The sources' rows and the test's, at most `TEST_ROWS`, are the same for every budget.

        Raises
        ------
        ValueError
            If the budget is larger than the largest of `BUDGETS`: the test's rows follow it.
        """
        if not 0 <= budget <= max(BUDGETS):
            raise ValueError(f"expected a budget from 0 to {max(BUDGETS)}, got {budget}")
        table = self.table(seed).usable(self.metric)
        where = table.frame[ENVIRONMENT].to_numpy()
        rng = np.random.default_rng([seed, zlib.crc32(self.name.encode())])
        asked = rng.permutation(np.flatnonzero(where == self.target))
        known = [
            rng.permutation(np.flatnonzero(where == source))[: self.source_rows]
            for source in self.sources
        ]
        train = table.select(np.concatenate([*known, asked[:budget]]))
        test = table.select(asked[max(BUDGETS) : max(BUDGETS) + TEST_ROWS])
        return Split(
            train.of(*self.sources, self.target), test.of(self.target), self.metric, self.target
        )


def scenarios() -> list[Scenario]:
    """Every scenario on public data, by what changes.

    - hardware: a new machine, the same workload everywhere
    - framework: one source, the same kind of machine with another framework
    - workload: the same machine and up to four other workloads, or `many`: eleven
    - image-size: the TX2 with another size of input
    - system: SeMPL's, where every source is measured at every configuration
    - cores, batch, network, isa, engine: of bayestl's own data set
    """
    return [
        *_hardware("Adiac", targets=("azure",), others=_MACHINES),
        *_hardware("DiatomSizeReduction", targets=("azure", "aws-nano"), others=_MACHINES),
        *_hardware("Coffee", targets=("aws-gpu-micro",), others=_NOT_NANO),
        *_hardware("ShapesAll", targets=("aws-gpu-micro", "feature3-tf"), others=_NOT_NANO),
        *_hardware("Wafer", targets=("feature3-tf",), others=("azure",)),
        *_hardware("StarLightCurves", targets=("azure",), others=("feature3-tf",)),
        _framework("Adiac", "aws-gpu1-theano-micro", "aws-gpu-micro"),
        _framework("Coffee", "aws-gpu1-theano-micro", "aws-gpu-micro"),
        _framework("Coffee", "aws-gpu-micro", "aws-gpu1-theano-micro"),
        _framework("DiatomSizeReduction", "aws-gpu1-theano-micro", "aws-gpu-micro"),
        _workload("azure", "Coffee", ("Adiac", "DiatomSizeReduction", "ElectricDevices", "Wafer")),
        _workload("aws-gpu-micro", "Coffee", ("Adiac", "DiatomSizeReduction", "ShapesAll")),
        _workload("aws-gpu1-theano-micro", "DiatomSizeReduction", ("Adiac", "Coffee", "ShapesAll")),
        _workload(
            "feature3-tf", "StarLightCurves", ("Adiac", "Coffee", "ItalyPowerDemand", "ShapesAll")
        ),
        _workload("feature3-tf", "Coffee", _ELEVEN, label="many"),
        *(_image_size(size, "latency") for size in _SIZES),
        *(_image_size(size, "power_sum") for size in (_SIZES[0], _SIZES[-1])),
        *(_system(system, target) for system in SYSTEMS for target in ("e0", "e1")),
        _inference("cores", f"{_ORT}/squeezenet/all-cores", f"{_ORT}/squeezenet/one-core"),
        _inference("cores", f"{_ORT}/bert_mini/one-core", f"{_ORT}/bert_mini/all-cores"),
        _inference("batch", f"{_ORT}/squeezenet/all-cores/batch-4", f"{_ORT}/squeezenet/all-cores"),
        _inference("network", f"{_ORT}/mobilenet_v2/all-cores", *_OTHER_NETWORKS),
        _inference(
            "isa",
            f"{_MACHINE}/openvino/squeezenet/all-cores/SSE41",
            f"{_MACHINE}/openvino/squeezenet/all-cores",
        ),
        _inference(
            "engine",
            f"{_MACHINE}/torch/bert_mini/all-cores",
            f"{_ORT}/bert_mini/all-cores",
            f"{_MACHINE}/openvino/bert_mini/all-cores",
        ),
    ]


def staged() -> list[Scenario]:
    """Scenarios in which the sources mislead or most of them are of no use."""
    return [
        Scenario(
            group="staged",
            label=f"{origin}/{stage}",
            target="target",
            sources=sources_of(stage),
            metric="latency",
            source_rows=SOURCE_ROWS // (3 if len(sources_of(stage)) > 1 else 1),
            table=partial(table, stage),
        )
        for origin, table in (("invented", invented), ("tx2", flawed_tx2))
        for stage in STAGES
    ]


_MACHINES = ("aws-gpu-micro", "aws-gpu1-theano-micro", "aws-nano", "azure", "feature3-tf")
_NOT_NANO = tuple(machine for machine in _MACHINES if machine != "aws-nano")
_ELEVEN = (
    "Adiac",
    "DiatomSizeReduction",
    "ElectricDevices",
    "HandOutlines",
    "InlineSkate",
    "ItalyPowerDemand",
    "PhalangesOutlinesCorrect",
    "ShapesAll",
    "StarLightCurves",
    "Wafer",
    "uWaveGestureLibrary_X",
)
_MACHINE = "amd-epyc-2c"
_ORT = f"{_MACHINE}/onnxruntime"
_OTHER_NETWORKS = tuple(f"{_ORT}/{n}/all-cores" for n in ("squeezenet", "shufflenet", "bert_mini"))
_SIZES = ("200x200", "400x400", "600x600", "800x800")


def _hardware(
    workload: str, targets: tuple[str, ...], others: tuple[str, ...]
) -> Iterator[Scenario]:
    for target in targets:
        sources = tuple(f"{machine}/{workload}" for machine in others if machine != target)
        yield _deeparch("hardware", f"{target}/{workload}", sources)


def _framework(workload: str, target: str, source: str) -> Scenario:
    return _deeparch("framework", f"{target}/{workload}", (f"{source}/{workload}",))


def _workload(machine: str, target: str, others: tuple[str, ...], label: str = "") -> Scenario:
    sources = tuple(f"{machine}/{workload}" for workload in others)
    return _deeparch("workload", f"{machine}/{target}", sources, label)


def _deeparch(group: str, target: str, sources: tuple[str, ...], label: str = "") -> Scenario:
    table = partial(_recorded, deeparch, environments=(*sources, target))
    return Scenario(group, target, sources, "latency", SOURCE_ROWS, table, label)


def _image_size(target: str, metric: str) -> Scenario:
    sources = tuple(size for size in _SIZES if size != target)
    return Scenario(
        "image-size", target, sources, metric, SOURCE_ROWS, partial(_recorded, tx2), metric
    )


def _system(system: str, target: str) -> Scenario:
    count = SYSTEMS[system][1]
    sources = tuple(name for name in (f"e{k}" for k in range(count)) if name != target)
    table = partial(_recorded, sempl, system=system)
    return Scenario("system", target, sources, "time", None, table, system)


def _inference(group: str, target: str, *sources: str) -> Scenario:
    table = partial(_recorded, _first_repeats, environments=(*sources, target))
    return Scenario(group, target, sources, "latency", SOURCE_ROWS, table)


def _first_repeats(environments: tuple[str, ...]) -> MeasurementTable:
    """bayestl's own data set without repeats: none of what is tested may be in the training."""
    table = load("inference").of(*environments)
    again = table.frame.duplicated([*table.space.names, ENVIRONMENT])
    return table.select(np.flatnonzero(~again))


def _recorded(reader: Callable[..., MeasurementTable], seed: int, **what: Any) -> MeasurementTable:
    return _read(reader, **what)


@cache
def _read(reader: Callable[..., MeasurementTable], **what: Any) -> MeasurementTable:
    return reader(**what)

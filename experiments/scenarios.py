"""The transfers that methods are judged on: from which environments to which.

`scenarios()` lists those on public data, clones of repositories in the folder that
`BAYESTL_DATA` names (see `bayestl.datasets`), `unseen()` others on the same data and on one set
more, by which nothing in the library was chosen, and `staged()` those with sources that mislead.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from typing import Any

import numpy as np

from bayestl.data.table import ENVIRONMENT, MeasurementTable
from bayestl.datasets.catalogue import load
from bayestl.datasets.deeparch import deeparch
from bayestl.datasets.help import help_nasbench201
from bayestl.datasets.sempl import SYSTEMS, sempl
from bayestl.datasets.tx2 import tx2
from bayestl.errors import FileError
from bayestl.study.scenario import RecordedScenario
from experiments.help_protocol import KNOWN, SOURCES, TESTED
from experiments.staged_sources import STAGES, flawed_tx2, invented, sources_of

BUDGETS = (3, 5, 10, 20, 50)
"""Numbers of target measurements; a smaller set is part of a larger one."""

TEST_ROWS = 500
"""At most so many further rows of the target are predicted."""

SOURCE_ROWS = 300
"""So many random rows each source contributes, where it is not measured everywhere."""

OWN_GROUPS = ("cores", "batch", "network", "isa", "engine")
"""Groups of scenarios on the data set that bayestl comes with; all others are on public data."""


def scenarios() -> list[RecordedScenario]:
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


def unseen() -> list[RecordedScenario]:
    """Transfers to environments that are no target in `scenarios()`, and to other devices.

    Groups are named as there; `device` is NAS-Bench-201 on HELP's, whose sources are those
    of HELP's protocol. To be looked at last: what is chosen by them is no longer unseen.
    """
    return [
        *_hardware("Adiac", targets=("aws-gpu-micro", "feature3-tf"), others=_MACHINES),
        *_hardware("DiatomSizeReduction", targets=("feature3-tf",), others=_MACHINES),
        *_hardware("ShapesAll", targets=("azure", "aws-gpu1-theano-micro"), others=_NOT_NANO),
        *_hardware("Wafer", targets=("azure",), others=("feature3-tf",)),
        *_hardware("ElectricDevices", targets=("azure",), others=("feature3-tf",)),
        *_hardware("PhalangesOutlinesCorrect", targets=("feature3-tf",), others=("azure",)),
        _workload("azure", "Wafer", ("Adiac", "Coffee", "ElectricDevices", "ShapesAll")),
        _workload("aws-nano", "Adiac", ("DiatomSizeReduction",)),
        _workload("feature3-tf", "HandOutlines", ("Adiac", "Coffee", "InlineSkate", "Wafer")),
        _workload("feature3-tf", "uWaveGestureLibrary_X", _ELEVEN[:-1], label="many"),
        *(_image_size(size, "power_sum") for size in _SIZES[1:-1]),
        *(_system(system, "e2") for system in SYSTEMS),
        *(_system(system, "e3") for system in ("exastencils", "imagemagick", "x264")),
        *(_device(name) for name in ("eyeriss", "fpga", "gold_6226", "pixel2", "titan_rtx_256")),
        _inference("cores", f"{_ORT}/mobilenet_v2/one-core", f"{_ORT}/mobilenet_v2/all-cores"),
        _inference("network", f"{_ORT}/squeezenet/one-core", *_ONE_CORE),
        _inference(
            "engine",
            f"{_MACHINE}/openvino/mobilenet_v2/all-cores",
            f"{_ORT}/mobilenet_v2/all-cores",
            f"{_MACHINE}/torch/mobilenet_v2/all-cores",
        ),
    ]


def staged() -> list[RecordedScenario]:
    """Scenarios in which the sources mislead or most of them are of no use."""
    return [
        RecordedScenario(
            group="staged",
            target="target",
            sources=sources_of(stage),
            metric="latency",
            table=partial(table, stage),
            label=f"{origin}/{stage}",
            source_rows=SOURCE_ROWS // (3 if len(sources_of(stage)) > 1 else 1),
            pool_rows=max(BUDGETS),
            test_rows=TEST_ROWS,
        )
        for origin, table in (("invented", invented), ("tx2", flawed_tx2))
        for stage in STAGES
    ]


def available(wanted: Sequence[RecordedScenario]) -> list[RecordedScenario]:
    """Those whose measurements are here; what is left out is told on standard error."""
    found, missing = [], {}
    for scenario in wanted:
        try:
            scenario.table(0)
        except FileError as error:
            missing.setdefault(str(error), []).append(scenario.name)
        else:
            found.append(scenario)
    for reason, names in missing.items():
        print(f"left out {len(names)} scenarios such as {names[0]}: {reason}", file=sys.stderr)
    return found


def tx2_table(seed: int) -> MeasurementTable:
    """The TX2's measurements, the same for every seed."""
    return _read(tx2)


def inference_table(seed: int, environments: tuple[str, ...]) -> MeasurementTable:
    """bayestl's own data set without repeats: none of what is tested may be in the training."""
    return _read(_first_repeats, environments=environments)


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
_ONE_CORE = tuple(f"{_ORT}/{network}/one-core" for network in ("mobilenet_v2", "bert_mini"))
_SIZES = ("200x200", "400x400", "600x600", "800x800")


def _hardware(
    workload: str, targets: tuple[str, ...], others: tuple[str, ...]
) -> Iterator[RecordedScenario]:
    for target in targets:
        sources = tuple(f"{machine}/{workload}" for machine in others if machine != target)
        yield _deeparch("hardware", f"{target}/{workload}", sources)


def _framework(workload: str, target: str, source: str) -> RecordedScenario:
    return _deeparch("framework", f"{target}/{workload}", (f"{source}/{workload}",))


def _workload(
    machine: str, target: str, others: tuple[str, ...], label: str = ""
) -> RecordedScenario:
    sources = tuple(f"{machine}/{workload}" for workload in others)
    return _deeparch("workload", f"{machine}/{target}", sources, label)


def _deeparch(
    group: str, target: str, sources: tuple[str, ...], label: str = ""
) -> RecordedScenario:
    table = partial(_recorded, deeparch, environments=(*sources, target))
    return _scenario(group, target, sources, "latency", table, label)


def _image_size(target: str, metric: str) -> RecordedScenario:
    sources = tuple(size for size in _SIZES if size != target)
    return _scenario("image-size", target, sources, metric, tx2_table, metric)


def _system(system: str, target: str) -> RecordedScenario:
    count = SYSTEMS[system][1]
    sources = tuple(name for name in (f"e{k}" for k in range(count)) if name != target)
    table = partial(_recorded, sempl, system=system)
    return _scenario("system", target, sources, "time", table, system, source_rows=None)


def _device(target: str) -> RecordedScenario:
    networks = range(KNOWN + TESTED)
    table = partial(_recorded, help_nasbench201, environments=(*SOURCES, target), networks=networks)
    return _scenario("device", target, SOURCES, "latency", table)


def _inference(group: str, target: str, *sources: str) -> RecordedScenario:
    table = partial(inference_table, environments=(*sources, target))
    return _scenario(group, target, sources, "latency", table)


def _scenario(
    group: str,
    target: str,
    sources: tuple[str, ...],
    metric: str,
    table: Callable[[int], MeasurementTable],
    label: str = "",
    source_rows: int | None = SOURCE_ROWS,
) -> RecordedScenario:
    return RecordedScenario(
        group, target, sources, metric, table, label, source_rows, max(BUDGETS), TEST_ROWS
    )


def _first_repeats(environments: tuple[str, ...]) -> MeasurementTable:
    table = load("inference").of(*environments)
    again = table.frame.duplicated([*table.space.names, ENVIRONMENT])
    return table.select(np.flatnonzero(~again))


def _recorded(reader: Callable[..., MeasurementTable], seed: int, **what: Any) -> MeasurementTable:
    return _read(reader, **what)


@cache
def _read(reader: Callable[..., MeasurementTable], **what: Any) -> MeasurementTable:
    return reader(**what)

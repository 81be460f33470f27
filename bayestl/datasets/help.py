"""NAS-Bench-201 on 27 devices and batch sizes, the latencies that HELP measured.

Lee, Lee, Chong and Hwang (2021), "HELP: Hardware-Adaptive Efficient Latency Prediction for NAS
via Meta-Learning" (NeurIPS). The repository is https://github.com/HayeonLee/HELP; a file
`latency/<device>.pt` is a list of the latencies [ms] of the 15,625 networks of NAS-Bench-201
(Dong and Yang, 2020), in the order of `str_arch2idx.pt`. The files are in torch's format, which
can hold any program: they are read as plain values, and refused if they hold anything else.
Known faults of the data:

- latencies below 0.6 ms, down to a few microseconds, of 274 networks on pixel3 and 243 on raspi4:
  they are among the 341 in which no path leads from the input of the cell to its output, and
  the compiler removed what has no effect; as these values are real they are kept, but a
  logarithm makes them count for a lot
- whole milliseconds on essential_ph_1, pixel2, samsung_a50 and samsung_s7, which is much where
  a network takes five
- one number a network: there are no repeats
"""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bayestl.data.environment import Environment
from bayestl.data.files import unreadable
from bayestl.data.options import Categorical, Integer
from bayestl.data.space import ConfigSpace
from bayestl.data.table import ENVIRONMENT, MeasurementTable
from bayestl.datasets.repository import Repository, select_environments
from bayestl.errors import FileError, TableError

REPOSITORY = Repository(
    "https://github.com/HayeonLee/HELP", places=("data/nasbench201", "nasbench201")
)

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
"""What an edge of the cell can be."""

EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
"""The edges of the cell from node to node, in the order in which a network's name has them."""

SPACE = ConfigSpace(
    {
        f"edge_{start}_{end}": Categorical(OPERATIONS, doc=f"from node {start} to node {end}")
        for start, end in EDGES
    }
)
"""One option an edge: 5^6 networks."""

COUNTS = {operation: f"{operation}_count" for operation in OPERATIONS[1:]}
"""Operation -> the option that says how many edges are it; what is left are `none`."""

SPACE_WITH_COUNTS = ConfigSpace(
    {
        **SPACE.options,
        **{
            name: Integer(0, len(EDGES), doc=f"edges that are {operation}; follows from them")
            for operation, name in COUNTS.items()
        },
    }
)
"""The edges, and what a count of them adds: knowledge of which edges do the same work."""

_ARCHITECTURES = "str_arch2idx.pt"
_BATCH = re.compile(r"(?P<hardware>(?:\d+ti|titan.*))_(?P<batch>\d+)")


def help_nasbench201(
    folder: str | Path | None = None,
    *,
    environments: str | Collection[str] | None = None,
    hardware: str | Collection[str] | None = None,
    networks: Sequence[int] | None = None,
    counts: bool = False,
) -> MeasurementTable:
    """The latency of networks on each device, one environment a file, named like "1080ti_32".

    Parameters
    ----------
    folder : a clone of the repository; `BAYESTL_DATA` names the folder that holds it
        unless given
    environments : names of those to read
    hardware : device without the batch size, such as "1080ti"
        What is not given does not restrict; together they must all hold.
    networks : positions from 0 in the repository's order, by which published protocols tell the
        networks apart; all 15,625 unless given
    counts : give the number of edges of each operation as further options, for models that
        do not know that an operation takes as long on one edge as on another; no
        configuration may then be made up but from a network's edges

    Returns
    -------
    A table of the metric `latency` [ms]; environments sorted by name, and in each the
    networks in the order asked for

    Raises
    ------
    FileError
        If there is no clone, a file cannot be read, or it holds more than plain values.
    UnknownEnvironment
        If nothing fits, or `environments` names one that is not there.
    TableError
        If a file has another layout, or there is no network at a position.
    """
    measurements = REPOSITORY.files(folder)
    files = {path.stem: path for path in sorted((measurements / "latency").glob("*.pt"))}
    wanted = select_environments([_environment(name) for name in files], environments, hardware)
    configurations = _configurations(measurements / _ARCHITECTURES)
    if counts:
        edges = configurations.copy()
        for operation, name in COUNTS.items():
            configurations[name] = (edges == operation).sum(axis=1)
    count = len(configurations)
    rows = np.arange(count) if networks is None else np.asarray(networks)
    # a mask is no list of positions
    if rows.dtype.kind not in "iu" or not ((rows >= 0) & (rows < count)).all():
        raise TableError(f"expected networks from 0 to {count - 1}, got {networks!r}")
    frames = [
        configurations.iloc[rows].assign(
            **{
                ENVIRONMENT: environment.name,
                "latency": _latencies(files[environment.name], count)[rows],
            }
        )
        for environment in wanted
    ]
    return MeasurementTable.from_frame(
        pd.concat(frames, ignore_index=True),
        options=SPACE_WITH_COUNTS if counts else SPACE,
        metrics={"latency": "ms"},
        environments=wanted,
    )


def _environment(name: str) -> Environment:
    found = _BATCH.fullmatch(name)
    if found is None:
        return Environment(name, hardware=name)
    return Environment(name, hardware=found["hardware"], workload=f"batch {found['batch']}")


def _configurations(path: Path) -> pd.DataFrame:
    """One row a network, in the order of its position."""
    positions = _plain_values(path)
    places = list(positions.values()) if isinstance(positions, dict) else []
    if not places or {*map(type, places)} != {int} or sorted(places) != [*range(len(places))]:
        raise TableError(f"{path}: expected a dictionary from each network to its position")
    networks = sorted(positions, key=positions.__getitem__)
    return pd.DataFrame([_operations(path, name) for name in networks], columns=list(SPACE.names))


def _operations(path: Path, network: Any) -> list[str]:
    """The operation of each edge, of a name like "|a~0|+|b~0|c~1|+|d~0|e~1|f~2|"."""
    nodes = str(network).split("+")
    operations = [edge for node in nodes for edge in node.strip("|").split("|")]
    starts = [f"~{start}" for start, _ in EDGES]
    names = [name.removesuffix(end) for name, end in zip(operations, starts, strict=False)]
    expected = [f"{name}{start}" for name, start in zip(names, starts, strict=False)]
    if operations != expected or len(names) != len(EDGES) or not set(names) <= set(OPERATIONS):
        raise TableError(f"{path}: expected a network of NAS-Bench-201, got {network!r}")
    return names


def _latencies(path: Path, count: int) -> np.ndarray:
    """(count,) latencies."""
    values = _plain_values(path)
    if not isinstance(values, list) or len(values) != count:
        raise TableError(f"{path}: expected a list of {count} latencies, one a network")
    try:
        latencies = np.array(values, dtype=float)
    except (TypeError, ValueError):
        raise TableError(f"{path}: expected a list of numbers") from None
    if latencies.shape != (count,) or not (np.isfinite(latencies) & (latencies > 0)).all():
        raise TableError(f"{path}: expected finite positive latencies")
    return latencies


def _plain_values(path: Path) -> Any:
    """What a file in torch's format holds; nothing in it is ever run."""
    try:
        import torch
    except ImportError:
        raise FileError(
            f"{path}: expected torch, which its format needs; pip install torch"
        ) from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of files that are refused below
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise unreadable(path, error) from error
    except pickle.UnpicklingError:
        raise FileError(
            f"{path}: expected plain numbers and texts in torch's format, got something that "
            "would have to be run to be read; it was refused, get the file anew from "
            f"{REPOSITORY.url}"
        ) from None
    except (RuntimeError, EOFError, ValueError, KeyError, AttributeError) as error:
        raise FileError(f"{path}: expected a file in torch's format, got {error}") from None

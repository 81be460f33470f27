"""The recorded tables that ship with the package, each one Parquet file beside this one."""

from __future__ import annotations

from importlib.resources import as_file, files
from importlib.resources.abc import Traversable
from pathlib import Path

from bayestl.data.readers import read_table
from bayestl.data.table import MeasurementTable
from bayestl.errors import TableError

SHIPPED: Traversable = files("bayestl.datasets")
"""The folder of the shipped tables."""

_SUFFIX = ".parquet"


def names(folder: Traversable = SHIPPED) -> tuple[str, ...]:
    """The names of the tables in the folder, sorted."""
    found = (Path(item.name) for item in folder.iterdir())
    return tuple(sorted(path.stem for path in found if path.suffix == _SUFFIX))


def load(name: str, folder: Traversable = SHIPPED) -> MeasurementTable:
    """The recorded table of that name.

    Raises
    ------
    TableError
        If there is no such table.
    """
    known = names(folder)
    if name not in known:
        expected = f"expected one of {', '.join(known)}" if known else "none is installed"
        raise TableError(f"unknown data set {name!r}; {expected}")
    with as_file(folder / f"{name}{_SUFFIX}") as path:
        return read_table(path)

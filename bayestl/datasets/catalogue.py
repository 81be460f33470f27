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
_CARD_SUFFIX = ".md"


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
    _check(name, folder)
    with as_file(folder / f"{name}{_SUFFIX}") as path:
        return read_table(path)


def card(name: str, folder: Traversable = SHIPPED) -> str:
    """What one must know of the recorded table before trusting it, as Markdown.

    How, when and on what it was measured, how noisy it is, and what failed.

    Raises
    ------
    TableError
        If there is no such table.
    """
    _check(name, folder)
    return (folder / f"{name}{_CARD_SUFFIX}").read_text(encoding="utf-8")


def _check(name: str, folder: Traversable) -> None:
    known = names(folder)
    if name not in known:
        expected = f"expected one of {', '.join(known)}" if known else "none is installed"
        raise TableError(f"unknown data set {name!r}; {expected}")

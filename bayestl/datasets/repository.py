"""Public repositories of measurements: cloned by whoever reads them, shipped by nobody here."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from bayestl.data.environment import Environment
from bayestl.data.files import unreadable
from bayestl.errors import FileError, TableError, UnknownEnvironment

DATA_VARIABLE = "BAYESTL_DATA"
"""The environment variable that names the folder in which the repositories are cloned."""


@dataclass(frozen=True)
class Repository:
    """A git repository that holds files of measurements.

    Parameters
    ----------
    url : where it is cloned from; a clone's folder has the last part's name
    places : folders of a clone that may hold the files, the first that exists counts
    """

    url: str
    places: tuple[str, ...]

    @property
    def name(self) -> str:
        """The folder that `git clone` makes."""
        return self.url.rsplit("/", 1)[-1]

    def files(self, clone: str | Path | None = None) -> Path:
        """The folder of the measurements in a clone, by default the one in `BAYESTL_DATA`.

        Raises
        ------
        FileError
            If there is no such folder; the message says what to clone, and to where.
        """
        if clone is None:
            data = os.environ.get(DATA_VARIABLE)
            if not data:
                raise FileError(
                    f"expected the folder of a clone, or {DATA_VARIABLE} to name the folder that "
                    f"holds it; git clone {self.url}"
                )
            clone = Path(data) / self.name
        found = [Path(clone) / place for place in self.places]
        for folder in found:
            if folder.is_dir():
                return folder
        raise FileError(
            f"expected measurements in {' or '.join(map(str, found))}, found no such folder; "
            f"git clone {self.url} {clone}"
        )


def read_columns(
    path: Path, separator: str = ",", *, header: bool = True, needed: Collection[str] = ()
) -> pd.DataFrame:
    """The columns of a CSV file; without a header they are numbered.

    Raises
    ------
    FileError
        If the file is missing or cannot be read.
    TableError
        If it is no CSV file, or one of the columns that are `needed` is missing.
    """
    try:
        columns = pd.read_csv(path, sep=separator, header=0 if header else None)
    except OSError as error:
        raise unreadable(path, error) from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise TableError(f"{path}: {error}") from None
    missing = [name for name in needed if name not in columns.columns]
    if missing:
        raise TableError(f"{path}: expected the columns {', '.join(missing)} as well")
    return columns


def select_environments(
    known: Sequence[Environment],
    names: str | Collection[str] | None,
    hardware: str | Collection[str] | None = None,
    workload: str | Collection[str] | None = None,
) -> list[Environment]:
    """Those of the known environments that every given restriction allows.

    Raises
    ------
    UnknownEnvironment
        If there is none, or a name is not known.
    """
    asked = [names] if isinstance(names, str) else names or ()
    missing = sorted(set(asked) - {environment.name for environment in known})
    wanted = [
        environment
        for environment in known
        if _allows(names, environment.name)
        and _allows(hardware, environment.hardware)
        and _allows(workload, environment.workload)
    ]
    if missing or not wanted:
        listed = ", ".join(environment.name for environment in known) or "none at all"
        wrong = f"unknown environment {', '.join(missing)}" if missing else "no environment fits"
        raise UnknownEnvironment(f"{wrong}; the clone has {listed}")
    return wanted


def _allows(wanted: str | Collection[str] | None, name: str) -> bool:
    return wanted is None or name in ([wanted] if isinstance(wanted, str) else wanted)

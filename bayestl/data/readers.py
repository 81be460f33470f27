"""Measurement tables in CSV and Parquet files.

A Parquet file of `write_table` describes itself: the table's `Schema` is JSON in the file's
metadata, and `read_table(path)` needs nothing else. A CSV file holds the columns alone, so
the reader must be told what they are.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from bayestl.data.environment import Environment
from bayestl.data.files import unreadable, write_whole
from bayestl.data.measurement import Metric
from bayestl.data.options import Option
from bayestl.data.space import ConfigSpace
from bayestl.data.table import ENVIRONMENT, STATUS, MeasurementTable, Schema
from bayestl.errors import (
    ConfigurationError,
    FileError,
    SpaceError,
    TableError,
    UnknownEnvironment,
)

METADATA_KEY = b"bayestl"
"""Where in a Parquet schema's metadata the description lies."""

FORMAT_VERSION = 1

_NO_VALUE = ("", "nan", "NaN", "NA")
"""Cells without a value where an option is inferred; "None" and "null" may be levels."""

_NO_NUMBER = (*_NO_VALUE, "N/A", "null", "NULL", "None")
"""Cells without a value in a metric's column."""


def read_table(
    path: str | Path,
    *,
    options: ConfigSpace | Sequence[str] | Mapping[str, Option | None] | None = None,
    metrics: Mapping[str, str] | Sequence[Metric] | None = None,
    environment: str | Environment = ENVIRONMENT,
    environments: Sequence[Environment] = (),
    status: str | None = None,
) -> MeasurementTable:
    """The table in a CSV file (also compressed: .csv.gz) or a Parquet file.

    Parameters
    ----------
    path : a name that ends in .parquet is Parquet, any other is CSV
    options, metrics, environment, environments, status : as `MeasurementTable.from_frame`
        A Parquet file of `write_table` needs none of them. A cell of a CSV file is read as
        the level of its option that it names: `1`, `1.0` and `true` where the option has
        numbers or booleans, the text itself where it has text.

    Raises
    ------
    FileError
        If the file is missing or cannot be read.
    TableError, ConfigurationError, SpaceError, UnknownEnvironment
        If it is empty or malformed, has a column twice, or as `MeasurementTable.from_frame`;
        the message names the file.
    """
    path = Path(path)
    roles = {"environment": environment, "environments": environments, "status": status}
    with _named(path):
        if path.suffix == ".parquet":
            frame, description = _read_parquet(path)
        else:
            kinds = options.options if isinstance(options, ConfigSpace) else options
            frame, description = _read_csv(path, kinds, metrics, environment), None
        if options is None and metrics is None and description is not None:
            if roles != {"environment": ENVIRONMENT, "environments": (), "status": None}:
                raise TableError("the file says this itself; give options and metrics as well")
            return _described_table(frame, description)
        if options is None or metrics is None:
            raise TableError(
                "expected to be told options=[...] and metrics={name: unit}; "
                f"the columns are {list(frame.columns)}"
            )
        return MeasurementTable.from_frame(
            frame,
            options=options,
            metrics=metrics,
            environment=environment,
            environments=environments,
            status=status,
        )


_MALFORMED = (
    csv.Error,
    pd.errors.ParserError,
    pd.errors.ParserWarning,
    UnicodeDecodeError,
    EOFError,  # a compressed file that ends too early
    zlib.error,
    pa.ArrowInvalid,
)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Whatever is wrong with the file is one error of ours that names it."""
    try:
        yield
    except FileError:
        raise
    except OSError as error:
        raise unreadable(path, error) from error
    except (TableError, ConfigurationError, SpaceError, UnknownEnvironment) as error:
        raise type(error)(f"{path}: {error}") from None
    except _MALFORMED as error:
        raise TableError(f"{path}: malformed: {str(error).strip()}") from None


def read_configurations(path: str | Path, space: ConfigSpace) -> pd.DataFrame:
    """The configurations in a CSV or Parquet file, as `ConfigSpace.frame` returns them.

    Every option needs its column; other columns are left out. A cell of a CSV file is read
    as the level of its option that it names, and an empty one as not active.

    Raises
    ------
    FileError
        If the file is missing or cannot be read.
    TableError, ConfigurationError
        If it is empty or malformed, or holds what the space does not; the message names
        the file.
    """
    path = Path(path)
    with _named(path):
        if path.suffix == ".parquet":
            frame = _read_parquet(path)[0]
        else:
            frame = _read_csv(path, space.options, None, ENVIRONMENT)
        if frame.empty:
            raise TableError("expected at least one configuration, got an empty table")
        return space.frame(frame)


def write_table(table: MeasurementTable, path: str | Path) -> None:
    """Write the table to a Parquet file that describes itself, or to a CSV file.

    As in `read_table`, the name decides; the file is written whole or not at all.

    Raises
    ------
    FileError
        If the file cannot be written.
    """
    path = Path(path)
    if path.suffix == ".parquet":
        write_whole(path, lambda file: pq.write_table(_arrow(table), file))
        return
    text = table.frame.to_csv(index=False).encode()
    content = gzip.compress(text, mtime=0) if path.suffix == ".gz" else text
    write_whole(path, lambda file: file.write(content))


def _read_parquet(path: Path) -> tuple[pd.DataFrame, Any]:
    """The columns of the file, and its description of itself, None if it has none."""
    with open(path, "rb") as file:
        parquet = pq.ParquetFile(file)
        _check_header(parquet.schema_arrow.names)
        content = parquet.read()
    description = (content.schema.metadata or {}).get(METADATA_KEY)
    frame = content.to_pandas(ignore_metadata=True, integer_object_nulls=True)
    return frame, None if description is None else description.decode()


def _described_table(frame: pd.DataFrame, description: str) -> MeasurementTable:
    try:
        values = json.loads(description)
        version = values["version"]
        schema = Schema.from_dict(values)
        as_text = [(name, schema.space.options[name]) for name in values["as_text"]]
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise TableError(f"malformed description in the metadata: {error}") from None
    if version != FORMAT_VERSION:
        raise TableError(
            f"expected format version {FORMAT_VERSION}, got {version!r}; "
            "was it written by a newer bayestl?"
        )
    for name, option in as_text:
        frame[name] = _parsed(option, frame[name])
    table = MeasurementTable.from_frame(
        frame,
        options=schema.space,
        metrics=schema.metrics,
        environments=schema.environments,
        status=STATUS,
    )
    known = {e.name: e for e in (*schema.environments, *table.environments)}
    return replace(table, environments=tuple(known.values()))  # in the order of the file


def _arrow(table: MeasurementTable) -> pa.Table:
    """The table's columns, each of one type, and its description in the metadata."""
    columns, as_text = {}, []
    for name in table.frame.columns:
        values = table.frame[name].tolist()
        if name in table.space.names and _is_text(values):
            as_text.append(name)
            values = [None if value is None else str(value) for value in values]
        columns[name] = pa.array(values, from_pandas=True)
    for metric in table.metrics:
        columns[metric.name] = columns[metric.name].cast(pa.float64())
    description = {
        "version": FORMAT_VERSION,
        **table.schema.to_dict(),
        "as_text": as_text,
    }
    return pa.table(columns).replace_schema_metadata({METADATA_KEY: json.dumps(description)})


def _is_text(values: Sequence[Any]) -> bool:
    """Whether Parquet has no type for the values: several kinds, or more than 64 bits."""
    kinds = {type(value) for value in values if value is not None}
    return len(kinds) > 1 or (kinds == {int} and any(abs(v or 0) >= 2**63 for v in values))


def _read_csv(
    path: Path,
    options: Mapping[str, Option | None] | Sequence[str] | None,
    metrics: Mapping[str, str] | Sequence[Metric] | None,
    environment: str | Environment,
) -> pd.DataFrame:
    known = {n: k for n, k in options.items() if k} if isinstance(options, Mapping) else {}
    numbers = [m.name if isinstance(m, Metric) else m for m in metrics or ()]
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rb") as file:
        content = file.read()  # once: what comes through a pipe cannot be read again
    header = _header(content)
    text = [name for name in header if name in known or name == environment]
    empty = dict.fromkeys(header, _NO_VALUE) | dict.fromkeys(numbers, _NO_NUMBER)
    empty |= dict.fromkeys(text, ("",))
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        frame = pd.read_csv(
            io.BytesIO(content),
            encoding="utf-8-sig",
            index_col=False,
            dtype=dict.fromkeys(text, "str"),
            keep_default_na=False,
            na_values=empty,
            low_memory=False,  # in parts, a column with one text late in it is of two kinds
        )
    for name in known.keys() & set(header):
        frame[name] = _parsed(known[name], frame[name])
    return frame


def _header(content: bytes) -> list[str]:
    """The names in the first line; pandas would rename those that stand there twice."""
    lines = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig", newline="")
    header = next(csv.reader(lines), [])
    if not header:
        raise TableError("expected a line with the columns' names, got an empty file")
    if len(header) == 1 and any(separator in header[0] for separator in ";\t"):
        raise TableError(
            f"expected columns separated by commas, got the line {header[0]!r}; write the file "
            "with commas, and points in its numbers"
        )
    _check_header(header)
    return header


def _check_header(names: Sequence[str]) -> None:
    repeated = [repr(name) for name in dict.fromkeys(names) if names.count(name) > 1]
    if repeated:
        raise TableError(f"duplicate column {', '.join(repeated)}: each may appear once")


def _parsed(option: Option, cells: pd.Series) -> pd.Series:
    """The cells as values of the option; a cell that is none stays text, for a later error."""
    values = {}
    for cell in cells.dropna().unique():
        try:
            values[cell] = option.parse(cell)
        except ConfigurationError:
            values[cell] = cell
    return pd.Series([values.get(cell) for cell in cells], index=cells.index, dtype=object)

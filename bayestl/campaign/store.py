"""`Store`: an append-only log of records that survives whatever happens to the process.

A store knows nothing of campaigns: it keeps named logs of records, and a campaign is
the fold of its log (`history`). What `append` returned from is on the disk; what a later
`load` returns is what was appended, or there is an error that names the damaged row.

`SQLiteStore` stands on write-ahead logging with synchronous FULL. SQLite's own check
overlooks most flipped bytes inside values, so each row carries a checksum over its
content and the checksum of the row before it: a row that was changed, lost or moved
breaks the chain.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from bayestl.errors import StoreError

SCHEMA_VERSION = 1
"""Raised whenever an older bayestl could not read what this one writes."""

APPLICATION_ID = 0x6274_6C73
"""`btls`, in SQLite's header: this database is a bayestl store."""

BUSY_TIMEOUT_S = 30.0
_MAGIC = b"SQLite format 3\0"


@dataclass(frozen=True)
class Record:
    """One entry of a log, unique by (kind, number, attempt).

    Parameters
    ----------
    kind : what it is, such as "trial"
    number, attempt : which one
    payload : plain JSON values, every number finite
    at : when it was stored, ISO 8601 in UTC; the store fills it in
    """

    kind: str
    number: int
    payload: Mapping[str, Any]
    attempt: int = 1
    at: str = field(default="", compare=False)


class Store(Protocol):
    """Named append-only logs."""

    def claim(self) -> AbstractContextManager[None]:
        """The right to append, held by one process at a time; makes the store if need be.

        Raises
        ------
        StoreError
            If another process holds it, or the store cannot be made or written.
        """
        ...

    def names(self) -> tuple[str, ...]:
        """The logs, oldest first."""
        ...

    def append(self, name: str, *records: Record) -> None:
        """Add all of `records` or none; on the disk when it returns.

        Raises
        ------
        StoreError
            If a record is there already or is not plain, the name is no text, and for a full
            disk, a missing permission, or whatever else keeps it from the disk.
        """
        ...

    def load(self, name: str) -> tuple[Record, ...]:
        """The records of a log in the order appended; empty for a log that is not there.

        Raises
        ------
        StoreError
            If the store is missing, damaged, newer than this version, or no store.
        """
        ...


_SCHEMA = """
CREATE TABLE records (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    log TEXT NOT NULL,
    kind TEXT NOT NULL,
    number INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    at TEXT NOT NULL,
    payload TEXT NOT NULL,
    checksum TEXT NOT NULL,
    UNIQUE (log, kind, number, attempt)
);
CREATE TRIGGER records_are_never_changed BEFORE UPDATE ON records
BEGIN SELECT RAISE(ABORT, 'a store is append-only'); END;
CREATE TRIGGER records_are_never_deleted BEFORE DELETE ON records
BEGIN SELECT RAISE(ABORT, 'a store is append-only'); END;
"""
_COLUMNS = "sequence, log, kind, number, attempt, at, payload, checksum"


@dataclass(frozen=True)
class SQLiteStore:
    """A store in one SQLite file, on a local disk.

    Every method opens the file and closes it again, so nothing is held while a
    measurement runs. `PATH.lock` beside it says which process may append.

    Parameters
    ----------
    path : the file; `claim` makes it where there is none
    """

    path: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path))

    @contextmanager
    def claim(self) -> Iterator[None]:
        """The right to append, held by one process at a time; makes the store if need be."""
        with _lock(self.path):
            with _translated(self.path), _connected(self.path, "rwc") as connection:
                if _is_empty(connection):
                    _make(connection)
                _check_format(self.path, connection)
                # A write that changes nothing fails now where the first append would later.
                connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            yield

    def names(self) -> tuple[str, ...]:
        """The logs, oldest first."""
        return tuple(dict.fromkeys(row[1] for row in self._rows()))

    def append(self, name: str, *records: Record) -> None:
        """Add all of `records` or none; on the disk when it returns."""
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        with _translated(self.path), _connected(self.path, "rw") as connection:
            _check_format(self.path, connection)
            connection.execute("BEGIN IMMEDIATE")
            last = connection.execute(
                "SELECT sequence, checksum FROM records ORDER BY sequence DESC LIMIT 1"
            ).fetchone()
            sequence, checksum = last or (0, "")
            for record in records:
                _check_columns(name, record)
                sequence += 1
                content = (sequence, name, record.kind, record.number, record.attempt, at)
                row = (*content, _json(name, record))
                checksum = _checksum(checksum, row)
                connection.execute(
                    f"INSERT INTO records ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
                    (*row, checksum),
                )
            connection.execute("COMMIT")

    def load(self, name: str) -> tuple[Record, ...]:
        """The records of a log in the order appended; empty for a log that is not there."""
        return tuple(
            Record(kind, number, json.loads(payload), attempt, at)
            for _, log, kind, number, attempt, at, payload, _ in self._rows()
            if log == name
        )

    def _rows(self) -> list[tuple[Any, ...]]:
        """Every row of the store, each verified."""
        with _translated(self.path), _connected(self.path, "rw") as connection:
            _check_format(self.path, connection)
            connection.execute("BEGIN")  # one snapshot for all that follows
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM records ORDER BY sequence"  # noqa: S608
            ).fetchall()
            count = connection.execute(
                "SELECT seq FROM sqlite_sequence WHERE name = 'records'"
            ).fetchone()
            problem = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
        _verify(self.path, rows, count[0] if count else 0)
        if problem != "ok":
            raise StoreError(f"{self.path} is corrupted: {problem}; restore a copy of it")
        return rows


def _verify(path: Path, rows: list[tuple[Any, ...]], count: int) -> None:
    checksum = ""
    for expected, row in enumerate(rows, start=1):
        checksum = _checksum(checksum, row[:-1])
        if row[0] != expected or row[-1] != checksum:
            log, kind, number = row[1:4]
            raise StoreError(
                f"{path} is corrupted: row {expected} ({kind} {number} of {log!r}) does not match "
                "its checksum; restore a copy of it"
            )
    if count != len(rows):
        raise StoreError(
            f"{path} is corrupted: {count} rows were written, {len(rows)} are left; "
            "restore a copy of it"
        )


def _checksum(before: str, row: tuple[Any, ...]) -> str:
    """Of a row and, through the checksum before it, of all earlier ones."""
    content = json.dumps([before, *row], default=repr)
    return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()


def _check_columns(name: str, record: Record) -> None:
    """Refuse what SQLite would store as another value than the one that the checksum is over."""
    for what, value, kind in (
        ("a log's name", name, str),
        ("a record's kind", record.kind, str),
        ("a record's number", record.number, int),
        ("a record's attempt", record.attempt, int),
    ):
        if type(value) is not kind or value == "":
            expected = "text" if kind is str else "a whole number"
            raise StoreError(f"expected {what} as {expected}, got {value!r}")


def _json(name: str, record: Record) -> str:
    try:
        return json.dumps(record.payload, allow_nan=False, default=_plain)
    except (TypeError, ValueError) as error:
        raise StoreError(
            f"{record.kind} {record.number} of {name!r} is not plain JSON: {error}; expected "
            "text, booleans, finite numbers, lists and mappings"
        ) from None


def _plain(value: Any) -> Any:
    """The Python value of a numpy scalar or array, the dict of any other mapping."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """An exclusive lock that the kernel drops with the process, however that dies.

    On a side file: closing any descriptor of the database itself would drop SQLite's locks.
    """
    side = path.with_name(path.name + ".lock")
    try:
        descriptor = os.open(side, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise StoreError(f"cannot write {side}: {error.strerror}; choose another place") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            raise StoreError(
                f"{path} is in use by process {holder}; wait for it, or choose another store"
            ) from None
        with suppress(OSError):  # only for the message above
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _connected(path: Path, mode: str) -> Iterator[sqlite3.Connection]:
    _check_file(path, mode)
    connection = sqlite3.connect(
        f"file:{quote(os.fsencode(path.absolute()))}?mode={mode}",
        uri=True,
        timeout=BUSY_TIMEOUT_S,
        isolation_level=None,
    )
    try:
        connection.execute("PRAGMA synchronous = FULL")
        yield connection
    finally:
        connection.close()


def _check_file(path: Path, mode: str) -> None:
    """What SQLite would get wrong: it takes a short file of anything for an empty database."""
    try:
        with path.open("rb") as file:
            start = file.read(len(_MAGIC))
    except FileNotFoundError:
        if mode == "rwc":
            return
        raise StoreError(f"there is no store at {path}") from None
    except OSError as error:
        raise StoreError(f"{path} cannot be opened: {error.strerror}") from None
    if start not in (b"", _MAGIC):
        raise StoreError(f"{path} is no bayestl store; choose another file")


def _is_empty(connection: sqlite3.Connection) -> bool:
    """Whether the file is new, or was left by a process that died before it was made."""
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    (identity,) = connection.execute("PRAGMA application_id").fetchone()
    return tables == 0 and identity == 0


def _make(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.executescript(
        f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA application_id = {APPLICATION_ID}; "
        f"PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
    )


def _check_format(path: Path, connection: sqlite3.Connection) -> None:
    (identity,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if identity != APPLICATION_ID:
        raise StoreError(f"{path} is no bayestl store; choose another file")
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"{path} was written by a newer bayestl (schema {version}, this one reads up to "
            f"{SCHEMA_VERSION}); upgrade bayestl"
        )
    if version < SCHEMA_VERSION:
        raise StoreError(f"{path} is corrupted: schema {version} never existed")


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """SQLite's errors as one `StoreError` that says what to do."""
    try:
        yield
    except sqlite3.Error as error:
        code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
        what = _CAUSES.get(code, "cannot be read or written; restore a copy of it")
        raise StoreError(f"{path} {what} (SQLite: {error})") from error


_CAUSES = {
    sqlite3.SQLITE_FULL: "cannot grow: the disk is full; free some space and resume",
    sqlite3.SQLITE_IOERR: "cannot be read or written; check the disk's space and state and resume",
    sqlite3.SQLITE_READONLY: "cannot be written: no permission; choose another place",
    sqlite3.SQLITE_PERM: "cannot be opened: no permission; choose another place",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened: no folder or no permission; choose another place",
    sqlite3.SQLITE_BUSY: "is busy: another process writes to it; try again",
    sqlite3.SQLITE_NOTADB: "is no bayestl store; choose another file",
    sqlite3.SQLITE_CORRUPT: "is corrupted; restore a copy of it",
    sqlite3.SQLITE_CONSTRAINT: "has this record already",
}

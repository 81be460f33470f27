"""What measures, in a TOML file: a program of the user's, or how networks are measured here.

    [program]
    command = ["./bench", "--threads", "{threads}", ["--spin-us", "{spin_us}"]]
    timeout_s = 60
    flags = {spin = ["--spin"]}
    variables = {OMP_NUM_THREADS = "{threads}"}

    [program.metrics.latency]
    unit = "ms"
    direction = "minimize"

    [options.threads]
    kind = "integer"
    low = 1
    high = 8

    [runner]                                # or, where networks are measured: how
    timeout_s = 120
    disturbance_limit = 0.3
    meters = {nvml = {device = 0}, rapl = {}}

See `ProgramRunner` and `LocalRunner` for what the keys mean. A program's relative paths begin
at the file's folder, where it runs; those of networks and meters, where bayestl runs. Reading
a file runs nothing; measuring what it describes runs its program, with the rights of whoever
measures.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bayestl.data.measurement import Metric
from bayestl.data.specification import specification_in
from bayestl.data.toml import Document
from bayestl.errors import EngineError, SpecificationError, TableError
from bayestl.measure.program import ProgramRunner
from bayestl.measure.runner import LocalRunner

PROGRAM_KEY = "program"
"""The top-level key that describes a program."""

RUNNER_KEY = "runner"
"""The top-level key that says how networks are measured."""

_SETTINGS = (
    *("timeout_s", "memory_limit_mib", "meters", "allocator", "host", "isolation", "attempts"),
    *("disturbance_limit", "sentinel_every"),
)
_LIMITS = ("timeout_s", "memory_limit_mib", "disturbance_limit")
_KEYS = ("command", "name", "files", "variables", "flags", "metrics", *_LIMITS)


def program_in(document: Document, folder: Path) -> ProgramRunner | None:
    """The program that a document describes; None where it describes none.

    Raises
    ------
    SpecificationError
        If it is malformed, naming the line.
    """
    if PROGRAM_KEY not in document.values:
        return None
    values = document.table(PROGRAM_KEY, known=_KEYS)
    space = specification_in(document).space
    if space is None:
        raise document.error("expected the program's options, as [options.NAME]", PROGRAM_KEY)
    name = values.get("name", "")
    if not isinstance(name, str):
        raise document.error(f"name: expected a text, got {name!r}", PROGRAM_KEY, "name")
    given = {key: values[key] for key in (*_LIMITS, "files") if key in values}
    given |= {key: document.table(PROGRAM_KEY, key) for key in ("variables", "flags")}
    reports = tuple(_metrics(document))
    try:
        return ProgramRunner(
            values.get("command", []), space, reports, name=name, folder=folder, **given
        )
    except SpecificationError as error:
        raise _located(document, str(error)) from None


def runner_in(document: Document) -> LocalRunner:
    """What measures networks, as a document says, or as it is without a word.

    Raises
    ------
    SpecificationError
        If the settings are malformed, naming the line.
    """
    values = document.table(RUNNER_KEY, known=_SETTINGS)
    for name in document.table(RUNNER_KEY, "meters"):
        document.table(RUNNER_KEY, "meters", name)
    try:
        return LocalRunner(**values)
    except EngineError as error:
        named = (key for key in values if key in str(error).replace(":", " ").split())
        raise document.error(str(error), RUNNER_KEY, *tuple(named)[:1]) from None


def _metrics(document: Document) -> Iterator[Metric]:
    for name in document.table(PROGRAM_KEY, "metrics"):
        where = (PROGRAM_KEY, "metrics", name)
        values = document.table(*where, known=("unit", "direction"))
        for key, value in values.items():
            if not isinstance(value, str):
                raise document.error(f"{key}: expected a text, got {value!r}", *where, key)
        try:
            yield Metric(name, **values)
        except TableError as error:
            raise document.error(str(error), *where, "direction") from None


def _located(document: Document, message: str) -> SpecificationError:
    """The error at the line of what its message begins with: a key, and a name under it."""
    key, name = message.split(": ")[:2]
    if key == "options":
        return document.error(message, key, name)
    where = (PROGRAM_KEY, key, name)
    quoted = next((text for text in _texts(document, key) if repr(text) == name), None)
    return document.error(message, *where, quoting=quoted)


def _texts(document: Document, key: str) -> Iterator[str]:
    """The texts in a list, and in the lists in it."""
    pending: list[Any] = [document.table(PROGRAM_KEY).get(key)]
    while pending:
        value = pending.pop(0)
        if isinstance(value, list):
            pending = value + pending
        elif isinstance(value, str):
            yield value

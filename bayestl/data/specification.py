"""Configuration spaces and environments in TOML, for people to read and write.

    constraints = ["threads * batch <= 64"]

    [options.threads]
    kind = "integer"
    low = 1
    high = 8
    log = true
    default = 2

    [options.spin]
    kind = "boolean"

    [conditions]
    spin = "threads > 1"

    [environments.board]
    hardware = "Jetson TX2"
    engine = "onnxruntime"

    [environments.board.settings]
    cores = "0-3"

    [environments.board.levels]         # where tables differ between environments
    gpu_mhz = [115, 230, 460, 920, 1300]

Unknown keys are refused, and every error names its line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import tomli_w

from bayestl.data.environment import Environment
from bayestl.data.files import write_whole
from bayestl.data.options import option_from_dict
from bayestl.data.space import ConfigSpace
from bayestl.data.toml import Document
from bayestl.errors import SpaceError, SpecificationError, UnknownEnvironment

SPACE_KEYS = ("options", "constraints", "conditions")
"""The top-level keys that describe the space."""

ENVIRONMENTS_KEY = "environments"
"""The top-level key that describes environments."""


@dataclass(frozen=True)
class Specification:
    """What a specification file says.

    Parameters
    ----------
    space : the configuration space, or None if the file describes none
    environments : in the order of the file
    """

    space: ConfigSpace | None = None
    environments: tuple[Environment, ...] = ()

    def to_toml(self) -> str:
        """The specification as TOML."""
        values: dict[str, Any] = {}
        if self.space is not None:
            space = self.space.to_dict()
            values |= {key: space[key] for key in ("constraints", "options", "conditions")}
        if self.environments:
            values[ENVIRONMENTS_KEY] = {e.name: _described(e) for e in self.environments}
        return tomli_w.dumps({key: value for key, value in values.items() if value})


def read_specification(path: str | Path) -> Specification:
    """The specification in a TOML file that holds nothing else.

    Raises
    ------
    FileError
        If the file cannot be read.
    SpecificationError
        If it is malformed, naming the line.
    """
    document = Document.read(path)
    document.table(known=(*SPACE_KEYS, ENVIRONMENTS_KEY))
    return specification_in(document)


def specification_in(document: Document) -> Specification:
    """The specification in a document that may hold further keys.

    Raises
    ------
    SpecificationError
        If it is malformed, naming the line.
    """
    described = any(key in document.values for key in SPACE_KEYS)
    space = _space_in(document) if described else None
    names = document.table(ENVIRONMENTS_KEY)
    return Specification(space, tuple(_environment_in(document, name) for name in names))


def write_specification(specification: Specification, path: str | Path) -> None:
    """Write the specification to a TOML file, whole or not at all.

    Raises
    ------
    FileError
        If the file cannot be written.
    """
    write_whole(path, lambda file: file.write(specification.to_toml().encode()))


def _space_in(document: Document) -> ConfigSpace:
    options = {}
    for name in document.table("options"):
        values = document.table("options", name)
        try:
            options[name] = option_from_dict(values)
        except SpaceError as error:
            keys = ("options", name, *_first_named(values, str(error)))
            raise document.error(f"option {name!r}: {error}", *keys) from None
    constraints = document.values.get("constraints", [])
    if not isinstance(constraints, list) or not all(isinstance(c, str) for c in constraints):
        message = f"constraints: expected a list of texts, got {constraints!r}"
        raise document.error(message, "constraints")
    conditions = document.table("conditions", known=options)
    for name, text in conditions.items():
        if not isinstance(text, str):
            message = f"condition of {name!r}: expected a text, got {text!r}"
            raise document.error(message, "conditions", name)
    try:
        return ConfigSpace(options, constraints, conditions)
    except SpaceError as error:
        raise _located(document, error, constraints, conditions) from None


def _located(
    document: Document,
    error: SpaceError,
    constraints: Sequence[str],
    conditions: Mapping[str, str],
) -> SpecificationError:
    """The error at the line of the expression that it speaks of, or of the nearest table."""
    for name, text in conditions.items():
        if repr(text) in str(error) or repr(name) in str(error):
            return document.error(str(error), "conditions", name)
    for text in constraints:
        if repr(text) in str(error):
            return document.error(str(error), "constraints", quoting=text)
    return document.error(str(error), "conditions" if "circle" in str(error) else "options")


def _first_named(keys: Iterable[str], message: str) -> tuple[str, ...]:
    """The key that an error's message names first, if it names one."""
    found = {key: re.search(rf"\b{re.escape(key)}\b", message) for key in keys}
    named = {key: match.start() for key, match in found.items() if match}
    return (min(named, key=lambda key: named[key]),) if named else ()


def _environment_in(document: Document, name: str) -> Environment:
    known = tuple(f.name for f in fields(Environment) if f.name != "name")
    values = document.table(ENVIRONMENTS_KEY, name, known=known)
    for key, value in values.items():
        if key not in ("settings", "levels") and not isinstance(value, str):
            message = f"environment {name!r}: {key}: expected a text, got {value!r}"
            raise document.error(message, ENVIRONMENTS_KEY, name, key)
    tables = {key: document.table(ENVIRONMENTS_KEY, name, key) for key in ("settings", "levels")}
    try:
        return Environment(**{**values, "name": name, **tables})
    except UnknownEnvironment as error:
        table = "levels" if "levels" in str(error) else "settings"
        keys = (ENVIRONMENTS_KEY, name, table, *_first_named(tables[table], str(error)))
        raise document.error(str(error), *keys) from None


def _described(environment: Environment) -> dict[str, Any]:
    """What the environment says beyond its name."""
    values = {key: value for key, value in environment.to_dict().items() if key != "name"}
    return {key: value for key, value in values.items() if value}

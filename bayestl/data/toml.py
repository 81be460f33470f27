"""`Document`: a TOML file that knows on which line each of its keys stands.

So that an error names the line that a person has to change.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from bayestl.data.files import read_bounded
from bayestl.errors import SpecificationError

MAX_BYTES = 1_000_000
"""A specification is written by people; anything larger is another file."""


@dataclass(frozen=True)
class Document:
    """The values of a TOML text.

    Parameters
    ----------
    text : the text
    source : what errors call it, such as the file's path

    Raises
    ------
    SpecificationError
        If the text is no TOML, naming the line.
    """

    text: str
    source: str = "specification"
    values: Mapping[str, Any] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        try:
            values = tomllib.loads(self.text)
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            found = re.search(r"\(at line (\d+), column \d+\)", str(error))
            line = int(found[1]) if found else self.text.count("\n") + 1
            reason = re.sub(r" \(at .*\)$", "", str(error))
            raise SpecificationError(f"{self.source}, line {line}: {reason}") from None
        object.__setattr__(self, "values", values)

    @classmethod
    def read(cls, path: str | Path) -> Document:
        """The document in a file.

        Raises
        ------
        FileError
            If the file cannot be read or is larger than `MAX_BYTES`.
        SpecificationError
            If it is no UTF-8 text or no TOML.
        """
        content = read_bounded(path, MAX_BYTES)
        try:
            text = content.decode()
        except UnicodeDecodeError as error:
            line = content[: error.start].count(b"\n") + 1
            raise SpecificationError(f"{path}, line {line}: expected UTF-8 text") from None
        return cls(text, str(path))

    def error(self, message: str, *keys: str, quoting: str | None = None) -> SpecificationError:
        """The error about the value under `keys`, or about a text quoted there."""
        line = self.line(*keys)
        if quoting is not None:
            rest = self.text.split("\n")[line - 1 :]
            line += next((n for n, content in enumerate(rest) if quoting in content), 0)
        return SpecificationError(f"{self.source}, line {line}: {message}")

    def line(self, *keys: str) -> int:
        """The line, from 1, of the value under `keys`, or of the nearest table around it."""
        for length in range(len(keys), 0, -1):
            if keys[:length] in self._lines:
                return self._lines[keys[:length]]
        return 1

    def table(self, *keys: str, known: Collection[str] | None = None) -> Mapping[str, Any]:
        """The table under `keys`, empty where there is none.

        Raises
        ------
        SpecificationError
            If there is something else, or a key that is not `known`.
        """
        value: Any = self.values
        for depth, key in enumerate(keys, start=1):
            value = value.get(key, {})
            if not isinstance(value, Mapping):
                name = ".".join(keys[:depth])
                raise self.error(f"expected a table [{name}], got {value!r}", *keys[:depth])
        for key in value if known is not None else ():
            if key not in (known or ()):
                expected = ", ".join(known or ())
                raise self.error(f"unknown key {key!r}; expected one of {expected}", *keys, key)
        return value

    @cached_property
    def _lines(self) -> dict[tuple[str, ...], int]:
        """The first line of every key that stands at the start of a line, and of its tables."""
        lines: dict[tuple[str, ...], int] = {}
        table: tuple[str, ...] = ()
        for number, line in enumerate(self.text.split("\n"), start=1):
            if line.lstrip().startswith("["):
                path = table = _path(line) or table
            else:
                path = _assigned(line)
                path = (*table, *path) if path else ()
            for length in range(1, len(path) + 1):
                lines.setdefault(path[:length], number)
        return lines


def _assigned(line: str) -> tuple[str, ...]:
    """The keys before the equals sign of a line; none if it has none."""
    for sign in re.finditer("=", line):
        path = _path(line[: sign.start()] + "= 0")
        if path:
            return path
    return ()


def _path(line: str) -> tuple[str, ...]:
    """The keys that one line of TOML opens; none if it is not whole by itself."""
    try:
        value: Any = tomllib.loads(line)
    except tomllib.TOMLDecodeError:
        return ()
    path: list[str] = []
    while value and isinstance(value, (dict, list)):
        if isinstance(value, list):
            value = value[0]
            continue
        key, value = next(iter(value.items()))
        path.append(key)
    return tuple(path)

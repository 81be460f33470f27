"""What every command shares: results on standard output, everything else on standard error."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

JsonFlag = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON object as the last line of standard output."),
]

errors = Console(stderr=True, highlight=False, soft_wrap=True)
"""Where progress, warnings and errors go, so that results can be piped."""


_UNBROKEN = 10_000
"""Characters in a line where no terminal limits them: what is piped is neither wrapped nor cut."""


class Interrupted(Exception):
    """Ctrl-C ended a command in good order; the message says how to go on."""


def show(as_json: bool, values: Mapping[str, Any], *renderables: RenderableType) -> None:
    """The result: the values as one line of JSON, or what is made for people."""
    if as_json:
        print(json.dumps(plain(values), allow_nan=False))  # in ASCII, which every stream takes
        return
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _UNBROKEN)
    for renderable in renderables:
        console.print(renderable, markup=False)


def warn(messages: Iterable[str]) -> None:
    """Each message on its own line of standard error."""
    for message in messages:
        errors.print(Text.assemble(("warning: ", "yellow"), message))


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str = "") -> Table:
    """A table for people; cells are text, never markup; numbers stand right."""
    cells = [list(row) for row in rows]
    result = Table(
        title=Text(title) if title else None, title_justify="left", box=None, pad_edge=False
    )
    for position, column in enumerate(columns):
        numeric = bool(cells) and all(_is_number(row[position]) for row in cells)
        justify = "right" if numeric else "left"
        result.add_column(column, justify=justify, header_style="dim", overflow="fold")
    for row in cells:
        result.add_row(*(Text(_cell(value)) for value in row))
    return result


def facts(rows: Iterable[tuple[str, Any]]) -> Table:
    """A name and a value a line."""
    result = Table(box=None, pad_edge=False, show_header=False)
    result.add_column(style="dim")
    result.add_column()
    for name, value in rows:
        result.add_row(Text(name), Text(_cell(value)))
    return result


def plain(value: Any) -> Any:
    """The value as JSON has it: NumPy unwrapped, no NaN and no infinity."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, (bool, int, float, str, type(None))) else str(value)


def _is_number(value: Any) -> bool:
    value = plain(value)
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))


def _cell(value: Any) -> str:
    value = plain(value)
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)

"""How far a study is: a bar on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

EVERY_S = 30.0
"""Between two lines where standard error is no terminal."""

Report = Callable[[str, str, bool], None]
"""Told a cell's method and scenario, and whether it was computed."""


@contextmanager
def reporting(total: int, shown: bool) -> Iterator[Report]:
    """What a study tells of each of its `total` cells."""
    if not shown:
        yield lambda method, scenario, computed: None
    elif sys.stderr.isatty():
        yield from _bar(total)
    else:
        yield _lines(total)


def _bar(total: int) -> Iterator[Report]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    columns = (
        TextColumn("study"), BarColumn(bar_width=24), MofNCompleteColumn(), Remaining(),
        TextColumn("{task.fields[note]}", markup=False),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("study", total=total, note="")

        def report(method: str, scenario: str, computed: bool) -> None:
            bar.update(task, advance=1, note=f"{method} on {scenario}")

        yield report


def _lines(total: int) -> Report:
    done, last = 0, time.monotonic()

    def report(method: str, scenario: str, computed: bool) -> None:
        nonlocal done, last
        done += 1
        if computed and (done == total or time.monotonic() - last >= EVERY_S):
            last = time.monotonic()
            print(f"{done} of {total} cells; {method} on {scenario}", file=sys.stderr, flush=True)

    return report

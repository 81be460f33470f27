"""A plan's progress on the terminal: how far, how long still, and how well it is known."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from bayestl.cli.console import errors, warn
from bayestl.data.measurement import Metric

LATENCY = Metric("latency", "ms")
"""What `demo` and `doctor` measure."""


@contextmanager
def progress(title: str, metric: Metric) -> Iterator[Display]:
    """An observer of a plan, on standard error; only warnings where that is no terminal.

    Parameters
    ----------
    title : what is going on
    metric : whose last value is shown
    """
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        console=errors,
        disable=not errors.is_terminal,
        transient=True,
    )
    with bar:
        yield Display(bar, title, metric)


class Display:
    """An observer of a plan's events that moves a progress bar.

    Parameters
    ----------
    bar : the bar
    title : what is going on
    metric : whose last value is shown; other metrics may be measured with it
    """

    def __init__(self, bar: Progress, title: str, metric: Metric) -> None:
        self.bar = bar
        self.task = bar.add_task(title, total=None, note="")
        self.metric = metric
        self.last = self.error = ""

    def __call__(self, event: Any) -> None:
        from bayestl.campaign.events import Learnt, Measured, Stopped, Warned

        match event:
            case Measured(measurement=measurement, settled=settled, total=total):
                value, unit = measurement.values.get(self.metric.name), self.metric.unit
                shown = measurement.status.value if value is None else f"{value:.4g} {unit}"
                self.last = shown.strip()
                self.bar.update(self.task, completed=settled, total=total)
            case Learnt(belief=belief) if belief.error_percent is not None:
                self.error = f"expected error {belief.error_percent:.1f} %"
            case Warned(message=message):
                warn([message])
            case Stopped():
                self.bar.update(self.task, note=Text("done").plain)
                return
        self.bar.update(self.task, note=", ".join(filter(None, (self.last, self.error))))

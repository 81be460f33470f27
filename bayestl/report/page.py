"""A `Report` as one HTML file that needs nothing else, and its figures as PNG beside it.

The page holds its style sheet and its figures (SVG, one for light and one for dark), runs
no script and may load nothing: its content security policy allows its own style sheet,
by hash, and images inside the file. Equal content gives equal bytes.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from bayestl.data.files import write_whole
from bayestl.errors import FileError
from bayestl.report import figures
from bayestl.report.content import SURE, Report
from bayestl.report.drawing import as_png, as_svg
from bayestl.report.text import number, setting
from bayestl.report.theme import DARK, LIGHT

FILE_NAME = "report.html"
MOST_ROWS = 200
"""A table of the page lists at most this many rows, and says how many it leaves out."""
MOST_CHANGES = 8
"""So many options and pairs are listed that act differently."""
_NO_CHARACTERS = dict.fromkeys(
    [*range(9), 11, *range(14, 32), *range(127, 160), *range(0xD800, 0xE000)],
    "\N{REPLACEMENT CHARACTER}",
)
"""Controls that HTML does not allow, as in what a program printed, and halves of characters."""
_HEADINGS = {
    "mape": "error, %",
    "spearman": "rank correlation",
    "coverage90": "in 90 % interval",
    "n_target": "target measurements",
    "low": "low (5 %)",
    "high": "high (95 %)",
    "q05": "5 %",
    "q50": "predicted",
    "q95": "95 %",
}


def write(report: Report, path: str | Path) -> Path:
    """The path of the page, written with a PNG of each figure beside it.

    Parameters
    ----------
    path : a file that ends in .html, or a folder, which is made

    Raises
    ------
    FileError
        If the folder cannot be made or written.
    """
    path = Path(path)
    page = path if path.suffix in (".html", ".htm") else path / FILE_NAME
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"cannot make {page.parent}: {error.strerror or error}") from error
    drawings = list(_drawings(report))
    for drawing in drawings:
        png = as_png(drawing.light)
        write_whole(page.parent / f"{drawing.name}.png", lambda file, png=png: file.write(png))
    text = _render(report, drawings).translate(_NO_CHARACTERS).encode()
    write_whole(page, lambda file: file.write(text))
    return page


def _render(report: Report, drawings: Sequence[Drawing]) -> str:
    environment = Environment(
        loader=PackageLoader("bayestl.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=number, setting=setting, cell=_cell, heading=_heading)
    environment.globals.update(numeric=_numeric)
    style = environment.get_template("page.css.jinja").render(light=LIGHT, dark=DARK)
    return environment.get_template("page.html.jinja").render(
        report=report,
        figures={drawing.name: drawing for drawing in drawings},
        style=Markup(style),  # noqa: S704 - our own style sheet, nothing of the content in it
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        most_rows=MOST_ROWS,
        most_changes=MOST_CHANGES,
        sure=SURE,
    )


@dataclass(frozen=True)
class Drawing:
    """A figure of the page: its name, what it says in words, its data and how it is drawn."""

    name: str
    alt: str
    data: pd.DataFrame
    light: Figure
    dark: Figure

    @classmethod
    def of(cls, name: str, alt: str, data: pd.DataFrame, draw: Callable[..., Figure]) -> Drawing:
        return cls(name, alt, data, light=draw(theme=LIGHT), dark=draw(theme=DARK))

    @property
    def images(self) -> dict[str, str]:
        """The figure in each theme, as an address that holds all of it."""
        return {
            theme.name: "data:image/svg+xml;base64," + base64.b64encode(as_svg(figure)).decode()
            for theme, figure in ((LIGHT, self.light), (DARK, self.dark))
        }

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in CSS pixels."""
        width, height = self.light.get_size_inches()
        return round(96 * width), round(96 * height)


def _drawings(report: Report) -> Iterator[Drawing]:
    """The figures that the report has content for."""
    metric = report.metric
    if (learning := report.learning) is not None and len(learning):
        yield Drawing.of(
            "error-against-measurements",
            "Mean absolute percentage error over the number of target measurements. "
            + _last_errors(learning),
            learning,
            partial(figures.error_against_measurements, learning),
        )
    if (predictions := report.predictions) is not None and len(predictions):
        yield Drawing.of(
            "predicted-against-measured",
            f"Predicted against measured {metric} with 90 % intervals, "
            f"{len(predictions)} predictions, with the diagonal of perfect prediction.",
            predictions,
            partial(figures.predicted_against_measured, predictions, metric),
        )
    if (effects := report.effects) is not None and len(effects):
        order = effects.sort_values("effect", ascending=False, kind="stable")
        leading = ", ".join(
            f"{row.option} {number(100 * float(row.effect), 2)} %"  # type: ignore[arg-type]
            for row in order.head(3).itertuples()
        )
        yield Drawing.of(
            "option-effects",
            f"Share of the variance in {metric.name} that each option explains: {leading}.",
            order,
            partial(figures.option_effects, effects, metric),
        )
    if (correlation := report.correlation) is not None and len(correlation) > 1:
        yield Drawing.of(
            "environment-correlation",
            f"Correlation between {len(correlation)} environments as a matrix of numbers.",
            correlation.rename_axis("environment").reset_index(),
            partial(figures.environment_correlation, correlation),
        )
    if (trials := report.trials) is not None and len(trials):
        default = report.improvement.default_value if report.improvement else None
        yield Drawing.of(
            "best-so-far",
            f"Each of {len(trials)} target measurements of {metric} in the order taken, with "
            "the best until then.",
            trials,
            partial(figures.best_so_far, trials, metric, default=default),
        )


def _last_errors(learning: pd.DataFrame) -> str:
    last = learning.sort_values("n_target").groupby("method", sort=False).tail(1)
    parts = [
        f"{row.method}: {number(float(row.mape))} % after {row.n_target}"  # type: ignore[arg-type]
        for row in last.itertuples()
    ]
    return "; ".join(parts) + "."


def _cell(value: Any) -> str:
    return number(value.item() if hasattr(value, "item") else value)


def _heading(column: str) -> str:
    return _HEADINGS.get(column, column)


def _numeric(frame: pd.DataFrame) -> list[str]:
    return [str(name) for name in frame.select_dtypes("number").columns]

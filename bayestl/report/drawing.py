"""How every figure of a report is drawn: its style, its scales, its labels, its bytes.

Series are labelled where they end where there is room, colours come from one theme and
never carry a meaning alone, and ratios are drawn on log axes. Nothing here touches pyplot or
matplotlib's global settings.
"""

from __future__ import annotations

import functools
import io
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter, NullLocator

from bayestl.data.files import write_whole
from bayestl.errors import FileError
from bayestl.report.text import label, tick
from bayestl.report.theme import LIGHT, Theme, contrast

WIDTH = 5.2
"""Inches of a figure that stands in one column of the page."""

MARKERS = "osD^vPX"
LOG_RATIO = 4.0
"""Positive values that span more than this ratio are drawn on a log axis."""
FOOT = 0.03
"""Where failures, which have no value, are drawn: a fraction of the height of the axes."""

_SETTINGS: Any = {"svg.fonttype": "none", "svg.hashsalt": "bayestl"}
"""Under which a figure is saved: text stays text, and equal figures are equal bytes."""
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
_MOST_BYTES = 200_000
_RESOLUTIONS = (200, 140, 100)  # dots an inch

_Arguments = ParamSpec("_Arguments")


def _style(theme: Theme) -> Any:
    return {
        "font.family": ["DejaVu Sans"],
        "font.size": 9,
        "text.color": theme.ink,
        "text.parse_math": False,  # a name with two dollar signs is a name
        "axes.facecolor": "none",
        "axes.edgecolor": theme.rule,
        "axes.labelcolor": theme.muted,
        "axes.labelsize": 9,
        "axes.linewidth": 0.8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlelocation": "left",
        "axes.titlesize": 9.5,
        "axes.titleweight": "bold",
        "axes.titlepad": 18,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": theme.rule,
        "grid.linewidth": 0.5,
        "xtick.color": theme.rule,
        "ytick.color": theme.rule,
        "xtick.labelcolor": theme.muted,
        "ytick.labelcolor": theme.muted,
        "xtick.labelsize": 8.5,
        "ytick.labelsize": 8.5,
        "figure.facecolor": "none",
        "figure.constrained_layout.use": True,
        "lines.linewidth": 1.6,
        "lines.markersize": 4.5,
    }


def drawn(function: Callable[_Arguments, Figure]) -> Callable[_Arguments, Figure]:
    """The figure function, run under its theme's style."""

    @functools.wraps(function)
    def draw(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> Figure:
        theme = kwargs.get("theme", LIGHT)
        assert isinstance(theme, Theme)
        with mpl.rc_context(_style(theme)), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")
            figure = function(*args, **kwargs)
            # the layout settles under this style, and is then fixed: saving must not move it
            for _ in range(2):
                figure.draw_without_rendering()
            figure.set_layout_engine("none")
        return figure

    return draw


def series_colour(theme: Theme, position: int) -> str:
    """The colour of the series at a position; they repeat."""
    return theme.series[position % len(theme.series)]


def headed(axes: Axes, title: str, subtitle: str, theme: Theme) -> None:
    """Give a panel its title, and below it a line in small print."""
    axes.set_title(label(title, 24))
    axes.annotate(
        subtitle,
        (0, 1),
        xytext=(0, 5),
        xycoords="axes fraction",
        textcoords="offset points",
        color=theme.muted,
        fontsize=8,
    )


def spans_decades(values: np.ndarray) -> bool:
    """Whether the values are positive and span a ratio that wants a log axis."""
    values = values[np.isfinite(values)]
    return bool(len(values)) and values.min() > 0 and values.max() / values.min() > LOG_RATIO


def scale(axis: Any, values: np.ndarray, *, log: bool) -> None:
    """A linear axis with few ticks, or a log axis with ticks at 1, 2, 5 and plain numbers."""
    if not log:
        axis.set_major_locator(MaxNLocator(nbins=5))
        axis.set_major_formatter(FuncFormatter(lambda value, _: tick(value)))
        return
    finite = values[np.isfinite(values)]
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    axis.set_major_locator(FixedLocator(_log_ticks(float(finite.min()), float(finite.max()))))
    axis.set_major_formatter(FuncFormatter(lambda value, _: tick(value)))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def _log_ticks(low: float, high: float) -> list[float]:
    decades = range(int(np.floor(np.log10(low))) - 1, int(np.ceil(np.log10(high))) + 2)
    ratio = high / low
    steps = (1, 1.2, 1.5, 2, 3, 4, 5, 6, 8) if ratio < 4 else (1, 2, 5) if ratio < 1_000 else (1,)
    return [step * 10.0**decade for decade in decades for step in steps]


def label_right(axes: Axes, labels: Sequence[tuple[float, str, str]]) -> None:
    """Each (height, text, colour) right of the axes, pushed apart where they would overlap.

    A height is in data coordinates, or NaN for the foot of the axes.
    """
    figure = axes.get_figure(root=True)
    assert isinstance(figure, Figure)
    figure.draw_without_rendering()  # the layout, and with it the height of the axes, is settled
    points = axes.get_window_extent().height * 72 / figure.dpi
    to_axes = axes.transData + axes.transAxes.inverted()
    x = axes.get_xlim()[1]
    wanted = [
        FOOT if np.isnan(height) else float(to_axes.transform((x, height))[1])
        for height, _, _ in labels
    ]
    for (_, text, colour), at in zip(labels, _apart(wanted, 11.5 / points), strict=True):
        axes.annotate(
            text,
            (1, at),
            xytext=(6, 0),
            xycoords="axes fraction",
            textcoords="offset points",
            va="center",
            color=colour,
            fontsize=8.5,
            annotation_clip=False,
        )


def _apart(positions: Sequence[float], gap: float) -> list[float]:
    """The positions moved as little as needed to be `gap` apart, in the same order."""
    order = np.argsort(positions, kind="stable")
    groups: list[list[float]] = []
    for i in order:
        groups.append([positions[i]])
        while (
            len(groups) > 1
            and _centre(groups[-1]) - _centre(groups[-2])
            < gap * (len(groups[-1]) + len(groups[-2])) / 2
        ):
            groups[-2:] = [groups[-2] + groups[-1]]
    spread = [
        _centre(group) + gap * (i - (len(group) - 1) / 2)
        for group in groups
        for i in range(len(group))
    ]
    result = np.empty(len(positions))
    result[order] = spread
    return result.tolist()


def _centre(group: Sequence[float]) -> float:
    return float(np.mean(group))


def readable_on(ground: str, theme: Theme) -> str:
    """Ink or ground, whichever has the higher contrast."""
    return max((theme.ink, theme.ground), key=lambda colour: contrast(colour, ground))


def as_svg(figure: Figure, **settings: Any) -> bytes:
    """The figure as SVG, its text in the reader's own sans-serif font.

    It is laid out with matplotlib's font, which is wider than those, so nothing collides.
    """
    content = _saved(figure, format="svg", metadata={"Date": None, "Creator": None}, **settings)
    content = content.replace(b"<svg ", b'<svg font-family="' + _FONT.encode() + b'" ', 1)
    return content.replace(b" font-family: 'DejaVu Sans';", b"")


def as_png(figure: Figure, dpi: int = 200) -> bytes:
    """The figure as PNG, on the light theme's ground."""
    return _saved(
        figure, format="png", dpi=dpi, facecolor=LIGHT.ground, metadata={"Software": None}
    )


def write_figure(figure: Figure, path: str | Path) -> None:
    """Write a figure of the light theme as .svg or .png; equal figures are equal bytes.

    A PNG is as fine as 200 kB allow.

    Raises
    ------
    FileError
        If the file ends otherwise, would be larger than 200 kB, or cannot be written.
    """
    path = Path(path)
    if path.suffix == ".svg":
        content = as_svg(figure, facecolor=LIGHT.ground)
    elif path.suffix == ".png":
        content = b""
        for dpi in _RESOLUTIONS:
            content = as_png(figure, dpi)
            if len(content) <= _MOST_BYTES:
                break
    else:
        raise FileError(f"{path}: expected a name that ends in .svg or .png")
    if len(content) > _MOST_BYTES:
        raise FileError(
            f"{path}: expected a figure of at most {_MOST_BYTES:,} bytes, got {len(content):,}; "
            "draw less in it, or try the other of .svg and .png"
        )
    write_whole(path, lambda file: file.write(content))


def _saved(figure: Figure, **settings: Any) -> bytes:
    buffer = io.BytesIO()
    with mpl.rc_context(_SETTINGS), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(buffer, **settings)
    return buffer.getvalue()

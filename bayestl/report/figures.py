"""The figures of a report, each a function from a frame to a matplotlib `Figure`.

Series are labelled where they end instead of in a legend, colours come from one theme
and never carry a meaning alone, and ratios are drawn on log axes. Nothing here touches
pyplot or matplotlib's global settings.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter, NullLocator

from bayestl.data.measurement import Metric
from bayestl.report.text import label, number, tick
from bayestl.report.theme import LIGHT, Theme, contrast

WIDTH = 5.2
"""Inches of a figure that stands in one column of the page."""

OUTPUT: Any = {"svg.fonttype": "none", "svg.hashsalt": "bayestl"}
"""Settings under which a figure is saved: text stays text, and equal figures are equal bytes."""
MARKERS = "osD^vPX"
LOG_RATIO = 4.0
"""Positive values that span more than this ratio are drawn on a log axis."""
FOOT = 0.03
"""Where failures, which have no value, are drawn: a fraction of the height of the axes."""
MOST_OPTIONS = 20
MOST_COLUMNS = 5

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


def _drawn(function: Callable[_Arguments, Figure]) -> Callable[_Arguments, Figure]:
    """The figure function, run under its theme's style."""

    @functools.wraps(function)
    def draw(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> Figure:
        theme = kwargs.get("theme", LIGHT)
        assert isinstance(theme, Theme)
        with mpl.rc_context(_style(theme)), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")
            figure = function(*args, **kwargs)
            figure.draw_without_rendering()  # settles the layout under this style
        return figure

    return draw


@_drawn
def predicted_against_measured(
    predictions: pd.DataFrame, metric: Metric, *, theme: Theme = LIGHT
) -> Figure:
    """One panel a method: the prediction with its 90 % interval over the measured value.

    A hollow mark is a measurement outside its interval.
    """
    methods = _groups(predictions)
    columns = min(MOST_COLUMNS, len(methods))
    rows = -(-len(methods) // columns)
    size = (WIDTH, 4.4) if len(methods) == 1 else (0.4 + 2.15 * columns, 0.3 + 2.5 * rows)
    figure = Figure(figsize=size)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    values = predictions[["measured", "q05", "q50", "q95"]].to_numpy(float)
    log = _spans_decades(values)
    for position, (panel, (method, frame)) in enumerate(zip(panels, methods, strict=False)):
        _prediction_panel(panel, frame, _colour(theme, position), theme)
        _headed(panel, method or "Held-out measurements", _accuracy(frame), theme)
    _equal_axes(panels[0], frame=predictions, log=log)
    for position, panel in enumerate(panels):
        panel.set_visible(position < len(methods))
        panel.tick_params(labelbottom=position + columns >= len(methods))
    figure.supxlabel(f"measured {metric}", color=theme.muted, fontsize=9)
    figure.supylabel(f"predicted {metric}, 90 % interval", color=theme.muted, fontsize=9)
    return figure


@_drawn
def error_against_measurements(learning: pd.DataFrame, *, theme: Theme = LIGHT) -> Figure:
    """The error of each method over the number of target measurements it was given."""
    figure = Figure(figsize=(WIDTH, 3.4))
    axes = figure.subplots()
    ends = []
    for position, (method, frame) in enumerate(_groups(learning)):
        frame = frame.sort_values("n_target")
        colour = _colour(theme, position)
        x, y = frame["n_target"].to_numpy(float), frame["mape"].to_numpy(float)
        if {"low", "high"} <= set(frame.columns):
            low, high = frame["low"].to_numpy(float), frame["high"].to_numpy(float)
            axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.plot(
            x,
            y,
            color=colour,
            marker=MARKERS[position % len(MARKERS)],
            zorder=10 - position,
            clip_on=False,
        )
        ends.append((y[-1], f"{label(method, 22)}  {number(y[-1])} %", colour))
    errors = learning["mape"].to_numpy(float)
    _scale(axes.yaxis, errors, log=_spans_decades(errors))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axes.set_xlabel("target measurements")
    axes.set_ylabel("mean absolute percentage error [%]")
    axes.set_xlim(right=float(learning["n_target"].max()))
    _label_right(axes, ends)
    return figure


@_drawn
def environment_correlation(correlation: pd.DataFrame, *, theme: Theme = LIGHT) -> Figure:
    """The model's correlation between environments, each pair once."""
    names = [label(name, 18) for name in correlation.columns]
    values = correlation.to_numpy(float)
    count = len(names)
    side = min(max(0.6 * count, 1.4), 6.5)
    figure = Figure(figsize=(side + 1.7, side + 0.5))
    axes = figure.subplots()
    above = np.triu(np.ones_like(values, dtype=bool), k=1)
    colours = LinearSegmentedColormap.from_list("belief", [theme.low, theme.ground, theme.high])
    places = np.arange(count)
    cells = np.ma.masked_array(values, above)
    axes.pcolormesh(places, places, cells, cmap=colours, vmin=-1, vmax=1, shading="nearest")
    axes.invert_yaxis()
    axes.set_aspect("equal")
    for row, column in ((r, c) for r in range(count) for c in range(r + 1)):
        ground = to_hex(tuple(colours((values[row, column] + 1) / 2)))
        axes.text(
            column,
            row,
            f"{values[row, column]:.2f}".replace("-", "−"),
            ha="center",
            va="center",
            color=_readable_on(ground, theme),
            fontsize=9 if count <= 8 else 7,
        )
    axes.set_xticks(range(count), names, rotation=0 if count <= 3 else 40, ha="center")
    axes.set_yticks(range(count), names)
    axes.tick_params(length=0, labelcolor=theme.ink)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    return figure


@_drawn
def option_effects(effects: pd.DataFrame, metric: Metric, *, theme: Theme = LIGHT) -> Figure:
    """What share of the predicted variance each option explains by itself, largest first."""
    shown = effects.sort_values("effect", ascending=False, kind="stable").head(MOST_OPTIONS)[::-1]
    figure = Figure(figsize=(WIDTH, 0.75 + 0.27 * len(shown)))
    axes = figure.subplots()
    rows = range(len(shown))
    shares = 100 * shown[["effect", "low", "high"]].to_numpy(float)
    colour = theme.series[0]
    axes.hlines(rows, 0, shares[:, 0], color=theme.rule, linewidth=1.2)
    axes.hlines(rows, shares[:, 1], shares[:, 2], color=colour, linewidth=2.4, alpha=0.55)
    axes.plot(shares[:, 0], rows, "o", color=colour)
    right = 1.03 * max(float(np.nanmax(shares)), 1.0)
    for row, (_, effect) in zip(rows, shown.iterrows(), strict=True):
        axes.text(right, row, _advice(effect), color=theme.muted, fontsize=8, va="center")
    axes.set_yticks(rows, [label(name) for name in shown["option"]])
    axes.tick_params(axis="y", length=0, labelcolor=theme.ink)
    axes.grid(False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.set_xlim(0, right)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
    axes.set_xlabel(f"share of the variance in {metric.name} [%]")
    return figure


@_drawn
def best_so_far(
    trials: pd.DataFrame, metric: Metric, *, default: float | None = None, theme: Theme = LIGHT
) -> Figure:
    """Every measurement in the order taken, the best until then, and the failures."""
    figure = Figure(figsize=(WIDTH, 3.2))
    axes = figure.subplots()
    order = trials.sort_values("number")
    x, y = order["number"].to_numpy(float), order["value"].to_numpy(float)
    measured = np.isfinite(y)
    best = np.fmin.accumulate(y) if metric.direction == "minimize" else np.fmax.accumulate(y)
    known = np.isfinite(best)
    axes.plot(x[measured], y[measured], "o", color=theme.muted, alpha=0.75, markersize=3.5)
    axes.step(x[known], best[known], where="post", color=theme.series[0])
    labels = [(best[-1], f"best {number(best[-1])}", theme.series[0])] if known.any() else []
    if default is not None:
        axes.axhline(default, color=theme.series[1], linewidth=1, linestyle=(0, (4, 3)))
        labels.append((default, f"default {number(default)}", theme.series[1]))
    if not measured.all():
        failed = x[~measured]
        height = np.full(len(failed), FOOT)
        axes.plot(failed, height, "x", color=theme.bad, transform=axes.get_xaxis_transform())
        labels.append((np.nan, f"{len(failed)} failed", theme.bad))
    shown = y[measured] if default is None else np.append(y[measured], default)
    _scale(axes.yaxis, shown, log=_spans_decades(shown))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axes.set_xlim(x.min() - 0.5, x.max() + 0.5)
    axes.set_xlabel("target measurement")
    axes.set_ylabel(str(metric))
    _label_right(axes, labels)
    return figure


def _groups(frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The rows of each method in order of appearance; one nameless group without the column."""
    if "method" not in frame.columns:
        return [("", frame)]
    return [(str(name), rows) for name, rows in frame.groupby("method", sort=False)]


def _colour(theme: Theme, position: int) -> str:
    return theme.series[position % len(theme.series)]


def _prediction_panel(axes: Axes, frame: pd.DataFrame, colour: str, theme: Theme) -> None:
    x, middle = frame["measured"].to_numpy(float), frame["q50"].to_numpy(float)
    low, high = frame["q05"].to_numpy(float), frame["q95"].to_numpy(float)
    inside = (low <= x) & (x <= high)
    axes.axline((1, 1), (2, 2), color=theme.muted, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.vlines(x, low, high, color=colour, linewidth=1.1, alpha=0.5)
    axes.plot(x[inside], middle[inside], "o", color=colour)
    axes.plot(x[~inside], middle[~inside], "o", color=colour, markerfacecolor=theme.ground)


def _accuracy(frame: pd.DataFrame) -> str:
    x, middle = frame["measured"].to_numpy(float), frame["q50"].to_numpy(float)
    inside = (frame["q05"].to_numpy(float) <= x) & (x <= frame["q95"].to_numpy(float))
    held = f"{inside.sum()} of {len(frame)} inside"
    if not x.all():
        return held  # a percentage of zero is undefined
    error = 100 * float(np.mean(np.abs(middle - x) / np.abs(x)))
    return f"error {number(error)} %, {held}"


def _headed(axes: Axes, title: str, subtitle: str, theme: Theme) -> None:
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


def _equal_axes(axes: Axes, *, frame: pd.DataFrame, log: bool) -> None:
    """The same scale on both axes, wide enough for every median and measured value.

    An interval may leave the panel: one very uncertain prediction must not flatten the rest.
    """
    centre = frame[["measured", "q50"]].to_numpy(float)
    low, high = float(np.nanmin(centre)), float(np.nanmax(centre))
    margin = (high / low) ** 0.08 if log else 0.08 * ((high - low) or abs(high) or 1.0)
    limits = (low / margin, high * margin) if log else (low - margin, high + margin)
    for axis in (axes.xaxis, axes.yaxis):
        _scale(axis, np.array(limits), log=log)
    axes.set_xlim(limits)
    axes.set_ylim(limits)


def _spans_decades(values: np.ndarray) -> bool:
    values = values[np.isfinite(values)]
    return bool(len(values)) and values.min() > 0 and values.max() / values.min() > LOG_RATIO


def _scale(axis: Any, values: np.ndarray, *, log: bool) -> None:
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
    steps = (1, 2, 5) if np.log10(high / low) < 3 else (1,)
    return [step * 10.0**decade for decade in decades for step in steps]


def _label_right(axes: Axes, labels: Sequence[tuple[float, str, str]]) -> None:
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


def _advice(effect: pd.Series) -> str:
    """The best level, and how much worse the worst is: "best 4, worst ×1.8"."""
    if "best" not in effect or pd.isna(effect["best"]):
        return ""
    best = f"best {label(effect['best'], 14)}"
    return best if pd.isna(effect["ratio"]) else f"{best}, worst ×{number(float(effect['ratio']))}"


def _readable_on(ground: str, theme: Theme) -> str:
    """Ink or ground, whichever has the higher contrast."""
    return max((theme.ink, theme.ground), key=lambda colour: contrast(colour, ground))

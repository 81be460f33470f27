"""The figures of a campaign's report, each a function from a frame to a matplotlib `Figure`."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bayestl.data.measurement import Metric
from bayestl.report.drawing import (
    FOOT,
    MARKERS,
    WIDTH,
    drawn,
    headed,
    label_right,
    readable_on,
    scale,
    series_colour,
    spans_decades,
)
from bayestl.report.text import label, number
from bayestl.report.theme import LIGHT, Theme

MOST_OPTIONS = 20
MOST_COLUMNS = 5


@drawn
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
    log = spans_decades(values)
    for position, (panel, (method, frame)) in enumerate(zip(panels, methods, strict=False)):
        _prediction_panel(panel, frame, series_colour(theme, position), theme)
        headed(panel, method or "Held-out measurements", _accuracy(frame), theme)
    _equal_axes(panels[0], frame=predictions, log=log)
    for position, panel in enumerate(panels):
        panel.set_visible(position < len(methods))
        panel.tick_params(labelbottom=position + columns >= len(methods))
    figure.supxlabel(f"measured {metric}", color=theme.muted, fontsize=9)
    figure.supylabel(f"predicted {metric}, 90 % interval", color=theme.muted, fontsize=9)
    return figure


@drawn
def error_against_measurements(learning: pd.DataFrame, *, theme: Theme = LIGHT) -> Figure:
    """The error of each method over the number of target measurements it was given."""
    figure = Figure(figsize=(WIDTH, 3.4))
    axes = figure.subplots()
    ends = []
    for position, (method, frame) in enumerate(_groups(learning)):
        frame = frame.sort_values("n_target")
        colour = series_colour(theme, position)
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
    scale(axes.yaxis, errors, log=spans_decades(errors))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axes.set_xlabel("target measurements")
    axes.set_ylabel("mean absolute percentage error [%]")
    axes.set_xlim(right=float(learning["n_target"].max()))
    label_right(axes, ends)
    return figure


@drawn
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
            color=readable_on(ground, theme),
            fontsize=9 if count <= 8 else 7,
        )
    axes.set_xticks(range(count), names, rotation=0 if count <= 3 else 40, ha="center")
    axes.set_yticks(range(count), names)
    axes.tick_params(length=0, labelcolor=theme.ink)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    return figure


@drawn
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


@drawn
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
    scale(axes.yaxis, shown, log=spans_decades(shown))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axes.set_xlim(x.min() - 0.5, x.max() + 0.5)
    axes.set_xlabel("target measurement")
    axes.set_ylabel(str(metric))
    label_right(axes, labels)
    return figure


def _groups(frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The rows of each method in order of appearance; one nameless group without the column."""
    if "method" not in frame.columns:
        return [("", frame)]
    return [(str(name), rows) for name, rows in frame.groupby("method", sort=False)]


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


def _equal_axes(axes: Axes, *, frame: pd.DataFrame, log: bool) -> None:
    """The same scale on both axes, wide enough for every median and measured value.

    An interval may leave the panel: one very uncertain prediction must not flatten the rest.
    """
    centre = frame[["measured", "q50"]].to_numpy(float)
    low, high = float(np.nanmin(centre)), float(np.nanmax(centre))
    margin = (high / low) ** 0.08 if log else 0.08 * ((high - low) or abs(high) or 1.0)
    limits = (low / margin, high * margin) if log else (low - margin, high + margin)
    for axis in (axes.xaxis, axes.yaxis):
        scale(axis, np.array(limits), log=log)
    axes.set_xlim(limits)
    axes.set_ylim(limits)


def _advice(effect: pd.Series) -> str:
    """The best level, and how much worse the worst is: "best 4, worst ×1.8"."""
    if "best" not in effect or pd.isna(effect["best"]):
        return ""
    best = f"best {label(effect['best'], 14)}"
    return best if pd.isna(effect["ratio"]) else f"{best}, worst ×{number(float(effect['ratio']))}"

"""The figures of a study, each a function from its results to a matplotlib `Figure`.

A frame has one row a fit, as `Results.frame` (see `bayestl.study.statistics`, whose rules about
fits that failed hold here). Methods that are not named are drawn thin and grey, so that
the named ones can be read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from textwrap import fill

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from bayestl.report.drawing import MARKERS, drawn, headed, readable_on, scale, series_colour
from bayestl.report.text import label, number, tick
from bayestl.report.theme import LIGHT, Theme
from bayestl.study.statistics import (
    CriticalDifference,
    cell_means,
    errors,
    geometric_mean,
    ratios,
    ratios_to_best,
)

PANEL = (2.3, 2.1)
"""Inches of one of several panels, with what is written beside it."""

LEGEND_LINES, LEGEND_LINE = 2, 0.18
"""Lines of a legend that a figure has room for, and inches of a further one."""

MOST_COLUMNS = 4
MOST_METHODS = 7
"""As many methods have a colour of their own."""

NOMINAL = (50, 80, 90, 95)
"""The intervals of which a frame has the coverage, in percent."""

BAND = (0.1, 0.9)
"""The quantiles between which a band lies."""

WORST_RATIO = 10.0
"""Where the heat map's colour ends."""

NAMES = {
    "mape": "mean absolute percentage error [%]",
    "median_ape": "median absolute percentage error [%]",
    "spearman": "1 − rank correlation",
    "crps": "continuous ranked probability score",
    "interval_score": "interval score",
}
"""A score beside an axis."""


def leading(frame: pd.DataFrame, score: str = "mape") -> list[str]:
    """The methods that come nearest to the best of each cell, as many as have a colour."""
    means = _geometric_means(ratios_to_best(frame, score))
    return [str(name) for name in means.sort_values(kind="stable").index[:MOST_METHODS]]


@drawn
def error_against_budget(
    frame: pd.DataFrame,
    *,
    score: str = "mape",
    methods: Sequence[str] | None = None,
    theme: Theme = LIGHT,
) -> Figure:
    """One panel a group: each method's error over the number of target measurements.

    A line is the geometric mean over the group's scenarios of the mean error over the seeds,
    drawn where the method ran on all of them; its band holds 80 % of the seeds. A hollow mark
    leaves out scenarios in which a fit failed, or erred by nothing.
    """
    names = _named(frame, score, methods)
    table = errors(frame, score)

    def curve(within: pd.DataFrame, method: str) -> pd.DataFrame:
        means = within[method].groupby(level=["scenario", "budget"]).mean()
        draws = within[method].groupby(level=["budget", "seed"]).agg(geometric_mean)
        bands = draws.groupby(level="budget")
        return pd.DataFrame(
            {
                "middle": means.groupby(level="budget").agg(geometric_mean),
                "low": bands.quantile(BAND[0]),
                "high": bands.quantile(BAND[1]),
                "failed": means.isin([0, np.inf]).groupby(level="budget").any(),
                "whole": means.notna().groupby(level="budget").all(),
            }
        )

    figure, panels = _small_multiples(frame, names, list(table), theme)
    for axes, group, within in _by_group(panels, frame, table):
        shown = _curves(axes, within, names, curve, theme)
        _budget_axis(axes, frame)
        scale(axes.yaxis, shown, log=True)
        axes.set_title(label(group, 24), pad=6)
    _label_left(figure, NAMES.get(score, score), theme)
    return figure


@drawn
def ratio_against_budget(
    frame: pd.DataFrame,
    reference: str,
    *,
    limit: float | None = None,
    score: str = "mape",
    methods: Sequence[str] | None = None,
    theme: Theme = LIGHT,
) -> Figure:
    """One panel a group: each method's error over that of the reference, which is 1.

    A line is the geometric mean over the group's scenarios, and the thin one above it the
    worst of them. Beyond the limit, a ratio such as 1.1, the ground is tinted. A hollow mark
    leaves out scenarios in which a fit failed.
    """
    names = [name for name in _named(frame, score, methods) if name != reference]
    table = ratios(frame, reference, score).drop(columns=reference)

    def curve(within: pd.DataFrame, method: str) -> pd.DataFrame:
        means = within[method]
        sound = means.where((means > 0) & np.isfinite(means))
        budgets = means.groupby(level="budget")
        return pd.DataFrame(
            {
                "middle": budgets.agg(geometric_mean),
                "worst": sound.groupby(level="budget").max(),
                "failed": means.isin([0, np.inf]).groupby(level="budget").any(),
                "whole": budgets.agg(lambda column: column.notna().all()).astype(bool),
            }
        )

    figure, panels = _small_multiples(frame, names, list(table), theme)
    for axes, group, within in _by_group(panels, frame, table):
        shown = _curves(axes, within, names, curve, theme)
        _budget_axis(axes, frame)
        scale(axes.yaxis, np.append(shown, [0.8, 1.25]), log=True)
        axes.axhline(1, color=theme.ink, linewidth=0.9, zorder=1.5)
        if limit is not None:
            top = axes.get_ylim()[1]
            axes.axhspan(limit, max(top, limit), color=theme.bad, alpha=0.07, linewidth=0)
            axes.set_ylim(top=top)
        axes.set_title(label(group, 24), pad=6)
    _label_left(figure, f"error over that of {reference}", theme)
    return figure


@drawn
def calibration(
    frame: pd.DataFrame, *, methods: Sequence[str] | None = None, theme: Theme = LIGHT
) -> Figure:
    """One panel a method: the share of measurements in its intervals over what they promise.

    A line is the mean over fits that did not fail; its band holds 80 % of the scenarios. Below
    the diagonal a method is too sure of itself. The other methods are grey.
    """
    names = _named(frame, "mape", methods)
    columns = [f"coverage{percentage}" for percentage in NOMINAL]
    held = 100 * frame.groupby("method", sort=False)[columns].mean()
    scenarios = 100 * frame.groupby(["method", "scenario"], sort=False)[columns].mean()
    figure, panels = _grid(len(names))
    for position, (axes, name) in enumerate(zip(panels, names, strict=False)):
        spread = scenarios.xs(name, level="method")
        low, high = spread.astype(float).quantile(list(BAND)).to_numpy()
        colour = series_colour(theme, position)
        axes.axline((50, 50), (95, 95), color=theme.muted, linewidth=0.8, linestyle=(0, (4, 3)))
        for other in held.index.drop(name):
            axes.plot(NOMINAL, held.loc[other], color=theme.rule, linewidth=0.9, zorder=1)
        axes.fill_between(NOMINAL, low, high, color=colour, alpha=0.15, linewidth=0)
        marker = MARKERS[position % len(MARKERS)]
        axes.plot(NOMINAL, held.loc[name], color=colour, marker=marker, clip_on=False, zorder=5)
        share = number(float(held["coverage90"][name]))
        headed(axes, name, f"90 % hold {share} %", theme)
        axes.set(xlim=(45, 100), ylim=(min(35, float(held.min().min()) - 3), 101))
        axes.set_xticks(NOMINAL)
        axes.set_yticks(NOMINAL)
    figure.supxlabel("central interval [%]", color=theme.muted, fontsize=9)
    figure.supylabel("measurements inside [%]", color=theme.muted, fontsize=9)
    return figure


@drawn
def heat_map(
    frame: pd.DataFrame,
    *,
    score: str = "mape",
    methods: Sequence[str] | None = None,
    theme: Theme = LIGHT,
) -> Figure:
    """Scenarios by methods: the error over the best method's, 1 where it is the best.

    The geometric mean over the budgets, and below all of them that over scenarios and budgets.
    A cross is a method that failed at some budget, and a dot one that was not run; the last
    row leaves both out. The best of each row is bold.
    """
    table, means = ratios_to_best(frame, score), cell_means(frame, score)
    overall = _geometric_means(table).sort_values(kind="stable")
    names = [str(name) for name in overall.index if methods is None or name in methods]
    groups = frame.drop_duplicates("scenario").set_index("scenario")["group"].astype(str)
    rows = _heat_rows(groups)
    last = max(rows.values()) + 2
    shown = pd.DataFrame(np.nan, index=range(last + 1), columns=names)
    failed = (means[names] == np.inf).groupby(level="scenario").any()
    beyond = (table[names] == np.inf).groupby(level="scenario").any()  # the best errs by nothing
    for scenario, row in rows.items():
        ratio = _geometric_means(table.loc[[scenario], names])
        ratio = ratio.mask(beyond.loc[[scenario]].any(), np.inf)
        shown.loc[row] = ratio.where(~failed.loc[[scenario]].any())
    shown.loc[last] = overall[names]
    figure = Figure(figsize=(2.9 + 0.52 * len(names), 1.2 + 0.21 * last))
    axes = figure.subplots()
    colours = LinearSegmentedColormap.from_list("ratio", [theme.ground, theme.low])
    share = np.log(shown.to_numpy(float)) / np.log(WORST_RATIO)
    ground = np.where(np.isnan(share)[..., None], 0.0, colours(np.clip(share, 0, 1)))
    axes.imshow(ground, aspect="auto", interpolation="none")
    for scenario, row in {**rows, "": last}.items():
        for column, name in enumerate(names):
            value = float(shown.to_numpy()[row, column])
            is_best = value == shown.loc[row].min()
            if not np.isnan(value):
                colour = readable_on(to_hex(tuple(ground[row, column])), theme)
                text = _factor(value)
            elif scenario and failed[name][scenario]:
                text, colour = "×", theme.bad
            else:
                text, colour = "·", theme.muted
            axes.text(
                column,
                row,
                text,
                ha="center",
                va="center",
                color=colour,
                fontsize=7.5,
                fontweight="bold" if is_best else "normal",
            )
    axes.set_xticks(range(len(names)), [label(name, 26) for name in names], rotation=40, ha="left")
    axes.xaxis.tick_top()
    texts = [label(str(name).removeprefix(f"{groups[name]}/"), 34) for name in rows]
    axes.set_yticks([*rows.values(), last], [*texts, "all"])
    axes.set_xticks(np.arange(len(names) - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(last) + 0.5, minor=True)
    for group in groups.unique():
        head = min(row for name, row in rows.items() if groups[name] == group) - 1
        axes.annotate(
            label(group, 34),
            (0, head + 0.1),
            xytext=(-6, 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            ha="right",
            va="center",
            fontsize=8.5,
            fontweight="bold",
        )
    axes.tick_params(which="both", length=0, labelcolor=theme.ink, labelsize=8)
    axes.grid(False)
    axes.grid(visible=True, which="minor", color=theme.ground, linewidth=2)
    axes.spines[:].set_visible(False)
    return figure


@drawn
def critical_difference_diagram(found: CriticalDifference, *, theme: Theme = LIGHT) -> Figure:
    """Average ranks on a line, the best at the left; a bar joins methods that do not differ."""
    names, ranks = list(found.ranks.index), found.ranks.to_numpy()
    count = len(names)
    half = -(-count // 2)
    bars = _tracks(found)
    foot = 0.75 + 0.3 * (max(bars.values(), default=-1) + 1)
    depth = foot + 0.62 * half
    figure = Figure(figsize=(6.6, 0.75 + 0.3 * depth))
    axes = figure.subplots()
    axes.set(xlim=(1 - 0.62 * (count - 1), count + 0.62 * (count - 1)), ylim=(depth, -2.4))
    axes.axis("off")
    axes.hlines(0, 1, count, color=theme.ink, linewidth=1)
    for rank in range(1, count + 1):
        axes.vlines(rank, -0.25, 0, color=theme.ink, linewidth=1)
        axes.text(rank, -0.4, str(rank), ha="center", va="bottom", color=theme.muted, fontsize=8.5)
    for position, (name, rank) in enumerate(zip(names, ranks, strict=True)):
        left = position < half
        height = foot + 0.62 * (position if left else count - 1 - position)
        end = 1 - 0.06 * (count - 1) if left else count + 0.06 * (count - 1)
        axes.plot([rank, rank, end], [0, height, height], color=theme.muted, linewidth=0.8)
        axes.plot([rank], [0], "o", color=theme.series[0], markersize=4, zorder=5)
        text = f"{label(name, 26)}  {rank:.2f}" if left else f"{rank:.2f}  {label(name, 26)}"
        axes.annotate(
            text,
            (end, height),
            xytext=(-4 if left else 4, 0),
            textcoords="offset points",
            ha="right" if left else "left",
            va="center",
        )
    for group, track in bars.items():
        ends = [float(found.ranks[group[0]]), float(found.ranks[group[-1]])]
        height = 0.4 + 0.3 * track
        axes.plot(ends, [height, height], color=theme.series[1], linewidth=3.5, alpha=0.85)
    axes.plot([1, 1 + found.distance], [-1.9, -1.9], color=theme.ink, linewidth=1.4, marker="|")
    axes.annotate(
        f"critical difference {found.distance:.2f} at {found.alpha:g}; "
        f"{found.scenarios} scenarios, Friedman p {_p_value(found.p_value)}",
        (1 + found.distance, -1.9),
        xytext=(8, 0),
        textcoords="offset points",
        va="center",
        color=theme.muted,
        fontsize=8.5,
    )
    return figure


def _named(frame: pd.DataFrame, score: str, methods: Sequence[str] | None) -> list[str]:
    """The methods that have a colour: those asked for that were run, or the leading ones."""
    if methods is None:
        return leading(frame, score)
    run = set(frame["method"])
    return [name for name in methods if name in run]


def _label_left(figure: Figure, text: str, theme: Theme) -> None:
    """One label for all vertical axes, in two lines where there is one row of panels."""
    if figure.get_figheight() < 2 * PANEL[1]:
        figure.axes[0].set_ylabel(fill(text, 22))
    else:
        figure.supylabel(text, color=theme.muted, fontsize=9)


@dataclass(frozen=True)
class _Curve:
    """One line of a panel: a method's colour, mark and place in front of the others."""

    colour: str
    marker: str | None
    width: float
    order: float


def _style(name: str, names: Sequence[str], theme: Theme) -> _Curve:
    if name not in names:
        return _Curve(theme.rule, None, 1.0, 2)
    position = list(names).index(name)
    marker = MARKERS[position % len(MARKERS)]
    return _Curve(series_colour(theme, position), marker, 1.6, 20 - position)


def _curves(
    axes: Axes,
    within: pd.DataFrame,
    names: Sequence[str],
    curve: Callable[[pd.DataFrame, str], pd.DataFrame],
    theme: Theme,
) -> np.ndarray:
    """Draw every method's line; the values of those that are named, which the axis must show."""
    shown = [np.array([])]
    for name in map(str, within.columns):
        line = curve(within, name)
        line = line[line["whole"] & (line["middle"] > 0)]
        if not len(line):
            continue
        style = _style(name, names, theme)
        x, y = _places(line.index), line["middle"].to_numpy(float)
        if name in names:
            shown.append(y)
        if name in names and "worst" in line:
            worst = line["worst"].to_numpy(float)
            axes.plot(x, worst, color=style.colour, linewidth=0.8, alpha=0.7, zorder=style.order)
            shown.append(worst)
        elif name in names:
            low, high = line["low"].to_numpy(float), line["high"].to_numpy(float)
            axes.fill_between(x, low, high, color=style.colour, alpha=0.13, linewidth=0)
            shown += [low, high]
        axes.plot(x, y, color=style.colour, linewidth=style.width, zorder=style.order)
        if style.marker:
            failed = line["failed"].to_numpy(bool)
            for part, face in ((~failed, style.colour), (failed, theme.ground)):
                if not part.any():
                    continue  # an empty line outside the clip has no extent, and spoils the layout
                axes.plot(
                    x[part],
                    y[part],
                    linestyle="none",
                    marker=style.marker,
                    color=style.colour,
                    markerfacecolor=face,
                    clip_on=False,
                    zorder=style.order,
                )
    values = np.concatenate(shown)
    values = values[np.isfinite(values) & (values > 0)]
    if len(values):
        axes.set_ylim(values.min() / 1.15, values.max() * 1.15)
    return values if len(values) else np.array([1.0])


def _small_multiples(
    frame: pd.DataFrame, names: Sequence[str], every: Sequence[object], theme: Theme
) -> tuple[Figure, list[Axes]]:
    """A figure with a panel a group, and a legend of the methods above them."""
    figure, panels = _grid(frame["group"].nunique())
    handles = [
        Line2D([], [], color=style.colour, marker=style.marker, linewidth=style.width)
        for style in (_style(name, names, theme) for name in names)
    ]
    texts = [label(name, 26) for name in names]
    if set(every) - set(names):
        handles.append(Line2D([], [], color=theme.rule, linewidth=1.0))
        texts.append("other methods")
    columns = max(1, min(len(texts), int(figure.get_figwidth() / 1.95)))
    further = -(-len(texts) // columns) - LEGEND_LINES
    figure.set_figheight(figure.get_figheight() + LEGEND_LINE * max(0, further))
    figure.legend(
        handles,
        texts,
        loc="outside upper left",
        ncols=columns,
        frameon=False,
        fontsize=8.5,
        labelcolor=theme.ink,
        handlelength=1.8,
        columnspacing=1.4,
    )
    figure.supxlabel("target measurements", color=theme.muted, fontsize=9)
    return figure, panels


def _grid(count: int) -> tuple[Figure, list[Axes]]:
    columns = min(MOST_COLUMNS, count)
    if count > MOST_COLUMNS:
        columns = min(range(3, MOST_COLUMNS + 1), key=lambda c: (-count % c, -c))
    rows = -(-count // columns)
    figure = Figure(figsize=(0.3 + PANEL[0] * max(columns, 2), 0.8 + PANEL[1] * rows))
    panels = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for axes in panels[count:]:
        axes.set_visible(False)
    return figure, panels


def _by_group(
    panels: Sequence[Axes], frame: pd.DataFrame, table: pd.DataFrame
) -> Iterator[tuple[Axes, str, pd.DataFrame]]:
    """Each panel, its group, and the table's rows of the group's scenarios."""
    scenarios = table.index.get_level_values("scenario")
    for axes, group in zip(panels, frame["group"].unique(), strict=False):
        members = frame.loc[frame["group"] == group, "scenario"].unique()
        yield axes, str(group), table[scenarios.isin(members)]


def _budget_axis(axes: Axes, frame: pd.DataFrame) -> None:
    """A log axis with a tick at each budget; no measurement at all is left of the first."""
    budgets = np.sort(frame["budget"].unique())
    places = _places(budgets)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(places.tolist()))
    texts = dict(zip(places, budgets, strict=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda place, _: tick(texts.get(place, place))))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(places.min() / 1.12, places.max() * 1.12)


def _places(budgets: Sequence[int] | np.ndarray | pd.Index) -> np.ndarray:
    return np.where(np.asarray(budgets) == 0, 0.5, np.asarray(budgets, dtype=float))


def _heat_rows(groups: pd.Series) -> dict[str, int]:
    """The row of each scenario, by group and name; above each group one is left for its head."""
    rows: dict[str, int] = {}
    free = 0
    for group in groups.unique():
        free += 1
        for name in sorted(map(str, groups.index[groups == group])):
            rows[name] = free
            free += 1
    return rows


def _geometric_means(table: pd.DataFrame) -> pd.Series:
    """The geometric mean of each column, without failures and what was not run."""
    return pd.Series({name: geometric_mean(column) for name, column in table.items()}, dtype=float)


def _factor(value: float) -> str:
    return f"{value:.2f}" if value < 9.95 else f"{value:.0f}" if value < 999 else "999+"


def _tracks(found: CriticalDifference) -> dict[tuple[str, ...], int]:
    """The height of each group's bar: the lowest at which it overlaps no other."""
    ends: list[float] = []
    tracks = {}
    for group in found.groups:
        first, last = float(found.ranks[group[0]]), float(found.ranks[group[-1]])
        free = [track for track, end in enumerate(ends) if end < first - 0.05]
        track = free[0] if free else len(ends)
        ends[track : track + 1] = [last]
        tracks[group] = track
    return tracks


def _p_value(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"

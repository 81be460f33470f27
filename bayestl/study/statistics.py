"""Who is better, by how much, and how sure that is: statistics over a study's results.

They read a frame with one row a fit: `scenario`, `budget`, `seed`, `method`, `error` (why it
failed, "" where it did not) and scores such as `mape`. Three rules hold everywhere:

- A fit that failed has an infinite error. It loses, ranks last and is counted, and so does its
  cell. A geometric mean over cells, which one infinity would decide, is of those in which
  neither failed: how many did stands beside it.
- What was not run, or has no such score, says nothing: two methods are compared on the
  seeds that both have, and what is missing is counted.
- The scenarios are the sample. Seeds and budgets of one scenario are no further evidence
  that a method is better elsewhere, so that intervals and tests treat a scenario as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import chi2, studentized_range

from bayestl.errors import TableError

CELL = ["scenario", "budget"]
"""What a cell is: methods are compared where they had the same task and as many measurements."""

MARGIN = 0.01
"""Two errors tie where they are within this share of the smaller one."""


def errors(frame: pd.DataFrame, score: str = "mape") -> pd.DataFrame:
    """(scenario, budget, seed) x method: a score of which less is better.

    Infinite where the fit failed, NaN where there is none. `spearman`, of which more is
    better, is taken as 1 - spearman.

    Raises
    ------
    TableError
        If a column is missing, or a method has two rows for one scenario, budget and seed.
    """
    keys = [*CELL, "seed"]
    missing = [name for name in (*keys, "method", "error", score) if name not in frame.columns]
    if missing:
        raise TableError(f"expected results with the columns {missing}, got {list(frame.columns)}")
    if frame.duplicated([*keys, "method"]).any():
        twice = frame[frame.duplicated([*keys, "method"])].iloc[0]
        raise TableError(
            f"expected one row a scenario, budget, seed and method, got several of "
            f"{twice['method']!r} at {twice['scenario']!r}, {twice['budget']}, {twice['seed']}"
        )
    values = frame[score].astype(float)
    if score == "spearman":
        values = 1 - values
    values = values.mask(_failed(frame), np.inf)
    cells = frame[[*keys, "method"]].assign(value=values)
    table = cells.set_index([*keys, "method"])["value"].unstack("method")  # noqa: PD010 - no mean
    return table[list(frame["method"].unique())].sort_index()


def cell_means(frame: pd.DataFrame, score: str = "mape") -> pd.DataFrame:
    """(scenario, budget) x method: the mean error over each method's seeds, infinite if one failed.

    Methods may have run on different seeds; what compares two of them is `ratios`.
    """
    return errors(frame, score).groupby(level=CELL).mean()


def failure_counts(frame: pd.DataFrame) -> pd.Series:
    """method -> how many of its fits failed."""
    return _failed(frame).groupby(frame["method"], sort=False).sum()


def ratios(frame: pd.DataFrame, reference: str, score: str = "mape") -> pd.DataFrame:
    """(scenario, budget) x method: mean error over the reference's, on the seeds both have.

    Infinite where the method failed, zero where the reference did, NaN where both did or
    no seed is common to them.

    Raises
    ------
    TableError
        If the reference is no method of the frame, or a score is negative.
    """
    table = errors(frame, score)
    if reference not in table:
        raise TableError(f"expected one of the methods {list(table)}, got {reference!r}")
    if (table < 0).any(axis=None):
        raise TableError(f"expected a score that is never negative, got {score!r}: it has no ratio")
    return pd.DataFrame({name: _ratio(table, name, reference) for name in map(str, table)})


def ratios_to_best(frame: pd.DataFrame, score: str = "mape") -> pd.DataFrame:
    """(scenario, budget) x method: mean error over the smallest mean of the cell.

    Infinite where the method failed or the best errs by nothing, NaN where it was not run or all
    failed.
    """
    means = cell_means(frame, score)
    best = means.min(axis=1)
    best = best.where(np.isfinite(best))
    return means.div(best, axis=0).mask(means.eq(best, axis=0), 1.0)  # also 0 / 0


def best_rivals(
    frame: pd.DataFrame, method: str, rivals: Sequence[str] | None = None, score: str = "mape"
) -> pd.DataFrame:
    """A row a cell: `best_rival`, with hindsight, and the method's `ratio` to it.

    The best is the one to which the ratio is largest. It is infinite where the method failed,
    zero where all rivals did, NaN where there is nothing to compare.

    Parameters
    ----------
    rivals : all other methods unless given
    """
    against_method = ratios(frame, method, score).drop(columns=method)
    if rivals is not None:
        against_method = against_method[[name for name in against_method if name in rivals]]
    known = against_method[against_method.notna().any(axis=1)]
    with np.errstate(divide="ignore"):
        found = pd.DataFrame({"best_rival": known.idxmin(axis=1), "ratio": 1 / known.min(axis=1)})
    return found.reindex(against_method.index)


def geometric_mean(ratios: pd.Series) -> float:
    """exp(mean(log ratio)) over the cells in which neither failed, or NaN.

    A zero or an infinity, a failure of one of the two or an error of exactly nothing, has no place
    in a mean: tell how many there are beside it.
    """
    return float(np.exp(_logs(ratios).mean()))


def bootstrap_interval(
    ratios: pd.Series, *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """The interval of the geometric mean over other scenarios like these.

    Percentiles over scenarios drawn with replacement, each with all its budgets (a cluster
    bootstrap: Davison and Hinkley, 1997, section 3.8). NaN for fewer than two scenarios.

    Parameters
    ----------
    ratios : indexed by scenario and budget, such as a column of `ratios`; paired by that
    """
    clusters = _logs(ratios).groupby(level="scenario")
    totals, counts = clusters.sum().to_numpy(), clusters.count().to_numpy()
    if len(totals) < 2:
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    drawn = rng.integers(len(totals), size=(resamples, len(totals)))
    means = totals[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    tail = (1 - confidence) / 2
    low, high = np.exp(np.quantile(means, [tail, 1 - tail]))
    return float(low), float(high)


def against(
    frame: pd.DataFrame,
    reference: str,
    *,
    score: str = "mape",
    margin: float = MARGIN,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Every other method beside the reference, the best first.

    Returns
    -------
    Indexed by method: `ratio`, the geometric mean of its error over the reference's, and its
    paired bootstrap interval `low`, `high`; the cells that it `wins`, `ties` or `losses`, of
    so many `cells` that both have; in how many of them it failed (`failures`, which are
    losses, or ties where the reference failed too) and the reference did
    (`reference_failures`); and how many cells are `missing`, for lack of one of the two.

    Raises
    ------
    TableError
        As `ratios`.
    """
    table, every = errors(frame, score), ratios(frame, reference, score)
    rows = {}
    for name in every.columns.drop(reference):
        means = _common_means(table, name, reference)
        mine, its = means[name], means[reference]
        better, worse = _clearly_less(mine, its, margin), _clearly_less(its, mine, margin)
        low, high = bootstrap_interval(
            every[name], confidence=confidence, resamples=resamples, seed=seed
        )
        rows[name] = {
            "ratio": geometric_mean(every[name]),
            "low": low,
            "high": high,
            "wins": int(better.sum()),
            "ties": int((~better & ~worse).sum()),
            "losses": int(worse.sum()),
            "cells": len(means),
            "failures": int(np.isinf(mine).sum()),
            "reference_failures": int(np.isinf(its).sum()),
            "missing": len(every) - len(means),
        }
    result = pd.DataFrame.from_dict(rows, orient="index").rename_axis("method")
    return result.sort_values("ratio", kind="stable") if len(result) else result


def win_counts(frame: pd.DataFrame, *, score: str = "mape", margin: float = MARGIN) -> pd.DataFrame:
    """How often each method is the best of a cell, the most frequent winner first.

    Returns
    -------
    Indexed by method: `wins`, cells in which no other comes near it; `ties`, cells in which it
    and another are the best, within the margin; `failures`, of so many `cells` that it has
    """
    means = cell_means(frame, score)
    best = means.min(axis=1)
    near = pd.DataFrame(
        {
            name: np.isfinite(column) & ~_clearly_less(best, column, margin)
            for name, column in means.items()
        }
    )
    alone = near.sum(axis=1) == 1
    counts = pd.DataFrame(
        {
            "wins": near[alone].sum(),
            "ties": near[~alone].sum(),
            "failures": np.isinf(means).sum(),
            "cells": means.notna().sum(),
        }
    )
    return counts.rename_axis("method").sort_values(
        ["wins", "ties"], ascending=False, kind="stable"
    )


@dataclass(frozen=True)
class CriticalDifference:
    """Average ranks of methods over scenarios, and which of them differ (Demsar, 2006).

    Parameters
    ----------
    ranks : method -> average rank, 1 the best, ascending
    distance : average ranks that are closer than this do not differ (Nemenyi's test)
    statistic, p_value : Friedman's test that all methods are alike
    alpha : the level of both tests
    groups : sets of methods, by rank, within which no difference is shown; all of them where
        Friedman's test finds none
    scenarios : how many scenarios were ranked
    incomplete : scenarios left out, since a method was not run in some cell of theirs
    """

    ranks: pd.Series
    distance: float
    statistic: float
    p_value: float
    alpha: float
    groups: tuple[tuple[str, ...], ...]
    scenarios: int
    incomplete: tuple[str, ...]


def critical_difference(
    frame: pd.DataFrame,
    methods: Sequence[str] | None = None,
    *,
    score: str = "mape",
    alpha: float = 0.05,
) -> CriticalDifference:
    """The methods' average ranks, with Friedman's test and Nemenyi's critical difference.

        q / sqrt(2) sqrt(k (k + 1) / (6 N))

    for k methods and N scenarios, q the studentized range's quantile for k groups and infinite
    degrees of freedom (Demsar, 2006, section 3.2.2). A scenario ranks the methods by the mean of
    their ranks over its budgets. Those that failed share the last ranks.

    Parameters
    ----------
    methods : what is ranked; every method of the frame unless given

    Raises
    ------
    TableError
        If there are fewer than two methods, or fewer than two scenarios in which all ran, or one
        asked for is no method of the frame.
    """
    means = cell_means(frame, score)
    unknown = [name for name in methods or () if name not in means]
    if unknown:
        raise TableError(f"expected some of the methods {list(means)}, got {unknown[0]!r}")
    means = means if methods is None else means[list(methods)]
    complete = means.notna().all(axis=1).groupby(level="scenario", sort=False).all()
    incomplete = tuple(str(name) for name in complete.index[~complete])
    kept = means[~means.index.get_level_values("scenario").isin(complete.index[~complete])]
    count, scenarios = means.shape[1], int(complete.sum())
    if count < 2 or scenarios < 2:
        raise TableError(
            f"expected at least two methods and two scenarios in which all of them ran, got "
            f"{count} methods and {scenarios} scenarios; left out: {list(incomplete)}"
        )
    by_scenario = kept.rank(axis=1).groupby(level="scenario").mean().rank(axis=1)
    ranks = by_scenario.mean().sort_values(kind="stable")
    statistic = _friedman(by_scenario.to_numpy())
    p_value = float(chi2.sf(statistic, count - 1))
    quantile = float(studentized_range.ppf(1 - alpha, count, np.inf)) / np.sqrt(2)
    distance = float(quantile * np.sqrt(count * (count + 1) / (6 * scenarios)))
    groups = _groups(ranks, distance) if p_value < alpha else (tuple(map(str, ranks.index)),)
    return CriticalDifference(
        ranks, distance, statistic, p_value, alpha, groups, scenarios, incomplete
    )


def _failed(frame: pd.DataFrame) -> pd.Series:
    return frame["error"].fillna("") != ""  # an empty text may come back from a file as missing


def _common_means(table: pd.DataFrame, one: str, other: str) -> pd.DataFrame:
    """(scenario, budget) x the two: their means over the seeds that both have."""
    return table[[one, other]].dropna().groupby(level=CELL).mean()


def _ratio(table: pd.DataFrame, name: str, reference: str) -> pd.Series:
    cells = table.groupby(level=CELL).size().index
    if name == reference:
        means = table[reference].groupby(level=CELL).mean()
        return pd.Series(1.0, index=cells).where(np.isfinite(means))
    means = _common_means(table, name, reference)
    equal = (means[name] == means[reference]) & np.isfinite(means[reference])  # 0 / 0 is a tie
    return (means[name] / means[reference]).mask(equal, 1.0).reindex(cells)


def _logs(ratios: pd.Series) -> pd.Series:
    """Logarithms of the ratios that are neither zero, infinite nor NaN."""
    return ratios[(ratios > 0) & np.isfinite(ratios)].map(np.log)


def _clearly_less(one: pd.Series, other: pd.Series, margin: float) -> pd.Series:
    """Whether one is less than the other by more than the margin's share; never for two inf."""
    return one + margin * one.abs() < other


def _friedman(ranks: np.ndarray) -> float:
    """Friedman's chi-squared of (N, k) ranks, corrected for ties (Conover, 1999)."""
    count, k = ranks.shape
    spread = ((ranks - (k + 1) / 2) ** 2).sum()
    if not spread:
        return 0.0
    between = ((ranks.mean(axis=0) - (k + 1) / 2) ** 2).sum()
    return float((k - 1) * count**2 * between / spread)


def _groups(ranks: pd.Series, distance: float) -> tuple[tuple[str, ...], ...]:
    """The largest runs of at least two methods whose ranks span less than the distance."""
    names, values = [str(name) for name in ranks.index], ranks.to_numpy()
    runs, reached = [], 0
    for first, value in enumerate(values):
        end = int((values < value + distance).sum())
        if end > max(reached, first + 1):
            runs.append(tuple(names[first:end]))
            reached = end
    return tuple(runs)

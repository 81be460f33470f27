"""`lint`: what is wrong with a table of measurements, before a model is blamed for it.

Public data have faults that decide a comparison: an environment that is a copy of another,
a time limit that looks like a time, an outlier of a thousand times. Each check is a
heuristic with a stated threshold; a finding is a question to whoever measured, not a verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from bayestl.baselines.trees import RandomForest
from bayestl.data.measurement import Metric
from bayestl.data.table import ENVIRONMENT, STATUS, MeasurementTable
from bayestl.errors import FitError
from bayestl.models.model import expect_table

COPY_TOLERANCE = 1e-6
"""Two environments are copies where their logarithms differ by a constant within this."""

ENOUGH_IN_COMMON = 10
OUTLIER_FACTOR, OUTLIER_DEVIATIONS, OWN_DEVIATIONS = 8.0, 8.0, 4.0
"""An outlier is this far from what is expected of it, as a factor and in robust deviations.

Expected from the other environments; from its own it must be far as well.
"""

REPEAT_FACTOR = 2.0
"""Repeats of one configuration that differ by more than this."""

DUPLICATES = 3
"""So many repeats that are equal to the last digit, and more than differ."""

CEILING_SHARE, CEILING_ROWS = 0.01, 3
"""A limit is a largest value that occurs in so many rows, where no other value does."""

EARLY_FACTOR, EARLY_SHARE = 5.0, 0.05
"""Runs end early where the next value is this many times larger, and no more than so many do."""

UNIT_FACTOR, UNIT_CLOSENESS = 100.0, 0.15
"""A median this many times another's, within so many decades of a power of a thousand."""

PREDICTABLE = 0.2
"""A rank correlation of a forest's predictions below this says nothing."""

FOLDS, ENOUGH_TO_PREDICT, PREDICTED_ROWS = 5, 30, 500


@dataclass(frozen=True)
class Finding:
    """Something that looks wrong.

    Parameters
    ----------
    kind : ``copy``, ``ceiling``, ``constant``, ``duplicates``, ``early``, ``failures``,
        ``nonpositive``, ``outlier``, ``repeats``, ``unit`` or ``unpredictable``
    environments : those that it is about
    subject : the metric or the option
    message : what was seen
    rows : positions in the table's frame, where it is about rows
    """

    kind: str
    environments: tuple[str, ...]
    subject: str
    message: str
    rows: tuple[int, ...] = ()

    def __str__(self) -> str:
        return f"{self.kind}: {', '.join(self.environments)}: {self.subject}: {self.message}"


def lint(table: MeasurementTable, metric: str | None = None, *, seed: int = 0) -> list[Finding]:
    """What looks wrong with a table's metric, or with each of them.

    - failures: an environment in which most measurements failed
    - nonpositive: zeros and negative values of a metric that is positive elsewhere
    - constant: an option that never varies in an environment, though it does in others
    - duplicates: repeats of a configuration that are equal to the last digit, as rows that stand
      twice in a file are
    - copy: two environments whose values are equal, or equal up to a factor
    - unit: an environment whose values are another's times a thousand, or a million
    - ceiling: a largest value that occurs again and again, as a time limit does
    - early: a few values far below all others, as of programs that ended before their work
    - outlier: a value far from what the other environments and the rest of its own suggest
    - repeats: repeats of a configuration that differ by more than a factor of two
    - unpredictable: an environment of which a random forest predicts nothing

    Parameters
    ----------
    table : the measurements
    metric : its name; all metrics unless given
    seed : of the random forest's folds

    Returns
    -------
    The findings, in the order of the list above; none is good news

    Raises
    ------
    TableError
        If it is no table, or has no such metric.
    """
    expect_table(table)
    metrics = table.metrics if metric is None else (table.metric(metric),)
    findings = [*_failures(table), *_constant(table)]
    for each in metrics:
        data = _Data.of(table, each)
        for check in _CHECKS:
            findings += check(data)
        findings += _unpredictable(data, seed)
    order = list(_ORDER)
    return sorted(findings, key=lambda finding: order.index(finding.kind))


@dataclass(frozen=True)
class _Data:
    """One metric of a table: positive values by configuration and environment.

    Parameters
    ----------
    values : the metric's column, NaN where it failed
    logs : environment -> logarithms of positive values, indexed by position in the table
    keys : a hashable configuration a row
    medians : configuration x environment, the median logarithm of the repeats
    """

    table: MeasurementTable
    metric: Metric
    values: pd.Series
    logs: dict[str, pd.Series]
    keys: pd.Series
    medians: pd.DataFrame

    @classmethod
    def of(cls, table: MeasurementTable, metric: Metric) -> _Data:
        frame = table.frame.reset_index(drop=True)
        space = table.space
        keys = pd.Series([repr(space.key(c)) for c in space.records(table.configurations())])
        values = frame[metric.name].astype(float)
        positive = values[values > 0]
        by_environment = frame.loc[positive.index, ENVIRONMENT]
        logs = {
            name: positive[by_environment == name].map(np.log) for name in table.environment_names
        }
        tall = pd.DataFrame(
            {"key": keys[positive.index], "where": by_environment, "log": positive.map(np.log)}
        )
        medians = tall.pivot_table(index="key", columns="where", values="log", aggfunc="median")
        return cls(table, metric, values, logs, keys, medians)

    def unexpected(self, name: str) -> pd.Series:
        """Logarithms of an environment over its median, less what the other environments have."""
        centred = self.medians - self.medians.median()
        others = centred.drop(columns=name, errors="ignore").median(axis=1)
        logs = self.logs[name]
        expected = self.keys[logs.index].map(others).astype(float).fillna(0.0)
        return logs - logs.median() - expected

    def finding(
        self, kind: str, environments: Sequence[str], message: str, rows: Iterable[int] = ()
    ) -> Finding:
        return Finding(
            kind, tuple(environments), self.metric.name, message, tuple(int(r) for r in rows)
        )


def _failures(table: MeasurementTable) -> Iterator[Finding]:
    for name in table.environment_names:
        status = table.of(name).frame[STATUS]
        share = float((status != "ok").mean()) if len(status) else 0.0
        if share > 0.5:
            counts = status[status != "ok"].value_counts()
            seen = ", ".join(f"{count} {kind}" for kind, count in counts.items())
            yield Finding("failures", (name,), STATUS, f"{share:.0%} failed: {seen}")


def _constant(table: MeasurementTable) -> Iterator[Finding]:
    frame = table.frame
    for option in table.space.names:
        levels = {
            name: {v for v in frame.loc[frame[ENVIRONMENT] == name, option] if v is not None}
            for name in table.environment_names
        }
        constant = [name for name, found in levels.items() if len(found) == 1]
        if constant:
            everywhere = len(set().union(*levels.values())) == 1
            where = "anywhere" if everywhere else "there, though it does elsewhere"
            names = table.environment_names if everywhere else constant
            yield Finding("constant", tuple(names), option, f"never varies {where}")


def _nonpositive(data: _Data) -> Iterator[Finding]:
    wrong = data.values <= 0
    if not wrong.any() or wrong.mean() > 0.5:  # a metric that may well be negative
        return
    where = data.table.frame[ENVIRONMENT].reset_index(drop=True)
    for name, rows in where[wrong].groupby(where[wrong]).groups.items():
        yield data.finding("nonpositive", [str(name)], f"{len(rows)} values of 0 or less", rows)


def _duplicates(data: _Data) -> Iterator[Finding]:
    for name, logs in data.logs.items():
        keys, values = data.keys[logs.index], data.values[logs.index]
        again = keys.duplicated()
        equal = pd.DataFrame({"key": keys, "value": values}).duplicated()
        if equal.sum() >= DUPLICATES and 2 * equal.sum() > again.sum():
            message = (
                f"{equal.sum()} of {again.sum()} repeats equal another to the last digit: do rows "
                "stand there twice, or is the clock coarse?"
            )
            yield data.finding("duplicates", [name], message, logs.index[equal])


def _copies(data: _Data) -> Iterator[Finding]:
    for one, other in combinations(data.medians.columns, 2):
        difference = (data.medians[one] - data.medians[other]).dropna()
        spread = data.medians.loc[difference.index, one].std()
        if len(difference) < ENOUGH_IN_COMMON or not spread > COPY_TOLERANCE:
            continue
        if difference.std() < COPY_TOLERANCE * max(1.0, spread):
            factor = float(np.exp(-difference.mean()))
            how = "equal" if abs(factor - 1) < 1e-6 else f"{other} is {factor:.6g} times {one}"
            message = f"{how}, at all {len(difference)} configurations that both have"
            yield data.finding("copy", [one, other], message)


def _units(data: _Data) -> Iterator[Finding]:
    medians = {name: float(logs.median()) for name, logs in data.logs.items() if len(logs)}
    for one, other in combinations(medians, 2):
        decades = abs(medians[one] - medians[other]) / np.log(10)
        thousands = round(decades / 3)
        if decades < np.log10(UNIT_FACTOR) or abs(decades - 3 * thousands) > UNIT_CLOSENESS:
            continue
        slow, fast = (one, other) if medians[one] > medians[other] else (other, one)
        message = (
            f"values of {slow} are {10**decades:,.0f} times those of {fast}: is one of them in "
            "another unit?"
        )
        yield data.finding("unit", [slow, fast], message)


def _ceilings(data: _Data) -> Iterator[Finding]:
    for name, logs in data.logs.items():
        values = data.values[logs.index]
        counts = values.value_counts()
        highest = values.max() if len(values) else np.nan
        rows = values.index[values == highest]
        least = max(CEILING_ROWS, CEILING_SHARE * len(values))
        alone = len(counts) > 1 and counts.drop(highest).max() * 3 <= len(rows)
        if len(rows) >= least and alone and len(counts) > 2 * CEILING_ROWS:
            message = f"the largest value, {highest:g}, occurs {len(rows)} times: a limit?"
            yield data.finding("ceiling", [name], message, rows)


def _early(data: _Data) -> Iterator[Finding]:
    """Values below a gap that the same configurations do not have elsewhere."""
    for name, logs in data.logs.items() if data.metric.sign > 0 else ():
        lowest = logs.sort_values().iloc[: int(EARLY_SHARE * len(logs)) + 1]
        gaps = np.diff(lowest)
        if not len(gaps) or gaps.max() < np.log(EARLY_FACTOR):
            continue
        count = int(gaps.argmax()) + 1
        rows = lowest.index[:count]
        if float(data.unexpected(name)[rows].median()) > -np.log(EARLY_FACTOR):
            continue
        last, following = np.exp(lowest.iloc[count - 1 : count + 1])
        some = f"{count} values are" if count > 1 else "one value is"
        message = f"{some} at most {last:.4g}, all others at least {following:.4g}: ended early?"
        yield data.finding("early", [name], message, rows)


def _outliers(data: _Data) -> Iterator[Finding]:
    """Values far from the environment's own, and from the same configuration's elsewhere."""
    for name, logs in data.logs.items():
        if len(logs) < ENOUGH_IN_COMMON:
            continue
        own, residual = logs - logs.median(), data.unexpected(name)
        rows = logs.index[_far(own, OWN_DEVIATIONS) & _far(residual, OUTLIER_DEVIATIONS)]
        if len(rows) and len(rows) <= 0.05 * len(logs):
            worst = max(rows, key=lambda row: abs(own[row]))
            message = (
                f"{len(rows)} values far from the rest; the farthest is {data.values[worst]:.4g}, "
                f"{np.exp(abs(own[worst])):,.0f} times off the median"
            )
            yield data.finding("outlier", [name], message, rows)


def _far(residual: pd.Series, deviations: float) -> pd.Series:
    deviation = 1.4826 * float((residual - residual.median()).abs().median())
    limit = max(np.log(OUTLIER_FACTOR), deviations * deviation)
    return (residual - residual.median()).abs() > limit


def _repeats(data: _Data) -> Iterator[Finding]:
    for name, logs in data.logs.items():
        groups = logs.groupby(data.keys[logs.index])
        spread = groups.max() - groups.min()
        wide = spread.index[spread > np.log(REPEAT_FACTOR)]
        if len(wide):
            rows = logs.index[data.keys[logs.index].isin(wide)]
            message = (
                f"repeats of {len(wide)} configurations differ by more than a factor of "
                f"{REPEAT_FACTOR:g}, at most {np.exp(spread.max()):.3g}"
            )
            yield data.finding("repeats", [name], message, rows)


def _unpredictable(data: _Data, seed: int) -> Iterator[Finding]:
    rng = np.random.default_rng(seed)
    for name, logs in data.logs.items():
        rows = logs.index.to_numpy()[rng.permutation(len(logs))[:PREDICTED_ROWS]]
        if len(rows) < ENOUGH_TO_PREDICT or logs.std() < 1e-12:
            continue
        correlation = _predicted(data, name, rows, seed)
        if correlation is not None and correlation < PREDICTABLE:
            message = f"a random forest's predictions have a rank correlation of {correlation:.2f}"
            yield data.finding("unpredictable", [name], message)


def _predicted(data: _Data, name: str, rows: np.ndarray, seed: int) -> float | None:
    """The rank correlation of a forest's predictions out of its sample with what was measured."""
    predicted = np.empty(len(rows))
    for fold in np.array_split(np.arange(len(rows)), FOLDS):
        train = data.table.select(np.delete(rows, fold))
        try:
            fitted = RandomForest(trees=50).fit(
                train, metric=data.metric.name, target=name, seed=seed
            )
        except FitError:
            return None
        test = data.table.select(rows[fold]).configurations()
        predicted[fold] = fitted.predict(test)["q50"].to_numpy()
    truth = data.values[rows].reset_index(drop=True)
    return float(pd.Series(predicted).corr(truth, method="spearman"))


_CHECKS: tuple[Callable[[_Data], Iterator[Finding]], ...] = (
    _nonpositive, _duplicates, _copies, _units, _ceilings, _early, _outliers, _repeats,
)  # fmt: skip
_ORDER = (
    *("failures", "nonpositive", "constant", "duplicates", "copy", "unit", "ceiling", "early"),
    *("outlier", "repeats", "unpredictable"),
)

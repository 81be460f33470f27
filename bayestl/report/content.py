"""`Report`: what a page shows, as plain values, apart from how it looks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from bayestl.data.measurement import Metric
from bayestl.data.space import Configuration
from bayestl.errors import TableError

SURE = 0.9
"""A change that is less probable is not called one."""


@dataclass(frozen=True)
class Improvement:
    """The best configuration that was found, beside the default.

    Parameters
    ----------
    default, best : the two configurations
    default_value, best_value : the metric at each, in its unit
    interval : 90 % interval of the gain, if it is known
    note : how far the two values can be trusted, in a sentence
    """

    default: Configuration
    best: Configuration
    default_value: float
    best_value: float
    interval: tuple[float, float] | None = None
    note: str = ""

    @property
    def changed(self) -> tuple[str, ...]:
        """The options in which the two differ."""
        return tuple(n for n in self.default if self.default[n] != self.best.get(n))

    def gain(self, metric: Metric) -> float | None:
        """How many times better the best is: above 1 is an improvement.

        None where a value is not positive, so that a ratio means nothing.
        """
        if not (self.default_value > 0 and self.best_value > 0):
            return None
        return (self.default_value / self.best_value) ** metric.sign


@dataclass(frozen=True)
class Change:
    """How options act in the target beside how they act in a source.

    Parameters
    ----------
    source, target : the environments
    effects : one row an option or pair, the largest change first, as `what_changed` gives them:
        `option`, `other`, `source`, `target` (sizes of the effect), `low`, `high` (of their
        difference), `change` (share of the difference's variance), `probability`; None where the
        model cannot tell
    log : whether sizes are of the metric's logarithm
    note : why the model cannot tell, in a sentence
    """

    source: str
    target: str
    effects: pd.DataFrame | None = None
    log: bool = True
    note: str = ""

    @property
    def sure(self) -> tuple[str, ...]:
        """The options and pairs that differ with a probability of at least `SURE`."""
        if self.effects is None:
            return ()
        rows = self.effects[self.effects["probability"] >= SURE]
        return tuple(
            f"{option} with {other}" if other else str(option)
            for option, other in zip(rows["option"], rows["other"], strict=True)
        )


@dataclass(frozen=True)
class Report:
    """The content of one page; every part but the title and the metric may be left out.

    Parameters
    ----------
    title : the heading
    metric : the metric that every value is in
    lede : the finding, in a sentence or two
    facts : (label, value), the few numbers to see first
    improvement : the best configuration beside the default
    methods : one row a method: `method`, `mape` [%], and any of `spearman`, `coverage90` (a share)
    learning : one row a method and budget: `method`, `n_target`, `mape` [%], and perhaps an
        interval of it, `low` and `high`
    predictions : one row a test configuration (and method): `measured`, `q05`, `q50`, `q95`
        in the metric's unit, and perhaps `method`
    effects : one row an option: `option`, `effect`, `low`, `high` (shares of the variance,
        0 to 1), and perhaps `best` and `ratio`
    correlation : environments x environments, of the model's belief
    change : how the target differs from its source
    trials : one row a measurement in the order taken: `number`, `value` (NaN where it
        failed), and perhaps `status`
    failures : one row a status: `status`, `count`, `example`
    environments : one row an environment, any columns
    warnings : one sentence each
    provenance : what a reader needs to do it again

    Raises
    ------
    TableError
        If a frame lacks a column.
    """

    title: str
    metric: Metric
    lede: str = ""
    facts: Sequence[tuple[str, str]] = ()
    improvement: Improvement | None = None
    methods: pd.DataFrame | None = None
    learning: pd.DataFrame | None = None
    predictions: pd.DataFrame | None = None
    effects: pd.DataFrame | None = None
    correlation: pd.DataFrame | None = None
    change: Change | None = None
    trials: pd.DataFrame | None = None
    failures: pd.DataFrame | None = None
    environments: pd.DataFrame | None = None
    warnings: Sequence[str] = ()
    provenance: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for part, columns in _COLUMNS.items():
            found = getattr(self, part)
            frame: pd.DataFrame | None = found.effects if isinstance(found, Change) else found
            missing = [] if frame is None else [c for c in columns if c not in frame.columns]
            if frame is not None and missing:
                raise TableError(
                    f"report: {part} lacks the column {', '.join(map(repr, missing))}; it has "
                    f"{list(frame.columns)}"
                )
        if self.correlation is not None and list(self.correlation.index) != list(
            self.correlation.columns
        ):
            raise TableError("report: expected the correlation's rows and columns to be the same")


_COLUMNS = {
    "methods": ("method", "mape"),
    "learning": ("method", "n_target", "mape"),
    "predictions": ("measured", "q05", "q50", "q95"),
    "effects": ("option", "effect", "low", "high"),
    "change": ("option", "other", "source", "target", "low", "high", "change", "probability"),
    "trials": ("number", "value"),
    "failures": ("status", "count", "example"),
}

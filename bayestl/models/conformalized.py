"""`Conformal`: any model, with intervals that cover as often as they say.

The target's measurements are held out fold by fold; what a member k that did not see y_i said
of it gives the score

    s_i = max((m_k - y_i) / (m_k - l_k), (y_i - m_k) / (u_k - m_k))     at x_i

with m the median and l, u the ends of the model's own central 68 % interval, so that wide
intervals stay wide and narrow ones narrow (locally weighted conformal prediction: Lei, G'Sell,
Rinaldo, Tibshirani and Wasserman, 2018). The upper end of a central interval of level p is the
smallest of m_k(x) + s_i (u_k(x) - m_k(x)), i = 1..n, that with all below it weighs p (N + 1),
where each of a configuration's c repeats weighs 1/c and N configurations were held out, see
`conformal`; the lower one mirrors it.

It is the CV+ of Barber, Candes, Ramdas and Tibshirani (2021, "Predictive inference with the
jackknife+"), which covers about p of new measurements that are exchangeable with those held
out. With as many folds as configurations it is the jackknife+, which covers 2 p - 1 of them at
least; with n in K equal folds that bound is lower by
min(2 (1 - 1/K) / (n/K + 1), (1 - K/n) / (K + 1)) (Theorem 4), 0.07 for 40 in 10 folds. With one
part held out for good and one member it is split conformal prediction, and covers p.

All of it is of the logarithm where the model works on that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Integral, Real
from pathlib import Path

import numpy as np
import pandas as pd

from bayestl.data.measurement import Metric
from bayestl.data.space import ConfigSpace
from bayestl.data.table import MeasurementTable
from bayestl.errors import FileError, FitError
from bayestl.models.conformal import Ranked, rank_of
from bayestl.models.folds import repeat_weights, target_folds
from bayestl.models.model import (
    QUANTILES,
    Configs,
    Diagnostics,
    Fitted,
    Model,
    checked_seed,
    expect_recipe,
    expect_table,
)
from bayestl.models.persistence import save
from bayestl.models.scaling import quantile_column
from bayestl.models.state import State

CENTRAL = (0.159, 0.5, 0.841)
"""The quantiles of the model that say where the middle is and how wide to either side."""

LEVEL = QUANTILES[-1] - QUANTILES[0]
"""Of the interval that `predict` reports unless told."""


@dataclass(frozen=True)
class Conformal:
    """Recipe: another model with its intervals rescaled to what held-out measurements need.

    Fits the model once more for each fold. An interval whose level exceeds N / (N + 1), with N
    configurations held out, has no finite width by that rule; then the model's own width
    answers, or the widest that the rule gives if that is wider, and `diagnostics` warns.

    Parameters
    ----------
    model : the recipe to wrap
    folds : into how many the target's configurations are cut, no more than there are
    split : the share of them to hold out for good instead, in one fit that costs the
        accuracy of what it does not see; None for folds
    """

    model: Model
    folds: int = 10
    split: float | None = None

    def __post_init__(self) -> None:
        folds, split = self.folds, self.split
        expect_recipe(self.model)
        if isinstance(folds, bool) or not isinstance(folds, Integral) or folds < 2:
            raise FitError(f"expected a whole number of folds, at least two, got {folds!r}")
        if split is not None and not (isinstance(split, Real) and 0 < split < 1):
            raise FitError(f"expected a share to hold out between 0 and 1, got {split!r}")

    def fit(
        self, table: MeasurementTable, *, metric: str, target: str, seed: int = 0
    ) -> FittedConformal:
        """The model fitted to every usable row, or to those not held out; see `Model.fit`."""
        seed = checked_seed(seed)
        expect_table(table).environment(target)
        usable = table.usable(metric)
        parts = self._parts(usable, target, seed)
        members = [
            self.model.fit(usable.select(kept), metric=metric, target=target, seed=seed)
            for kept, _ in parts
        ]
        if self.split is not None and members:
            fitted = members[0]
        else:
            fitted = self.model.fit(table, metric=metric, target=target, seed=seed)
        log = fitted.diagnostics.details.get("transform") == "log"
        # held out for good, a value that is not positive was no part of that choice
        log = log and bool((usable.of(target).frame[metric] > 0).all())
        left_out = [usable.select(held) for _, held in parts]
        scores = [
            _scores(member, rows, metric, log)
            for member, rows in zip(members, left_out, strict=True)
        ]
        weights = map(repeat_weights, left_out)
        return FittedConformal(
            fitted, tuple(members), tuple(scores), tuple(weights), log, repr(self)
        )

    def _parts(
        self, usable: MeasurementTable, target: str, seed: int
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """The rows to learn from and to hold out; none where nothing would be left to learn."""
        count = self.folds if self.split is None else len(usable)
        parts = list(target_folds(usable, target, count, seed))
        if len(parts) < 2:
            return []
        if self.split is None:
            return parts
        held_out = min(max(1, round(self.split * len(parts))), len(parts) - 1)
        held = np.concatenate([held for _, held in parts[:held_out]])
        return [(np.setdiff1d(np.arange(len(usable)), held), held)]


@dataclass(frozen=True)
class Ends:
    """What a model says of n configurations, on the logarithm or not.

    Parameters
    ----------
    middle : (n,) medians
    below, above : (n,) how far its central 68 % interval reaches to either side
    """

    middle: np.ndarray
    below: np.ndarray
    above: np.ndarray

    @classmethod
    def of(cls, fitted: Fitted, configs: Configs, log: bool) -> Ends:
        """The model's own quantiles."""
        values = fitted.predict(configs, quantiles=CENTRAL)
        columns = [values[quantile_column(level)].to_numpy(float) for level in CENTRAL]
        low, middle, high = np.log(columns) if log else columns
        least = np.finfo(float).eps * np.maximum(1.0, np.abs(middle))  # a model may be too sure
        return cls(middle, np.maximum(middle - low, least), np.maximum(high - middle, least))


@dataclass(frozen=True)
class FittedConformal:
    """A fitted model, and what it takes to make its intervals cover.

    Parameters
    ----------
    fitted : the model that gives medians, means and standard deviations
    members : the models that left some of the target's measurements out
    scores : for each member, those of the measurements that it left out
    weights : as `scores`, 1/c of each of a configuration's c repeats
    log : whether they are of the logarithm
    recipe : in words, for diagnostics
    """

    fitted: Fitted
    members: tuple[Fitted, ...]
    scores: tuple[np.ndarray, ...]
    weights: tuple[np.ndarray, ...]
    log: bool
    recipe: str

    @property
    def space(self) -> ConfigSpace:
        """The union space of the table."""
        return self.fitted.space

    @property
    def metric(self) -> Metric:
        """What is predicted."""
        return self.fitted.metric

    @property
    def target(self) -> str:
        """The environment that is predicted unless another is named."""
        return self.fitted.target

    @property
    def points(self) -> int:
        """How many measurements were held out."""
        return sum(map(len, self.scores))

    @property
    def configurations(self) -> int:
        """How many configurations these were of."""
        return round(sum(weights.sum() for weights in self.weights))

    @property
    def _typical_score(self) -> float:
        """The median of the scores, in which each configuration counts once."""
        scores, weights = map(np.concatenate, (self.scores, self.weights))
        return float(Ranked.of(scores[:, None], weights).at(self.configurations / 2)[0])

    @property
    def diagnostics(self) -> Diagnostics:
        """What the model says, with what is behind the intervals."""
        inner, points, configurations = self.fitted.diagnostics, self.points, self.configurations
        widest = configurations / (configurations + 1)
        conformal = {
            "points": points,
            "configurations": configurations,
            "fits": len(self.members),
            "widest_level": widest,
            "widening": self._typical_score if points else None,
        }
        warnings = inner.warnings
        if rank_of(LEVEL, configurations) > configurations:
            few = (
                f"{configurations} configurations held out calibrate intervals of at most "
                f"{100 * widest:.0f} %; wider ones are the model's own, or as wide as that"
            )
            warnings = (*warnings, few)
        return replace(
            inner,
            model=self.recipe,
            warnings=warnings,
            details={**inner.details, "conformal": conformal},
        )

    def predict(
        self,
        configs: Configs,
        environment: str | None = None,
        quantiles: Sequence[float] = QUANTILES,
    ) -> pd.DataFrame:
        """What a new measurement would give, in the metric's unit; see `Fitted.predict`.

        Quantiles of the target are calibrated; `mean` and `std` are the model's own, and so
        is everything said of another environment.
        """
        configs = self.space.frame(configs)  # once: it may be an iterator, members are many
        own = self.fitted.predict(configs, environment, quantiles)
        if environment not in (None, self.target) or not self.members or not len(own):
            return own
        weights, most = np.concatenate(self.weights), self.configurations
        centre = Ends.of(self.fitted, configs, self.log)
        every = [Ends.of(member, configs, self.log) for member in self.members]
        for level in quantiles:
            column = quantile_column(level)
            upper = level >= 0.5
            sign = 1.0 if upper else -1.0
            reach = [
                sign * (ends.middle - centre.middle) + score * (ends.above if upper else ends.below)
                for ends, scores in zip(every, self.scores, strict=True)
                for score in scores
            ]
            rank = rank_of(abs(2 * level - 1), most)
            if rank == 0:
                continue
            width = Ranked.of(np.array(reach), weights).at(rank).clip(min=0.0)
            calibrated = centre.middle + sign * width
            calibrated = np.exp(calibrated) if self.log else calibrated
            if rank > most:
                widest = np.maximum if upper else np.minimum
                calibrated = widest(calibrated, own[column].to_numpy(float))
            own[column] = calibrated
        return own

    def save(self, path: str | Path) -> None:
        """Write the model and its members to one file; see `persistence.save`.

        Raises
        ------
        FileError
            If the model is of a kind that cannot be kept, or the file cannot be written.
        """
        save(self, path)

    def to_state(self) -> State:
        """Everything that its answers depend on; see `persistence`."""
        members = {str(place): member for place, member in enumerate(self.members)}
        scores = {f"scores.{place}": scores for place, scores in enumerate(self.scores)}
        weights = {f"weights.{place}": weights for place, weights in enumerate(self.weights)}
        return State(
            {"log": self.log, "recipe": self.recipe, "held_out": len(members)},
            {**scores, **weights},
            {"fitted": self.fitted, **members},
        )

    @classmethod
    def from_state(cls, state: State) -> FittedConformal:
        """The model that `to_state` described; raises as `Persistent.from_state`."""
        places = range(state.value("held_out", int))
        scores = [state.array(f"scores.{place}", None) for place in places]
        return cls(
            fitted=state.members["fitted"],
            members=tuple(state.members[str(place)] for place in places),
            scores=tuple(scores),
            weights=tuple(
                _weights(state, f"weights.{place}", len(held)) for place, held in enumerate(scores)
            ),
            log=state.value("log", bool),
            recipe=state.value("recipe", str),
        )


def _scores(member: Fitted, rows: MeasurementTable, metric: str, log: bool) -> np.ndarray:
    """(n,) how many of the member's half-widths each measurement is away from its middle."""
    measured = rows.frame[metric].to_numpy(float)
    ends = Ends.of(member, rows.configurations(), log)
    error = (np.log(measured) if log else measured) - ends.middle
    return np.where(error > 0, error / ends.above, -error / ends.below)


def _weights(state: State, name: str, count: int) -> np.ndarray:
    """(count,) the weights of that name; older files have none and count every one."""
    if name not in state.arrays:
        return np.ones(count)
    weights = state.array(name, count)
    if not ((weights > 0) & (weights <= 1)).all():
        raise FileError(f"expected {name} above 0 and at most 1")
    return weights

"""`FittedRegression`: a scikit-learn regressor behind the one socket, with calibrated intervals.

Baselines and transfer strategies go the same way: observations as the Gaussian processes
see them (the same transform), configurations as `Features` (their options, or what the
sources say of them), repeats averaged, one regressor for the point prediction, and
regressors that left points out for the intervals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

from bayestl.data.measurement import Metric
from bayestl.data.space import ConfigSpace
from bayestl.data.table import MeasurementTable
from bayestl.errors import FitError
from bayestl.models.conformal import FEW_POINTS, PRIOR_SIZE, HeldOut, Regressor
from bayestl.models.encoding import Encoding
from bayestl.models.model import (
    QUANTILES,
    Configs,
    Diagnostics,
    checked_seed,
    expect_table,
    expect_target,
)
from bayestl.models.observations import Observations
from bayestl.models.persistence import save
from bayestl.models.scaling import Scaling, quantile_columns

FOLDS = 10
"""Into how many folds the target's configurations are cut for CV+; fewer points, fewer folds."""

FEWER_FOLDS = 5
"""As `FOLDS`, where more than `MANY_ROWS` rows, or what is trained, make every fold dear."""

MANY_ROWS = 500

_BLOCK = 1_000  # configurations predicted at once, to bound memory

Fit = Callable[[np.ndarray, np.ndarray, np.ndarray], Regressor]
"""From (n, p) features, (n,) values and (n,) weights to a regressor."""


class Train(Protocol):
    """From examples to a regressor and the members that left points out."""

    def __call__(self, examples: Examples, *, seed: int) -> Trained: ...


class Features(Protocol):
    """What a regressor sees of a configuration in the target."""

    @property
    def space(self) -> ConfigSpace:
        """The union space of the table."""
        ...

    def of(self, configurations: pd.DataFrame) -> np.ndarray:
        """(n, p) features of canonical configurations, as `ConfigSpace.frame` returns them."""
        ...


@dataclass(frozen=True)
class OptionFeatures:
    """The encoded options, and one indicator an environment where sources are pooled.

    Parameters
    ----------
    encoding : of the options
    environments : how many there are; one has no indicator
    """

    encoding: Encoding
    environments: int

    @property
    def space(self) -> ConfigSpace:
        """The union space of the table."""
        return self.encoding.space

    def of(self, configurations: pd.DataFrame) -> np.ndarray:
        """(n, p) features of canonical configurations in the target."""
        encoded = self.encoding.encode(configurations).numpy()
        return regressor_inputs(encoded, np.zeros(len(encoded)), self.environments)


@dataclass(frozen=True)
class Examples:
    """What a regressor learns from: one row a configuration and environment.

    Parameters
    ----------
    x : (n, p) features; one indicator an environment comes last where sources are pooled
    z : (n,) standardised values, repeats averaged
    weights : (n,), how much each row counts
    is_target : (n,)
    repeats_row : (r,), for each measurement in the target, its row
    repeats_z : (r,), its standardised value
    """

    x: np.ndarray
    z: np.ndarray
    weights: np.ndarray
    is_target: np.ndarray
    repeats_row: np.ndarray
    repeats_z: np.ndarray

    @classmethod
    def of(cls, observations: Observations) -> Examples:
        """The examples in `observations`.

        A row counts by its number of repeats. Where there are sources, a measurement in the
        target counts sqrt(n_source / n_target) times, but at least once: midway between
        all rows alike and the target alike to all sources together, on a log scale.
        """
        # trees break ties by the last bit, which the order and unit of the rows would change
        raw, z = observations.x.numpy(), np.round(observations.z.numpy(), 9)
        rows, row, counts = np.unique(raw, axis=0, return_inverse=True, return_counts=True)
        row = row.ravel()
        environment, is_target = rows[:, -1], rows[:, -1] == 0
        weights = counts.astype(float)
        n_target = weights[is_target].sum()
        if 0 < n_target < weights.sum():
            weights[is_target] *= max(1.0, np.sqrt(weights[~is_target].sum() / n_target))
        at_target = is_target[row]
        return cls(
            x=regressor_inputs(rows[:, :-1], environment, len(observations.environments)),
            z=np.bincount(row, z) / counts,
            weights=weights,
            is_target=is_target,
            repeats_row=row[at_target],
            repeats_z=z[at_target],
        )


@dataclass(frozen=True)
class Trained:
    """A regressor and what its intervals need.

    Parameters
    ----------
    regressor : learned from every row
    members : learned without some of the target's rows
    left_out : (target rows, members), whether the member never saw the row
    """

    regressor: Regressor
    members: Sequence[Regressor]
    left_out: np.ndarray

    def held_out(self, examples: Examples, size: float = PRIOR_SIZE) -> HeldOut:
        """What the members got wrong about each measurement of the rows they left out."""
        judged = self.left_out.any(axis=1)
        shares = self.left_out[judged] / self.left_out[judged].sum(axis=1, keepdims=True)
        x = examples.x[examples.is_target][judged]
        predicted = np.zeros(len(x))
        for share, member in zip(shares.T, self.members, strict=True):
            predicted += share * member.predict(x) if len(x) else 0.0
        position = np.full(len(examples.z), -1)
        position[np.flatnonzero(examples.is_target)[judged]] = np.arange(len(x))
        row = position[examples.repeats_row]
        row, z = row[row >= 0], examples.repeats_z[row >= 0]
        weights = 1 / np.bincount(row)[row]
        return HeldOut(self.members, shares[row], np.abs(z - predicted[row]), weights, size)


@dataclass(frozen=True)
class FittedRegression:
    """A regressor that has seen a table.

    Parameters
    ----------
    metric, target, diagnostics : see `Fitted`
    features, scaling : how configurations become features, and values become z
    regressor : the point prediction of z
    held_out : what it got wrong about the target's points that it had not seen
    """

    metric: Metric
    target: str
    diagnostics: Diagnostics
    features: Features
    scaling: Scaling
    regressor: Regressor
    held_out: HeldOut

    @property
    def space(self) -> ConfigSpace:
        """The union space of the table."""
        return self.features.space

    def predict(
        self,
        configs: Configs,
        environment: str | None = None,
        quantiles: Sequence[float] = QUANTILES,
    ) -> pd.DataFrame:
        """What a new measurement would give, in the metric's unit; see `Fitted.predict`.

        The mean and std are those of a (log-)normal around the point prediction whose
        standard deviation is half the width of the central 68 % interval, which
        outliers do not move.

        Raises
        ------
        ConfigurationError
            For a configuration that the space does not know.
        UnknownEnvironment
            For another environment than the target, for which nothing is calibrated.
        """
        expect_target(self, environment)
        levels = quantile_columns(quantiles)
        frame = self.space.frame(configs)
        x = self.features.of(frame)
        blocks = [x[start : start + _BLOCK] for start in range(0, len(x), _BLOCK)] or [x]
        parts = [self._predict(block, list(levels.values())) for block in blocks]
        centre, std, *ends = (np.concatenate(part) for part in zip(*parts, strict=True))
        result = self.scaling.summary(centre, np.square(std), (), frame.index)
        for column, end in zip(levels, ends, strict=True):
            result[column] = self.scaling.unscale(end)
        return result

    def save(self, path: str | Path) -> None:
        """Refuse: a regressor of another library can only be kept as a pickle.

        Raises
        ------
        FileError
            Always; the message says what can be kept.
        """
        save(self, path)

    def _predict(self, x: np.ndarray, levels: Sequence[float]) -> list[np.ndarray]:
        """The centre, the robust standard deviation and the quantiles of z."""
        if not len(x):
            return [np.empty(0)] * (2 + len(levels))
        centre = np.asarray(self.regressor.predict(x), dtype=float)
        low, high, *ends = self.held_out.quantiles(x, centre, (0.159, 0.841, *levels))
        return [centre, (high - low) / 2, *ends]


def fit_regression(
    recipe: Any,
    train: Train,
    table: MeasurementTable,
    metric: str,
    target: str,
    seed: int,
    *,
    pooled: bool = False,
) -> FittedRegression:
    """The recipe fitted to the target's usable rows, or with `pooled` to every environment's.

    This is how any scikit-learn estimator becomes a model.

    Raises
    ------
    FitError
        If there is no usable row, a value does not fit the transform, or the seed is none.
    UnknownEnvironment, TableError
        For a target or a metric that the table does not know.
    """
    seed = checked_seed(seed)
    seen = table if pooled else expect_table(table).of(target)
    if not pooled and not len(seen.usable(metric)):
        raise FitError(
            f"{recipe}: expected measurements of {metric!r} in {target!r}, got none; measure some "
            "configurations there, or take a model that learns from sources, such as TransferGP"
        )
    observations = Observations.of(seen, metric, target, recipe.transform)
    examples = Examples.of(observations)
    features = OptionFeatures(observations.encoding, len(observations.environments))
    trained = train(examples, seed=seed)
    return fitted_regression(
        recipe, table.metric(metric), target, observations, features, examples, trained
    )


def fitted_regression(
    recipe: Any,
    metric: Metric,
    target: str,
    observations: Observations,
    features: Features,
    examples: Examples,
    trained: Trained,
    *,
    size: float = PRIOR_SIZE,
    warnings: Sequence[str] = (),
    details: Mapping[str, Any] | None = None,
) -> FittedRegression:
    """What was trained on `examples`, with its intervals and diagnostics.

    Parameters
    ----------
    recipe : whose `transform` made the observations
    size : of an imagined residual, see `HeldOut`
    warnings, details : further ones for the diagnostics
    """
    held_out = trained.held_out(examples, size)
    return FittedRegression(
        metric=metric,
        target=target,
        diagnostics=Diagnostics(
            model=str(recipe),
            n_source=int((~observations.is_target).sum()),
            n_target=int(observations.is_target.sum()),
            dropped=observations.dropped,
            warnings=(*warnings, *_warnings(recipe, observations, held_out)),
            details={
                "transform": "log" if observations.scaling.log else "identity",
                "calibration_points": held_out.points,
                **(details or {}),
            },
        ),
        features=features,
        scaling=observations.scaling,
        regressor=trained.regressor,
        held_out=held_out,
    )


def cross_validated(examples: Examples, *, fit: Fit, seed: int) -> Trained:
    """The regressor, and one for each fold of the target's configurations that it left out.

    The sources' rows are in every fold's training set.
    """
    regressor = fit(examples.x, examples.z, examples.weights)
    rows = np.flatnonzero(examples.is_target)
    left_out = _fold_members(examples, seed, FOLDS)
    members = []
    for fold in left_out.T:
        kept = np.ones(len(examples.z), dtype=bool)
        kept[rows[fold]] = False
        members.append(fit(examples.x[kept], examples.z[kept], examples.weights[kept]))
    return Trained(regressor, members, left_out)


def cross_validated_together(
    examples: Examples, *, fit: Callable[[np.ndarray], Iterable[Regressor]], seed: int
) -> Trained:
    """As `cross_validated`, of regressors that are trained side by side, in fewer folds.

    Parameters
    ----------
    fit : from (1 + folds, n) weights of the examples, 0 for one that is left out, to as many
        regressors
    """
    left_out = _fold_members(examples, seed, FEWER_FOLDS)
    weights = np.tile(examples.weights, (1 + left_out.shape[1], 1))
    weights[1:, examples.is_target] *= ~left_out.T
    regressor, *members = fit(weights)
    return Trained(regressor, members, left_out)


def _fold_members(examples: Examples, seed: int, most: int) -> np.ndarray:
    """(target rows, folds) which member leaves which row out: each row is left out by one.

    Without a fold where leaving the only row out leaves nothing to learn from.
    """
    count = int(examples.is_target.sum())
    folds = min(most if len(examples.z) <= MANY_ROWS else FEWER_FOLDS, count)
    if len(examples.z) < 2:
        folds = 0
    fold = np.random.default_rng(seed).permutation(count) % max(folds, 1)
    return fold[:, None] == np.arange(folds)


def random_state(seed: int) -> int:
    """The seed in the 32 bits that other libraries take."""
    return seed % 2**32


def regressor_inputs(encoded: np.ndarray, environment: np.ndarray, count: int) -> np.ndarray:
    """(n, p) encoded options, and one indicator an environment where there are several.

    A constant where that is nothing at all: a regressor wants a column.
    """
    if count > 1:
        return np.column_stack([encoded, environment[:, None] == np.arange(count)])
    return encoded if encoded.shape[1] else np.zeros((len(encoded), 1))


def _warnings(recipe: Any, observations: Observations, held_out: HeldOut) -> Iterator[str]:
    if recipe.transform == "auto" and not observations.scaling.log:
        yield "some values are not positive: fitted on the metric itself, not on its logarithm"
    if held_out.points < FEW_POINTS:
        yield (
            f"intervals rest on {held_out.points} configurations of the target that a fit had not "
            f"seen, fewer than {FEW_POINTS}: they are wide by assumption, not calibrated"
        )

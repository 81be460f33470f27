"""What the sources say of a configuration: the features from which the target is learnt.

A base model is fitted to each source once, alone and to all of its rows. How its
predictions become the target's values is learnt from the target's training rows and
nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from bayestl.data.space import ConfigSpace
from bayestl.data.table import ENVIRONMENT, MeasurementTable
from bayestl.errors import FitError
from bayestl.models.conformal import PRIOR_SIZE
from bayestl.models.model import Fitted, Model, checked_seed
from bayestl.models.observations import Observations
from bayestl.models.regression import (
    Examples,
    Features,
    FittedRegression,
    Train,
    Trained,
    fitted_regression,
)
from bayestl.models.scaling import Scaling
from bayestl.transfer.shift import ENOUGH_TO_CHOOSE, Line, Shift

SHIFTED_SIZE = 1.0
"""An imagined residual once the target's level is known: the spread that the sources show."""


@dataclass(frozen=True)
class Transfer:
    """One fit of a strategy: what the recipe is given, and which sources have something to say.

    Parameters
    ----------
    recipe : the strategy, whose `transform` makes the observations
    table, metric, target : see `Model.fit`
    observations : the usable rows of every environment
    names : the sources that have one, see `source_names`
    """

    recipe: Any
    table: MeasurementTable
    metric: str
    target: str
    observations: Observations
    names: tuple[str, ...]

    @classmethod
    def of(cls, recipe: Any, table: MeasurementTable, metric: str, target: str) -> Transfer:
        """The transfer that `recipe.fit` is asked for.

        Raises
        ------
        FitError
            If no source has a usable row, or a value does not fit the transform.
        UnknownEnvironment, TableError
            For a target or a metric that the table does not know.
        """
        observations = Observations.of(table, metric, target, recipe.transform)
        names = source_names(recipe, observations, metric)
        return cls(recipe, table, metric, target, observations, names)

    @property
    def measured(self) -> MeasurementTable:
        """The target's usable rows."""
        return self.table.of(self.target).usable(self.metric)

    def examples(self, features: Features) -> Examples:
        """See `examples_at_target`."""
        return examples_at_target(self.measured, self.metric, self.observations, features)

    def fitted(
        self,
        features: Features,
        examples: Examples,
        trained: Trained,
        *,
        size: float = SHIFTED_SIZE,
        warnings: Iterable[str] = (),
        details: Mapping[str, Any] | None = None,
    ) -> FittedRegression:
        """What was trained on the target's examples, with its intervals and diagnostics.

        Parameters
        ----------
        size : of an imagined residual where the target was measured, see `HeldOut`
        warnings, details : further ones for the diagnostics
        """
        return fitted_regression(
            self.recipe,
            self.table.metric(self.metric),
            self.target,
            self.observations,
            features,
            examples,
            trained,
            size=size if len(examples.z) else PRIOR_SIZE,
            warnings=(*silent_sources(self.table, self.target, self.names), *warnings),
            details=details,
        )


@dataclass(frozen=True)
class SourcePredictions:
    """One feature a source: the median that its model predicts, standardised as the target is.

    Parameters
    ----------
    space : the union space of the table
    scaling : of the target's values
    models : one a source, fitted to it
    smallest : each source's smallest value, in place of a prediction without a logarithm
    asked : the sources that are needed; the columns of the others are zero
    """

    space: ConfigSpace
    scaling: Scaling
    models: tuple[Fitted, ...]
    smallest: tuple[float, ...]
    asked: frozenset[int]

    @classmethod
    def by(cls, base: Model, transfer: Transfer, seed: int) -> SourcePredictions:
        """The predictions of the recipe `base`, fitted to each source as if it were the target."""
        table, metric, names = transfer.table, transfer.metric, transfer.names
        rows = table.usable(metric).frame
        return cls(
            space=table.space,
            scaling=transfer.observations.scaling,
            models=tuple(
                base.fit(table.of(name), metric=metric, target=name, seed=seed) for name in names
            ),
            smallest=tuple(float(rows[metric][rows[ENVIRONMENT] == name].min()) for name in names),
            asked=frozenset(range(len(names))),
        )

    def of(self, configurations: pd.DataFrame) -> np.ndarray:
        """(n, sources) features of canonical configurations."""
        x = np.zeros((len(configurations), len(self.models)))
        for source in self.asked if len(x) else ():
            values = self.models[source].predict(configurations, quantiles=(0.5,))["q50"].to_numpy()
            if self.scaling.log:
                values = np.where(values > 0, values, self.smallest[source])
            x[:, source] = self.scaling.scale(values)
        return np.round(x, 9)  # as in `Examples`, for trees


def fit_shift(
    recipe: Any,
    train: Train,
    table: MeasurementTable,
    metric: str,
    target: str,
    seed: int,
    *,
    aim: str = "",
    size: float = SHIFTED_SIZE,
) -> FittedRegression:
    """A shift of what the recipe's base predicts in the sources, learnt from the target's rows.

    Parameters
    ----------
    recipe : has `base`, the recipe of a model, and `transform`
    train : from examples whose features are the sources' predictions to `Shift`s
    aim : what is fitted beside an offset, where there are points enough, in words
    size : of an imagined residual, see `HeldOut`

    Raises
    ------
    FitError, UnknownEnvironment, TableError
        As `Transfer.of`, and for a seed that is none.
    """
    seed = checked_seed(seed)
    transfer = Transfer.of(recipe, table, metric, target)
    names, scaling = transfer.names, transfer.observations.scaling
    features = SourcePredictions.by(recipe.base, transfer, seed)
    examples = transfer.examples(features)
    trained = train(examples, seed=seed)
    shift, *members = (_shift(regressor) for regressor in (trained.regressor, *trained.members))
    asked = (source for each in (shift, *members) for source in each.sources)
    return transfer.fitted(
        replace(features, asked=frozenset(asked)),
        examples,
        trained,
        size=size,
        warnings=(
            *few_points(len(examples.z), len(names), aim),
            *_odd_line(shift, names, aim),
            *(
                f"{names[source]}: {warning}"
                for source in shift.sources
                for warning in features.models[source].diagnostics.warnings
            ),
        ),
        details={
            "sources": tuple(names[source] for source in shift.sources),
            "leave_one_out": {
                name: scaling.spread * error
                for name, error in zip(names, shift.errors, strict=False)  # none, or all
            },
            **shift.curve.details(scaling),
        },
    )


def source_names(recipe: Any, observations: Observations, metric: str) -> tuple[str, ...]:
    """The sources that have a usable row, in an order that no renaming changes.

    Raises
    ------
    FitError
        If there is none.
    """
    target, *others = observations.environments
    measured = set(observations.x[:, -1].tolist())
    names = tuple(name for place, name in enumerate(others, start=1) if place in measured)
    if not names:
        raise FitError(
            f"{recipe}: expected measurements of {metric!r} in a source environment, got none "
            f"outside {target!r}; add some, or take a model of the target alone, such as "
            "TargetOnlyGP"
        )
    return names


def examples_at_target(
    measured: MeasurementTable, metric: str, observations: Observations, features: Features
) -> Examples:
    """One example a configuration among the target's usable rows; it counts by its repeats."""
    configurations = measured.configurations()
    encoded = observations.encoding.encode(configurations).numpy()
    encoded = np.column_stack([encoded, np.zeros(len(encoded))])  # where no option varies
    values = measured.frame[metric].to_numpy(dtype=float)
    z = np.round(observations.scaling.scale(values), 9)
    order = np.lexsort((z, *encoded.T))
    rows, first, row, counts = np.unique(
        encoded[order], axis=0, return_index=True, return_inverse=True, return_counts=True
    )
    row = row.ravel()
    return Examples(
        x=features.of(configurations.iloc[order[first]]),
        z=np.bincount(row, z[order], minlength=len(rows)) / counts,
        weights=counts.astype(float),
        is_target=np.ones(len(rows), dtype=bool),
        repeats_row=row,
        repeats_z=z[order],
    )


def silent_sources(table: MeasurementTable, target: str, names: Sequence[str]) -> Iterator[str]:
    """A warning where an environment of the table has nothing to teach."""
    silent = sorted(set(table.environment_names) - {target, *names})
    if silent:
        yield f"left out for want of a usable measurement: {', '.join(silent)}"


def few_points(points: int, sources: int = 1, aim: str = "") -> Iterator[str]:
    """Warnings of what so few configurations of the target could not decide.

    Parameters
    ----------
    points : how many there are
    sources : among how many they would choose
    aim : what would have been fitted beside an offset, in words
    """
    if points >= ENOUGH_TO_CHOOSE:
        return
    if not points:
        yield "nothing was measured in the target: its prediction is the sources', unchanged"
    elif aim:
        yield (
            f"only an offset was fitted: {aim} takes {ENOUGH_TO_CHOOSE} configurations of the "
            f"target, got {points}"
        )
    if sources > 1:
        yield f"too few configurations of the target to choose by: all {sources} sources count"


def _odd_line(shift: Shift, names: Sequence[str], aim: str) -> Iterator[str]:
    """Warnings of a slope that was fitted to the target, or could not be."""
    if not (aim and shift.errors and isinstance(shift.curve, Line)):
        return
    source = names[shift.sources[0]]
    if shift.curve.slope == 1.0:  # as no least-squares slope is
        yield f"only an offset was fitted: {source} predicts the same everywhere"
    if shift.curve.slope < 0:
        yield f"{source} runs against the target: its slope is {shift.curve.slope:.2f}"


def _shift(regressor: Any) -> Shift:
    assert isinstance(regressor, Shift)
    return regressor

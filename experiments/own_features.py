"""Regressions of an experiment's own: on features that it names, from the target's rows alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bayestl.data.space import ConfigSpace
from bayestl.data.table import MeasurementTable
from bayestl.models.observations import Observations
from bayestl.models.regression import (
    Examples,
    Features,
    FittedRegression,
    Trained,
    fitted_regression,
)
from bayestl.transfer.sources import examples_at_target


def fit_at_target(
    recipe: Any,
    features_of: Callable[[ConfigSpace], Features],
    train: Callable[[Examples], Trained],
    table: MeasurementTable,
    metric: str,
    target: str,
) -> FittedRegression:
    """The recipe fitted to the target's usable rows; see `fit_regression`.

    `features_of` takes the space of these rows.
    """
    measured = table.of(target).usable(metric)
    observations = Observations.of(measured, metric, target, recipe.transform)
    features = features_of(observations.encoding.space)
    examples = examples_at_target(measured, metric, observations, features)
    return fitted_regression(
        recipe, table.metric(metric), target, observations, features, examples, train(examples)
    )

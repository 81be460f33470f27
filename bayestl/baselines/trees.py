"""Tree ensembles: what a practitioner would fit to the measurements first."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from bayestl.data.table import MeasurementTable
from bayestl.errors import FitError
from bayestl.models.conformal import Regressor
from bayestl.models.regression import (
    Examples,
    FittedRegression,
    Trained,
    cross_validated,
    fit_regression,
    random_state,
)
from bayestl.models.scaling import TransformName


@dataclass(frozen=True)
class RandomForest:
    """Recipe: a random forest on the target's measurements (Breiman, 2001).

    scikit-learn's defaults but for the number of trees. Intervals are those of the
    jackknife+-after-bootstrap: the trees that did not draw a point predict it.

    Parameters
    ----------
    trees : how many
    transform : `log` for a positive metric, `identity`, or `auto`
    """

    trees: int = 200
    transform: TransformName = "auto"

    def __post_init__(self) -> None:
        if self.trees < 1:
            raise FitError(f"expected at least one tree, got {self.trees}")

    def fit(
        self, table: MeasurementTable, *, metric: str, target: str, seed: int = 0
    ) -> FittedRegression:
        """The forest fitted to the target's usable rows; see `Model.fit`."""
        return fit_regression(self, self._train, table, metric, target, seed)

    def _train(self, examples: Examples, *, seed: int) -> Trained:
        from sklearn.ensemble import RandomForestRegressor

        forest = RandomForestRegressor(self.trees, random_state=random_state(seed), n_jobs=1)
        forest.fit(examples.x, examples.z, sample_weight=examples.weights)
        left_out = np.ones((len(examples.z), self.trees), dtype=bool)
        for tree, drawn in enumerate(forest.estimators_samples_):
            left_out[drawn, tree] = False
        return Trained(forest, forest.estimators_, left_out)


@dataclass(frozen=True)
class BoostedTrees:
    """Recipe: gradient-boosted trees on the target's measurements.

    XGBoost (Chen and Guestrin, 2016). Intervals are those of CV+. Needs the extra `boost`.

    Parameters
    ----------
    rounds, depth, learning_rate : of the boosting
    transform : as for `RandomForest`
    """

    rounds: int = 200
    depth: int = 4
    learning_rate: float = 0.1
    transform: TransformName = "auto"

    def __post_init__(self) -> None:
        _check_boosting(self)

    def fit(
        self, table: MeasurementTable, *, metric: str, target: str, seed: int = 0
    ) -> FittedRegression:
        """The trees fitted to the target's usable rows; see `Model.fit`."""
        return fit_regression(self, partial(_boosted, self), table, metric, target, seed)


@dataclass(frozen=True)
class PooledBoostedTrees:
    """Recipe: boosted trees on every environment's measurements, the environment as a feature.

    One indicator an environment; a row of the target weighs sqrt(n_source / n_target)
    rows of a source, or one. Intervals are those of CV+ over the target's rows, the
    sources' being in every fold's training set. Needs the extra `boost`.

    Parameters
    ----------
    rounds, depth, learning_rate, transform : as for `BoostedTrees`
    """

    rounds: int = 200
    depth: int = 4
    learning_rate: float = 0.1
    transform: TransformName = "auto"

    def __post_init__(self) -> None:
        _check_boosting(self)

    def fit(
        self, table: MeasurementTable, *, metric: str, target: str, seed: int = 0
    ) -> FittedRegression:
        """The trees fitted to every usable row; see `Model.fit`."""
        train = partial(_boosted, self)
        return fit_regression(self, train, table, metric, target, seed, pooled=True)


def _check_boosting(recipe: BoostedTrees | PooledBoostedTrees) -> None:
    if recipe.rounds < 1 or recipe.depth < 0 or not recipe.learning_rate > 0:
        raise FitError(
            f"expected at least one round, no negative depth and a positive rate, got {recipe}"
        )


def _boosted(
    recipe: BoostedTrees | PooledBoostedTrees, examples: Examples, *, seed: int
) -> Trained:
    def fit(x: np.ndarray, z: np.ndarray, weights: np.ndarray) -> Regressor:
        booster: Any = _xgboost().XGBRegressor(
            n_estimators=recipe.rounds,
            max_depth=recipe.depth,
            learning_rate=recipe.learning_rate,
            random_state=random_state(seed),
            n_jobs=1,
        )
        return booster.fit(x, z, sample_weight=weights)

    return cross_validated(examples, fit=fit, seed=seed)


def _xgboost() -> Any:
    try:
        import xgboost
    except ImportError:
        raise FitError(
            "boosted trees expected xgboost, which is not installed; "
            'in the checkout of bayestl: pip install ".[boost]"'
        ) from None
    return xgboost

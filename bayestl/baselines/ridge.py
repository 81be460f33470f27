"""Ridge regression with interactions: the performance-influence model of the field."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from bayestl.data.table import MeasurementTable
from bayestl.models.conformal import Regressor
from bayestl.models.regression import FittedRegression, cross_validated, fit_regression
from bayestl.models.scaling import TransformName

PENALTIES = tuple(np.logspace(-3, 4, 15))
"""What the penalty is chosen from, by leave-one-out error."""


@dataclass(frozen=True)
class RidgeInteractions:
    """Recipe: main effects and pairwise interactions of the options, on the target's measurements.

    A performance-influence model in the sense of Siegmund, Grebhahn, Apel and Kaestner
    (2015) with a ridge penalty (Hoerl and Kennard, 1970) in place of stepwise
    selection. Effects are standardised before they are multiplied. Intervals are
    those of CV+.

    Parameters
    ----------
    transform : `log` for a positive metric, `identity`, or `auto`
    """

    transform: TransformName = "auto"

    def fit(
        self, table: MeasurementTable, *, metric: str, target: str, seed: int = 0
    ) -> FittedRegression:
        """The effects fitted to the target's usable rows; see `Model.fit`."""
        train = partial(cross_validated, fit=_ridge)
        return fit_regression(self, train, table, metric, target, seed)


def _ridge(x: np.ndarray, z: np.ndarray, weights: np.ndarray) -> Regressor:
    from sklearn.linear_model import Ridge, RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures, StandardScaler

    # with two rows leave-one-out says nothing: any penalty predicts the other row alike
    regression = RidgeCV(PENALTIES) if len(z) > 2 else Ridge(PENALTIES[-1])
    effects: Any = make_pipeline(
        StandardScaler(),
        PolynomialFeatures(2, interaction_only=True, include_bias=False),
        regression,
    )
    return effects.fit(x, z, **{f"{effects.steps[-1][0]}__sample_weight": weights})

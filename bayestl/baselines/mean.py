"""The mean: what anything that learns must beat."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from bayestl.data.table import MeasurementTable
from bayestl.models.conformal import Regressor
from bayestl.models.regression import FittedRegression, cross_validated, fit_regression
from bayestl.models.scaling import TransformName


@dataclass(frozen=True)
class Mean:
    """Recipe: the mean of the target's measurements on the transformed scale, whatever is asked.

    Under the logarithm that is the geometric mean. Intervals are those of CV+.

    Parameters
    ----------
    transform : `log` for a positive metric, `identity`, or `auto`
    """

    transform: TransformName = "auto"

    def fit(
        self, table: MeasurementTable, *, metric: str, target: str, seed: int = 0
    ) -> FittedRegression:
        """The mean of the target's usable rows; see `Model.fit`."""
        train = partial(cross_validated, fit=_mean)
        return fit_regression(self, train, table, metric, target, seed)


def _mean(x: np.ndarray, z: np.ndarray, weights: np.ndarray) -> Regressor:
    from sklearn.dummy import DummyRegressor

    regressor: Any = DummyRegressor()
    return regressor.fit(x, z, sample_weight=weights)

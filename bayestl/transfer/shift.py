"""From what sources predict to what the target measures, on the standardised scale.

A `Shift` is a curve of one source's prediction. Where there are several sources, one curve
is fitted to each and the source kept whose curve errs least about target points that it
had not seen. With fewer than `ENOUGH_TO_CHOOSE` points there is nothing to choose by, and
the curve is one of the sources' mean.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from bayestl.models.conformal import Regressor
from bayestl.models.regression import Examples, Trained, random_state
from bayestl.models.scaling import Scaling

ENOUGH_TO_CHOOSE = 3
"""Target configurations below which no source is chosen, and no slope or forest is fitted."""

_NOTHING = 1e-9  # a variance, or a share of one, that is rounding


class Curve(Protocol):
    """A map between standardised values."""

    def __call__(self, predicted: np.ndarray, /) -> np.ndarray: ...

    def details(self, scaling: Scaling) -> Mapping[str, Any]:
        """Plain values for diagnostics, on the transformed scale."""
        ...


@dataclass(frozen=True)
class Line:
    """intercept + slope * predicted"""

    intercept: float = 0.0
    slope: float = 1.0

    def __call__(self, predicted: np.ndarray, /) -> np.ndarray:
        return self.intercept + self.slope * predicted

    def details(self, scaling: Scaling) -> Mapping[str, Any]:
        """`offset` and `slope`: g(target) = offset + slope * g(source)."""
        offset = scaling.centre * (1 - self.slope) + scaling.spread * self.intercept
        return {"offset": offset, "slope": self.slope}


@dataclass(frozen=True)
class Forest:
    """What a forest, or one of its trees, makes of the prediction alone."""

    regressor: Regressor

    def __call__(self, predicted: np.ndarray, /) -> np.ndarray:
        return np.asarray(self.regressor.predict(predicted[:, None]), dtype=float)

    def details(self, scaling: Scaling) -> Mapping[str, Any]:
        """Nothing: a forest is no few plain values."""
        return {}


@dataclass(frozen=True)
class Shift:
    """A curve of one source's prediction, or of the mean of several sources' predictions.

    Parameters
    ----------
    sources : their columns among the features
    curve : from that prediction to the target's value
    errors : of each source's own curve, root mean square over points that were left out;
        empty where no source was chosen by them
    """

    sources: tuple[int, ...]
    curve: Curve
    errors: tuple[float, ...] = ()

    def predict(self, X: np.ndarray, /) -> np.ndarray:
        """(k,) standardised values of the target for (k, sources) predictions."""
        return self.curve(X[:, self.sources].mean(axis=1))


FitLine = Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[Line, np.ndarray]]
"""From (n,) predictions, values and weights to a line and (n,) leave-one-out errors."""


def unchanged(predicted: np.ndarray, z: np.ndarray, weights: np.ndarray) -> tuple[Line, np.ndarray]:
    """The prediction itself, which no point can change."""
    return Line(), z - predicted


def offset(predicted: np.ndarray, z: np.ndarray, weights: np.ndarray) -> tuple[Line, np.ndarray]:
    """The prediction plus the mean difference."""
    difference = z - predicted
    mean = np.average(difference, weights=weights)
    rest = np.maximum(1 - weights / weights.sum(), _NOTHING)
    return Line(float(mean)), (difference - mean) / rest


def line(predicted: np.ndarray, z: np.ndarray, weights: np.ndarray) -> tuple[Line, np.ndarray]:
    """The least-squares line; an offset where the predictions are all alike.

    The error of a left-out point is its residual over one minus its leverage. A point
    without which the others are all alike is judged by the offset.
    """
    shifted, error = offset(predicted, z, weights)
    share = weights / weights.sum()
    u, v = predicted - share @ predicted, z - share @ z
    variance = float(share @ u**2)
    if variance < _NOTHING:
        return shifted, error
    slope = float(share @ (u * v)) / variance
    rest = 1 - share * (1 + u**2 / variance)
    judged = rest > _NOTHING
    error[judged] = (v - slope * u)[judged] / rest[judged]
    return Line(float(share @ z) - slope * float(share @ predicted), slope), error


def straight(
    fit: FitLine, few: FitLine, x: np.ndarray, z: np.ndarray, weights: np.ndarray
) -> Shift:
    """The line of the best source through (n, sources) predictions and (n,) values.

    With too few points, the line that `few` fits to the mean of all sources, or with no
    point that mean.
    """
    n, sources = x.shape
    if n < ENOUGH_TO_CHOOSE:
        curve = few(x.mean(axis=1), z, weights)[0] if n else Line()
        return Shift(tuple(range(sources)), curve)
    lines = [fit(predicted, z, weights) for predicted in x.T]
    errors = tuple(root_mean_square(error, weights) for _, error in lines)
    best = int(np.argmin(errors))
    return Shift((best,), lines[best][0], errors)


def forests(examples: Examples, trees: int, seed: int) -> Trained:
    """The forest of the best source, and the trees that did not draw a point to judge it.

    A point is predicted by the source that is best for the other points, by trees that
    did not draw it: the jackknife+-after-bootstrap, the choice included.
    """
    from sklearn.ensemble import RandomForestRegressor

    x, z, weights = examples.x, examples.z, examples.weights
    n, sources = x.shape
    grown, unseen, square = [], [], np.empty((sources, n))
    for source in range(sources):
        forest = RandomForestRegressor(trees, random_state=random_state(seed), n_jobs=1)
        forest.fit(x[:, [source]], z, sample_weight=weights)
        free = np.ones((n, trees), dtype=bool)
        for tree, drawn in enumerate(forest.estimators_samples_):
            free[drawn, tree] = False
        each = np.column_stack([tree.predict(x[:, [source]]) for tree in forest.estimators_])
        out_of_bag = (free * each).sum(axis=1) / np.maximum(free.sum(axis=1), 1)
        # a point that every tree drew has no error and says nothing of the source
        square[source] = np.where(free.any(axis=1), (z - out_of_bag) ** 2, 0.0)
        grown.append(forest)
        unseen.append(free)
    total = square @ weights
    best = int(total.argmin())
    for_others = (total[:, None] - square * weights).argmin(axis=0)
    members, left_out = [], []
    for source in np.unique(for_others).tolist():
        members += [Shift((source,), Forest(tree)) for tree in grown[source].estimators_]
        left_out.append(unseen[source] & (for_others == source)[:, None])
    errors = tuple(np.sqrt(total / weights.sum()).tolist())
    return Trained(Shift((best,), Forest(grown[best]), errors), members, np.column_stack(left_out))


def root_mean_square(error: np.ndarray, weights: np.ndarray) -> float:
    """Of (n,) errors; n at least 1."""
    return float(np.sqrt(np.average(error**2, weights=weights)))

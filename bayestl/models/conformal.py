"""Calibrated predictive quantiles around any regressor, from points it had not seen.

The jackknife+ and CV+ of Barber, Candes, Ramdas and Tibshirani (2021, "Predictive inference
with the jackknife+"): with mu_-i a predictor that did not see point i, and R_i = |z_i -
mu_-i(x_i)|, the upper quantile q of a new z at x is the smallest of

    mu_-i(x) + R_i,   i = 1..n

that with all below it weighs (2q - 1)(m + 1), and the lower ones mirror it with minus signs.
What is exchangeable with a measurement of a new configuration is one of another, not one of
its repeats: each of c repeats weighs 1/c, and m is the number of configurations (Dunn,
Wasserman and Ramdas, 2023, "Distribution-free prediction sets for two-layer hierarchical
models"; Lee, Barber and Willett, 2023, "Distribution-free inference with hierarchical data").
Without repeats that is the ceil((2q - 1)(n + 1))-th smallest.

An interval between q and 1 - q covers about 2q - 1 of new points in practice. Whatever their
distribution, that of the jackknife+ covers at least 1 - 4 (1 - q); for the CV+ of n points in K
equal folds the bound is lower by min(2 (1 - 1/K) / (n/K + 1), (1 - K/n) / (K + 1)) (Theorem 4).

Every mu_-i is an average of `members`: of the one that left out the fold of i, or of a forest's
trees that did not draw i (Kim, Xu and Barber, 2020, "jackknife+-after-bootstrap").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.stats import t as student

FEW_POINTS = 5
"""With fewer points there are no ranks to speak of; see `HeldOut.quantile`."""

PRIOR_POINTS = 2.0
"""How many imagined residuals the prior counts for then."""

PRIOR_SIZE = 2.0
"""Their size unless told: twice the spread of the metric, which so few points hardly show."""


class Regressor(Protocol):
    """Anything with scikit-learn's `predict`."""

    def predict(self, X: np.ndarray, /) -> np.ndarray: ...


@dataclass(frozen=True)
class HeldOut:
    """What a regressor got wrong about points that it had not seen.

    Parameters
    ----------
    members : predictors that each left some points out
    shares : (n, members), rows sum to one: which members make up mu_-i
    residuals : (n,), absolute, on the standardised scale, where the metric's spread is one
    weights : (n,) of each, 1/c of a configuration's c repeats
    size : of each imagined residual
    """

    members: Sequence[Regressor]
    shares: np.ndarray
    residuals: np.ndarray
    weights: np.ndarray
    size: float = PRIOR_SIZE

    @property
    def points(self) -> int:
        """How many distinct configurations are behind the residuals."""
        return round(self.weights.sum())

    def quantiles(
        self, x: np.ndarray, centre: np.ndarray, levels: Sequence[float]
    ) -> list[np.ndarray]:
        """The (k,) predictive quantiles at each level, around the (k,) point predictions.

        Beyond what m ranks can tell, the widest interval grows as Student's t with m
        degrees of freedom does. With fewer than `FEW_POINTS` points all quantiles are those
        of a Student's t whose scale is the root mean square of the residuals and of
        `PRIOR_POINTS` imagined ones: wide, and meant to be.
        """
        if self.points < FEW_POINTS:
            return [centre + self._small_sample_width(level) for level in levels]
        held_out = self.shares @ np.stack([member.predict(x) for member in self.members])
        upper = Ranked.of(held_out + self.residuals[:, None], self.weights)
        lower = Ranked.of(self.residuals[:, None] - held_out, self.weights)
        result = []
        for level in levels:
            if level >= 0.5:
                result.append(centre + self._width(upper, -centre, level))
            else:
                result.append(centre - self._width(lower, centre, 1 - level))
        return result

    def _width(self, ends: Ranked, offset: np.ndarray, level: float) -> np.ndarray:
        """(k,) distances from the centre to the quantile `level` >= 0.5, zero or more."""
        m = self.points
        rank = rank_of(2 * level - 1, m)
        if rank == 0:
            return np.zeros(len(offset))
        width = np.clip(ends.at(rank) + offset, 0.0, None)
        if rank <= m:
            return width
        widest = (1 + m / (m + 1)) / 2  # the largest level that m ranks reach
        return width * float(student.ppf(level, m) / student.ppf(widest, m))

    def _small_sample_width(self, level: float) -> float:
        squares = float((self.weights * np.square(self.residuals)).sum())
        count = PRIOR_POINTS + self.points
        scale = np.sqrt((PRIOR_POINTS * self.size**2 + squares) / count)
        return float(student.ppf(level, count) * scale)


@dataclass(frozen=True)
class Ranked:
    """The ends of intervals that n held-out measurements give, in order.

    Parameters
    ----------
    ends : (n, k) for each of k configurations from the smallest to the largest
    weights : (n, k) of each end with all below it
    """

    ends: np.ndarray
    weights: np.ndarray

    @classmethod
    def of(cls, ends: np.ndarray, weights: np.ndarray) -> Ranked:
        """(n, k) ends, the measurement behind each of (n,) weights."""
        order = np.argsort(ends, axis=0)
        # three thirds are one, in whichever order they are added to others
        below = np.cumsum(weights[order], axis=0).round(9)
        return cls(np.take_along_axis(ends, order, axis=0), below)

    def at(self, rank: float) -> np.ndarray:
        """(k,) the smallest ends that with all below them weigh `rank`, or the largest ones."""
        place = (self.weights[:-1] < rank).sum(axis=0)
        return np.take_along_axis(self.ends, place[None], axis=0)[0]


def rank_of(level: float, configurations: int) -> float:
    """What the end of an interval weighs with all below it; beyond `configurations`, none does."""
    return round(level * (configurations + 1), 9)

"""Calibrated predictive quantiles around any regressor, from points it had not seen.

The jackknife+ and CV+ of Barber, Candes, Ramdas and Tibshirani (2021, "Predictive inference
with the jackknife+"): with mu_-i a predictor that did not see point i, and R_i = |z_i -
mu_-i(x_i)|, the upper quantile q of a new z at x is the ceil((2q - 1)(n + 1))-th smallest of

    mu_-i(x) + R_i,   i = 1..n

and the lower ones mirror it with minus signs. An interval between q and 1 - q covers at
least 1 - 4 (1 - q) of new points whatever their distribution, and about 2q - 1 in practice.
Every mu_-i is an average of `members`: of the one that left out the fold of i, or of
a forest's trees that did not draw i (Kim, Xu and Barber, 2020, "jackknife+-after-bootstrap").
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
    points : how many distinct configurations are behind them
    size : of each imagined residual
    """

    members: Sequence[Regressor]
    shares: np.ndarray
    residuals: np.ndarray
    points: int
    size: float = PRIOR_SIZE

    def quantiles(
        self, x: np.ndarray, centre: np.ndarray, levels: Sequence[float]
    ) -> list[np.ndarray]:
        """The (k,) predictive quantiles at each level, around the (k,) point predictions.

        Beyond what n ranks can tell, the widest interval grows as Student's t with n
        degrees of freedom does. With fewer than `FEW_POINTS` points all quantiles are those
        of a Student's t whose scale is the root mean square of the residuals and of
        `PRIOR_POINTS` imagined ones: wide, and meant to be.
        """
        if self.points < FEW_POINTS:
            return [centre + self._small_sample_width(level) for level in levels]
        held_out = self.shares @ np.stack([member.predict(x) for member in self.members])
        upper = np.sort(held_out + self.residuals[:, None], axis=0)
        lower = np.sort(self.residuals[:, None] - held_out, axis=0)
        result = []
        for level in levels:
            if level >= 0.5:
                result.append(centre + _width(upper - centre, level))
            else:
                result.append(centre - _width(lower + centre, 1 - level))
        return result

    def _small_sample_width(self, level: float) -> float:
        squares = float(np.square(self.residuals).sum())
        count = PRIOR_POINTS + len(self.residuals)
        scale = np.sqrt((PRIOR_POINTS * self.size**2 + squares) / count)
        return float(student.ppf(level, count) * scale)


def _width(sorted_ends: np.ndarray, level: float) -> np.ndarray:
    """(k,) distances from the centre to the quantile `level` >= 0.5, zero or more."""
    n = len(sorted_ends)
    rank = int(np.ceil(round((2 * level - 1) * (n + 1), 9)))
    if rank == 0:
        return np.zeros(sorted_ends.shape[1])
    width = np.clip(sorted_ends[min(rank, n) - 1], 0.0, None)
    if rank <= n:
        return width
    widest = (1 + n / (n + 1)) / 2  # the largest level that n ranks reach
    return width * float(student.ppf(level, n) / student.ppf(widest, n))

"""`Posterior`: a joint Gaussian over configurations, closed under conditioning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Posterior:
    """A joint Gaussian over the noise-free metric at n configurations.

    Parameters
    ----------
    mean : (n,), on the metric's transformed scale (log for positive metrics)
    covariance : (n, n), of the noise-free values
    noise_variance : (n,), of one new measurement at each configuration
    """

    mean: np.ndarray
    covariance: np.ndarray
    noise_variance: np.ndarray

    @classmethod
    def mixed(cls, weights: Sequence[float], members: Sequence[Posterior]) -> Posterior:
        """The Gaussian with the mean and covariance of a mixture of posteriors."""
        means = np.stack([member.mean for member in members])
        shares = np.asarray(weights)[:, None]
        mean = (shares * means).sum(0)
        between = (shares * (means - mean)).T @ (means - mean)
        within = sum(w * m.covariance for w, m in zip(weights, members, strict=True))
        noise = sum(w * m.noise_variance for w, m in zip(weights, members, strict=True))
        return cls(mean, np.asarray(within + between), np.asarray(noise))

    @property
    def variance(self) -> np.ndarray:
        """(n,), the marginal variances of the noise-free values."""
        return np.clip(np.diagonal(self.covariance), 0.0, None)

    def measured(self, index: int) -> Posterior:
        """The posterior after one more measurement at `index`, whose value is not yet known.

        The covariance of a Gaussian does not depend on the value, so it shrinks by the
        rank-one update c c^T / (v + noise), while the mean stays what is expected. What is known
        beyond doubt and measured without noise tells nothing.
        """
        column = self.covariance[:, index]
        scale = max(self.covariance[index, index], 0.0) + self.noise_variance[index]
        if not scale > 0.0:
            return self
        return replace(self, covariance=self.covariance - np.outer(column, column) / scale)

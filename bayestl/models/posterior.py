"""`Posterior`: a joint Gaussian over configurations, closed under conditioning."""

from __future__ import annotations

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

    @property
    def variance(self) -> np.ndarray:
        """(n,), the marginal variances of the noise-free values."""
        return np.clip(np.diagonal(self.covariance), 0.0, None)

    def measured(self, index: int) -> Posterior:
        """The posterior after one more measurement at `index`, whose value is not yet known.

        The covariance of a Gaussian does not depend on the value, so it shrinks by the
        rank-one update c c^T / (v + noise), while the mean stays what is expected.
        """
        column = self.covariance[:, index]
        scale = max(self.covariance[index, index], 0.0) + self.noise_variance[index]
        return replace(self, covariance=self.covariance - np.outer(column, column) / scale)

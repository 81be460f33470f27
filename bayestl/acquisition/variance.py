"""Acquisitions that reduce what is not known: of the whole pool, or of one point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bayestl.acquisition.acquisition import Outlook


@dataclass(frozen=True)
class IntegratedVariance:
    """The expected reduction of the variance summed over the pool.

    Measuring point j shrinks the covariance by c_j c_j^T / (v_j + noise_j), whatever
    the value turns out to be, so the weighted sum of the variances falls by exactly

        score_j = sum_i weight_i c_ij^2 / (v_j + noise_j)

    A mixture comes as the Gaussian with its mean and covariance, and the reduction is exact for
    that: how a value would change the mixture's weights is left out.

    Active learning Cohn; Cohn, Ghahramani and Jordan (1996), and Seo, Wallat, Graepel
    and Obermayer (2000, equation 8) for Gaussian processes.
    """

    needs_posterior: ClassVar[bool] = True

    def score(self, outlook: Outlook) -> np.ndarray:
        posterior = outlook.posterior
        reduction = outlook.weights @ np.square(posterior.covariance)
        scale = posterior.variance + posterior.noise_variance
        return np.divide(reduction, scale, out=np.zeros_like(reduction), where=scale > 0)


@dataclass(frozen=True)
class PosteriorVariance:
    """The variance of the noise-free metric at the point itself.

    Active learning MacKay (1992), also called uncertainty sampling. It likes the
    borders of the space; `IntegratedVariance` does not.
    """

    needs_posterior: ClassVar[bool] = True

    def score(self, outlook: Outlook) -> np.ndarray:
        return outlook.posterior.variance

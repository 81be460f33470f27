"""Acquisitions that look for the best configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.special import erfcx, ndtr

from bayestl.acquisition.acquisition import Outlook


@dataclass(frozen=True)
class ExpectedImprovement:
    """The expected improvement over the incumbent, on the model's transformed scale.

    The incumbent is the best posterior mean among what was measured (the plug-in rule of
    Picheny, Wagner and Ginsbourger, 2013), since the best measured value of a noisy
    metric is a lucky one; before anything was measured, the best posterior mean of
    the pool. In a batch, what is pending or was chosen before counts with its mean, too
    (the kriging believer of Ginsbourger, Le Riche and Carraro, 2010). Scores are relative to
    the largest of what may be chosen, so those never all underflow; none is above 1.
    """

    needs_posterior: ClassVar[bool] = True

    def score(self, outlook: Outlook) -> np.ndarray:
        posterior = outlook.posterior
        sign = 1.0 if outlook.maximize else -1.0
        mean = sign * posterior.mean
        best = mean.max() if outlook.best is None else sign * outlook.best
        log_score = log_expected_improvement(mean - best, np.sqrt(posterior.variance))
        eligible = slice(None) if outlook.eligible is None else outlook.eligible
        top = log_score[eligible].max()
        if not np.isfinite(top):
            return np.zeros(outlook.size)
        return np.exp(np.minimum(log_score - top, 0.0))


def log_expected_improvement(gain: np.ndarray, std: np.ndarray) -> np.ndarray:
    """log E[max(g, 0)] for g ~ N(gain, std^2), accurate in both tails.

    With z = gain / std and the standard normal density phi and distribution Phi,

        log EI = log std + log h(z),   h(z) = phi(z) + z Phi(z)

    where h cancels catastrophically for z << 0. There, after Ament, Daulton, Eriksson,
    Balandat and Bakshy (2023, section 4.1 and appendix A),

        log h(z) = log phi(z) + log(1 - r),   r = |z| sqrt(pi / 2) erfcx(|z| / sqrt 2)

    and beyond |z| = 1e4, where r rounds to 1, 1 - r = 1 / z^2.

    Parameters
    ----------
    gain : (n,), the expected gain over the incumbent, positive is better
    std : (n,), zero or more

    Returns
    -------
    (n,), minus infinity where no improvement is possible
    """
    gain, std = np.broadcast_arrays(np.asarray(gain, float), np.asarray(std, float))
    result = np.full(gain.shape, -np.inf)
    uncertain = std > 1e-100 * np.abs(gain)  # below that, z squared would overflow
    certain = ~uncertain & (gain > 0)
    result[certain] = np.log(gain[certain])
    z = gain[uncertain] / std[uncertain]
    result[uncertain] = np.log(std[uncertain]) + _log_h(z)
    return result


def _log_h(z: np.ndarray) -> np.ndarray:
    """log(phi(z) + z Phi(z)), each element by the branch that is accurate there."""
    result = np.empty_like(z)
    near = z > -1
    far = z < -1e4
    left = ~near & ~far
    result[near] = np.log(np.exp(_log_density(z[near])) + z[near] * ndtr(z[near]))
    size = -z[left]
    ratio = size * np.sqrt(np.pi / 2) * erfcx(size / np.sqrt(2))
    result[left] = _log_density(size) + np.log1p(-ratio)
    result[far] = _log_density(z[far]) - 2 * np.log(-z[far])
    return result


def _log_density(z: np.ndarray) -> np.ndarray:
    return -0.5 * (np.square(z) + np.log(2 * np.pi))

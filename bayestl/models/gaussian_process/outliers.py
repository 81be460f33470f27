"""Measurements that the process cannot explain get a noise variance of their own.

One shared cloud machine in fifty is busy at the wrong moment, and a tenfold value is the
result. Gaussian noise would bend the whole surface towards it. So a measurement whose
leave-one-out error e is far outside its predicted variance v gets the extra variance
that maximises the evidence, e^2 - v, when that raises the evidence by more than a rare
event costs (the sparse per-point noise of Ament et al., 2024, "Robust Gaussian processes
via relevance pursuit", with the closed-form optimum for one point).
"""

from __future__ import annotations

from dataclasses import replace

import torch

from bayestl.models.gaussian_process.conditioning import Conditioned
from bayestl.models.gaussian_process.evidence import Given, cholesky
from bayestl.models.gaussian_process.fitting import Fit, Hyperparameters, fit

RARE = 5.0
"""Nats that an outlier must be worth: about the log odds of one in 150 (an error of 3.7 sd)."""

MOST = 10
"""At most one in so many of an environment's measurements may be an outlier."""

FITS = 6
"""At most so many, each without the pull of what the one before held for outliers."""


def gain(error: torch.Tensor, variance: torch.Tensor) -> torch.Tensor:
    """Log evidence that the best extra variance of a point adds, 0 where none helps."""
    ratio = (error**2 / variance).clamp_min(1.0)
    return 0.5 * (ratio - 1.0 - ratio.log())


def fit_robustly(
    hyperparameters: Hyperparameters, x: torch.Tensor, z: torch.Tensor, given: Given
) -> tuple[Fit, torch.Tensor]:
    """Fit, find the outliers, fit without their pull, and again while there are others.

    The worst hide the rest, since a fit that counts them takes the noise for larger than it is.

    Returns how the last fit ended, with a word where others were found to the last, and the (n,)
    extra noise variance.
    """
    extra, fits = torch.zeros_like(z), 0
    while True:
        known, fits = extra, fits + 1
        outcome = fit(hyperparameters, x, z, replace(given, extra=known))
        extra = extra_variance(hyperparameters, x, z, given)
        if torch.equal(extra > 0, known > 0):
            return outcome, extra
        if fits == FITS:
            unsettled = f"{outcome.message}; which are outliers was not settled after {FITS} fits"
            return replace(outcome, message=unsettled), extra


def extra_variance(
    hyperparameters: Hyperparameters, x: torch.Tensor, z: torch.Tensor, given: Given
) -> torch.Tensor:
    """(n,) extra noise variance of each measurement, 0 for nearly all, hyperparameters held.

    The worst come first, since one outlier makes its neighbours look odd.
    """
    extra = torch.zeros_like(z)
    environment = x[:, -1].long()
    allowed = torch.bincount(environment) // MOST
    with torch.no_grad():
        covariance = hyperparameters.covariance(x, given)
        while bool(allowed.sum() > 0):
            factor, _ = cholesky(covariance + torch.diag(extra))
            inverse = torch.cholesky_inverse(factor)
            variance = 1.0 / inverse.diagonal()
            error = torch.cholesky_solve(z.unsqueeze(-1), factor).squeeze(-1) * variance
            worth = torch.where(extra == 0, gain(error, variance), 0.0)
            worth[allowed[environment] <= 0] = 0.0
            worst = float(worth.max())
            if worst <= RARE:
                break
            for row in torch.nonzero(worth >= max(RARE, worst / 2)).squeeze(-1).tolist():
                if allowed[environment[row]] > 0:
                    extra[row] = error[row] ** 2 - variance[row]
                    allowed[environment[row]] -= 1
    return extra


def unexplained_variance(
    belief: Conditioned, x: torch.Tensor, z: torch.Tensor, relative: torch.Tensor
) -> torch.Tensor:
    """(m,) extra noise variance of measurements that `belief` has not seen."""
    mean, variance = belief.marginals(x)
    variance = variance + belief.noise(x) * relative
    outlying = gain(z - mean, variance) > RARE
    return torch.where(outlying, (z - mean) ** 2 - variance, 0.0)

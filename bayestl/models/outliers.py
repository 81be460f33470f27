"""Measurements that the process cannot explain get a noise variance of their own.

One shared cloud machine in fifty is busy at the wrong moment, and a tenfold value is the
result. Gaussian noise would bend the whole surface towards it. So a measurement whose
leave-one-out error e is far outside its predicted variance v gets the extra variance
that maximises the evidence, e^2 - v, when that raises the evidence by more than a rare
event costs (the sparse per-point noise of Ament et al., 2024, "Robust Gaussian processes
via relevance pursuit", with the closed-form optimum for one point).
"""

from __future__ import annotations

import torch

from bayestl.models.conditioning import Conditioned
from bayestl.models.evidence import cholesky
from bayestl.models.fitting import Fit, Hyperparameters, fit

RARE = 5.0
"""Nats that an outlier must be worth: about the log odds of one in 150 (an error of 3.7 sd)."""

TYPICAL = 0.6745
"""The median of the absolute value of a standard normal variable."""

LEAST_TYPICAL = 0.05
"""Deviations are not believed to be smaller than this share of what was predicted."""

LEAST_ODD = 2.0
"""An outlier's squared error is at least so many times the variance that was predicted for it."""

MOST = 10
"""At most one in so many of an environment's measurements may be an outlier."""

SUSPICIOUS = 4.0
"""A deviation so many times the typical one, and no outlier, asks for a second fit."""

CONCENTRATIONS = 2
"""How often the worst are left out, and the rest fitted, before outliers are looked for."""

LEFT_OUT = 1e4
"""Extra variance of a measurement that is to count for nothing."""


def gain(error: torch.Tensor, variance: torch.Tensor) -> torch.Tensor:
    """Log evidence that the best extra variance of a point adds, 0 where none helps."""
    ratio = (error**2 / variance).clamp_min(1.0)
    return 0.5 * (ratio - 1.0 - ratio.log())


def fit_robustly(
    hyperparameters: Hyperparameters, x: torch.Tensor, z: torch.Tensor
) -> tuple[Fit, torch.Tensor]:
    """Fit, find the outliers, and where there are any fit once more without their pull.

    Where some measurements are still far off, a second fit leaves out the share that may be
    outliers before it looks for them (the concentration steps of Rousseeuw and Van Driessen,
    2006, "Computing LTS regression for large data sets"); the evidence decides between the two.
    Returns how the last fit ended and the (n,) extra noise variance.
    """
    trimmed = hyperparameters.at(hyperparameters.vector())
    outcome, extra = _fit_from(hyperparameters, x, z, torch.zeros_like(z))
    off = _deviations(hyperparameters, x, z, extra)
    if not bool(((extra == 0) & (off > SUSPICIOUS * off.median() / TYPICAL)).any()):
        return outcome, extra
    left_out = _worst(off, x)
    for _ in range(CONCENTRATIONS - 1):
        fit(trimmed, x, z, left_out)
        left_out = _worst(_deviations(trimmed, x, z, left_out), x)
    other, other_extra = _fit_from(trimmed, x, z, left_out)
    if _worth(trimmed, x, z, other_extra) <= _worth(hyperparameters, x, z, extra):
        return outcome, extra
    hyperparameters.move(trimmed.vector())
    return other, other_extra


def _fit_from(
    hyperparameters: Hyperparameters, x: torch.Tensor, z: torch.Tensor, extra: torch.Tensor
) -> tuple[Fit, torch.Tensor]:
    """Fit with extra noise to begin with, and once more if the outliers are others."""
    outcome = fit(hyperparameters, x, z, extra)
    found = extra_variance(hyperparameters, x, z)
    if not torch.equal(found, extra):
        outcome = fit(hyperparameters, x, z, found)
        found = extra_variance(hyperparameters, x, z)
    return outcome, found


def _deviations(
    hyperparameters: Hyperparameters, x: torch.Tensor, z: torch.Tensor, extra: torch.Tensor
) -> torch.Tensor:
    """(n,) sizes of the leave-one-out errors, in units of what is predicted without the extra."""
    with torch.no_grad():
        factor, _ = cholesky(hyperparameters.covariance(x, extra))
        inverse = torch.cholesky_inverse(factor)
        variance = 1.0 / inverse.diagonal()
        least = hyperparameters.noise.forward(x)
        return (inverse @ z).abs() * variance / torch.maximum(variance - extra, least).sqrt()


def _worst(off: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """(n,) extra variance by which the share of each environment that is furthest off is out."""
    extra = torch.zeros_like(off)
    for environment in x[:, -1].unique():
        rows = torch.nonzero(x[:, -1] == environment).squeeze(-1)
        worst = off[rows].argsort(descending=True, stable=True)[: len(rows) // MOST]
        extra[rows[worst]] = LEFT_OUT
    return extra


def _worth(
    hyperparameters: Hyperparameters, x: torch.Tensor, z: torch.Tensor, extra: torch.Tensor
) -> float:
    """The log posterior, less what the outliers cost."""
    density, _ = hyperparameters.log_posterior(x, z, extra)
    return density - RARE * int((extra > 0).sum())


def extra_variance(
    hyperparameters: Hyperparameters, x: torch.Tensor, z: torch.Tensor
) -> torch.Tensor:
    """(n,) extra noise variance of each measurement, 0 for nearly all, hyperparameters held.

    The worst come first, since one outlier makes its neighbours look odd. Where they hide behind
    a variance that they caused they are looked for among typical errors; but if there
    are then more than may be, they are no outliers, and what was predicted is believed.
    """
    with torch.no_grad():
        covariance = hyperparameters.covariance(x)
        extra, more = _found(covariance, x[:, -1].long(), z, unmask=True)
        return _found(covariance, x[:, -1].long(), z, unmask=False)[0] if more else extra


def _found(
    covariance: torch.Tensor, environment: torch.Tensor, z: torch.Tensor, *, unmask: bool
) -> tuple[torch.Tensor, bool]:
    """(n,) extra variances, and whether there would be more outliers than may be."""
    extra = torch.zeros_like(z)
    allowed = torch.bincount(environment) // MOST
    while True:
        factor, _ = cholesky(covariance + torch.diag(extra))
        inverse = torch.cholesky_inverse(factor)
        variance = 1.0 / inverse.diagonal()
        error = (inverse @ z) * variance
        odd = (extra == 0) & (error**2 > LEAST_ODD * variance)
        usual = variance * _unmasked(error, variance) if unmask else variance
        worth = torch.where(odd, gain(error, usual), 0.0)
        spent = allowed[environment] <= 0
        more = bool((worth[spent] > RARE).any())
        worth[spent] = 0.0
        worst = float(worth.max())
        if worst <= RARE:
            return extra, more
        for row in torch.nonzero(worth >= max(RARE, worst / 2)).squeeze(-1).tolist():
            if allowed[environment[row]] > 0:
                extra[row] = error[row] ** 2 - variance[row]
                allowed[environment[row]] -= 1


def _unmasked(error: torch.Tensor, variance: torch.Tensor) -> float:
    """How much less the errors vary than they were predicted to, by what most of them do.

    Outliers that were fitted as noise hide behind the variance that they caused. A median does
    not see them; it is believed where it says that deviations are less than half.
    """
    typical = float((error.abs() / variance.sqrt()).median()) / TYPICAL
    return max(typical, LEAST_TYPICAL) ** 2 if typical < 0.5 else 1.0


def unexplained_variance(belief: Conditioned, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    """(m,) extra noise variance of measurements that `belief` has not seen."""
    mean, variance = belief.marginals(x)
    variance = variance + belief.noise(x)
    outlying = gain(z - mean, variance) > RARE
    return torch.where(outlying, (z - mean) ** 2 - variance, 0.0)

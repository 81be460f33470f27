"""Doubt about the hyperparameters: a mixture of processes instead of the best one alone.

With few measurements many lengthscales and loadings explain them nearly as well as the
best do, and a process that knows only the best is too sure. The log posterior of the
hyperparameters is taken as quadratic around its maximum (Laplace's method; MacKay, 1992,
"A practical Bayesian framework for backpropagation networks"), some are drawn from that
Gaussian in antithetic pairs, and their predictions are mixed by their first two moments:

    mean = E[m],  covariance = E[C] + Cov[m]
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from bayestl.errors import FitError
from bayestl.models.gaussian_process.conditioning import Conditioned
from bayestl.models.gaussian_process.evidence import Given
from bayestl.models.gaussian_process.fitting import Objective, one_thread
from bayestl.models.model import checked_seed

DRAWS = 8
"""How many processes are mixed, two for each direction that is drawn."""

CURVATURE_ROWS = 500
"""The curvature is found from at most this many measurements, the target's first."""

MAX_ELEMENTS = 4e7
"""Matrix elements (320 MB) that all factors may take; past it the best process stands alone."""

STEP = 1e-4
LEAST_PRECISION = 1.0
"""Where the quadratic has little curvature it says little: no further than a factor e (one sd)."""


@dataclass(frozen=True)
class Mixture:
    """Equally likely processes; answers as one `Conditioned` does, by moment matching."""

    parts: tuple[Conditioned, ...]

    def marginals(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(m,) means and (m,) variances of the noise-free values at x."""
        return _matched([part.marginals(x) for part in self.parts])

    def joint(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(..., m) means and (..., m, m) covariances at x, differentiable in x."""
        means, covariances = map(torch.stack, zip(*(p.joint(x) for p in self.parts), strict=True))
        mean = means.mean(0)
        apart = means - mean
        between = (apart.unsqueeze(-1) * apart.unsqueeze(-2)).mean(0)
        return mean, covariances.mean(0) + between

    def leave_one_out(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and variance of the measurements in `rows`, each given all others."""
        return _matched([part.leave_one_out(rows) for part in self.parts])

    def noise(self, x: torch.Tensor) -> torch.Tensor:
        """(..., m), the variance of a new measurement at x."""
        return torch.stack([part.noise(x) for part in self.parts]).mean(0)

    def noise_of(self, rows: torch.Tensor) -> torch.Tensor:
        """(m,), the variance of the measurements in `rows`, were they no outliers."""
        return torch.stack([part.noise_of(rows) for part in self.parts]).mean(0)


def integrate(best: Conditioned, seed: int) -> Mixture:
    """The mixture around the best process, or that alone where a mixture costs too much."""
    pairs = min(DRAWS, int(MAX_ELEMENTS // len(best.z) ** 2)) // 2
    if not pairs:
        return Mixture((best,))
    target, others = (torch.nonzero(flag).squeeze(-1) for flag in _split(best))
    left = max(CURVATURE_ROWS - len(target), CURVATURE_ROWS // 4)
    rows = torch.cat([spaced(target, CURVATURE_ROWS * 3 // 4), spaced(others, left)])
    with one_thread():
        given = Given(best.extra[rows], best.relative[rows])
        centre = best.hyperparameters.vector()
        log_posterior = best.hyperparameters.at(centre).objective(best.x[rows], best.z[rows], given)
        parts = [
            part
            for vector in draws(log_posterior, centre, pairs, seed)
            if (part := _conditioned(best, vector)) is not None
        ]
    return Mixture(tuple(parts) or (best,))


def draws(
    log_posterior: Objective,
    centre: np.ndarray,
    pairs: int,
    seed: int,
    least_precision: float = LEAST_PRECISION,
) -> Iterator[np.ndarray]:
    """Antithetic pairs of (k,) vectors from the Gaussian around the maximum of a log posterior.

    By the symmetric root of the inverse curvature: any other root would turn with the axes, whose
    signs hang on the last bit.
    """
    here = log_posterior(centre)[1]
    steps = STEP * np.eye(len(centre))
    curvature = np.stack([(here - log_posterior(centre + step)[1]) / STEP for step in steps])
    precision, axes = torch.linalg.eigh(torch.from_numpy((curvature + curvature.T) / 2.0))
    root = axes / precision.clamp_min(least_precision).sqrt() @ axes.mT
    generator = torch.Generator().manual_seed(checked_seed(seed))
    directions = torch.randn(pairs, len(centre), generator=generator, dtype=torch.float64)
    for direction in directions:
        for sign in (1.0, -1.0):
            yield centre + sign * (root @ direction).numpy()


def _matched(
    moments: list[tuple[torch.Tensor, torch.Tensor]],
) -> tuple[torch.Tensor, torch.Tensor]:
    """(m,) means and (m,) variances of the mixture of Gaussians with these."""
    means, variances = map(torch.stack, zip(*moments, strict=True))
    mean = means.mean(0)
    return mean, variances.mean(0) + (means - mean).square().mean(0)


def _split(best: Conditioned) -> tuple[torch.Tensor, torch.Tensor]:
    is_target = best.x[:, -1] == 0
    return is_target, ~is_target


def spaced(rows: torch.Tensor, most: int) -> torch.Tensor:
    """At most so many of the rows, which are sorted by environment and features.

    One at random from each of `most` stretches of equal length, the same every time: steps of
    one length would meet the same level of an option again and again where rows are a grid.
    """
    if len(rows) <= most:
        return rows
    ends = np.arange(most + 1) * len(rows) // most
    inside = np.random.default_rng(0).random(most)
    return rows[torch.from_numpy(ends[:-1] + (inside * np.diff(ends)).astype(np.int64))]


def _conditioned(best: Conditioned, vector: np.ndarray) -> Conditioned | None:
    """The process with other hyperparameters; None where its covariance cannot be factorised.

    Nor as it is where the best one's can: what is added to the diagonal is noise that those
    hyperparameters do not have, and may be more than all that there is.
    """
    try:
        there = best.hyperparameters.at(vector)
        measured = (best.x, best.z, best.extra, best.relative)
        found = Conditioned.on(there, *measured, device=best.device)
    except FitError:
        return None
    return found if found.jitter <= best.jitter else None

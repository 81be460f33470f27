"""The exact Gaussian: evidence with its gradient, and leave-one-out predictions.

For z ~ N(0, K), K with the noise on its diagonal. All of it is float64 and our own Cholesky:
gpytorch's solvers depend on global settings, which importing botorch changes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from bayestl.errors import FitError

JITTERS = (0.0, 1e-8, 1e-6, 1e-4)
"""What is added to the diagonal, relative to its mean, until the factorisation works."""


@dataclass(frozen=True)
class Given:
    """What the covariance of n measurements has, whatever the hyperparameters are.

    Parameters
    ----------
    extra : (n,) noise variance beside the environment's, 0 for all but outliers
    relative : (n,) noise variance of each, relative to its environment's; see `repeats`
    known : (n, n) covariance beside the kernel's
    """

    extra: torch.Tensor | float = 0.0
    relative: torch.Tensor | float = 1.0
    known: torch.Tensor | float = 0.0


NOTHING = Given()


def cholesky(covariance: torch.Tensor) -> tuple[torch.Tensor, float]:
    """The lower factor of a covariance, and the relative jitter that it took.

    Raises
    ------
    FitError
        If no jitter helps.
    """
    return factorised(lambda: covariance.new_empty(covariance.shape).mT.copy_(covariance))


def factorised(build: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, float]:
    """As `cholesky`, of the (n, n) covariance that `build` makes anew for each attempt.

    The factor takes the matrix's own memory if that is column by column, so that n^2 numbers
    are all that is needed.

    Raises
    ------
    FitError
        If no jitter helps.
    """
    n = 0
    for jitter in JITTERS:
        matrix = build()
        n, diagonal = len(matrix), matrix.diagonal()
        if jitter:
            diagonal.add_(jitter * diagonal.mean())
        info = torch.empty((), dtype=torch.int32, device=matrix.device)
        torch.linalg.cholesky_ex(matrix, out=(matrix, info))
        if int(info) == 0 and bool(torch.isfinite(diagonal).all()):
            return matrix, jitter
    raise FitError(
        f"the covariance of {n} measurements is not positive definite, even with "
        f"{JITTERS[-1]:g} added to its diagonal"
    )


def log_evidence(covariance: torch.Tensor, z: torch.Tensor) -> tuple[float, torch.Tensor]:
    """log N(z; 0, K) and its (n, n) derivative in K, (alpha alpha^T - K^-1) / 2, alpha = K^-1 z.

    One Cholesky and one inverse from it give both (Rasmussen and Williams, 2006, 5.9); alpha is by
    the factor, since with next to no noise the inverse knows little of it.

    Raises
    ------
    FitError
        If the covariance cannot be factorised.
    """
    factor, _ = cholesky(covariance)
    half = torch.linalg.solve_triangular(factor, z.unsqueeze(-1), upper=False)
    alpha = torch.linalg.solve_triangular(factor.mT, half, upper=True).squeeze(-1)
    log_determinant = 2.0 * factor.diagonal().log().sum()
    inverse = torch.cholesky_inverse(factor).mT  # symmetric, and now row by row in memory
    evidence = -0.5 * (half.square().sum() + log_determinant + len(z) * math.log(2.0 * math.pi))
    return float(evidence), inverse.addr_(alpha, alpha, beta=-0.5, alpha=0.5)


def leave_group_out(
    inverse: torch.Tensor, alpha: torch.Tensor, z: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance of each of c measurements given all but these c; see `leave_one_out`.

    Parameters
    ----------
    inverse : (..., c, c), their block of K^-1
    alpha, z : (..., c), their entries of K^-1 z and of z
    """
    covariance = torch.linalg.inv(inverse)
    mean = z - (covariance @ alpha.unsqueeze(-1)).squeeze(-1)
    return mean, covariance.diagonal(dim1=-2, dim2=-1)


def leave_one_out(
    precision: torch.Tensor, alpha: torch.Tensor, z: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance of each measurement given all others, hyperparameters held.

        mean_i = z_i - alpha_i / [K^-1]_ii,  variance_i = 1 / [K^-1]_ii

    (Rasmussen and Williams, 2006, equation 5.12), of any of the measurements.

    Parameters
    ----------
    precision : (m,), theirs on the diagonal of K^-1
    alpha, z : (m,), their entries of K^-1 z and of z
    """
    variance = 1.0 / precision
    return z - alpha * variance, variance

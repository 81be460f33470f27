"""The exact Gaussian: evidence with its gradient, and leave-one-out predictions.

For z ~ N(0, K), K with the noise on its diagonal. All of it is float64 and our own Cholesky:
gpytorch's solvers depend on global settings, which importing botorch changes.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from bayestl.errors import FitError

JITTERS = (0.0, 1e-8, 1e-6, 1e-4)
"""What is added to the diagonal, relative to its mean, until the factorisation works."""


def cholesky(covariance: torch.Tensor) -> tuple[torch.Tensor, float]:
    """The lower factor of a covariance, and the relative jitter that it took.

    Raises
    ------
    FitError
        If no jitter helps.
    """
    scale = covariance.diagonal().mean()
    for jitter in JITTERS:
        attempt = covariance.clone() if jitter else covariance
        if jitter:
            attempt.diagonal().add_(jitter * scale)
        factor, info = torch.linalg.cholesky_ex(attempt)
        if int(info) == 0 and bool(torch.isfinite(factor.diagonal()).all()):
            return factor, jitter
    raise FitError(
        f"the covariance of {len(covariance)} measurements is not positive definite, even with "
        f"{JITTERS[-1]:g} added to its diagonal"
    )


class LogEvidence(torch.autograd.Function):
    """log N(z; 0, K) with d/dK = (alpha alpha^T - K^-1) / 2, alpha = K^-1 z.

    One Cholesky and one inverse from it give the value and the whole gradient, so that
    automatic differentiation sees the kernel alone (Rasmussen and Williams, 2006, 5.9).
    """

    @staticmethod
    def forward(ctx: Any, covariance: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        factor, _ = cholesky(covariance)
        inverse = torch.cholesky_inverse(factor)
        alpha = inverse @ z
        ctx.save_for_backward(inverse, alpha)
        log_determinant = 2.0 * factor.diagonal().log().sum()
        return -0.5 * (z @ alpha + log_determinant + len(z) * math.log(2.0 * math.pi))

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:  # type: ignore[override]
        inverse, alpha = ctx.saved_tensors
        return gradients[0] * 0.5 * (torch.outer(alpha, alpha) - inverse), None


def log_evidence(covariance: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    """log N(z; 0, K), differentiable in K."""
    return LogEvidence.apply(covariance, z)  # type: ignore[return-value]


def leave_one_out(
    factor: torch.Tensor, alpha: torch.Tensor, z: torch.Tensor, rows: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance of each of `rows` given all others, hyperparameters held.

        mean_i = z_i - alpha_i / [K^-1]_ii,  variance_i = 1 / [K^-1]_ii

    (Rasmussen and Williams, 2006, equation 5.12). Only the columns of K^-1 that are
    asked for are computed.
    """
    unit = torch.zeros(len(z), len(rows), dtype=z.dtype)
    unit[rows, torch.arange(len(rows))] = 1.0
    half = torch.linalg.solve_triangular(factor, unit, upper=False)
    variance = 1.0 / half.square().sum(0)
    return z[rows] - alpha[rows] * variance, variance

"""A Gaussian process conditioned on measurements: marginals in blocks, joint on request."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from bayestl.models.evidence import cholesky, leave_one_out
from bayestl.models.fitting import Hyperparameters

BLOCK = 1_000
"""How many configurations are predicted at a time, which bounds the memory."""


@dataclass(frozen=True)
class Conditioned:
    """The belief f | z at inputs x, on the standardised scale.

    Parameters
    ----------
    hyperparameters : kernel and noise
    x : (n, d) measured inputs
    z : (n,) measured values
    extra : (n,) extra noise variance of each, 0 for all but outliers
    factor : (n, n) lower Cholesky factor of their covariance, noise included
    alpha : (n,) K^-1 z
    jitter : what was added to the diagonal, relative to its mean
    """

    hyperparameters: Hyperparameters
    x: torch.Tensor
    z: torch.Tensor
    extra: torch.Tensor
    factor: torch.Tensor
    alpha: torch.Tensor
    jitter: float

    @classmethod
    def on(
        cls,
        hyperparameters: Hyperparameters,
        x: torch.Tensor,
        z: torch.Tensor,
        extra: torch.Tensor | None = None,
    ) -> Conditioned:
        """The process given z at x, measured with `extra` noise variance.

        Raises
        ------
        FitError
            If the covariance cannot be factorised.
        """
        extra = torch.zeros_like(z) if extra is None else extra
        with torch.no_grad():
            factor, jitter = cholesky(hyperparameters.covariance(x, extra))
            alpha = torch.cholesky_solve(z.unsqueeze(-1), factor).squeeze(-1)
        return cls(hyperparameters, x, z, extra, factor, alpha, jitter)

    def marginals(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(m,) means and (m,) variances of the noise-free values at x."""
        kernel = self.hyperparameters.kernel
        means, variances = [torch.empty(0, dtype=x.dtype)], [torch.empty(0, dtype=x.dtype)]
        with torch.no_grad():
            for block in x.split(BLOCK):
                cross = kernel.forward(self.x, block)
                half = torch.linalg.solve_triangular(self.factor, cross, upper=False)
                means.append(cross.T @ self.alpha)
                variance = kernel.forward(block, block, diag=True) - half.square().sum(0)
                variances.append(variance.clamp_min(0.0))
        return torch.cat(means), torch.cat(variances)

    def joint(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(..., m) means and (..., m, m) covariances at x, differentiable in x."""
        kernel = self.hyperparameters.kernel
        cross = kernel.forward(self.x, x)
        half = torch.linalg.solve_triangular(self.factor, cross, upper=False)
        mean = cross.transpose(-1, -2) @ self.alpha
        covariance = kernel.forward(x, x) - half.transpose(-1, -2) @ half
        return mean, (covariance + covariance.transpose(-1, -2)) / 2.0

    def leave_one_out(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and variance of the measurements in `rows`, each given all others."""
        return leave_one_out(self.factor, self.alpha, self.z, rows)

    def noise(self, x: torch.Tensor) -> torch.Tensor:
        """(..., m), the variance of one measurement at x."""
        with torch.no_grad():
            return self.hyperparameters.noise.forward(x)

"""A Gaussian process conditioned on measurements: marginals in blocks, joint on request."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from bayestl.errors import FileError
from bayestl.models.evidence import cholesky, leave_one_out
from bayestl.models.fitting import Hyperparameters
from bayestl.models.state import State

BLOCK = 1_000
"""How many configurations are predicted at a time, which bounds the memory."""


def as_tensor(array: np.ndarray) -> torch.Tensor:
    """The array in memory of torch's own, whose alignment decides how BLAS rounds."""
    return torch.from_numpy(array).clone()


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

    def to_arrays(self) -> dict[str, np.ndarray]:
        """What `from_arrays` needs beside x, z and extra, which the parts of a mixture share.

        The factor is kept, not computed again: another number of threads may round otherwise.
        """
        return {
            "parameters": parameters_to_vector(self.hyperparameters.parameters()).detach().numpy(),
            "factor": self.factor.numpy()[np.tri(len(self.z), dtype=bool)],
            "alpha": self.alpha.numpy(),
            "jitter": np.array([self.jitter]),
        }

    @classmethod
    def from_arrays(
        cls,
        state: State,
        hyperparameters: Hyperparameters,
        x: torch.Tensor,
        z: torch.Tensor,
        extra: torch.Tensor,
    ) -> Conditioned:
        """The process whose arrays are in `state`, as equal in memory as in value.

        `hyperparameters` have the structure of those that were kept, and take their values.

        Raises
        ------
        FileError
            If an array is missing or malformed.
        """
        n, count = len(z), sum(p.numel() for p in hyperparameters.parameters())
        parameters = as_tensor(state.array("parameters", count))
        vector_to_parameters(parameters, hyperparameters.parameters())
        factor = torch.zeros(n, n, dtype=torch.float64).mT  # column by column, as LAPACK left it
        factor.numpy()[np.tri(n, dtype=bool)] = state.array("factor", n * (n + 1) // 2)
        if not bool((factor.diagonal() > 0).all()):
            raise FileError("expected a Cholesky factor, got one without a positive diagonal")
        alpha, jitter = as_tensor(state.array("alpha", n)), state.array("jitter", 1)
        return cls(hyperparameters, x, z, extra, factor, alpha, float(jitter[0]))

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

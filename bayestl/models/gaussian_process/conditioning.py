"""A Gaussian process conditioned on measurements: marginals in blocks, joint on request."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from bayestl.errors import FileError
from bayestl.models.gaussian_process.device import CPU, name_of
from bayestl.models.gaussian_process.evidence import leave_group_out, leave_one_out
from bayestl.models.gaussian_process.fitting import Hyperparameters
from bayestl.models.gaussian_process.kernels import CoregionalizedKernel
from bayestl.models.gaussian_process.matrix_free import Covariance, MatrixFree, tile_width
from bayestl.models.gaussian_process.repeats import repeated
from bayestl.models.gaussian_process.solver import Dense, Solver, solver
from bayestl.models.state import State

BLOCK = 1_000
"""How many configurations are predicted at a time, which bounds the memory."""


def as_tensor(array: np.ndarray) -> torch.Tensor:
    """The array in memory of torch's own, whose alignment decides how BLAS rounds."""
    return torch.from_numpy(array).clone()


def kept_relative(state: State, n: int) -> torch.Tensor:
    """The (n,) `relative` noise of measurements that were kept; older files have none."""
    return as_tensor(state.array("relative", n) if "relative" in state.arrays else np.ones(n))


@dataclass(frozen=True)
class Conditioned:
    """The belief f | z at inputs x, on the standardised scale.

    It takes and gives tensors on the CPU, wherever its solver lives; only `towards` hands out
    one that stays there.

    Parameters
    ----------
    hyperparameters : kernel and noise
    x : (n, d) measured inputs
    z : (n,) measured values
    extra : (n,) extra noise variance of each, 0 for all but outliers
    relative : (n,) what its other noise variance is relative to the environment's; see `repeats`
    solver : solves with their covariance K, noise included
    alpha : (n,) K^-1 z
    device : where the solver lives
    """

    hyperparameters: Hyperparameters
    x: torch.Tensor
    z: torch.Tensor
    extra: torch.Tensor
    relative: torch.Tensor
    solver: Solver
    alpha: torch.Tensor
    device: torch.device = CPU

    @classmethod
    def on(
        cls,
        hyperparameters: Hyperparameters,
        x: torch.Tensor,
        z: torch.Tensor,
        extra: torch.Tensor | None = None,
        relative: torch.Tensor | None = None,
        *,
        device: torch.device = CPU,
    ) -> Conditioned:
        """The process given z at x, measured with `relative` and `extra` noise; see `solver`.

        Raises
        ------
        FitError
            If the covariance cannot be factorised.
        """
        extra = torch.zeros_like(z) if extra is None else extra
        relative = torch.ones_like(z) if relative is None else relative
        with torch.no_grad():
            covariance = _covariance(hyperparameters, x, extra, relative, device)
            found, alpha = solver(covariance, z.to(device))
        return cls(hyperparameters, x, z, extra, relative, found, alpha.to(CPU), device)

    @property
    def jitter(self) -> float:
        """What was added to the diagonal of K, relative to its mean."""
        return self.solver.jitter if isinstance(self.solver, Dense) else 0.0

    @property
    def solved(self) -> dict[str, Any]:
        """How K was solved with, as plain values for diagnostics."""
        where = {"device": name_of(self.device), "rows": len(self.z)}
        if isinstance(self.solver, Dense):
            return {**where, "method": "dense", "jitter": self.solver.jitter}
        return {
            **where,
            "method": "matrix-free",
            "rank": self.solver.rank,
            "iterations": self.solver.iterations,
            "residual": self.solver.residual,
        }

    @property
    def warning(self) -> str | None:
        """One sentence where K could not be solved with as it should."""
        if isinstance(self.solver, Dense):
            added = f"the covariance needed {self.jitter:g} added to its diagonal"
            return added if self.jitter else None
        if self.solver.converged:
            return None
        return (
            f"conjugate gradients did not converge: after {self.solver.iterations} iterations the "
            f"relative residual of {len(self.z)} measurements is {self.solver.residual:.1g}; "
            "most_rows can be lowered until they are conditioned on exactly"
        )

    def to_arrays(self) -> dict[str, np.ndarray]:
        """What `from_arrays` needs beside what the parts of a mixture share.

        The factor is kept, not computed again: another number of threads may round otherwise.
        """
        found = {
            "parameters": parameters_to_vector(self.hyperparameters.parameters()).detach().numpy(),
            "alpha": self.alpha.numpy(),
        }
        if isinstance(self.solver, Dense):
            factor = self.solver.factor.to(CPU).numpy()[np.tri(len(self.z), dtype=bool)]
            return found | {"factor": factor, "jitter": np.array([self.solver.jitter])}
        ended = np.array([self.solver.iterations, self.solver.residual])
        return found | {
            "root": self.solver.root.to(CPU).numpy(),
            "excess": self.solver.excess.to(CPU).numpy(),
            "ended": ended,
        }

    @classmethod
    def from_arrays(
        cls,
        state: State,
        hyperparameters: Hyperparameters,
        x: torch.Tensor,
        z: torch.Tensor,
        extra: torch.Tensor,
        relative: torch.Tensor,
    ) -> Conditioned:
        """The process whose arrays are in `state`, as equal in memory as in value, on the CPU.

        `hyperparameters` have the structure of those that were kept, and take their values.

        Raises
        ------
        FileError
            If an array is missing or malformed.
        """
        n, count = len(z), sum(p.numel() for p in hyperparameters.parameters())
        parameters = as_tensor(state.array("parameters", count))
        vector_to_parameters(parameters, hyperparameters.parameters())
        alpha = as_tensor(state.array("alpha", n))
        if "root" in state.arrays:
            root = as_tensor(state.array("root", n, None))
            excess = as_tensor(state.array("excess", root.shape[-1], root.shape[-1]))
            iterations, residual = state.array("ended", 2).tolist()
            covariance = _covariance(hyperparameters, x, extra, relative, CPU)
            found = MatrixFree(covariance, root, excess, int(iterations), residual)
            return cls(hyperparameters, x, z, extra, relative, found, alpha)
        factor = torch.zeros(n, n, dtype=torch.float64).mT  # column by column, as LAPACK left it
        factor.numpy()[np.tri(n, dtype=bool)] = state.array("factor", n * (n + 1) // 2)
        if not bool((factor.diagonal() > 0).all()):
            raise FileError("expected a Cholesky factor, got one without a positive diagonal")
        jitter = float(state.array("jitter", 1)[0])
        return cls(hyperparameters, x, z, extra, relative, Dense(factor, jitter), alpha)

    def marginals(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(m,) means and (m,) variances of the noise-free values at x."""
        kernel = self.hyperparameters.kernel
        means, variances = [torch.empty(0, dtype=x.dtype)], [torch.empty(0, dtype=x.dtype)]
        for block in x.split(BLOCK):
            mean, half = self.towards(block)
            with torch.no_grad():
                prior = kernel.forward(block, block, diag=True)
            means.append(mean)
            variances.append((prior - half.square().sum(0).to(CPU)).clamp_min(0.0))
        return torch.cat(means), torch.cat(variances)

    def towards(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(m,) means at x, and on the device the (r, m) `Solver.half` of its covariances."""
        kernel, measured, alpha = self._there
        means, halves = [], []
        with torch.no_grad():
            for block in x.to(self.device).split(tile_width(len(self.z), self.device)):
                cross = kernel.forward(measured, block)
                means.append(cross.mT @ alpha)
                halves.append(self.solver.half(cross))
        half = halves[0] if len(halves) == 1 else torch.cat(halves, -1)
        return torch.cat(means).to(CPU), half

    def joint(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(..., m) means and (..., m, m) covariances at x, differentiable in x."""
        kernel, measured, alpha = self._there
        there = x.to(self.device)
        cross = kernel.forward(measured, there)
        half = self.solver.half(cross)
        mean = cross.transpose(-1, -2) @ alpha
        covariance = kernel.forward(there, there) - half.transpose(-1, -2) @ half
        return mean.to(CPU), ((covariance + covariance.transpose(-1, -2)) / 2.0).to(CPU)

    def leave_one_out(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and variance of the measurements in `rows`, each given all others.

        But repeats of the same configuration, which would tell all about it.
        """
        with torch.no_grad():
            precision = self.solver.precision(rows).to(CPU)
            mean, variance = leave_one_out(precision, self.alpha[rows], self.z[rows])
            groups = [group for group in repeated(self.x) if bool(torch.isin(group, rows).any())]
            blocks = self.solver.blocks(groups) if groups else []
            for group, block in zip(groups, blocks, strict=True):
                found = leave_group_out(block.to(CPU), self.alpha[group], self.z[group])
                asked, member = torch.nonzero(rows.unsqueeze(-1) == group, as_tuple=True)
                mean[asked], variance[asked] = (part[member] for part in found)
        return mean, variance

    def noise(self, x: torch.Tensor) -> torch.Tensor:
        """(..., m), the variance of a new measurement at x."""
        with torch.no_grad():
            return self.hyperparameters.noise.forward(x)

    def noise_of(self, rows: torch.Tensor) -> torch.Tensor:
        """(m,), the variance of the measurements in `rows`, were they no outliers."""
        return self.noise(self.x[rows]) * self.relative[rows]

    @cached_property
    def _there(self) -> tuple[CoregionalizedKernel, torch.Tensor, torch.Tensor]:
        """Kernel, x and alpha on the device; on the CPU they are no copies."""
        kernel = _moved(self.hyperparameters, self.device)
        return kernel, self.x.to(self.device), self.alpha.to(self.device)


def _covariance(
    hyperparameters: Hyperparameters,
    x: torch.Tensor,
    extra: torch.Tensor,
    relative: torch.Tensor,
    device: torch.device,
) -> Covariance:
    with torch.no_grad():
        noise = hyperparameters.noise.forward(x) * relative + extra
    return Covariance(_moved(hyperparameters, device), x.to(device), noise.to(device))


def _moved(hyperparameters: Hyperparameters, device: torch.device) -> CoregionalizedKernel:
    kernel = hyperparameters.kernel
    return kernel if device == CPU else copy.deepcopy(kernel).to(device)

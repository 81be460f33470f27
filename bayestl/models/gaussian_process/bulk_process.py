"""The variance of a process at very many configurations: most of the work in float32.

The variance is the prior's less |L^-1 k|^2, n^2 multiplications a configuration. All in
float32 it would be noise where the prior is a million times wider than the posterior. So rows
are taken in the order of a pivoted Cholesky factorisation. The first, in float64, explain
what is large; what they leave of k is about as small as the noise, so that float32 is
accurate for the many others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from bayestl.models.gaussian_process.conditioning import Conditioned
from bayestl.models.gaussian_process.evidence import cholesky
from bayestl.models.gaussian_process.matrix_free import pivoted_cholesky
from bayestl.models.gaussian_process.solver import Dense

BLOCK = 2_048
"""How many configurations are looked at at a time: few enough for a block to stay in the cache, and
so many that threads side by side seldom wait for the interpreter's lock."""

LEFT = 100.0
"""How far above the noise variance the first rows leave the variance of the others.

Its rounding then moves a measurement's variance by a fraction of (2 eps) LEFT^1.5, 1e-4.
"""

FEW = 3
"""Float32 pays while the first rows are at most one in so many; else all of it is float64."""

STRIPS = 8
"""A triangular product is done in so many strips, each without the zeros to its right.

BLAS has a triangular product, which scipy calls one thread at a time.
"""


@dataclass(frozen=True)
class BulkProcess:
    """A conditioned process with its m rows in another order, r of them first.

    Parameters
    ----------
    process : it
    order : (m,) the rows of the process
    x : (m, d) inputs
    alpha : (m,) K^-1 z
    first : (r, r) Cholesky factor of the first rows
    below : (m - r, r), of the factor, its further rows
    inverse : (m - r, m - r) inverse of the rest of the factor, in float32
    """

    process: Conditioned
    order: torch.Tensor
    x: torch.Tensor
    alpha: torch.Tensor
    first: torch.Tensor
    below: torch.Tensor
    inverse: torch.Tensor

    @classmethod
    def of(cls, process: Conditioned) -> BulkProcess:
        """A process whose solver is `Dense`, the rows first that the others depend on most."""
        assert isinstance(process.solver, Dense)
        whole = process.solver.factor
        covariance = whole @ whole.mT
        noise = process.noise_of(torch.arange(len(process.z)))
        pivoted = _pivoted(covariance, LEFT * float(noise.min()))
        order, r = pivoted or (torch.arange(len(process.z)), len(process.z))
        factor = cholesky(covariance[order][:, order])[0] if pivoted else whole
        rest = factor[r:, r:]
        inverse = torch.linalg.solve_triangular(
            rest, torch.eye(len(rest), dtype=rest.dtype), upper=False
        )
        return cls(
            process,
            order,
            process.x[order],
            process.alpha[order],
            factor[:r, :r].contiguous(),
            factor[r:, :r].contiguous(),
            inverse.float().contiguous(),
        )

    def towards(
        self, places: torch.Tensor, half: torch.Tensor
    ) -> Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """From (n, d) inputs to (n,) means, (k, n) covariances with k places, (n,) variances.

        Parameters
        ----------
        places : (k, d) inputs
        half : (m, k) `Solver.half` of their covariances with the rows
        """
        kernel, m = self.process.hyperparameters.kernel, len(self.x)
        assert isinstance(self.process.solver, Dense)
        solved = torch.linalg.solve_triangular(self.process.solver.factor.mT, half, upper=True)
        # means and covariances by one product with the kernel towards rows and places
        rows = torch.cat([self.x, places])
        linear = half.new_zeros(1 + len(places), len(rows))
        linear[0, :m], linear[1:, :m] = self.alpha, -solved[self.order].mT
        linear[1:, m:] = torch.eye(len(places))
        with torch.no_grad():
            prior = kernel.forward(self.x[:1], self.x[:1], diag=True)  # the same everywhere

        def answer(inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            with torch.no_grad():
                cross = kernel.forward(rows, inputs)
            found = linear @ cross
            return found[0], found[1:], (prior - self.explained(cross[:m])).clamp_min_(0.0)

        return answer

    def explained(self, cross: torch.Tensor) -> torch.Tensor:
        """(n,) sums of squares of L^-1 k, of (m, n) covariances k with the rows.

        Whose memory it takes.
        """
        r, left = len(self.first), len(self.inverse)
        half = torch.linalg.solve_triangular(self.first, cross[:r], upper=False)
        total = half.square().sum(0)
        if not left:
            return total
        rest = cross[r:].addmm_(self.below, half, alpha=-1.0).float()
        for strip in range(STRIPS):
            start, end = left * strip // STRIPS, left * (strip + 1) // STRIPS
            total += (self.inverse[start:end, :end] @ rest[:end]).square_().sum(0)
        return total


def _pivoted(covariance: torch.Tensor, enough: float) -> tuple[torch.Tensor, int] | None:
    """Rows by falling variance given those before, until all others have at most `enough`.

    Returns the order of all rows, and how many came before that; None where they would be more
    than one row in `FEW`.
    """
    n = len(covariance)
    order, _, left = pivoted_cholesky(
        covariance.diagonal(), lambda row: covariance[:, row], enough, n // FEW
    )
    if left > enough:
        return None
    chosen = set(order)
    return torch.tensor([*order, *(i for i in range(n) if i not in chosen)]), len(order)

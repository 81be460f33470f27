"""How a process solves with the covariance K of its measurements: the one place that chooses.

Up to `DENSE_ROWS` measurements K is factorised as a matrix, which is exact; past it `MatrixFree`
never forms it. Which one does not depend on the device, so that a model is the same on each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from bayestl.models.gaussian_process.evidence import factorised
from bayestl.models.gaussian_process.matrix_free import RANK, TILES, Covariance, MatrixFree

DENSE_ROWS = 40_000
"""The most measurements whose covariance becomes a matrix, 12.8 GB."""

BYTES = 8
"""Of one number."""

ROOM = 8
"""How many tiles a kernel takes for its intermediate results, with room to spare."""


@dataclass(frozen=True)
class Dense:
    """A Cholesky factor.

    Parameters
    ----------
    factor : (n, n), lower
    jitter : what was added to the diagonal, relative to its mean
    """

    factor: torch.Tensor
    jitter: float

    @classmethod
    def of(cls, covariance: Covariance, z: torch.Tensor) -> tuple[Dense, torch.Tensor]:
        """The solver, and (n,) K^-1 z.

        Raises
        ------
        FitError
            If the covariance cannot be factorised.
        """
        factor, jitter = factorised(covariance.matrix)
        # torch.cholesky_solve would copy the factor
        half = torch.linalg.solve_triangular(factor, z.unsqueeze(-1), upper=False)
        alpha = torch.linalg.solve_triangular(factor.mT, half, upper=True)
        return cls(factor, jitter), alpha.squeeze(-1)

    @property
    def rank(self) -> int:
        """How many rows `half` has."""
        return len(self.factor)

    def half(self, cross: torch.Tensor) -> torch.Tensor:
        """(..., n, m) solutions of L h = c."""
        return torch.linalg.solve_triangular(self.factor, cross, upper=False)

    def precision(self, rows: torch.Tensor) -> torch.Tensor:
        """(m,) diagonal of K^-1 at the rows; only these columns of it are computed."""
        return self._columns(rows).square().sum(0)

    def blocks(self, groups: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """For each group of m rows the (m, m) block of K^-1 at them."""
        columns = self._columns(torch.cat(tuple(groups)))
        parts = columns.split([len(group) for group in groups], dim=-1)
        return [part.mT @ part for part in parts]

    def _columns(self, rows: torch.Tensor) -> torch.Tensor:
        """(n, m), those of L^-1."""
        unit = self.factor.new_zeros(len(self.factor), len(rows))
        unit[rows.to(unit.device), torch.arange(len(rows), device=unit.device)] = 1.0
        return self.half(unit)


Solver = Dense | MatrixFree
"""K^-1 of n measurements, on the device of its tensors.

Of covariances c with the measurements, `half` gives h with h^T h = c^T K^-1 c, which has `rank`
rows; `precision` gives the diagonal of K^-1, `inverse` a block of it.
"""


def solver(covariance: Covariance, z: torch.Tensor) -> tuple[Solver, torch.Tensor]:
    """What solves with a covariance, and (n,) K^-1 z.

    Raises
    ------
    FitError
        If the covariance is not positive definite.
    """
    if len(covariance) <= DENSE_ROWS:
        return Dense.of(covariance, z)
    return MatrixFree.of(covariance, z, RANK)


def bytes_needed(sizes: Sequence[int], device: torch.device, side_by_side: int = 1) -> float:
    """About how much memory the solvers of so many measurements each take together there.

    `side_by_side` of them are made at a time.
    """
    kept = sum(n * (n if n <= DENSE_ROWS else 5 * RANK) for n in sizes)
    tile = min(max(sizes, default=0) ** 2, TILES[device.type])
    return BYTES * (kept + side_by_side * ROOM * tile)

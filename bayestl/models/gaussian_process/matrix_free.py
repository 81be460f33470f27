"""Solving with a covariance of many measurements that is never a matrix in memory.

K = k(x, x) + diag(noise) of n measurements is computed tile by tile whenever it is multiplied.
Three things come of that:

- landmarks: r measurements by a pivoted Cholesky factorisation of k, whose columns span what
  matters of it (Harbrecht, Peters and Schneider, 2012);
- projections: K on that span, one product with r columns, gives C = S (S^T K S)^-1 S^T. The
  variance k(x, x) - k^T C k is that of a process which knows r linear combinations of the
  measurements, and so is never below the exact one: what is left out makes it wider, not
  surer (Wenger, Pleiss, Pfortner, Hennig and Cunningham, 2022, "Posterior and computational
  uncertainty in Gaussian processes");
- K^-1 z by conjugate gradients, preconditioned by C on that span and by the noise elsewhere
  (a two-level version of Gardner, Pleiss, Bindel, Weinberger and Wilson, 2018, "GPyTorch"), so
  that means are exact up to the residual that is reported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch

from bayestl.models.gaussian_process.evidence import cholesky
from bayestl.models.gaussian_process.kernels import CoregionalizedKernel

TILES = {"cpu": 1_000_000, "cuda": 20_000_000}
"""Elements of a tile, by device, which bounds the memory of every step: 8 MB, which caches hold
in part, and 160 MB, which keeps a GPU busy."""

RANK = 4_000
"""At most so many landmarks."""

ENOUGH = 0.01
"""No more landmarks once they leave less of every variance than this share of the least noise."""

TOLERANCE = 1e-8
"""The norm of the residual z - K alpha, relative to that of z, at which iterating ends."""

CONVERGED = 1e-6
"""Past it diagnostics warn: with next to no noise rounding leaves more than `TOLERANCE`, and means
are right to six digits all the same."""

ITERATIONS = 500
"""Where it ends at the latest."""

TOGETHER = 64
"""Right-hand sides that are solved for at a time."""


def tile_width(rows: int, device: torch.device) -> int:
    """How many columns a tile of so many rows may have."""
    return max(TILES[device.type] // max(rows, 1), 1)


@dataclass(frozen=True)
class Covariance:
    """K = k(x, x) + diag(noise) of n measurements, on the device of its tensors.

    Parameters
    ----------
    kernel : k
    x : (n, d) inputs
    noise : (n,) variances
    """

    kernel: CoregionalizedKernel
    x: torch.Tensor
    noise: torch.Tensor

    def __len__(self) -> int:
        return len(self.x)

    def matrix(self) -> torch.Tensor:
        """(n, n), column by column in memory, built in tiles."""
        n = len(self)
        if n * n <= TILES[self.x.device.type]:
            result = self.kernel.forward(self.x, self.x).mT
        else:
            result = self.x.new_empty(n, n).mT
            for columns in self._strips():
                result[:, columns] = self.kernel.forward(self.x, self.x[columns])
        result.diagonal().add_(self.noise)
        return result

    def times(self, vectors: torch.Tensor) -> torch.Tensor:
        """(n, b) K times (n, b) vectors. Each tile above the diagonal is computed once."""
        result = self.noise.unsqueeze(-1) * vectors
        start, n = 0, len(self)
        while start < n:
            end = min(n, start + tile_width(n - start, self.x.device))
            tile = self.kernel.forward(self.x[start:end], self.x[start:])
            result[start:end] += tile @ vectors[start:]
            result[end:] += tile[:, end - start :].mT @ vectors[start:end]
            start = end
        return result

    def landmarks(self, most: int) -> torch.Tensor:
        """(n, r) columns whose product with themselves is nearly k(x, x), r at most `most`."""
        enough = ENOUGH * float(self.noise.min())
        return pivoted_cholesky(
            self.kernel.forward(self.x, self.x, diag=True),
            lambda row: self.kernel.forward(self.x, self.x[row : row + 1]).squeeze(-1),
            enough,
            min(most, len(self)),
        )[1]

    def _strips(self) -> Iterator[slice]:
        step = tile_width(len(self), self.x.device)
        return (slice(start, start + step) for start in range(0, len(self), step))


@dataclass(frozen=True)
class MatrixFree:
    """What is known of K^-1 without K: a root of C, and the way to solve for more.

    Parameters
    ----------
    covariance : K
    root : (n, r) with root root^T = C
    excess : (r, r), how the preconditioner diag(noise)^-1 - root excess root^T corrects the
        inverse noise on the span of the root
    iterations : of the conjugate gradients
    residual : what they left, relative
    """

    covariance: Covariance
    root: torch.Tensor
    excess: torch.Tensor
    iterations: int
    residual: float

    @classmethod
    def of(
        cls, covariance: Covariance, z: torch.Tensor, rank: int
    ) -> tuple[MatrixFree, torch.Tensor]:
        """The solver, and (n,) K^-1 z.

        Raises
        ------
        FitError
            If the covariance is not positive definite on the span of the landmarks.
        """
        deviation = covariance.noise.sqrt().unsqueeze(-1)
        # orthonormal where the noise is white, so that S^T diag(noise) S is the identity
        basis, _ = torch.linalg.qr(covariance.landmarks(rank) / deviation)
        basis = basis.div_(deviation)
        on_span = basis.mT @ covariance.times(basis)
        factor, _ = cholesky((on_span + on_span.mT) / 2.0)
        root = torch.linalg.solve_triangular(factor.mT, basis, upper=True, left=False)
        excess = factor.mT @ factor
        excess.diagonal().sub_(1.0)
        start = cls(covariance, root, excess, 0, 1.0)
        alpha, iterations, residual = start._solved(z.unsqueeze(-1))
        return cls(covariance, root, excess, iterations, residual), alpha.squeeze(-1)

    @property
    def rank(self) -> int:
        """How many rows `half` has."""
        return self.root.shape[-1]

    @property
    def converged(self) -> bool:
        """Whether what the conjugate gradients left is next to nothing."""
        return self.residual <= CONVERGED

    def half(self, cross: torch.Tensor) -> torch.Tensor:
        """(r, m) whose products are those of C with (n, m) covariances."""
        return self.root.mT @ cross

    def precision(self, rows: torch.Tensor) -> torch.Tensor:
        """(m,) diagonal of K^-1 at the rows, each by conjugate gradients."""
        found = [self.covariance.noise.new_empty(0)]
        found += [self._inverse(some).diagonal() for some in rows.split(TOGETHER)]
        return torch.cat(found)

    def blocks(self, groups: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """For each group of m rows the (m, m) block of K^-1 at them, by conjugate gradients."""
        found = []
        for some in _side_by_side(groups):
            inverse = self._inverse(torch.cat(some))
            places = torch.arange(len(inverse)).split([len(group) for group in some])
            found += [inverse[place][:, place] for place in places]
        return found

    def _inverse(self, rows: torch.Tensor) -> torch.Tensor:
        """(m, m) block of K^-1 at the rows, solved for at once."""
        rows = rows.to(self.covariance.x.device)
        unit = self.covariance.x.new_zeros(len(self.covariance), len(rows))
        unit[rows, torch.arange(len(rows), device=unit.device)] = 1.0
        solved = self._solved(unit)[0][rows]
        return (solved + solved.mT) / 2.0

    def _solved(self, right: torch.Tensor) -> tuple[torch.Tensor, int, float]:
        """(n, b) K^-1 right, after how many iterations, and the largest relative residual."""
        return conjugate_gradients(self.covariance.times, self._preconditioned, right)

    def _preconditioned(self, vectors: torch.Tensor) -> torch.Tensor:
        noise = self.covariance.noise.unsqueeze(-1)
        return vectors / noise - self.root @ (self.excess @ (self.root.mT @ vectors))


def _side_by_side(groups: Iterable[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    """The groups in order, at most `TOGETHER` rows at a time, or a larger group alone."""
    some: list[torch.Tensor] = []
    for group in groups:
        if some and sum(map(len, some)) + len(group) > TOGETHER:
            yield some
            some = []
        some.append(group)
    if some:
        yield some


def conjugate_gradients(
    times: Callable[[torch.Tensor], torch.Tensor],
    preconditioned: Callable[[torch.Tensor], torch.Tensor],
    right: torch.Tensor,
) -> tuple[torch.Tensor, int, float]:
    """(n, b) solutions of K s = right, the iterations, and the largest true relative residual.

    Each column goes its own way (Hestenes and Stiefel, 1952), side by side. The residual that
    is carried along drifts from the true one by rounding, so that this is computed at the end,
    and where it is too large the iteration starts anew from what was found.
    """
    size = right.norm(dim=0).clamp_min(torch.finfo(right.dtype).tiny)
    solution, left, done = torch.zeros_like(right), right, 0
    worst = float((left.norm(dim=0) / size).max())
    while worst > TOLERANCE and done < ITERATIONS:
        before, start = worst, done
        guided = preconditioned(left)
        direction, product = guided, (left * guided).sum(0)
        while done < ITERATIONS and float((left.norm(dim=0) / size).max()) > TOLERANCE / 2.0:
            along = times(direction)
            step = product / (direction * along).sum(0)
            step = torch.where(torch.isfinite(step), step, 0.0)  # of columns that are solved
            solution += step * direction
            left = left - step * along
            guided = preconditioned(left)
            further = (left * guided).sum(0)
            turn = further / product
            direction = guided + torch.where(torch.isfinite(turn), turn, 0.0) * direction
            product, done = further, done + 1
        left = right - times(solution)
        worst = float((left.norm(dim=0) / size).max())
        if worst > 0.5 * before or done == start:
            break  # what is left is rounding
    return solution, done, worst


def pivoted_cholesky(
    diagonal: torch.Tensor,
    column: Callable[[int], torch.Tensor],
    enough: float,
    most: int,
) -> tuple[list[int], torch.Tensor, float]:
    """Rows of a matrix by falling variance given those before, and what they explain of it.

    Until all others have at most `enough`, or there are `most`.

    Parameters
    ----------
    diagonal : (n,) of the matrix
    column : row -> the matrix's (n,) column of that position

    Returns
    -------
    the r rows, the (n, r) factor, the largest variance that is left
    """
    left, factor = diagonal.clone(), diagonal.new_zeros(most, len(diagonal))
    order: list[int] = []
    while (worst := float(left.max())) > enough and len(order) < most:
        pivot, r = int(left.argmax()), len(order)
        found = column(pivot) - factor[:r, pivot] @ factor[:r]
        factor[r] = found / left[pivot].sqrt()
        left -= factor[r].square()
        left[pivot] = 0.0
        order.append(pivot)
    return order, factor[: len(order)].mT, worst

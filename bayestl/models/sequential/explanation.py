"""How well many hypotheses explain the same few measurements, some of which may be outliers.

Batched linear algebra on (M, n, n) covariances, M hypotheses and n measurements: one
factorisation of each, and a rank-one term for each outlier that a hypothesis pays for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from scipy.special import betaln

from bayestl.models.gaussian_process.outliers import gain

OUTLIERS, REGULAR = 0.5, 20.0
"""Beta prior of the share of outliers: half an outlier in twenty measurements."""

OUTLIER_COST = 2.0
"""Nats beyond the prior's odds that a variance of its own must be worth, for being fitted."""

MOST_OUTLIERS = 5
"""At most one in so many measurements is an outlier; below `FEW` none is."""

FEW = 4

HOPELESS = 50.0
"""Nats: a hypothesis that stays so far behind, were each further outlier worth as much as the next,
looks for none."""


@dataclass(frozen=True)
class Explanation:
    """How well M hypotheses explain n measurements, some of which each may hold for outliers.

    Parameters
    ----------
    evidence : (M,), the logarithm, less what the outliers cost; -inf where it cannot be found
    extra : (M, n) extra noise variance of outliers, 0 for nearly all
    """

    evidence: torch.Tensor
    extra: torch.Tensor

    @classmethod
    def of(cls, covariance: torch.Tensor, left: torch.Tensor) -> Explanation:
        """Of (M, n, n) covariances, whose memory it takes, and (M, n) what prior means leave.

        Every hypothesis may hold some measurements for outliers, the worst first, where that
        raises its evidence by more than it costs (see `outliers`, whose gain this is); each
        takes a rank-one term from the inverse. Those that are `HOPELESS` stop looking.
        """
        count, n = left.shape
        # in the covariances' own memory, column by column as LAPACK wants it: fresh memory costs
        # more than the factors of matrices this small
        inverse, info = covariance.mT, torch.empty(count, dtype=torch.int32)
        torch.linalg.cholesky_ex(inverse, out=(inverse, info))
        failed = info != 0
        if bool(failed.any()):  # of no evidence, but nothing to stumble over
            inverse[failed] = torch.eye(n, dtype=inverse.dtype)
        log_determinant = 2.0 * inverse.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        # by the factor: with next to no noise the inverse has lost all that this is about
        half = torch.linalg.solve_triangular(inverse, left.unsqueeze(-1), upper=False)
        alpha = torch.linalg.solve_triangular(inverse.mT, half, upper=True).squeeze(-1)
        square = half.square().sum((-2, -1))
        evidence = -0.5 * (square + log_determinant + n * math.log(2.0 * math.pi))
        evidence[failed | ~torch.isfinite(evidence)] = -math.inf
        most = 0 if n < FEW else max(n // MOST_OUTLIERS, 1)
        if most:
            torch.cholesky_inverse(inverse, out=inverse)
        precision = inverse.diagonal(dim1=-2, dim2=-1).clone()
        extra = torch.zeros_like(left)
        updates, found = torch.zeros(count, n, most, dtype=torch.float64), torch.arange(count)
        for already in range(most):
            cost = OUTLIER_COST + log_odds(already, n)
            # an error squared over its variance is alpha squared over the precision
            ratio = torch.where(extra[found] > 0, -1.0, alpha[found].square() / precision[found])
            row = ratio.argmax(-1)
            best = gain(alpha[found, row], precision[found, row])
            # whatever the other hypotheses hold, unless they explain it all far better in any case
            hope = evidence[found] + (most - already) * (best - cost) > evidence.max() - HOPELESS
            more = torch.nonzero((best > cost) & hope).squeeze(-1)
            found, row = found[more], row[more]
            if not len(found):
                break
            evidence[found] += best[more] - cost
            least = precision[found, row]
            added = (alpha[found, row] / least).square() - 1.0 / least
            before = updates[found, :, :already]  # their squares are what is taken already
            taken = before @ updates[found, row, :already].unsqueeze(-1)
            update = inverse[found, row] - taken.squeeze(-1)
            update *= (added / (1.0 + added * least)).sqrt().unsqueeze(-1)
            precision[found] -= update.square()
            alpha[found] -= update * (update * left[found]).sum(-1, keepdim=True)
            extra[found, row] += added
            updates[found, :, already] = update
        return cls(evidence, extra)


def outlier_share(outliers: float, n: int) -> float:
    """The probability that a further measurement is an outlier, after so many among n."""
    return (OUTLIERS + outliers) / (OUTLIERS + REGULAR + n)


def log_odds(already: int, n: int) -> float:
    """What one more outlier costs by the prior of their share, given so many already."""
    before = betaln(OUTLIERS + already, REGULAR + n - already)
    return float(before - betaln(OUTLIERS + already + 1, REGULAR + n - already - 1))

"""Mixtures of Gaussians: what is believed of one value when several explanations remain."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

STEPS = 60
"""Steps after which a quantile is found to a relative 1e-10, nearly always after five."""

SHORT = 1e-3
"""A last step is at most so long, in widths of the components that are there."""

BLOCK = 8_192
"""How many values a quantile is found for at a time, so that they stay in the cache."""


@dataclass(frozen=True)
class GaussianMixture:
    """A distribution for each of n values, k components each.

    Parameters
    ----------
    weights : (k,), positive, of sum 1
    means, variances : (k, n)
    """

    weights: torch.Tensor
    means: torch.Tensor
    variances: torch.Tensor

    @classmethod
    def normal(cls, mean: torch.Tensor, variance: torch.Tensor) -> GaussianMixture:
        """One Gaussian for each value, of (n,) mean and variance."""
        return cls(mean.new_ones(1), mean.unsqueeze(0), variance.unsqueeze(0))

    @classmethod
    def stacked(
        cls, weights: Sequence[float], members: Sequence[GaussianMixture]
    ) -> GaussianMixture:
        """The mixture of mixtures of the same values; members without weight leave no trace."""
        kept = [(w, m) for w, m in zip(weights, members, strict=True) if w > 0]
        return cls(
            torch.cat([w * m.weights for w, m in kept]),
            torch.cat([m.means for _, m in kept]),
            torch.cat([m.variances for _, m in kept]),
        )

    def affine(self, shift: float, factor: float) -> GaussianMixture:
        """The distribution of shift + factor * value."""
        return GaussianMixture(
            self.weights, shift + factor * self.means, factor**2 * self.variances
        )

    def moments(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(n,) means and (n,) variances."""
        mean = self.weights @ self.means
        return mean, self.weights @ (self.variances + (self.means - mean).square())

    def probability(self, values: torch.Tensor) -> torch.Tensor:
        """(n,), that one value each is not exceeded."""
        return self.weights @ torch.special.ndtr((values - self.means) / self.variances.sqrt())

    def log_density(self, values: torch.Tensor) -> torch.Tensor:
        """(n,), of one value each."""
        square = (values - self.means).square() / self.variances
        terms = -0.5 * (square + self.variances.log() + math.log(2.0 * math.pi))
        return torch.logsumexp(self.weights.log().unsqueeze(-1) + terms, 0)

    def absolute_error(self, values: torch.Tensor) -> torch.Tensor:
        """(n,), the expected distance from one value each."""
        return self.weights @ _distance(self.means - values, self.variances)

    def distance(self, other: GaussianMixture) -> torch.Tensor:
        """(n,), the expected distance between independent draws from two mixtures."""
        means = self.means.unsqueeze(1) - other.means
        variances = self.variances.unsqueeze(1) + other.variances
        return torch.einsum("i,j,ijn->n", self.weights, other.weights, _distance(means, variances))

    def quantile(self, level: float) -> torch.Tensor:
        """(n,), the value that is not exceeded with probability `level`.

        It lies between the least and the greatest quantile of a component; Halley's method
        within that bracket, which bisects where a step would leave it.
        """
        blocks = zip(self.means.split(BLOCK, 1), self.variances.split(BLOCK, 1), strict=True)
        return torch.cat([_quantile(self.weights, m, v, level) for m, v in blocks])


def _quantile(
    weights: torch.Tensor, means: torch.Tensor, variances: torch.Tensor, level: float
) -> torch.Tensor:
    deviations = variances.sqrt()
    z = torch.special.ndtri(torch.tensor(level, dtype=torch.float64))
    ends = means + deviations * z
    low, high = ends.amin(0), ends.amax(0)
    # where the distribution functions would meet the level, were each straight from its own end:
    # a wide component says little about it
    shares = weights.unsqueeze(-1) / deviations
    at = ((shares * ends).sum(0) / shares.sum(0)).clamp(low, high)
    scale, accuracy = (1.0 / shares.sum(0)), 1e-5 * min(level, 1.0 - level)
    before = torch.full_like(at, math.inf)
    result, left = at.clone(), torch.arange(len(at))
    for _ in range(STEPS if len(at) else 0):
        z = (at - means).div_(deviations)
        excess = weights @ torch.special.ndtr(z) - level
        nearer = excess.abs() < 0.5 * before  # or steps may go to and fro between two slopes
        low, high = torch.where(excess < 0, at, low), torch.where(excess > 0, at, high)
        bells = torch.exp(-0.5 * z.square()).div_(deviations)
        slope = weights @ bells
        steepness = weights @ bells.div_(deviations)  # over the slope, it is 1 / the width here
        bend = -(weights @ bells.mul_(z))
        newton = excess * math.sqrt(2.0 * math.pi) / slope
        new = at - newton / (1.0 - newton * bend / (2.0 * slope)).clamp(0.5, 2.0)
        inside = nearer & (new > low) & (new < high)  # never for a slope of zero
        # a step from so near cubes the error in the probability, unless there is so little of it
        # that the step leads out of the region; rounding may put it on an end
        short = (new - at).abs() * steepness <= SHORT * slope
        found = (excess.abs() < accuracy) & short & (new >= low) & (new <= high)
        at = torch.where(inside | found, new, (low + high) / 2.0)
        result[left] = at
        rest = torch.nonzero(~found & (high - low > 1e-10 * scale)).squeeze(-1)
        if not len(rest):
            break
        before = excess.abs()
        if len(rest) < len(at):
            parts = (left, at, low, high, scale, before)
            left, at, low, high, scale, before = (part[rest] for part in parts)
            means, deviations = means[:, rest], deviations[:, rest]
    return result


def _distance(mean: torch.Tensor, variance: torch.Tensor) -> torch.Tensor:
    """E|X| of X ~ N(mean, variance)."""
    deviation = variance.sqrt()
    z = mean / deviation
    density = torch.exp(-0.5 * z.square()) * math.sqrt(2.0 / math.pi)
    return deviation * density + mean * (2.0 * torch.special.ndtr(z) - 1.0)

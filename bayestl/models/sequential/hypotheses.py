"""What a target may have to do with its sources, written as weighted sets of hyperparameters.

The target block of a sequential model (see `target_block`) is, on the standardised scale,

    y(x) = a + g(x) + h(g(x)) + lambda odd(x) + b g(x) + c . (f(x) - g(x)) + t(f(x)) + delta(x)

with g = sum_s w_s f_s for one of the templates w: the mean of all sources, one of them, or none.
A `Relation` says which terms are there: with the first alone the target is a source plus an
offset, with b as well it is a linear shift of it, with t a nonlinear one, with delta it may
differ in any option, and without a template it has nothing to do with the sources. So
the strategies of the field are special cases, and the evidence weighs them.

On a logarithmic scale a is a factor and b a power. What takes the same time whatever the options is
neither: with h(g) = log(1 + kappa exp(-u g)) / u, u being the unit of the standardised scale, the
metric itself has an overhead, exp(u (g + h)) = exp(u g) + kappa. A negative one is the source's.

The hyperparameters of each are drawn from their prior by a Sobol sequence, since there are
few measurements and no more than ten of them, and weighted by how well they explain what was
measured: importance sampling, which has no modes to get stuck in and no seeds to depend on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from scipy.special import ndtri
from scipy.stats import qmc

STRETCHES = (1.0, 4.0, 16.0)
"""By how much delta's lengthscales may exceed the sources': the last leaves main effects alone."""

REACHES = (0.7, 1.5, 3.0)
"""Lengthscales of t over the sources' values."""

SLOPE, CONTRAST, SHIFT, RESIDUAL, OWN_ODDNESS, NEAR = 0.2, 0.3, 0.2, 0.15, 0.2, 0.1
"""Prior medians of the standard deviations of b, each of c, t, delta, of how far a source's share
of oddness is from lambda, and of a between environments that are about as fast as each other."""

OVERHEAD, OVERHEAD_DOUBT = 0.2, 1.5
"""Prior median of the overhead, in units of what the source's configurations typically take, and
the standard deviation of its logarithm. As likely as not it is the source that has it."""

ALONE = 1.0
"""Prior median of delta's standard deviation where there is no template: it is all there is."""

DOUBT = 1.0
"""The standard deviation of the logarithm of each hyperparameter, a factor e."""

NOISE_DOUBT = 0.6
"""The same of the noise, while it is like the sources', which tell more about it."""

UNKNOWN_NOISE = 0.14
"""The prior's median of the noise where the sources' tells nothing, as in the joint models."""

FREE_OFFSET = 5.0
"""The standard deviation of an offset about which nothing is known."""


@dataclass(frozen=True)
class Relation:
    """Which terms of the equation are there.

    Parameters
    ----------
    name : what diagnostics call it
    draws : how many sets of hyperparameters are drawn for it, a power of two; with sources each
        stands twice, with either belief about the noise
    slope, overhead, contrasts, shift, residual : whether b, h, c, t and delta are there; of b and h
        one is, each in half of the draws
    sources : whether there is a template at all
    """

    name: str
    draws: int
    slope: bool = False
    overhead: bool = False
    contrasts: bool = False
    shift: bool = False
    residual: bool = False
    sources: bool = True


RELATIONS = (
    Relation("offset", 16),
    Relation("linear shift", 32, slope=True),
    Relation("overhead", 32, overhead=True),
    Relation("nonlinear shift", 32, slope=True, overhead=True, shift=True),
    Relation("own residual", 64, slope=True, overhead=True, residual=True),
    Relation(
        "all together", 128, slope=True, overhead=True, contrasts=True, shift=True, residual=True
    ),
)
UNRELATED = Relation("unrelated", 64, residual=True, sources=False)


@dataclass(frozen=True)
class Hypotheses:
    """M sets of hyperparameters, each field (M,); zero where a term is not there.

    Parameters
    ----------
    offset, slope, contrast, shift, residual : prior standard deviations of a, b, each of c,
        t and delta
    overhead : kappa; where it is negative, that of the source over the target
    reach, stretch : positions in `REACHES` and `STRETCHES`, or in a template's own kernels
    oddness : lambda; of what the sources measured at that very configuration beyond their
        smooth means, the share that the target has too
    own_oddness : the standard deviation by which each source's share may differ from it
    noise : a measurement's standard deviation
    relation : position in the sequence of relations
    """

    offset: torch.Tensor
    slope: torch.Tensor
    overhead: torch.Tensor
    contrast: torch.Tensor
    shift: torch.Tensor
    residual: torch.Tensor
    reach: torch.Tensor
    stretch: torch.Tensor
    oddness: torch.Tensor
    own_oddness: torch.Tensor
    noise: torch.Tensor
    relation: torch.Tensor

    def __len__(self) -> int:
        return len(self.noise)

    def rows(self, rows: torch.Tensor) -> Hypotheses:
        """Some of them."""
        return Hypotheses(*(getattr(self, field.name)[rows] for field in fields(self)))

    @classmethod
    def joined(cls, parts: Sequence[Hypotheses]) -> Hypotheses:
        """All of several."""
        return cls(*(torch.cat([getattr(p, f.name) for p in parts]) for f in fields(cls)))


def draw(
    relations: Sequence[Relation], noise: float, *, overheads: bool = True
) -> tuple[Hypotheses, torch.Tensor]:
    """Hypotheses from the prior, and the (M,) log probability of each.

    Relations are equally likely. `noise` is the prior's median of a measurement's standard
    deviation. Without `overheads`, which have a meaning on a logarithmic scale alone, nor the
    relation that is nothing else. The same every time.
    """
    parts = [
        _draw(position, relation if overheads else replace(relation, overhead=False), noise)
        for position, relation in enumerate(relations)
        if overheads or not relation.overhead or relation.slope
    ]
    shares = [
        torch.full((len(part),), 1.0 / len(part) / len(parts), dtype=torch.float64)
        for part in parts
    ]
    return Hypotheses.joined(parts), torch.cat(shares).log()


def _draw(position: int, relation: Relation, noise: float) -> Hypotheses:
    # `rng=position` would draw other points than the stored results were made with
    u = qmc.Sobol(11, seed=position).random(relation.draws)  # pyright: ignore[reportCallIssue]
    z = ndtri(np.clip(u, 1e-6, 1.0 - 1e-6))
    overhead = _overhead(relation, u[:, 10])

    def around(
        mode: float, column: int, there: bool | np.ndarray, doubt: float = DOUBT
    ) -> torch.Tensor:
        return torch.from_numpy(mode * np.exp(doubt * z[:, column]) * there)

    def choice(column: int, of: Sequence[float]) -> torch.Tensor:
        return torch.from_numpy((u[:, column] * len(of)).astype(np.int64))

    # half the time environments are about as fast as each other, half the time anything goes
    tied = u[:, 8] < 0.5 if relation.sources else np.zeros(len(u), dtype=bool)
    near = NEAR * np.exp(DOUBT * ndtri(np.clip(2.0 * u[:, 8], 1e-6, 1.0 - 1e-6)))
    drawn = Hypotheses(
        offset=torch.from_numpy(np.where(tied, near, FREE_OFFSET)),
        slope=around(SLOPE, 0, relation.slope * (overhead == 0.0)),
        overhead=torch.from_numpy(overhead),
        contrast=around(CONTRAST, 1, relation.contrasts),
        shift=around(SHIFT, 2, relation.shift),
        residual=around(RESIDUAL if relation.sources else ALONE, 3, relation.residual),
        stretch=choice(4, STRETCHES),
        oddness=torch.from_numpy(u[:, 5] * relation.sources),
        noise=around(noise, 6, True, NOISE_DOUBT if relation.sources else DOUBT),
        own_oddness=around(OWN_ODDNESS, 7, relation.sources),
        reach=choice(9, REACHES),
        relation=torch.full((len(u),), position),
    )
    if not relation.sources:
        return drawn
    # as likely as not a quiet source says nothing of how quiet the target is: what is noise there
    # includes all that differs between configurations and that no other term can express
    unlike = noise ** (1.0 - u[:, 6]) * max(UNKNOWN_NOISE, noise) ** u[:, 6]
    return Hypotheses.joined([drawn, replace(drawn, noise=torch.from_numpy(unlike))])


def _overhead(relation: Relation, u: np.ndarray) -> np.ndarray:
    """One for each of (n,) uniform draws; 0 where it is not there, or a slope is instead."""
    if not relation.overhead:
        return np.zeros(len(u))
    there = np.full(len(u), True)
    if relation.slope:  # the other half of the draws is stretched to all of them
        there, u = u >= 0.5, (2.0 * u) % 1.0
    side = 2.0 * u - 1.0
    size = OVERHEAD * np.exp(OVERHEAD_DOUBT * ndtri(np.clip(np.abs(side), 1e-6, 1.0 - 1e-6)))
    return np.where(there, np.where(side < 0.0, -size, size), 0.0)

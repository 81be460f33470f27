"""The hypotheses that share a template: what their covariances are made of, and what they predict.

A template says which sources the target is believed to follow, and with what weights. Its terms
are computed once for all hypotheses that go with it, which differ in what each is
multiplied by; the equation is in `hypotheses` and `target_block`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from bayestl.models.gaussian_process.evidence import cholesky, leave_group_out, leave_one_out
from bayestl.models.gaussian_process.kernels import OptionKernel, squared_distance, together
from bayestl.models.gaussian_process.repeats import repeated, variance_within
from bayestl.models.sequential.explanation import Explanation
from bayestl.models.sequential.hypotheses import REACHES, STRETCHES, Hypotheses
from bayestl.models.sequential.source_block import SourceBlock, SourceView, View

MOST_LESS = 0.95
"""The share of a configuration's value that an overhead of the source can be at most."""


@dataclass(frozen=True)
class Template:
    """The covariances that hypotheses with the same template are made of.

    Parameters
    ----------
    sources : the sources' processes
    weights : (S,), of the sources; all zero for the template of no source
    options : of whose interactions delta is made, on lengthscales like the sources'
    centre : (S + 1,), subtracted from the template's value and from each contrast, so that a
        slope turns around the middle of the sources' measurements
    least : how far below the template's middle value the sources' least measurement is, negative
    own : kernels of delta's own instead, main effects and all, that a search found; a hypothesis
        has the one at `stretch`
    """

    sources: SourceBlock
    weights: torch.Tensor
    options: OptionKernel
    centre: torch.Tensor
    least: float
    own: tuple[OptionKernel, ...] = ()

    @classmethod
    def of(cls, sources: SourceBlock, weights: torch.Tensor, options: OptionKernel) -> Template:
        """The template with these weights; of `options` it has a copy on their lengthscales."""
        weights, options = weights.clone(), options.copied()
        if bool(weights.any()):  # without a template they stay at the mode of their prior
            with torch.no_grad():
                options.raw_lengthscales.copy_(sources.lengthscales(weights).log())
        level = weights @ sources.levels
        centre = torch.cat([level.unsqueeze(0), sources.levels - level])
        return cls(sources, weights, options, centre, float(weights @ sources.lowest - level))

    def features(self, view: View) -> tuple[torch.Tensor, torch.Tensor]:
        """(n,) the template's value g, and (n, S) the contrasts of the sources with it."""
        level = view.means @ self.weights
        return level - self.centre[0], view.means - level.unsqueeze(-1) - self.centre[1:]

    def mean(self, view: View, given: Hypotheses) -> torch.Tensor:
        """(M, n) prior means."""
        level = view.means @ self.weights
        mean = level + given.oddness.unsqueeze(-1) * (view.odd @ self.weights)
        if not bool(given.overhead.any()):
            return mean
        return mean + self._overheads(level - self.centre[0], given.overhead)

    def _overheads(self, level: torch.Tensor, overhead: torch.Tensor) -> torch.Tensor:
        """(M, n) h of (n,) values of the template.

        Of its fastest configuration f a source's overhead c leaves (f - c) / f = f / (f + kappa):
        as much as a target's would, so that nothing changes where the two swap places.
        """
        unit = self.sources.unit
        fastest = math.exp(unit * self.least)
        less = fastest * overhead / (fastest - overhead)
        added = torch.where(overhead < 0.0, less, overhead).unsqueeze(-1)
        # none of the target's configurations takes less than nothing, wherever it is asked for
        return (added * torch.exp(-unit * level)).clamp_min(-MOST_LESS).log1p() / unit

    def terms(self, one: SourceView, other: View) -> list[torch.Tensor]:
        """What a covariance is the sum of, each (n, m), in the order of `factors`."""
        residuals = self._residuals(one.x, other.x)
        ones = torch.ones_like(residuals[0])
        if not bool(self.weights.any()):
            return [torch.zeros_like(ones), ones, *residuals]
        (g1, c1), (g2, c2) = self.features(one), self.features(other)
        apart = squared_distance(one.means, other.means)
        inherited = sum(
            weight**2 * self.sources.covariance(s, one, other)
            for s, weight in enumerate(self.weights.tolist())
            if weight
        )
        assert isinstance(inherited, torch.Tensor)
        shifts = [torch.exp(-0.5 * apart / reach**2) for reach in REACHES]
        return [
            inherited,
            ones,
            *residuals,
            torch.outer(g1, g2),
            c1 @ c2.T,
            one.odd @ other.odd.T,
            *shifts,
        ]

    def diagonal_terms(self, view: View) -> list[torch.Tensor]:
        """The same of a covariance's diagonal, each (n,)."""
        ones = torch.ones(len(view.x), dtype=torch.float64)
        anywhere = view.x.new_zeros(1, view.x.shape[-1])  # as large as everywhere
        residuals = [ones * each[0, 0] for each in self._residuals(anywhere, anywhere)]
        if not bool(self.weights.any()):
            return [torch.zeros_like(ones), ones, *residuals]
        level, contrasts = self.features(view)
        inherited = torch.zeros_like(ones)
        for s, weight in enumerate(self.weights.tolist()):
            if weight:
                inherited += weight**2 * self.sources.variance(s, view)
        return [
            inherited,
            ones,
            *residuals,
            level.square(),
            contrasts.square().sum(-1),
            view.odd.square().sum(-1),
            *[ones] * len(REACHES),
        ]

    def _residuals(self, one: torch.Tensor, other: torch.Tensor) -> list[torch.Tensor]:
        """delta's covariances, of which each hypothesis has the one at its `stretch`."""
        if self.own:
            return together(self.own, one, other)
        return self.options.interactions(one, other, STRETCHES)

    def factors(self, given: Hypotheses) -> torch.Tensor:
        """(M, terms), by which the terms of a covariance are multiplied."""
        count = len(self.own or STRETCHES)
        stretch = torch.nn.functional.one_hot(given.stretch, count)
        columns = [
            torch.ones(len(given), 1, dtype=torch.float64),
            given.offset.square().unsqueeze(-1),
            given.residual.square().unsqueeze(-1) * stretch,
        ]
        if bool(self.weights.any()):
            reach = torch.nn.functional.one_hot(given.reach, len(REACHES))
            columns += [
                given.slope.square().unsqueeze(-1),
                given.contrast.square().unsqueeze(-1),
                given.own_oddness.square().unsqueeze(-1),
                given.shift.square().unsqueeze(-1) * reach,
            ]
        return torch.cat(columns, -1)


@dataclass(frozen=True)
class Part:
    """The hypotheses that share a template, conditioned on the target's n measurements.

    Parameters
    ----------
    template : theirs
    given : k hypotheses
    log_weights : (k,), the log of prior times evidence
    half : (k, n, n), whose squares are the inverse covariances of the measurements: half^T half
    alpha : (k, n), the inverse times what the prior mean leaves
    extra : (k, n) extra noise variance of outliers, 0 for nearly all
    jitter : the most that was added to a diagonal, relative to its mean, to factorise it
    """

    template: Template
    given: Hypotheses
    log_weights: torch.Tensor
    half: torch.Tensor
    alpha: torch.Tensor
    extra: torch.Tensor
    jitter: float = 0.0

    @classmethod
    def conditioned(
        cls,
        template: Template,
        given: Hypotheses,
        log_prior: torch.Tensor,
        view: SourceView,
        z: torch.Tensor,
        relative: torch.Tensor | float = 1.0,
    ) -> Part:
        """The hypotheses given z at the configurations of `view`, with `relative` noise."""
        covariance, left = _beforehand(template, given, view, z, relative)
        found = Explanation.of(covariance.clone(), left)
        return cls.of(template, given, log_prior, covariance, left, found)

    @classmethod
    def of(
        cls,
        template: Template,
        given: Hypotheses,
        log_prior: torch.Tensor,
        covariance: torch.Tensor,
        left: torch.Tensor,
        found: Explanation,
    ) -> Part:
        """The hypotheses, given how well they explain the measurements.

        Of (k, n, n) covariances before outliers, whose memory it takes, and (k, n) what the prior
        means leave.

        Raises
        ------
        FitError
            If a covariance cannot be factorised.
        """
        covariance.diagonal(dim1=-2, dim2=-1).add_(found.extra)
        factor, failed = torch.linalg.cholesky_ex(covariance)
        jitter = 0.0
        for row in torch.nonzero(failed).squeeze(-1).tolist():
            factor[row], added = cholesky(covariance[row])
            jitter = max(jitter, added)
        unit = torch.eye(left.shape[-1], dtype=left.dtype).expand_as(factor)
        # row by row, as a kept block is read back: memory's order decides how BLAS rounds
        half = torch.linalg.solve_triangular(factor, unit, upper=False).contiguous()
        alpha = (half.mT @ (half @ left.unsqueeze(-1))).squeeze(-1)
        return cls(template, given, log_prior + found.evidence, half, alpha, found.extra, jitter)

    def marginals(self, measured: SourceView, view: View) -> tuple[torch.Tensor, torch.Tensor]:
        """(k, n) means and (k, n) variances of noise-free values."""
        factors = self.template.factors(self.given)
        cross = combined(factors, self.template.terms(measured, view))
        mean = self.template.mean(view, self.given)
        mean = mean + (self.alpha.unsqueeze(-2) @ cross).squeeze(-2)
        prior = combined(factors, self.template.diagonal_terms(view))
        return mean, (prior - (self.half @ cross).square().sum(-2)).clamp_min(0.0)

    def leave_one_out(
        self,
        z: torch.Tensor,
        relative: torch.Tensor | float = 1.0,
        repeats: Sequence[torch.Tensor] = (),
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(k, n) means and variances of each measurement given all others, as if no outlier.

        But those in the same of `repeats`, the rows of each configuration with several.
        """
        mean, variance = leave_one_out(self.half.square().sum(-2), self.alpha, z)
        for rows in repeats:
            half = self.half[..., rows]
            found = leave_group_out(half.mT @ half, self.alpha[:, rows], z[rows])
            mean[:, rows], variance[:, rows] = found
        least = self.given.noise.square().unsqueeze(-1) * relative
        return mean, torch.maximum(variance - self.extra, least)


def combined(factors: torch.Tensor, terms: Sequence[torch.Tensor]) -> torch.Tensor:
    """(k, ...) sums of the terms, each hypothesis with its own factors."""
    stacked = torch.stack(tuple(terms))
    return (factors @ stacked.flatten(1)).unflatten(-1, stacked.shape[1:])


def explained(
    template: Template,
    given: Hypotheses,
    view: SourceView,
    z: torch.Tensor,
    relative: torch.Tensor | float,
) -> Explanation:
    """How well hypotheses explain z at the configurations of `view`."""
    return Explanation.of(*_beforehand(template, given, view, z, relative))


def _beforehand(
    template: Template,
    given: Hypotheses,
    view: SourceView,
    z: torch.Tensor,
    relative: torch.Tensor | float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(k, n, n) covariances of z there, were none an outlier, and (k, n) what its mean leaves.

    Of the noise repeats of a configuration share what they do not vary by.
    """
    covariance = combined(template.factors(given), template.terms(view, view))
    noise = given.noise.square().unsqueeze(-1)
    groups = repeated(view.x)
    own = noise.clamp_max(variance_within(groups, z, relative, template.sources.noise() ** 2))
    covariance.diagonal(dim1=-2, dim2=-1).add_(noise - own + own * relative)
    for rows in groups:
        others = 1.0 - torch.eye(len(rows), dtype=z.dtype)
        covariance[:, rows.unsqueeze(-1), rows] += (noise - own).unsqueeze(-1) * others
    return covariance, z - template.mean(view, given)

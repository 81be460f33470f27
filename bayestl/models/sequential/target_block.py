"""The target of a sequential model: an exact mixture over what it may have to do with its sources.

The second of the two stages; see `hypotheses` for the equation. Given the sources' posteriors
and one set of hyperparameters the target is a Gaussian process in closed form, with the
sources' uncertainty in its prior:

    mean   g + h(g) + lambda odd(x),  g = sum_s w_s m_s(x)
    cov    offset^2 + slope^2 g g' + contrast^2 (m - g).(m - g)' + shift^2 k_t(m, m')
           + residual^2 k_delta(x, x') + own_oddness^2 odd.odd' + sum_s w_s^2 C_s(x, x')

(the autoregressive model of Kennedy and O'Hagan, 2000, "Predicting the output from a complex
computer code when fast approximations are available", with several sources and their
uncertainty propagated as by Tighineanu et al., 2022, "Transfer learning with Gaussian
processes for Bayesian optimization"). All hypotheses are conditioned at once by batched
linear algebra on n x n matrices, n the number of target measurements: milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch

from bayestl.errors import FitError
from bayestl.models.encoding import Group
from bayestl.models.gaussian_mixture import GaussianMixture
from bayestl.models.gaussian_process.integration import spaced
from bayestl.models.gaussian_process.kernels import OptionKernel
from bayestl.models.gaussian_process.repeats import repeated, variance_within
from bayestl.models.sequential.explanation import Explanation, outlier_share
from bayestl.models.sequential.hypotheses import (
    RELATIONS,
    UNKNOWN_NOISE,
    UNRELATED,
    Hypotheses,
    draw,
)
from bayestl.models.sequential.placing import PRIOR, Scale
from bayestl.models.sequential.source_block import SourceBlock, SourceView, View
from bayestl.models.sequential.template import Part, Template, combined, explained

FOLLOWS = (0.3, 0.6, 0.1)
"""Prior probabilities that a target follows the mean of the sources, one of them, or none."""

MOST_TEMPLATES = 8
"""With more sources than this, those are kept that explain the target best by a linear shift."""

MASS, MOST = 0.995, 40
"""Hypotheses stand for all that have this share of the probability, or are this many."""

MAX_ELEMENTS = 4e7
"""Matrix elements (320 MB) of the factors of their covariances; past it fewer stand for all."""

JUDGED_ROWS = 200
"""Hypotheses are weighed by at most this many of the target's measurements."""

PASSES = 4
"""Each option's scale is chosen given the others' at most so often."""

BLOCK = 1_024
"""How many configurations the sources are asked about at a time, each a column of every factor."""

MANY = 8
"""So many configurations a row of the largest source are worth preparing the sources for them."""


Scales = Mapping[str, Mapping[Scale, float]]
"""Option -> scale -> probability."""


@dataclass(frozen=True)
class TargetPrior:
    """What is believed of a target before it is measured.

    Parameters
    ----------
    groups : of the features
    sources : their processes
    related, unrelated : hypotheses with and without a template
    log_related, log_unrelated : the log probability of each
    scales : option -> how likely its values are to meet the sources' on each scale
    follows : how likely the target is to follow the mean of all sources, one of them, or none,
        were one at least reliable beyond doubt
    """

    groups: tuple[Group, ...]
    sources: SourceBlock
    related: Hypotheses
    unrelated: Hypotheses
    log_related: torch.Tensor
    log_unrelated: torch.Tensor
    scales: Scales = field(default_factory=dict)
    follows: tuple[float, float, float] = FOLLOWS

    @classmethod
    def of(cls, groups: tuple[Group, ...], sources: SourceBlock) -> TargetPrior:
        """What is believed whatever the sources say of each other; see `sources_as_targets`."""
        noise = sources.noise()
        related, log_related = draw(RELATIONS, noise, overheads=sources.unit > 0.0)
        unrelated, log_unrelated = draw((UNRELATED,), UNKNOWN_NOISE)
        choices = {} if sources.placing is None else sources.placing.choices()
        scales: dict[str, dict[Scale, float]] = {
            option: {scale: PRIOR[scale] for scale in several}
            for option, several in choices.items()
        }
        return cls(groups, sources, related, unrelated, log_related, log_unrelated, scales)

    def as_noisy_as_repeats(
        self, x: torch.Tensor, z: torch.Tensor, relative: torch.Tensor
    ) -> TargetPrior:
        """The same where no hypothesis has less noise than repeats of z at x have among them.

        How much they vary says nothing of the relation to the sources. To weigh hypotheses by it
        would leave those alone whose draws of the noise happen to be near.
        """
        groups = repeated(x)
        if not groups:
            return self
        least = math.sqrt(variance_within(groups, z, relative, self.sources.noise() ** 2))
        related, unrelated = (
            replace(given, noise=given.noise.clamp_min(least))
            for given in (self.related, self.unrelated)
        )
        return replace(self, related=related, unrelated=unrelated)

    def on(self, option: str, scale: Scale) -> TargetPrior:
        """The same with the values of an option on a scale."""
        placing = self.sources.placing
        assert placing is not None
        return replace(self, sources=self.sources.placed(placing.on(option, scale)))

    def all_on(self, scale: Scale) -> TargetPrior:
        """The same with the values of all options on a scale, where they have it."""
        prior = self
        for option, chances in self.scales.items():
            prior = prior.on(option, scale if scale in chances else "value")
        return prior

    @property
    def chosen_scales(self) -> Mapping[str, Scale]:
        """Option -> the scale that its values are on, of those that do not meet as they are."""
        return {} if self.sources.placing is None else self.sources.placing.scales

    @cached_property
    def options(self) -> OptionKernel:
        """Over the features, at the modes of its priors; a copy of it is cheaper than another."""
        return OptionKernel(self.groups).double()

    def template(self, weights: torch.Tensor) -> Template:
        """The one in which the sources have these (S,) weights."""
        return Template.of(self.sources, weights, self.options)

    def hypotheses(self, template: Template) -> tuple[Hypotheses, torch.Tensor]:
        """Those that go with a template, and the log probability of each."""
        if bool(template.weights.any()):
            return self.related, self.log_related
        return self.unrelated, self.log_unrelated

    def templates(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(T, S) weights of the sources in each template, and their (T,) log probabilities.

        Sources count by their reliability, in the mean and alone, and the target is as likely to
        follow any as the most reliable of them is reliable.
        """
        count, worth = len(self.sources), self.sources.reliability
        shares, most = worth / worth.sum(), worth.max()
        mean, one, _ = (most * share for share in self.follows)
        nothing = 1.0 - mean - one
        every, none = shares.unsqueeze(0), torch.zeros(1, count, dtype=torch.float64)
        if count == 1:
            return torch.cat([every, none]), torch.stack([mean + one, nothing]).log()
        weights = torch.cat([every, torch.eye(count, dtype=torch.float64), none])
        odds = torch.cat([mean.unsqueeze(0), one * shares, nothing.unsqueeze(0)])
        return weights, odds.log()


@dataclass(frozen=True)
class TargetBlock:
    """The target given its n measurements: the hypotheses that remain, with their weights.

    Parameters
    ----------
    prior : what was believed before
    measured : what the sources say where the target was measured
    z : (n,) standardised measurements
    relative : (n,) the noise variance of each relative to the target's; see `repeats`
    parts : the hypotheses that are kept, by template
    outliers : the expected number of outliers among the measurements
    outlier_variance : of a further one
    related : (M,) posterior probabilities of the prior's related hypotheses
    unrelated : that the target has nothing to do with the sources
    templates : (T,) posterior probabilities of the prior's templates
    scales : the posterior of the prior's, each option given the scales chosen for the others
    """

    prior: TargetPrior
    measured: SourceView
    z: torch.Tensor
    relative: torch.Tensor
    parts: tuple[Part, ...]
    outliers: float
    outlier_variance: float
    related: torch.Tensor
    unrelated: float
    templates: torch.Tensor
    scales: Scales = field(default_factory=dict)

    @classmethod
    def conditioned(
        cls,
        prior: TargetPrior,
        x: torch.Tensor,
        z: torch.Tensor,
        relative: torch.Tensor | None = None,
    ) -> TargetBlock:
        """The target given z at (n, p) features x, measured with `relative` noise.

        Each option on the likeliest scale.

        Raises
        ------
        FitError
            If no hypothesis can be conditioned on, which finite values do not bring about.
        """
        relative = torch.ones_like(z) if relative is None else relative
        rows = spaced(torch.arange(len(z)), JUDGED_ROWS)
        judged = (z[rows], relative[rows])
        before, prior = prior, prior.as_noisy_as_repeats(x[rows], *judged)
        prior, scales = _on_likeliest_scales(prior, x[rows].contiguous(), *judged)
        measured = prior.sources.at(x.contiguous())
        kept, templates, logs, outliers, extra = [], [], [], [], []
        for row, template, log, found in _weighed(prior, measured.rows(rows), *judged):
            kept.append(row)
            templates.append(template)
            logs.append(log)
            outliers.append((found.extra > 0).double().sum(-1))
            extra.append(found.extra.sum(-1))
        every = torch.cat(logs)
        if not bool(torch.isfinite(every).any()):
            raise FitError("no relation of the target to its sources could be conditioned on")
        posterior = torch.softmax(every, 0)
        shares = posterior.split([len(log) for log in logs])
        count = float(posterior @ torch.cat(outliers)) * len(z) / max(len(rows), 1)
        variance = float(posterior @ torch.cat(extra)) * len(z) / max(len(rows), 1)
        by_template = torch.zeros(len(prior.templates()[1]), dtype=torch.float64)
        by_template[kept] = torch.stack([share.sum() for share in shares])
        related = [s for s, t in zip(shares, templates, strict=True) if bool(t.weights.any())]
        most = max(1, min(MOST, int(MAX_ELEMENTS // max(len(z), 1) ** 2)))
        chosen = representatives(posterior, most).split([len(log) for log in logs])
        parts = [
            _part(prior, template, share, measured, z, relative)
            for template, share in zip(templates, chosen, strict=True)
            if bool(share.any())
        ]
        return cls(
            before if not scales else replace(before, sources=prior.sources),
            measured,
            z,
            relative,
            tuple(parts),
            count,
            variance / count if count > 0.5 else 1.0,
            torch.stack(related).sum(0),
            float(by_template[-1]),
            by_template,
            scales,
        )

    @property
    def follows(self) -> tuple[float, float, float]:
        """The posterior of the prior's, as were the sources reliable beyond doubt."""
        prior = self.prior.templates()[1].exp()
        if len(self.prior.sources) == 1:  # alone it is mean and one, which explain as much
            first, last = self.templates / prior
            likelihoods = torch.stack([first, first, last])
        else:
            groups = [slice(0, 1), slice(1, -1), slice(-1, None)]
            sums = [(self.templates[g].sum(), prior[g].sum()) for g in groups]
            likelihoods = torch.stack([found / before for found, before in sums])
        found = torch.tensor(self.prior.follows, dtype=torch.float64) * likelihoods
        mean, one, none = (found / found.sum()).tolist()
        return mean, one, none

    @property
    def weights(self) -> torch.Tensor:
        """(k,) of the kept hypotheses, of sum 1."""
        return torch.softmax(torch.cat([part.log_weights for part in self.parts]), 0)

    @property
    def outlier_share(self) -> float:
        """The probability that a further measurement is an outlier."""
        return outlier_share(self.outliers, len(self.z))

    @property
    def noise_variance(self) -> float:
        """Of a new measurement that is no outlier."""
        squares = torch.cat([part.given.noise.square() for part in self.parts])
        return float(self.weights @ squares)

    @property
    def own_residual(self) -> torch.Tensor:
        """(k,), which of the kept hypotheses have a delta with lengthscales of its own."""
        own = [bool(part.template.own) for part in self.parts]
        counts = torch.tensor([len(part.given) for part in self.parts])
        return torch.tensor(own).repeat_interleave(counts)

    def measurements(self, x: torch.Tensor) -> GaussianMixture:
        """New measurements at (m, p) features, noise and the chance of an outlier included."""
        sources = self.prior.sources
        largest = max(len(process.z) for process in sources.processes)
        if sources.prepares and len(x) > MANY * largest:
            views = sources.bulk(self.measured, x)
        else:
            views = (sources.at(block) for block in (x.split(BLOCK) if len(x) else [x]))
        blocks = [self._measurements(view) for view in views]
        means = torch.cat([m for m, _ in blocks], -1)
        variances = torch.cat([v for _, v in blocks], -1)
        return self._with_outliers(means, variances)

    def _measurements(self, view: View) -> tuple[torch.Tensor, torch.Tensor]:
        moments = [part.marginals(self.measured, view) for part in self.parts]
        noise = torch.cat([part.given.noise.square() for part in self.parts]).unsqueeze(-1)
        return torch.cat([m for m, _ in moments]), torch.cat([v for _, v in moments]) + noise

    def leave_one_out(self) -> GaussianMixture:
        """Each measurement given all others, with the weights of the hypotheses held.

        But repeats of the same configuration.
        """
        repeats = repeated(self.measured.x)
        moments = [part.leave_one_out(self.z, self.relative, repeats) for part in self.parts]
        return self._with_outliers(
            torch.cat([m for m, _ in moments]), torch.cat([v for _, v in moments])
        )

    def _with_outliers(self, means: torch.Tensor, variances: torch.Tensor) -> GaussianMixture:
        """The mixture with one more component, around the same centre and wide."""
        mixture = GaussianMixture(self.weights, means, variances)
        mean, variance = mixture.moments()
        share = self.outlier_share
        return GaussianMixture(
            torch.cat([(1.0 - share) * mixture.weights, mixture.weights.new_tensor([share])]),
            torch.cat([means, mean.unsqueeze(0)]),
            torch.cat([variances, (variance + self.outlier_variance).unsqueeze(0)]),
        )

    def joint(self, x: torch.Tensor, where: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(m,) means and (m, m) covariances of noise-free values, over several environments.

        Parameters
        ----------
        x : (m, p) features
        where : (m,), 0 for the target, s + 1 for source s
        """
        sources, view = self.prior.sources, self.prior.sources.at(x, where)
        at = [torch.nonzero(where == place).squeeze(-1) for place in range(len(sources) + 1)]
        here = view.rows(at[0])
        m = len(x)
        mean, covariance = torch.zeros(m).double(), torch.zeros(m, m).double()
        between = torch.zeros(m, m, dtype=torch.float64)
        for s, rows in enumerate(at[1:]):
            if len(rows):
                there = view.rows(rows)
                covariance[rows.unsqueeze(-1), rows] = sources.covariance(s, there, there)
        centres = []
        shares = self.weights.split([len(part.given) for part in self.parts])
        for share, part in zip(shares, self.parts, strict=True):
            template, factors = part.template, part.template.factors(part.given)
            k = len(share)
            centre = torch.zeros(k, m, dtype=torch.float64)
            cross = torch.zeros(k, len(self.z), m, dtype=torch.float64)
            centre[:, at[0]] = template.mean(here, part.given)
            cross[:, :, at[0]] = combined(factors, template.terms(self.measured, here))
            own = combined((share @ factors).unsqueeze(0), template.terms(here, here))[0]
            covariance[at[0].unsqueeze(-1), at[0]] += own
            for s, rows in enumerate(at[1:]):
                weight = float(template.weights[s])
                if len(rows):
                    there = view.rows(rows)
                    centre[:, rows] = there.means[:, s]
                    if weight:
                        cross[:, :, rows] = weight * sources.covariance(s, self.measured, there)
                        shared = weight * float(share.sum()) * sources.covariance(s, here, there)
                        covariance[at[0].unsqueeze(-1), rows] += shared
                        covariance[rows.unsqueeze(-1), at[0]] += shared.T
            centre += (part.alpha.unsqueeze(-2) @ cross).squeeze(-2)
            half = (share.sqrt().view(-1, 1, 1) * (part.half @ cross)).flatten(0, 1)
            covariance -= half.T @ half
            mean += share @ centre
            centres.append((share, centre))
        for share, centre in centres:
            apart = centre - mean
            between += (share.unsqueeze(-1) * apart).T @ apart
        covariance += between
        return mean, (covariance + covariance.T) / 2.0


def _on_likeliest_scales(
    prior: TargetPrior, x: torch.Tensor, z: torch.Tensor, relative: torch.Tensor
) -> tuple[TargetPrior, Scales]:
    """The prior with the options on the scales that explain z best, and the odds of each option's.

    First all on the one scale that is best for all, then one at a time, given the others, and
    again until none changes: alone, an option on the right scale may explain less than before.
    """
    if not prior.scales:
        return prior, {}
    known: dict[frozenset[tuple[str, Scale]], float] = {}

    def score(placed: TargetPrior) -> float:
        chosen = placed.chosen_scales
        if (key := frozenset(chosen.items())) not in known:
            chances = [of[chosen.get(option, "value")] for option, of in prior.scales.items()]
            known[key] = sum(map(math.log, chances)) + _log_evidence(placed, x, z, relative)
        return known[key]

    best = max((prior.all_on(scale) for scale in PRIOR), key=score)
    scales: dict[str, Mapping[Scale, float]] = {}
    for _ in range(PASSES):
        before = best
        for option, chances in prior.scales.items():
            tried: dict[Scale, TargetPrior] = {scale: best.on(option, scale) for scale in chances}
            scores = torch.tensor([score(placed) for placed in tried.values()], dtype=torch.float64)
            scales[option] = dict(zip(tried, torch.softmax(scores, 0).tolist(), strict=True))
            best = tried[max(tried, key=scales[option].__getitem__)]
        if best.chosen_scales == before.chosen_scales:
            break
    return best, scales


def _log_evidence(
    prior: TargetPrior, x: torch.Tensor, z: torch.Tensor, relative: torch.Tensor
) -> float:
    """Of z at x, over all templates and hypotheses."""
    logs = [log for _, _, log, _ in _weighed(prior, prior.sources.at(x), z, relative)]
    return torch.logsumexp(torch.cat(logs), 0).item()


def _weighed(
    prior: TargetPrior, view: SourceView, z: torch.Tensor, relative: torch.Tensor
) -> Iterator[tuple[int, Template, torch.Tensor, Explanation]]:
    """Each template that is looked at closely: its position, and how its hypotheses explain z.

    With the logarithm of prior times evidence of each.
    """
    weights, log_shares = prior.templates()
    for row in _screened(prior, weights, log_shares, view, z, relative).tolist():
        template = prior.template(weights[row])
        given, share = prior.hypotheses(template)
        found = explained(template, given, view, z, relative)
        yield row, template, log_shares[row] + share + found.evidence, found


def _part(
    prior: TargetPrior,
    template: Template,
    share: torch.Tensor,
    view: SourceView,
    z: torch.Tensor,
    relative: torch.Tensor,
) -> Part:
    """The hypotheses of a template that have a share of the answer, with that as their weight."""
    rows = torch.nonzero(share).squeeze(-1)
    given, log_prior = prior.hypotheses(template)
    part = Part.conditioned(template, given.rows(rows), log_prior[rows], view, z, relative)
    return replace(part, log_weights=share[rows].log())


def representatives(posterior: torch.Tensor, most: int) -> torch.Tensor:
    """(M,) weights of at most so many hypotheses that stand for all; zero for the others.

    Those that have nearly all of the probability, if they are few. Otherwise by systematic
    sampling (Kitagawa, 1996), which keeps the shares of regions, in place of the likeliest,
    which would be too sure and favour relations of which fewer were drawn.
    """
    ranked = torch.argsort(posterior, descending=True, stable=True)
    before = torch.cumsum(posterior[ranked], 0) - posterior[ranked]
    likely = ranked[before < MASS]
    kept = torch.zeros_like(posterior)
    if len(likely) <= most:
        kept[likely] = posterior[likely]
    else:
        points = (torch.arange(most, dtype=torch.float64) + 0.5) / most
        found = torch.searchsorted(torch.cumsum(posterior, 0), points)
        kept += torch.bincount(found.clamp_max(len(kept) - 1), minlength=len(kept))
    return kept / kept.sum()


def _screened(
    prior: TargetPrior,
    weights: torch.Tensor,
    log_shares: torch.Tensor,
    measured: SourceView,
    z: torch.Tensor,
    relative: torch.Tensor,
) -> torch.Tensor:
    """The positions of the templates that are looked at closely: all, unless they are many."""
    count = len(prior.sources)
    if count <= MOST_TEMPLATES:
        return torch.arange(len(weights))
    plain = torch.tensor([not (r.contrasts or r.shift or r.residual) for r in RELATIONS])
    simple = torch.nonzero(plain[prior.related.relation]).squeeze(-1)
    given, share = prior.related.rows(simple), prior.log_related[simple]
    scores = []
    for row in range(1, count + 1):
        found = explained(prior.template(weights[row]), given, measured, z, relative)
        scores.append(log_shares[row] + torch.logsumexp(share + found.evidence, 0))
    best = torch.topk(torch.stack(scores), MOST_TEMPLATES).indices.sort().values + 1
    return torch.cat([torch.tensor([0]), best, torch.tensor([count + 1])])

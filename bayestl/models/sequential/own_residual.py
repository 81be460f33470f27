"""The target's residual with lengthscales of its own, once there are measurements to find them.

In the mixture of `target_block` the target departs from its sources on lengthscales like
theirs, times a factor. That is all that a handful of measurements can tell. A dozen of them
may show that it departs along one option alone, whatever that option does elsewhere. So one more
hypothesis has a kernel of its own for delta, a lengthscale for each option and main effects,
found by a search for the likeliest as for any process; the other terms are as large as the
mixture found them (recursive co-kriging; Le Gratiet and Garnier, 2014, "Recursive co-kriging
model for design of computer experiments with multiple levels of fidelity").

How much it counts is decided as between the members of a `TransferGP`, by how well either
predicts each measurement from all others: the evidence of a model whose hyperparameters were
searched for is no fair match for one that integrates over them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch

from bayestl.models.gaussian_process.evidence import Given
from bayestl.models.gaussian_process.fitting import Fit, Hyperparameters
from bayestl.models.gaussian_process.integration import DRAWS, draws, spaced
from bayestl.models.gaussian_process.kernels import LEAST, OWN_OFFSET, SHARED_OFFSET
from bayestl.models.gaussian_process.outliers import fit_robustly
from bayestl.models.gaussian_process.repeats import shares
from bayestl.models.gp import hyperparameters_of
from bayestl.models.observations import FITTED_ROWS
from bayestl.models.sequential.explanation import Explanation
from bayestl.models.sequential.hypotheses import RELATIONS, Hypotheses
from bayestl.models.sequential.source_block import with_zero
from bayestl.models.sequential.target_block import MAX_ELEMENTS, TargetBlock
from bayestl.models.sequential.template import Part, Template, combined
from bayestl.models.stacking import distances, stacking_weights, trimmed

ENOUGH = 10
"""Target configurations below which no lengthscales are searched for."""

PRIOR = np.array([3.0, 1.0])
"""What the prior on the weights is worth, in measurements: of the mixture, and of this."""

PRECISION = 4.0
"""Least precision of a hyperparameter's logarithm: where the measurements say little of it, draws
further off would be of processes that explain nothing."""

SEED = 0
"""Of the directions in which hyperparameters are drawn, always the same."""


def with_own_residual(block: TargetBlock) -> tuple[TargetBlock, Fit | None]:
    """The block with such hypotheses beside its own, and how the search ended.

    The same block, and None, with fewer than `ENOUGH` configurations, or where the target is sure
    to have nothing to do with its sources.
    """
    each, count = shares(block.measured.x)
    if count < ENOUGH or not float(block.related.sum()) > 0.0:
        return block, None
    every = torch.arange(len(block.z))
    judged = _Rest.of(block, spaced(every, FITTED_ROWS))
    rest = judged if len(judged.left) == len(every) else _Rest.of(block, every)
    best = hyperparameters_of(block.prior.groups, 1, 1, False)
    with torch.no_grad():  # about as large as the mixture found it, which shortens the search
        best.kernel.raw_amplitude.add_(judged.typical.residual.clamp_min(LEAST).log().squeeze())
    outcome, extra = fit_robustly(best, judged.x, judged.left, judged.given)
    own = rest.part(best, _alternatives(best, judged, extra, len(every)))
    if own is None:
        return block, outcome
    groups = block.parts, (own,)
    left_out = [replace(block, parts=parts).leave_one_out() for parts in groups]
    errors, between = distances(left_out, block.z, each)
    weights = trimmed(stacking_weights(errors.numpy(), between.numpy(), count, PRIOR))
    mixed = [
        part
        for share, parts in zip(weights.tolist(), groups, strict=True)
        if share > 0.0
        for part in _scaled(parts, share)
    ]
    return replace(block, parts=tuple(mixed)), outcome


def _alternatives(
    best: Hyperparameters, judged: _Rest, extra: torch.Tensor, count: int
) -> list[np.ndarray]:
    """Vectors around the likeliest, or it alone where `count` measurements make more too costly."""
    centre, pairs = best.vector(), min(DRAWS, int(MAX_ELEMENTS // count**2)) // 2
    if not pairs:
        return [centre]
    objective = best.objective(judged.x, judged.left, replace(judged.given, extra=extra))
    return list(draws(objective, centre, pairs, SEED, PRECISION))


def _scaled(parts: Sequence[Part], share: float) -> list[Part]:
    """The same hypotheses with weights of that sum."""
    total = torch.logsumexp(torch.cat([part.log_weights for part in parts]), 0)
    log_factor = math.log(share) - total
    return [replace(part, log_weights=part.log_weights + log_factor) for part in parts]


@dataclass(frozen=True)
class _Rest:
    """All but delta and noise, of n of the target's measurements.

    Parameters
    ----------
    template : the block's, by their probability
    typical : one hypothesis
    x : (n, d) inputs
    left : (n,), of the measurements what the template's mean leaves
    given : their covariance by the terms that are there, and what repeats say of their noise
    """

    template: Template
    typical: Hypotheses
    x: torch.Tensor
    left: torch.Tensor
    given: Given

    @classmethod
    def of(cls, block: TargetBlock, rows: torch.Tensor) -> _Rest:
        """What a block has found."""
        prior, shares = block.prior, block.templates[:-1]
        weights = (shares / shares.sum()) @ prior.templates()[0][:-1]
        template, typical = prior.template(weights), _typical(block)
        view, nothing = block.measured.rows(rows), torch.zeros_like(typical.residual)
        rest = replace(typical, offset=nothing, residual=nothing)  # which are the kernel's
        return cls(
            template,
            typical,
            with_zero(view.x),
            block.z[rows] - template.mean(view, typical)[0],
            Given(
                relative=block.relative[rows],
                known=combined(template.factors(rest), template.terms(view, view))[0],
            ),
        )

    def part(self, hyperparameters: Hyperparameters, vectors: Sequence[np.ndarray]) -> Part | None:
        """A hypothesis for each vector of hyperparameters, equally likely.

        But those whose covariance cannot be factorised; None if there is no other.
        """
        kernel, offset = hyperparameters.kernel, math.sqrt(SHARED_OFFSET + OWN_OFFSET)
        covariances, kernels, found = [], [], []
        for place, vector in enumerate(vectors):
            hyperparameters.move(vector)
            with torch.no_grad():
                covariances.append(hyperparameters.covariance(self.x, self.given))
            kernels.append(kernel.options[0].copied())
            of_delta = {
                "offset": torch.full_like(self.typical.offset, offset),
                "residual": kernel.coregionalization[0].detach().sqrt(),
                "noise": hyperparameters.noise.variance.detach().sqrt(),
                "stretch": torch.tensor([place]),
            }
            found.append(replace(self.typical, **of_delta))
        left = self.left.repeat(len(vectors), 1)
        covariance = torch.stack(covariances)
        explained = Explanation.of(covariance.clone(), left)
        sound = torch.nonzero(torch.isfinite(explained.evidence)).squeeze(-1)
        if not len(sound):
            return None
        template = replace(self.template, own=tuple(kernels))
        given, alike = Hypotheses.joined(found).rows(sound), torch.zeros(len(sound)).double()
        found = Explanation(explained.evidence[sound], explained.extra[sound])
        part = Part.of(template, given, alike, covariance[sound], left[sound], found)
        return replace(part, log_weights=alike)


def _typical(block: TargetBlock) -> Hypotheses:
    """One hypothesis whose standard deviations are the root mean squares of the block's.

    What is in its mean is the mean of theirs.
    """
    related, weights = block.prior.related, block.related / block.related.sum()
    each = {f.name: getattr(related, f.name).double() for f in fields(related)}
    typical = {name: (weights @ values.square()).sqrt().view(1) for name, values in each.items()}
    first = torch.zeros(1, dtype=torch.long)
    return Hypotheses(
        **typical
        | {n: (weights @ getattr(related, n)).view(1) for n in ("oddness", "overhead")}
        | {"reach": first + 1, "stretch": first, "relation": first + len(RELATIONS) - 1}
    )

"""What sources say of a target before it is measured: each in turn is the target of the others.

How they follow each other says how a target may follow them: by which relation, whether all of
them, one or none, and on which scales their options meet. It is as likely to be like any of
them as to be like none (a Dirichlet process with concentration 1 over environments).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import torch

from bayestl.models.gaussian_process.integration import spaced
from bayestl.models.sequential.placing import Scale
from bayestl.models.sequential.target_block import TargetBlock, TargetPrior

TARGETS, ROWS = 8, 20
"""How many sources play the target, and how many rows of each are measured then."""


def taught(prior: TargetPrior) -> TargetPrior:
    """What was believed before, and on average were each of several sources the target.

    As far as they are reliable: what is followed by noise, or follows it, teaches nothing.
    """
    count = len(prior.sources)
    if count < 2:
        return prior
    every = spaced(torch.arange(count), TARGETS)
    blocks = [as_target(prior, source) for source in every.tolist()]
    reliable = prior.sources.reliability[every]
    total = float(prior.sources.reliability.sum())
    share, base = 1.0 / (total + 1.0), prior.log_related.exp()
    worth = (1.0 - share) * reliable / reliable.sum()

    def mixed(before: float, said: Iterable[float]) -> float:
        return share * before + float(worth @ torch.tensor(list(said), dtype=torch.float64))

    said = torch.stack([block.related + block.unrelated * base for block in blocks])
    scales: dict[str, dict[Scale, float]] = {
        option: {s: mixed(p, (block.scales[option][s] for block in blocks)) for s, p in of.items()}
        for option, of in prior.scales.items()
    }
    mean, one, none = (
        mixed(before, after)
        for before, *after in zip(prior.follows, *(b.follows for b in blocks), strict=True)
    )
    return replace(
        prior,
        log_related=(share * base + worth @ said).log(),
        scales=scales,
        follows=(mean, one, none),
    )


def as_target(prior: TargetPrior, source: int) -> TargetBlock:
    """What would be believed, were this source the target, of which few rows are measured."""
    process = prior.sources.processes[source]
    rows = spaced(torch.arange(len(process.z)), ROWS)
    others = replace(prior, sources=prior.sources.without(source))
    return TargetBlock.conditioned(
        others, process.x[rows, :-1], process.z[rows], process.relative[rows]
    )

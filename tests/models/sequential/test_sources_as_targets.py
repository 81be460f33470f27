"""What several sources say of a target before it is measured."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from bayestl.models.gaussian_process.conditioning import Conditioned
from bayestl.models.sequential import sources_as_targets
from bayestl.models.sequential.source_block import SourceBlock
from bayestl.models.sequential.sources_as_targets import TARGETS, taught
from bayestl.models.sequential.target_block import FOLLOWS, TargetBlock, TargetPrior
from tests.models.sequential.test_target_block import target_of


def test_sources_teach_what_environments_have_in_common(make_process, groups):
    """Where each source is another one plus an offset, so will the target be."""
    processes = [make_process(30, 0, shift=s) for s in range(4)]
    sources = SourceBlock.of(processes)
    plain = TargetPrior.of(groups, sources)
    learned = taught(plain)
    assert learned.log_related.exp().sum().item() == pytest.approx(1.0, abs=1e-6)
    simple = plain.related.relation == 0
    assert learned.log_related.exp()[simple].sum() > 1.8 * plain.log_related.exp()[simple].sum()
    assert torch.isfinite(learned.log_related).all()  # nothing is ruled out
    assert sum(learned.follows) == pytest.approx(1.0)
    assert 0 < learned.follows[-1] < 0.5 * plain.follows[-1]  # each has to do with the others


def test_sources_teach_that_environments_may_have_nothing_in_common(make_process, groups):
    sources = SourceBlock.of([make_process(30, s, like=10 * s) for s in range(4)])
    assert sources.reliability.min() > 0.8  # each has an order, but of its own
    learned = taught(TargetPrior.of(groups, sources))
    assert learned.follows[-1] > 2 * FOLLOWS[-1]
    one = TargetPrior.of(groups, sources.without(0).without(0).without(0))
    assert taught(one) is one  # no other tells


def test_sources_without_an_order_teach_little(make_process, groups):
    """That nothing follows them, or they anything, says nothing of environments that have one."""
    rng = np.random.default_rng(0)
    noise = [
        Conditioned.on(p.hyperparameters, p.x, torch.from_numpy(rng.normal(size=len(p.z))))
        for p in (make_process(30, seed) for seed in range(4))
    ]
    alike = [make_process(30, 0, shift=s) for s in range(4)]
    few, many = (
        taught(TargetPrior.of(groups, SourceBlock.of(p))) for p in (alike, [*alike, *noise])
    )
    assert few.follows[-1] < many.follows[-1] < FOLLOWS[-1]


def test_only_so_many_sources_play_the_target(make_process, groups, monkeypatch):
    sources = SourceBlock.of([make_process(8, seed) for seed in range(TARGETS + 3)])
    played = []

    def as_target(prior: TargetPrior, source: int) -> TargetBlock:
        played.append(source)
        x, z = target_of(sources.processes[source], 3, 0.0)
        return TargetBlock.conditioned(replace(prior, sources=prior.sources.without(source)), x, z)

    monkeypatch.setattr(sources_as_targets, "as_target", as_target)
    taught(TargetPrior.of(groups, sources))
    assert len(set(played)) == len(played) == TARGETS

"""A residual with lengthscales of its own, beside a mixture that has the sources'."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from bayestl.models.persistence import load
from bayestl.models.sequential import own_residual
from bayestl.models.sequential.own_residual import ENOUGH, with_own_residual
from bayestl.models.sequential.sequential_gp import SequentialGP
from bayestl.models.sequential.source_block import SourceBlock
from bayestl.models.sequential.target_block import Part, TargetBlock, TargetPrior


@pytest.fixture
def prior(make_process, groups) -> TargetPrior:
    """Of a source that varies slowly with its first option."""
    return TargetPrior.of(groups, SourceBlock.of([make_process(30, 0)]))


def measured(prior, x, *, wiggle: float = 0.8) -> tuple[torch.Tensor, torch.Tensor]:
    """A target that departs from the source on a lengthscale much shorter than the source's."""
    noise = 0.02 * np.random.default_rng(3).normal(size=len(x))
    departs = wiggle * torch.sin(20.0 * x[:, 0]) + torch.from_numpy(noise)
    return x, prior.sources.at(x).means[:, 0] + 0.3 + departs


@pytest.fixture
def blocks(prior, make_features) -> tuple[TargetBlock, TargetBlock]:
    """Without and with a residual of its own."""
    before = TargetBlock.conditioned(prior, *measured(prior, make_features(50, seed=51)))
    after, outcome = with_own_residual(before)
    assert outcome is not None
    assert outcome.sound
    return before, after


def test_few_measurements_are_left_alone(prior, make_features):
    x, z = measured(prior, make_features(ENOUGH, seed=51))
    few = TargetBlock.conditioned(prior, x[1:], z[1:])
    assert with_own_residual(few) == (few, None)
    enough, outcome = with_own_residual(TargetBlock.conditioned(prior, x, z))
    assert outcome is not None
    assert enough.weights.sum().item() == pytest.approx(1.0)


def test_it_finds_what_the_sources_lengthscales_cannot_express(blocks, prior, make_features):
    before, after = blocks
    x, z = measured(prior, make_features(300, seed=52))
    errors = [(b.measurements(x).quantile(0.5) - z).abs().mean() for b in (before, after)]
    assert errors[1] < 0.7 * errors[0]
    share = float(after.weights @ after.own_residual.double())
    assert share > 0.5
    assert after.own_residual.sum() == own_residual.DRAWS
    scores = [b.measurements(x).log_density(z).mean() for b in (before, after)]
    assert scores[1] > scores[0]


def test_it_counts_for_little_where_the_mixture_says_all(prior, make_features):
    x, z = measured(prior, make_features(40, seed=51), wiggle=0.0)
    block, _ = with_own_residual(TargetBlock.conditioned(prior, x, z))
    assert float(block.weights @ block.own_residual.double()) < 0.5
    assert float(block.measurements(x).quantile(0.5).sub(z).abs().mean()) < 0.05


def test_marginals_are_those_of_the_joint(blocks, make_features):
    _, after = blocks
    x = make_features(7, seed=53)
    mean, covariance = after.joint(x, torch.zeros(7, dtype=torch.long))
    moments = [part.marginals(after.measured, after.prior.sources.at(x)) for part in after.parts]
    means, variances = (torch.cat(each) for each in zip(*moments, strict=True))
    expected = after.weights @ means
    torch.testing.assert_close(mean, expected)
    spread = after.weights @ (variances + (means - expected).square())
    torch.testing.assert_close(covariance.diagonal(), spread)


def test_an_own_part_is_a_process_with_its_covariance(blocks):
    """Conditioned in a batch or by its template's terms, it is the same."""
    _, after = blocks
    part = next(part for part in after.parts if part.template.own)
    again = Part.conditioned(
        part.template, part.given, part.log_weights, after.measured, after.z, after.relative
    )
    torch.testing.assert_close(part.alpha, again.alpha)
    torch.testing.assert_close(part.half, again.half)
    assert torch.equal(part.extra > 0, again.extra > 0)


def test_many_measurements_are_searched_on_some(prior, make_features, monkeypatch):
    monkeypatch.setattr(own_residual, "FITTED_ROWS", 20)
    x, z = measured(prior, make_features(50, seed=51))
    block, _ = with_own_residual(TargetBlock.conditioned(prior, x, z))
    own = [part for part in block.parts if part.template.own]
    assert own
    assert all(part.half.shape[1:] == (50, 50) for part in own)


def test_what_cannot_be_factorised_leaves_the_mixture(prior, make_features, monkeypatch):
    before = TargetBlock.conditioned(prior, *measured(prior, make_features(20, seed=51)))
    explain = own_residual.Explanation.of

    def hopeless(covariance, left):
        return explain(torch.full_like(covariance, -1.0), left)

    monkeypatch.setattr(own_residual.Explanation, "of", hopeless)
    after, outcome = with_own_residual(before)
    assert after is before
    assert outcome is not None


def test_a_search_that_broke_down_is_told(make_table, monkeypatch):
    robustly = own_residual.fit_robustly

    def broken(*given):
        outcome, extra = robustly(*given)
        return replace(outcome, sound=False, message="ABNORMAL"), extra

    monkeypatch.setattr(own_residual, "fit_robustly", broken)
    table = make_table({"source": (60, 1.0, 0.0), "target": (30, 0.6, 1.0)})
    fitted = SequentialGP().fit(table, metric="latency", target="target")
    assert any("residual broke down: ABNORMAL" in each for each in fitted.diagnostics.warnings)


def test_a_sequential_model_has_it_says_so_and_keeps_it(make_table, make_test, tmp_path):
    table = make_table({"source": (60, 1.0, 0.0), "target": (30, 0.6, 1.0)})
    fitted = SequentialGP().fit(table, metric="latency", target="target")
    said = fitted.diagnostics.details["own_residual"]
    assert 0.0 <= said["weight"] <= 1.0
    assert fitted.block.own_residual.any() == bool(said["lengthscales"])
    fitted.save(tmp_path / "model.bayestl")
    configs, _ = make_test(shift=1.0)
    again = load(tmp_path / "model.bayestl")
    assert again.predict(configs).equals(fitted.predict(configs))
    few = make_table({"source": (60, 1.0, 0.0), "target": (5, 0.6, 1.0)})
    assert (
        SequentialGP()
        .fit(few, metric="latency", target="target")
        .diagnostics.details["own_residual"]
        is None
    )

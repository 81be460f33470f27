"""The target block against a Gaussian process written once more in NumPy, from its equation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st

from bayestl.models.gaussian_process.conditioning import Conditioned
from bayestl.models.sequential.explanation import Explanation
from bayestl.models.sequential.source_block import SourceBlock
from bayestl.models.sequential.target_block import (
    FOLLOWS,
    JUDGED_ROWS,
    MASS,
    MOST,
    MOST_TEMPLATES,
    TargetBlock,
    TargetPrior,
    representatives,
)
from bayestl.models.sequential.template import Part
from tests.models.sequential.textbook import TEMPLATES, Textbook, hypotheses


def test_a_gross_value_counts_for_as_little_as_none(prior, nine, make_features):
    x, z = nine
    spoiled, rest = z.clone(), torch.tensor([j for j in range(9) if j != 7])
    spoiled[7] += 30.0
    new = make_features(20, seed=52)
    block = TargetBlock.conditioned(prior, x, spoiled)
    robust, _ = block.measurements(new).moments()
    without, spread = TargetBlock.conditioned(prior, x[rest], z[rest]).measurements(new).moments()
    assert ((robust - without).abs() < 0.5 * spread.sqrt()).all()
    assert block.outliers == pytest.approx(1.0, abs=0.1)
    assert block.outlier_share > TargetBlock.conditioned(prior, x, z).outlier_share
    assert block.outlier_variance > 100


@pytest.mark.parametrize("n", [0, 1, 3, 9])
def test_probabilities_sum_to_one(n, prior, nine):
    x, z = nine
    block = TargetBlock.conditioned(prior, x[:n], z[:n])
    assert block.weights.sum().item() == pytest.approx(1.0)
    assert block.related.sum().item() + block.unrelated == pytest.approx(1.0)
    assert block.templates.sum().item() == pytest.approx(1.0)
    assert block.templates[-1].item() == block.unrelated
    mixture = block.measurements(x)
    assert mixture.weights.sum().item() == pytest.approx(1.0)
    assert torch.isfinite(mixture.means).all()
    assert (mixture.variances > 0).all()
    assert len(block.leave_one_out().means[0]) == n


def test_with_nothing_measured_the_prior_answers(prior, make_features):
    empty = torch.empty(0, 2, dtype=torch.float64)
    block = TargetBlock.conditioned(prior, empty, torch.empty(0, dtype=torch.float64))
    weights, log_shares = prior.templates()
    torch.testing.assert_close(block.templates, log_shares.exp(), rtol=1e-5, atol=1e-6)
    x = make_features(6, seed=53)
    assert weights.shape == (4, 2)
    _, variance = block.measurements(x).moments()
    assert (variance > 5).all()  # the level is not known
    mean, covariance = block.joint(x, torch.tensor([0, 0, 1, 1, 2, 2]))
    assert torch.isfinite(mean).all()
    assert torch.linalg.eigvalsh(covariance).min() > -1e-8


@pytest.fixture
def block(prior, nine) -> TargetBlock:
    """All hypotheses that remain."""
    return TargetBlock.conditioned(prior, *nine)


def test_many_configurations_are_predicted_as_few_are(block, make_features, monkeypatch):
    x = make_features(30, seed=54)
    few = block.measurements(x)
    monkeypatch.setattr("bayestl.models.sequential.target_block.MANY", 7)
    monkeypatch.setattr("bayestl.models.sequential.source_block.BLOCK", 8)
    many = block.measurements(x)
    torch.testing.assert_close(many.means, few.means, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(many.variances, few.variances, rtol=1e-3, atol=1e-6)


def test_the_joint_has_the_marginals_on_its_diagonal(block, make_features):
    x = make_features(12, seed=55)
    mean, covariance = block.joint(x, torch.zeros(12, dtype=torch.long))
    view = block.prior.sources.at(x)
    moments = [part.marginals(block.measured, view) for part in block.parts]
    means, variances = (torch.cat([m[i] for m in moments]) for i in (0, 1))
    expected = block.weights @ means
    torch.testing.assert_close(mean, expected)
    spread = block.weights @ (variances + (means - expected).square())
    torch.testing.assert_close(covariance.diagonal(), spread, atol=1e-8, rtol=1e-6)


def test_the_joint_over_environments_is_one_gaussian(block, make_features):
    x = make_features(21, seed=56)
    where = torch.arange(21) % 3
    mean, covariance = block.joint(x, where)
    assert torch.equal(covariance, covariance.T)
    assert torch.linalg.eigvalsh(covariance).min() > -1e-8
    for place in range(3):
        rows = torch.nonzero(where == place).squeeze(-1)
        alone, doubt = block.joint(x[rows], where[rows])
        torch.testing.assert_close(mean[rows], alone)
        torch.testing.assert_close(covariance[rows.unsqueeze(-1), rows], doubt)
    assert covariance[where == 1][:, where == 0].abs().max() > 1e-6  # what they share


@TEMPLATES
def test_the_joint_of_a_hypothesis_is_the_textbook_one(
    weights, prior, nine, make_features, no_outliers
):
    x, z = nine
    template, given, log_prior = hypotheses(prior, weights)
    seen = prior.sources.at(x)
    block = TargetBlock.conditioned(prior, x, z)
    new, where = make_features(12, seed=57), torch.arange(12) % 3
    for row in (0, len(given) - 1):
        rows = torch.tensor([row])
        part = Part.conditioned(template, given.rows(rows), log_prior[rows], seen, z)
        one = replace(block, parts=(part,))
        mean, covariance = one.joint(new, where)
        book = Textbook(prior, weights, given, row)
        expected = book.conditioned(x.numpy(), z.numpy(), new.numpy(), where.numpy())
        np.testing.assert_allclose(mean, expected[0], atol=1e-3, rtol=1e-3)
        np.testing.assert_allclose(covariance, expected[1], atol=1e-3, rtol=1e-3)


def test_every_hypothesis_is_weighed_by_its_prior_and_evidence(prior, nine, unsampled):
    x, z = nine
    block = TargetBlock.conditioned(prior, x, z)
    seen, logs = prior.sources.at(x), []
    for weights, log_share in zip(*prior.templates(), strict=True):
        template = prior.template(weights)
        given, log_prior = prior.hypotheses(template)
        logs.append(Part.conditioned(template, given, log_share + log_prior, seen, z).log_weights)
    expected = torch.softmax(torch.cat(logs), 0)
    # three templates are related, and each has them all
    assert len(expected) == 3 * len(prior.related) + len(prior.unrelated)
    assert (expected == 0).sum() < 0.01 * len(expected)  # too unlikely for a number
    torch.testing.assert_close(block.weights, expected[expected > 0])


def test_representatives_answer_as_all_would(prior, nine, make_features, request):
    x = make_features(40, seed=60)
    few = TargetBlock.conditioned(prior, *nine)
    request.getfixturevalue("unsampled")
    every = TargetBlock.conditioned(prior, *nine)
    assert len(few.weights) <= MOST < len(every.weights)
    torch.testing.assert_close(few.related, every.related)
    torch.testing.assert_close(few.templates, every.templates)
    for part in few.parts:  # the share of each template is that of its hypotheses
        row = int((every.prior.templates()[0] == part.template.weights).all(-1).nonzero())
        share = part.log_weights.exp().sum()
        assert share == pytest.approx(every.templates[row].item(), abs=1.0 / MOST)
    (mean, variance), (expected, spread) = (b.measurements(x).moments() for b in (few, every))
    assert ((mean - expected).abs() < 0.35 * spread.sqrt()).all()
    assert (0.5 * (variance / spread).log()).abs().max() < 0.35


@settings(max_examples=60)
@drawn(st.integers(0, 10**6), st.integers(1, 80), st.integers(1, 40), st.floats(0.1, 12.0))
def test_representatives_keep_shares(seed, count, most, unequal):
    rng = np.random.default_rng(seed)
    posterior = torch.softmax(unequal * torch.from_numpy(rng.normal(size=count)), 0)
    posterior[torch.from_numpy(rng.random(count) < 0.2)] = 0.0
    posterior[rng.integers(count)] += 1e-6
    posterior /= posterior.sum()
    kept = representatives(posterior, most)
    assert kept.sum().item() == pytest.approx(1.0)
    assert not kept[posterior == 0].any()
    assert 1 <= int((kept > 0).sum()) <= most
    assert torch.equal(kept, representatives(posterior, most))
    ranked = posterior.sort(descending=True).values
    if ranked[:most].sum() > MASS:  # few have it all, and keep their odds
        chosen = kept > 0
        assert posterior[chosen].sum() >= MASS
        torch.testing.assert_close(kept[chosen], posterior[chosen] / posterior[chosen].sum())
    elif ranked[:most].sum() < MASS:  # the share of every run of them is right to one point
        torch.testing.assert_close(kept * most, (kept * most).round())
        apart = torch.cumsum(kept, 0) - torch.cumsum(posterior, 0)
        assert apart.abs().max() <= 0.5 / most + 1e-9


def test_a_hypothesis_that_stands_alone_is_all():
    certain = torch.zeros(9, dtype=torch.float64)
    certain[4] = 1.0
    assert torch.equal(representatives(certain, 3), certain)


def target_of(process: Conditioned, n: int, offset: float) -> tuple[torch.Tensor, torch.Tensor]:
    """n configurations, and what a source would have given there, `offset` above."""
    rng = np.random.default_rng(9)
    x = torch.from_numpy(np.c_[rng.random(n), rng.integers(2, size=n)].astype(float))
    mean, _ = process.marginals(torch.cat([x, torch.zeros(n, 1, dtype=x.dtype)], -1))
    return x, mean + offset + 0.02 * torch.from_numpy(rng.normal(size=n))


@pytest.mark.parametrize("count", [3, MOST_TEMPLATES + 4])
def test_the_source_that_is_the_target_gets_the_weight(count, make_process, groups):
    processes = [make_process(40, s % 4, like=s) for s in range(count)]
    prior = TargetPrior.of(groups, SourceBlock.of(processes))
    right = count - 2
    block = TargetBlock.conditioned(prior, *target_of(processes[right], 12, 0.3))
    assert block.templates.argmax().item() == 1 + right
    assert block.templates[1 + right] > 0.9
    assert block.unrelated < 0.01
    assert block.templates.shape == (count + 2,)
    looked_at = int((block.templates > 0).sum())
    assert looked_at <= min(count, MOST_TEMPLATES) + 2


@pytest.fixture
def long_measured(make_process, groups, make_features):
    """A prior, and 300 measurements of a target that follows the source, with an offset."""
    process = make_process(40, 0)
    prior = TargetPrior.of(groups, SourceBlock.of([process]))
    return (prior, *target_of(process, 300, 0.4)), *target_of(process, 60, 0.4)


def test_many_measurements_are_all_conditioned_on(long_measured, monkeypatch):
    (prior, x, z), new, truth = long_measured
    assert len(z) > JUDGED_ROWS
    judged, explained = [], Explanation.of

    def counted(covariance, left):
        judged.append(left.shape)
        return explained(covariance, left)

    monkeypatch.setattr(Explanation, "of", counted)
    block = TargetBlock.conditioned(prior, x, z)
    most = {n: max(k for k, rows in judged if rows == n) for n in (JUDGED_ROWS, 300)}
    assert most == {JUDGED_ROWS: len(prior.related), 300: most[300]}
    assert most[300] <= MOST  # the many are only judged by some
    assert all(part.half.shape == (len(part.given), 300, 300) for part in block.parts)
    assert block.leave_one_out().means.shape[-1] == 300
    mean, variance = block.measurements(new).moments()
    assert (mean - truth).square().mean().sqrt() < 0.06
    assert torch.isfinite(variance).all()


def test_memory_bounds_how_many_stand_for_all(long_measured, monkeypatch):
    (prior, x, z), new, truth = long_measured
    full, _ = TargetBlock.conditioned(prior, x, z).measurements(new).moments()
    monkeypatch.setattr("bayestl.models.sequential.target_block.MAX_ELEMENTS", 3.5 * 300**2)
    monkeypatch.setattr("bayestl.models.sequential.target_block.JUDGED_ROWS", 40)
    few = TargetBlock.conditioned(prior, x, z)
    assert sum(part.half.numel() for part in few.parts) <= 3.5 * 300**2
    assert 1 <= len(few.weights) <= 3
    assert few.weights.sum().item() == pytest.approx(1.0)
    mean, _ = few.measurements(new).moments()
    assert (mean - truth).square().mean().sqrt() < 0.06
    torch.testing.assert_close(mean, full, atol=0.05, rtol=0.0)
    monkeypatch.setattr("bayestl.models.sequential.target_block.MAX_ELEMENTS", 1.0)
    assert len(TargetBlock.conditioned(prior, x, z).weights) == 1  # never none


def test_outliers_of_the_judged_stand_for_those_of_all(long_measured, monkeypatch):
    (prior, x, z), *_ = long_measured
    spoiled = z.clone()
    spoiled[::20] += 8.0
    monkeypatch.setattr("bayestl.models.sequential.target_block.JUDGED_ROWS", 150)
    block = TargetBlock.conditioned(prior, x, spoiled)
    assert block.outliers == pytest.approx(15.0, abs=8.0)  # two deviations of drawing half
    assert block.outlier_variance == pytest.approx(64.0, rel=0.3)
    for part in block.parts:  # and yet each is found
        assert (part.extra[:, ::20] > 0).all()


def test_a_source_of_something_else_is_unrelated(make_process, groups):
    rng = np.random.default_rng(0)
    strange = make_process(40, 0)
    strange = Conditioned.on(
        strange.hyperparameters, strange.x, torch.from_numpy(rng.normal(size=40))
    )
    block = TargetBlock.conditioned(
        TargetPrior.of(groups, SourceBlock.of([strange])), *target_of(make_process(40, 1), 25, 0.0)
    )
    assert block.unrelated > 0.5
    assert block.templates[0] < 0.5


@pytest.mark.parametrize("count", [1, 3])
def test_what_is_learned_of_whom_targets_follow_is_whatever_the_reliability(
    count, make_process, groups
):
    sources = SourceBlock.of([make_process(20, seed) for seed in range(count)])
    doubtful = replace(sources, reliability=0.3 * sources.reliability)
    prior = TargetPrior.of(groups, doubtful)
    x, z = target_of(make_process(40, 1), 0, 0.0)
    block = TargetBlock.conditioned(prior, x, z)
    assert block.unrelated > 0.7
    assert block.follows == pytest.approx(FOLLOWS)  # nothing was measured, nothing is learned


def test_a_source_is_followed_as_far_as_it_is_reliable(make_process, groups):
    mean, one, _ = FOLLOWS
    both = SourceBlock.of([make_process(20, seed) for seed in range(2)])
    both = replace(both, reliability=torch.tensor([0.8, 0.2], dtype=torch.float64))
    weights, log_shares = TargetPrior.of(groups, both).templates()
    expected = torch.tensor([[0.8, 0.2], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]).double()
    torch.testing.assert_close(weights, expected)
    shares = [0.8 * mean, 0.8 * 0.8 * one, 0.8 * 0.2 * one, 1.0 - 0.8 * (mean + one)]
    torch.testing.assert_close(log_shares.exp(), torch.tensor(shares).double())
    weights, log_shares = TargetPrior.of(groups, both.without(0)).templates()
    torch.testing.assert_close(weights, torch.tensor([[1.0], [0.0]]).double())
    torch.testing.assert_close(log_shares.exp()[0].item(), 0.2 * (mean + one))


def test_shuffled_sources_are_not_followed(make_process, groups):
    x, z = target_of(make_process(40, 1), 5, 0.0)
    whole = make_process(100, 0)
    order = torch.from_numpy(np.random.default_rng(0).permutation(100))
    shuffled = Conditioned.on(whole.hyperparameters, whole.x, whole.z[order])
    block = TargetBlock.conditioned(TargetPrior.of(groups, SourceBlock.of([shuffled])), x, z)
    assert block.unrelated > 0.8


def test_one_source_is_the_mean_of_all_as_well(make_process, groups):
    x, z = target_of(make_process(40, 1), 9, 0.0)
    for count in (1, 2):
        sources = SourceBlock.of([make_process(20, seed) for seed in range(count)])
        sources = replace(sources, reliability=torch.ones(count, dtype=torch.float64))
        block = TargetBlock.conditioned(TargetPrior.of(groups, sources), x, z)
        mean, one, none = block.follows
        assert none == pytest.approx(block.unrelated)
        assert mean + one + none == pytest.approx(1.0)
        if count == 1:
            assert mean / one == pytest.approx(FOLLOWS[0] / FOLLOWS[1])
        else:
            assert mean == pytest.approx(block.templates[0].item())


def test_it_depends_on_nothing_but_its_arguments(prior, nine, make_features):
    x = make_features(5, seed=58)
    first, second = (TargetBlock.conditioned(prior, *nine).measurements(x) for _ in range(2))
    assert torch.equal(first.means, second.means)
    assert torch.equal(first.weights, second.weights)

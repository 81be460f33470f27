"""Hypotheses with the same template are the processes that the equation says."""

import math
from dataclasses import replace

import mpmath as mp
import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from bayestl.models.sequential.explanation import OUTLIER_COST, log_odds
from bayestl.models.sequential.template import Part, combined, explained
from tests.models.sequential.textbook import TEMPLATES, Textbook, hypotheses


@TEMPLATES
def test_a_hypothesis_is_the_textbook_process(weights, prior, nine, make_features, no_outliers):
    x, z = nine
    template, given, log_prior = hypotheses(prior, weights)
    seen = prior.sources.at(x)
    part = Part.conditioned(template, given, log_prior, seen, z)
    assert not part.extra.any()
    new = torch.cat([make_features(5, seed=51), prior.sources.processes[0].x[5:7, :-1], x[:2]])
    means, variances = part.marginals(seen, prior.sources.at(new))
    for row in range(len(given)):
        book = Textbook(prior, weights, given, row)
        mean, covariance, evidence = book.conditioned(x.numpy(), z.numpy(), new.numpy())
        np.testing.assert_allclose(means[row], mean, atol=2e-4, rtol=1e-4)
        np.testing.assert_allclose(variances[row], np.diag(covariance), atol=1e-4, rtol=1e-3)
        found = (part.log_weights[row] - log_prior[row]).item()
        assert found == pytest.approx(evidence, abs=1e-3)


def test_jitter_is_told(prior, nine):
    """Of two measurements of each configuration that no noise tells apart."""
    x, z = (torch.cat([each, each]) for each in nine)
    template, given, log_prior = hypotheses(prior, (0.5, 0.5))
    seen = prior.sources.at(x)
    quiet = replace(given, noise=torch.zeros_like(given.noise))
    assert Part.conditioned(template, given, log_prior, seen, z).jitter == 0.0
    assert Part.conditioned(template, quiet, log_prior, seen, z).jitter > 0.0


@TEMPLATES
def test_left_out_is_as_if_it_had_not_been_measured(weights, prior, nine, no_outliers):
    x, z = nine
    template, given, log_prior = hypotheses(prior, weights)
    part = Part.conditioned(template, given, log_prior, prior.sources.at(x), z)
    means, variances = part.leave_one_out(z)
    for i in range(len(z)):
        rest = torch.tensor([j for j in range(len(z)) if j != i])
        seen = prior.sources.at(x[rest])
        without = Part.conditioned(template, given, log_prior, seen, z[rest])
        mean, variance = without.marginals(seen, prior.sources.at(x[i : i + 1]))
        torch.testing.assert_close(means[:, i], mean[:, 0], atol=1e-6, rtol=1e-6)
        expected = variance[:, 0] + given.noise.square()
        torch.testing.assert_close(variances[:, i], expected, atol=1e-6, rtol=1e-5)


@TEMPLATES
def test_noise_may_differ_from_row_to_row(weights, prior, nine, no_outliers):
    x, z = nine
    relative = torch.linspace(0.1, 6.0, len(z), dtype=torch.float64)
    template, given, log_prior = hypotheses(prior, weights)
    seen = prior.sources.at(x)
    part = Part.conditioned(template, given, log_prior, seen, z, relative)
    for row in range(len(given)):
        book = Textbook(prior, weights, given, row)
        mean, total = book.mean(x.numpy()), book.covariance(x.numpy(), x.numpy())
        total = total + np.diag(book.given["noise"] ** 2 * relative.numpy())
        evidence = multivariate_normal(mean, total).logpdf(z.numpy())
        found = (part.log_weights[row] - log_prior[row]).item()
        assert found == pytest.approx(evidence, abs=1e-3)
    means, variances = part.leave_one_out(z, relative)
    rest = torch.arange(1, len(z))
    seen = prior.sources.at(x[rest])
    without = Part.conditioned(template, given, log_prior, seen, z[rest], relative[rest])
    mean, variance = without.marginals(seen, prior.sources.at(x[:1]))
    torch.testing.assert_close(means[:, 0], mean[:, 0], atol=1e-6, rtol=1e-6)
    expected = variance[:, 0] + given.noise.square() * relative[0]
    torch.testing.assert_close(variances[:, 0], expected, atol=1e-6, rtol=1e-5)


@TEMPLATES
def test_outliers_are_as_if_factorised_anew(weights, prior, nine, monkeypatch):
    monkeypatch.setattr("bayestl.models.sequential.explanation.HOPELESS", math.inf)
    x, z = nine
    x, z = torch.cat([x, x + 0.01]), torch.cat([z, z])
    z[4], z[11] = z[4] + 40.0, z[11] - 15.0
    template, given, log_prior = hypotheses(prior, weights)
    seen = prior.sources.at(x)
    part = Part.conditioned(template, given, log_prior, seen, z)
    held = part.extra > 0
    assert held[:, 4].all()
    assert held.sum(-1).max() >= 2
    assert held.sum(-1).max() <= len(z) // 5
    for row in range(len(given)):
        book = Textbook(prior, weights, given, row)
        mean, total = book.mean(x.numpy()), book.covariance(x.numpy(), x.numpy())
        total = total + np.diag(book.given["noise"] ** 2 + part.extra[row].numpy())
        inverse = np.linalg.inv(total)
        scale = np.abs(inverse).max()
        found = (part.half[row].mT @ part.half[row]).numpy()
        np.testing.assert_allclose(found / scale, inverse / scale, atol=1e-4)
        cost = sum(OUTLIER_COST + log_odds(k, len(z)) for k in range(int(held[row].sum())))
        evidence = multivariate_normal(mean, total).logpdf(z.numpy()) - cost
        found = (part.log_weights[row] - log_prior[row]).item()
        assert found == pytest.approx(evidence, abs=0.02)
        alone = Part.conditioned(
            template, given.rows(torch.tensor([row])), log_prior[row : row + 1], seen, z
        )  # whatever the others hold for outliers
        torch.testing.assert_close(alone.extra[0], part.extra[row])
        torch.testing.assert_close(alone.log_weights[0], part.log_weights[row])


@TEMPLATES
def test_only_the_hopeless_look_for_fewer_outliers(weights, prior, nine, monkeypatch):
    x, z = nine
    x, z = torch.cat([x, x + 0.01, x + 0.02]), torch.cat([z, z, z])
    z[4], z[11] = z[4] + 400.0, z[11] - 150.0
    template = prior.template(torch.tensor(weights, dtype=torch.float64))
    given, _ = prior.hypotheses(template)
    seen = prior.sources.at(x)
    found = explained(template, given, seen, z, 1.0)
    monkeypatch.setattr("bayestl.models.sequential.explanation.HOPELESS", math.inf)
    every = explained(template, given, seen, z, 1.0)
    fewer = (found.extra > 0).sum(-1) < (every.extra > 0).sum(-1)
    torch.testing.assert_close(found.evidence[~fewer], every.evidence[~fewer])
    torch.testing.assert_close(found.extra[~fewer], every.extra[~fewer])
    assert torch.softmax(every.evidence, 0)[fewer].sum() < 1e-6
    if any(weights):
        assert fewer.any()


@TEMPLATES
def test_an_outlier_left_out_is_what_was_expected_there(weights, prior, nine, monkeypatch):
    x, z = nine
    spoiled = z.clone()
    spoiled[6] += 40.0
    template, given, log_prior = hypotheses(prior, weights)
    part = Part.conditioned(template, given, log_prior, prior.sources.at(x), spoiled)
    assert (part.extra[:, 6] > 0).all()
    means, variances = part.leave_one_out(spoiled)
    monkeypatch.setattr("bayestl.models.sequential.explanation.FEW", 10**6)
    rest = torch.tensor([j for j in range(len(z)) if j != 6])
    seen = prior.sources.at(x[rest])
    without = Part.conditioned(template, given, log_prior, seen, z[rest])
    mean, variance = without.marginals(seen, prior.sources.at(x[6:7]))
    torch.testing.assert_close(means[:, 6], mean[:, 0], atol=1e-5, rtol=1e-5)
    expected = variance[:, 0] + given.noise.square()
    torch.testing.assert_close(variances[:, 6], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("noise", [1e-3, 1e-5])
def test_next_to_no_noise_leaves_variances_exact(noise, prior, nine):
    """Against 40 digits: an offset of variance 25 and such a noise leave doubles few of theirs."""
    x, _ = nine
    template, given, log_prior = hypotheses(prior, (1.0, 0.0))
    given, log_prior = given.rows(torch.arange(2)), log_prior[:2]
    given = replace(
        given, noise=torch.full((2,), noise).double(), offset=torch.full((2,), 5.0).double()
    )
    seen, asked = prior.sources.at(x), prior.sources.at(x[:3] + 1e-3)
    z = template.mean(seen, given)[0] + 0.3
    found = Part.conditioned(template, given, log_prior, seen, z).marginals(seen, asked)[1]
    factors = template.factors(given)
    total, cross = (combined(factors, template.terms(seen, there)) for there in (seen, asked))
    before = combined(factors, template.diagonal_terms(asked))
    with mp.workdps(40):
        for row in range(2):
            covariance = mp.matrix(total[row].tolist()) + noise**2 * mp.eye(len(z))
            for at in range(3):
                towards = mp.matrix(cross[row, :, at].tolist())
                known = (towards.T * mp.lu_solve(covariance, towards))[0]
                expected = float(mp.mpf(before[row, at].item()) - known)
                assert found[row, at].item() == pytest.approx(expected, rel=0.01, abs=1e-13)


@TEMPLATES
def test_a_configuration_is_left_out_with_its_repeats(weights, prior, nine, no_outliers):
    x, z = nine
    x, z = torch.cat([x, x[2:3], x[2:3]]), torch.cat([z, z[2:3] + 0.1, z[2:3] - 0.2])
    rows = torch.tensor([2, 9, 10])
    template, given, log_prior = hypotheses(prior, weights)
    given = replace(given, noise=given.noise.clamp_min(0.2))  # more than the repeats have
    seen = prior.sources.at(x)
    part = Part.conditioned(template, given, log_prior, seen, z)
    mean, variance = part.leave_one_out(z, repeats=[rows])
    rest = torch.tensor([0, 1, *range(3, 9)])
    without = Part.conditioned(template, given, log_prior, seen.rows(rest), z[rest])
    expected, doubt = without.marginals(seen.rows(rest), seen.rows(rows))
    torch.testing.assert_close(mean[:, rows], expected, rtol=1e-5, atol=1e-5)
    total = doubt + given.noise.square().unsqueeze(-1)
    torch.testing.assert_close(variance[:, rows], total, rtol=1e-4, atol=1e-6)

"""The target block against a Gaussian process written once more in NumPy, from its equation."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.stats import beta, multivariate_normal

from bayestl.models.conditioning import Conditioned
from bayestl.models.hypotheses import REACHES, STRETCHES, Hypotheses
from bayestl.models.kernels import OWN_OFFSET, REACH, SHARED_OFFSET, value
from bayestl.models.source_block import SourceBlock
from bayestl.models.target_block import (
    JUDGED_ROWS,
    MASS,
    MOST,
    MOST_TEMPLATES,
    OUTLIER_COST,
    OUTLIERS,
    REGULAR,
    Explanation,
    Part,
    TargetBlock,
    TargetPrior,
    Template,
    _log_odds,
    representatives,
)

WEIGHTS = {"all": (0.5, 0.5), "one": (0.0, 1.0), "none": (0.0, 0.0)}
TEMPLATES = pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)


@pytest.fixture
def prior(make_process, groups) -> TargetPrior:
    """Of two sources that are not alike."""
    processes = [make_process(18, 0), make_process(12, 1, like=1, shift=0.8)]
    return TargetPrior.of(groups, SourceBlock.of(processes), learn=False)


@pytest.fixture
def measured(prior, make_features) -> tuple[torch.Tensor, torch.Tensor]:
    """Nine measurements of a target, three of them where both sources were measured, or one."""
    first, second = (process.x[:, :-1] for process in prior.sources.processes)
    x = torch.cat([first[:2], second[3:4], make_features(6, seed=50)])
    a, b = x.numpy().T
    noise = 0.1 * np.random.default_rng(3).normal(size=9)
    return x, torch.from_numpy(0.4 + 1.3 * np.sin(5 * a + 1) + 0.8 * b * a + noise)


@pytest.fixture
def no_outliers(monkeypatch) -> None:
    """No measurement is held for an outlier."""
    monkeypatch.setattr("bayestl.models.target_block.FEW", 10**6)


class Textbook:
    """One hypothesis: its prior mean and covariance over (environment, configuration)."""

    def __init__(self, prior: TargetPrior, weights, given: Hypotheses, row: int) -> None:
        self.sources, self.weights = prior.sources.processes, np.array(weights, dtype=float)
        self.given = {f.name: getattr(given, f.name)[row].item() for f in fields(Hypotheses)}
        scales = [self.scales(process) for process in self.sources]
        mode = math.exp(math.sqrt(2) - 3) * math.sqrt(2)  # Hvarfner et al., for two groups
        delta = np.exp(self.weights @ np.log(scales)) if self.weights.any() else np.full(2, mode)
        self.delta = delta * STRETCHES[int(self.given["stretch"])]

    @staticmethod
    def scales(process: Conditioned) -> np.ndarray:
        with torch.no_grad():
            return value(process.hyperparameters.kernel.options[0], "lengthscales").numpy()

    @staticmethod
    def options(x1, x2, scales) -> np.ndarray:
        d = np.sqrt(5) * np.abs(np.subtract.outer(x1[:, 0], x2[:, 0])) / scales[0]
        b = np.subtract.outer(x1[:, 1], x2[:, 1]) / scales[1]
        return (1 + d + d**2 / 3) * np.exp(-d - b**2 / 2)

    def source(self, s: int, x1, x2) -> np.ndarray:
        """The prior covariance of a source."""
        process, kernel = self.sources[s], self.sources[s].hyperparameters.kernel
        with torch.no_grad():
            amplitude = value(kernel, "amplitude").item() ** 2
            amplitude *= kernel.loadings.item() ** 2 + value(kernel, "residual").item()
            main = value(kernel.options[0], "main").item()
        scales, offset = self.scales(process), SHARED_OFFSET + OWN_OFFSET
        near, far = self.options(x1, x2, scales), self.options(x1, x2, REACH * scales)
        return amplitude * (near + main * far) + offset

    def believed(self, s: int, x1, x2) -> tuple[np.ndarray, np.ndarray]:
        """The posterior mean of a source at x1, and its covariance between x1 and x2."""
        seen, z = self.sources[s].x[:, :-1].numpy(), self.sources[s].z.numpy()
        noise = self.sources[s].hyperparameters.noise.variance.item()
        total = self.source(s, seen, seen) + noise * np.eye(len(z))
        left = self.source(s, x1, seen)
        mean = left @ np.linalg.solve(total, z)
        between = self.source(s, x1, x2)
        return mean, between - left @ np.linalg.solve(total, self.source(s, seen, x2))

    def odd(self, s: int, x) -> np.ndarray:
        """What source s measured at each x beyond its smooth mean."""
        seen, z = self.sources[s].x[:, :-1].numpy(), self.sources[s].z.numpy()
        left = z - self.believed(s, seen, seen)[0]
        rows = [np.flatnonzero((seen == at).all(1)) for at in x]
        return np.array([left[r].mean() if len(r) else 0.0 for r in rows])

    def believes(self, x) -> tuple[np.ndarray, np.ndarray]:
        """(n, S) the sources' means and what is odd."""
        count = range(len(self.sources))
        means = np.stack([self.believed(s, x, x)[0] for s in count], 1)
        return means, np.stack([self.odd(s, x) for s in count], 1)

    def mean(self, x) -> np.ndarray:
        m, odd = self.believes(x)
        return m @ self.weights + self.given["oddness"] * (odd @ self.weights)

    def covariance(self, x1, x2) -> np.ndarray:
        """The equation of the module's docstring."""
        h, w = self.given, self.weights
        own = h["residual"] ** 2 * self.options(x1, x2, self.delta)
        total = h["offset"] ** 2 + own
        if not w.any():
            return total
        (m1, odd1), (m2, odd2) = self.believes(x1), self.believes(x2)
        levels = np.array([process.z.mean().item() for process in self.sources])
        g1, g2 = (m @ w - levels @ w for m in (m1, m2))
        c1, c2 = (
            m - levels - g[:, None] for m, g in ((m1, g1), (m2, g2))
        )  # contrasts, both centred
        total = total + h["slope"] ** 2 * np.outer(g1, g2) + h["contrast"] ** 2 * c1 @ c2.T
        apart = ((m1[:, None] - m2[None]) ** 2).sum(-1) / REACHES[int(h["reach"])] ** 2
        total = total + h["shift"] ** 2 * np.exp(-apart / 2)
        total = total + h["own_oddness"] ** 2 * odd1 @ odd2.T
        for s, weight in enumerate(w):
            total = total + weight**2 * self.believed(s, x1, x2)[1]
        return total

    def joint(self, x, where) -> tuple[np.ndarray, np.ndarray]:
        """The prior mean and covariance at x in several environments, 0 the target."""
        n = len(x)
        mean, covariance = np.zeros(n), np.zeros((n, n))
        for t in range(len(self.sources) + 1):
            rows = np.flatnonzero(where == t)
            if not len(rows):
                continue
            mean[rows] = self.believed(t - 1, x[rows], x[rows])[0] if t else self.mean(x[rows])
            for u in range(len(self.sources) + 1):
                columns = np.flatnonzero(where == u)
                if not len(columns):
                    continue
                if t == u == 0:
                    block = self.covariance(x[rows], x[columns])
                elif t == u:
                    block = self.believed(t - 1, x[rows], x[columns])[1]
                elif 0 in (t, u):
                    s = max(t, u) - 1
                    block = self.weights[s] * self.believed(s, x[rows], x[columns])[1]
                else:
                    block = 0.0
                covariance[np.ix_(rows, columns)] = block
        return mean, covariance

    def conditioned(self, x, z, new, where=None) -> tuple[np.ndarray, np.ndarray, float]:
        """Posterior mean and covariance of noise-free values, and the log evidence of z."""
        n = len(x)
        where = np.zeros(len(new), dtype=int) if where is None else where
        every = np.concatenate([np.zeros(n, dtype=int), where])
        mean, covariance = self.joint(np.concatenate([x, new]), every)
        total = covariance[:n, :n] + self.given["noise"] ** 2 * np.eye(n)
        cross = covariance[:n, n:]
        posterior = mean[n:] + cross.T @ np.linalg.solve(total, z - mean[:n])
        doubt = covariance[n:, n:] - cross.T @ np.linalg.solve(total, cross)
        return posterior, doubt, multivariate_normal(mean[:n], total).logpdf(z)


def hypotheses(prior: TargetPrior, weights) -> tuple[Template, Hypotheses, torch.Tensor]:
    """A few of each relation."""
    template = Template.of(prior, torch.tensor(weights, dtype=torch.float64))
    given, log_prior = prior.hypotheses(template)
    rows = torch.linspace(0, len(given) - 1, 14).round().long()
    return template, given.rows(rows), log_prior[rows]


@TEMPLATES
def test_a_hypothesis_is_the_textbook_process(weights, prior, measured, make_features, no_outliers):
    x, z = measured
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


@TEMPLATES
def test_left_out_is_as_if_it_had_not_been_measured(weights, prior, measured, no_outliers):
    x, z = measured
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
def test_noise_may_differ_from_row_to_row(weights, prior, measured, no_outliers):
    x, z = measured
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
def test_outliers_are_as_if_factorised_anew(weights, prior, measured):
    x, z = measured
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
        np.testing.assert_allclose(part.inverse[row] / scale, inverse / scale, atol=1e-4)
        cost = sum(OUTLIER_COST + _log_odds(k, len(z)) for k in range(int(held[row].sum())))
        evidence = multivariate_normal(mean, total).logpdf(z.numpy()) - cost
        found = (part.log_weights[row] - log_prior[row]).item()
        assert found == pytest.approx(evidence, abs=0.02)
        alone = Part.conditioned(
            template, given.rows(torch.tensor([row])), log_prior[row : row + 1], seen, z
        )  # whatever the others hold for outliers
        torch.testing.assert_close(alone.extra[0], part.extra[row])
        torch.testing.assert_close(alone.log_weights[0], part.log_weights[row])


@TEMPLATES
def test_an_outlier_left_out_is_what_was_expected_there(weights, prior, measured, monkeypatch):
    x, z = measured
    spoiled = z.clone()
    spoiled[6] += 40.0
    template, given, log_prior = hypotheses(prior, weights)
    part = Part.conditioned(template, given, log_prior, prior.sources.at(x), spoiled)
    assert (part.extra[:, 6] > 0).all()
    means, variances = part.leave_one_out(spoiled)
    monkeypatch.setattr("bayestl.models.target_block.FEW", 10**6)
    rest = torch.tensor([j for j in range(len(z)) if j != 6])
    seen = prior.sources.at(x[rest])
    without = Part.conditioned(template, given, log_prior, seen, z[rest])
    mean, variance = without.marginals(seen, prior.sources.at(x[6:7]))
    torch.testing.assert_close(means[:, 6], mean[:, 0], atol=1e-5, rtol=1e-5)
    expected = variance[:, 0] + given.noise.square()
    torch.testing.assert_close(variances[:, 6], expected, atol=1e-5, rtol=1e-4)


def test_the_cost_of_an_outlier_is_the_odds_of_its_prior():
    def probability(k: int, n: int) -> float:
        def integrand(share: float) -> float:
            return share**k * (1 - share) ** (n - k) * beta.pdf(share, OUTLIERS, REGULAR)

        return quad(integrand, 0, 1, limit=200)[0]

    for k, n in ((0, 12), (1, 12), (3, 40)):
        expected = math.log(probability(k, n) / probability(k + 1, n))
        assert _log_odds(k, n) == pytest.approx(expected, rel=1e-4)


def test_hypotheses_pay_for_their_own_outliers_whatever_the_others_hold():
    """A value worth a second outlier, but not a first, where another hypothesis has two."""
    n = 12
    first, second = (OUTLIER_COST + _log_odds(k, n) for k in (0, 1))
    worth = (first + second) / 2
    ratio = brentq(lambda r: 0.5 * (r - 1 - math.log(r)) - worth, 1.0, 1e3)
    left = torch.full((2, n), 0.1, dtype=torch.float64)
    left[0, :2] = 30.0
    left[1, 0] = math.sqrt(ratio)
    covariance = torch.eye(n, dtype=torch.float64).repeat(2, 1, 1)
    both = Explanation.of(covariance.clone(), left)
    assert (both.extra > 0).sum(-1).tolist() == [2, 0]
    alone = Explanation.of(covariance[1:].clone(), left[1:])
    torch.testing.assert_close(both.evidence[1:], alone.evidence)


def test_outliers_change_evidence_inverse_and_alpha_as_their_variance_does():
    n, left = 12, torch.linspace(-1.0, 1.0, 24, dtype=torch.float64).reshape(2, 12).clone()
    left[:, 3], left[0, 7] = 20.0, -30.0
    root = torch.rand(2, n, n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    covariance = 0.1 * root @ root.mT + torch.eye(n, dtype=torch.float64)
    found = Explanation.of(covariance.clone(), left)
    assert (found.extra > 0).sum(-1).tolist() == [2, 1]
    inflated = covariance + torch.diag_embed(found.extra)
    inverse = torch.linalg.inv(inflated)
    torch.testing.assert_close(found.inverse - found.updates @ found.updates.mT, inverse)
    torch.testing.assert_close(found.alpha, (inverse @ left.unsqueeze(-1)).squeeze(-1))
    zero = torch.zeros(n, dtype=torch.float64)
    evidence = torch.distributions.MultivariateNormal(zero, inflated).log_prob(left)
    paid = [sum(OUTLIER_COST + _log_odds(k, n) for k in range(count)) for count in (2, 1)]
    torch.testing.assert_close(found.evidence, evidence - torch.tensor(paid).double())


def test_a_gross_value_counts_for_as_little_as_none(prior, measured, make_features):
    x, z = measured
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
def test_probabilities_sum_to_one(n, prior, measured):
    x, z = measured
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
def block(prior, measured) -> TargetBlock:
    """All hypotheses that remain."""
    return TargetBlock.conditioned(prior, *measured)


def test_many_configurations_are_predicted_as_few_are(block, make_features, monkeypatch):
    x = make_features(30, seed=54)
    few = block.measurements(x)
    monkeypatch.setattr("bayestl.models.target_block.MANY", 7)
    monkeypatch.setattr("bayestl.models.source_block.BLOCK", 8)
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
    weights, prior, measured, make_features, no_outliers
):
    x, z = measured
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


@pytest.fixture
def unsampled(monkeypatch) -> None:
    """However many hypotheses are likely, none stands for another."""
    monkeypatch.setattr("bayestl.models.target_block.MASS", 2.0)
    monkeypatch.setattr("bayestl.models.target_block.MOST", 10**6)


def test_every_hypothesis_is_weighed_by_its_prior_and_evidence(prior, measured, unsampled):
    x, z = measured
    block = TargetBlock.conditioned(prior, x, z)
    # three templates are related, and each has them all
    assert len(block.weights) == 3 * len(prior.related) + len(prior.unrelated)
    seen, logs = prior.sources.at(x), []
    for weights, log_share in zip(*prior.templates(), strict=True):
        template = Template.of(prior, weights)
        given, log_prior = prior.hypotheses(template)
        logs.append(Part.conditioned(template, given, log_share + log_prior, seen, z).log_weights)
    torch.testing.assert_close(block.weights, torch.softmax(torch.cat(logs), 0))


def test_representatives_answer_as_all_would(prior, measured, make_features, request):
    x = make_features(40, seed=60)
    few = TargetBlock.conditioned(prior, *measured)
    request.getfixturevalue("unsampled")
    every = TargetBlock.conditioned(prior, *measured)
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
    assert all(part.inverse.shape == (len(part.given), 300, 300) for part in block.parts)
    assert block.leave_one_out().means.shape[-1] == 300
    mean, variance = block.measurements(new).moments()
    assert (mean - truth).square().mean().sqrt() < 0.06
    assert torch.isfinite(variance).all()


def test_memory_bounds_how_many_stand_for_all(long_measured, monkeypatch):
    (prior, x, z), new, truth = long_measured
    full, _ = TargetBlock.conditioned(prior, x, z).measurements(new).moments()
    monkeypatch.setattr("bayestl.models.target_block.MAX_ELEMENTS", 3.5 * 300**2)
    monkeypatch.setattr("bayestl.models.target_block.JUDGED_ROWS", 40)
    few = TargetBlock.conditioned(prior, x, z)
    assert sum(part.inverse.numel() for part in few.parts) <= 3.5 * 300**2
    assert 1 <= len(few.weights) <= 3
    assert few.weights.sum().item() == pytest.approx(1.0)
    mean, _ = few.measurements(new).moments()
    assert (mean - truth).square().mean().sqrt() < 0.06
    torch.testing.assert_close(mean, full, atol=0.05, rtol=0.0)
    monkeypatch.setattr("bayestl.models.target_block.MAX_ELEMENTS", 1.0)
    assert len(TargetBlock.conditioned(prior, x, z).weights) == 1  # never none


def test_outliers_of_the_judged_stand_for_those_of_all(long_measured, monkeypatch):
    (prior, x, z), *_ = long_measured
    spoiled = z.clone()
    spoiled[::20] += 8.0
    monkeypatch.setattr("bayestl.models.target_block.JUDGED_ROWS", 150)
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


def test_sources_teach_what_environments_have_in_common(make_process, groups):
    """Where each source is another one plus an offset, so will the target be."""
    processes = [make_process(30, 0, shift=s) for s in range(4)]
    sources = SourceBlock.of(processes)
    plain, learned = (TargetPrior.of(groups, sources, learn=learn) for learn in (False, True))
    assert learned.log_related.exp().sum().item() == pytest.approx(1.0, abs=1e-6)
    simple = plain.related.relation == 0
    assert learned.log_related.exp()[simple].sum() > 1.8 * plain.log_related.exp()[simple].sum()
    assert torch.isfinite(learned.log_related).all()  # nothing is ruled out


def test_it_depends_on_nothing_but_its_arguments(prior, measured, make_features):
    x = make_features(5, seed=58)
    first, second = (TargetBlock.conditioned(prior, *measured).measurements(x) for _ in range(2))
    assert torch.equal(first.means, second.means)
    assert torch.equal(first.weights, second.weights)

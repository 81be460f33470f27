"""Outliers are paid for by the hypothesis that has them, and change what their variance does."""

import math

import pytest
import torch
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.stats import beta

from bayestl.models.sequential.explanation import (
    OUTLIER_COST,
    OUTLIERS,
    REGULAR,
    Explanation,
    log_odds,
)


def test_the_cost_of_an_outlier_is_the_odds_of_its_prior():
    def probability(k: int, n: int) -> float:
        def integrand(share: float) -> float:
            return share**k * (1 - share) ** (n - k) * beta.pdf(share, OUTLIERS, REGULAR)

        return quad(integrand, 0, 1, limit=200)[0]

    for k, n in ((0, 12), (1, 12), (3, 40)):
        expected = math.log(probability(k, n) / probability(k + 1, n))
        assert log_odds(k, n) == pytest.approx(expected, rel=1e-4)


def test_hypotheses_pay_for_their_own_outliers_whatever_the_others_hold():
    """A value worth a second outlier, but not a first, where another hypothesis has two."""
    n = 12
    first, second = (OUTLIER_COST + log_odds(k, n) for k in (0, 1))
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


def test_outliers_change_the_evidence_as_their_variance_does():
    n, left = 12, torch.linspace(-1.0, 1.0, 24, dtype=torch.float64).reshape(2, 12).clone()
    left[:, 3], left[0, 7] = 20.0, -30.0
    root = torch.rand(2, n, n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    covariance = 0.1 * root @ root.mT + torch.eye(n, dtype=torch.float64)
    found = Explanation.of(covariance.clone(), left)
    assert (found.extra > 0).sum(-1).tolist() == [2, 1]
    inflated = covariance + torch.diag_embed(found.extra)
    zero = torch.zeros(n, dtype=torch.float64)
    evidence = torch.distributions.MultivariateNormal(zero, inflated).log_prob(left)
    paid = [sum(OUTLIER_COST + log_odds(k, n) for k in range(count)) for count in (2, 1)]
    torch.testing.assert_close(found.evidence, evidence - torch.tensor(paid).double())

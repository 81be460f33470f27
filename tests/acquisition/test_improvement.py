import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from bayestl.acquisition.acquisition import Outlook
from bayestl.acquisition.improvement import ExpectedImprovement, log_expected_improvement
from bayestl.models.posterior import Posterior


@pytest.mark.parametrize(("gain", "std"), [(0.3, 1.0), (-1.0, 0.5), (2.0, 0.1), (0.0, 3.0)])
def test_log_expected_improvement_equals_monte_carlo(gain, std):
    draws = np.random.default_rng(0).normal(gain, std, 400_000)
    improvement = np.clip(draws, 0, None)
    error = 5 * improvement.std() / math.sqrt(len(draws))
    assert np.exp(log_expected_improvement(gain, std)) == pytest.approx(
        improvement.mean(), abs=error
    )


@pytest.mark.parametrize("z", [-0.999, -1.0, -1.001, -3.0, -8.0, -30.0])
def test_log_expected_improvement_equals_the_integral(z):
    """EI = integral of Phi(z - t) over t > 0, scaled by the integrand's value at zero."""
    top = norm.logcdf(z)
    integral, _ = quad(lambda t: math.exp(norm.logcdf(z - t) - top), 0, 40, epsabs=0, epsrel=1e-10)
    expected = top + math.log(integral)
    assert log_expected_improvement(2 * z, 2.0) == pytest.approx(expected + math.log(2), rel=1e-9)


def test_log_expected_improvement_far_below_follows_its_asymptote():
    """h(z) -> phi(z) / z^2; the logarithm itself is -5e9, exact to about 1e-6."""
    value = log_expected_improvement(-1e5, 1.0)
    assert value - norm.logpdf(-1e5) == pytest.approx(-2 * math.log(1e5), abs=1e-4)


def test_log_expected_improvement_is_monotone_across_its_branches():
    z = np.concatenate([-np.logspace(8, -3, 2_000), np.logspace(-3, 3, 500)])
    values = log_expected_improvement(z, np.ones_like(z))
    assert np.isfinite(values).all()
    assert (np.diff(values) > 0).all()


def test_a_certain_point_improves_by_its_gain_or_never():
    values = log_expected_improvement(np.array([2.0, -2.0, 0.0]), np.zeros(3))
    np.testing.assert_allclose(values, [math.log(2.0), -np.inf, -np.inf])


@pytest.mark.parametrize(("maximize", "best"), [(False, 0), (True, 2)])
def test_the_direction_decides_which_end_is_better(maximize, best):
    posterior = Posterior(np.array([1.0, 2.0, 3.0]), 0.1 * np.eye(3), np.zeros(3))
    outlook = Outlook(np.ones(3), np.random.default_rng(0), posterior, 2.0, maximize)
    assert ExpectedImprovement().score(outlook).argmax() == best


def test_scores_order_points_that_are_all_far_worse_than_the_incumbent():
    posterior = Posterior(np.array([100.0, 90.0, 95.0]), 1e-3 * np.eye(3), np.zeros(3))
    outlook = Outlook(np.ones(3), np.random.default_rng(0), posterior, best=0.0)
    scores = ExpectedImprovement().score(outlook)
    assert scores.argmax() == 1
    assert scores.max() == 1


def test_no_improvement_anywhere_scores_zero():
    posterior = Posterior(np.array([1.0, 2.0]), np.zeros((2, 2)), np.zeros(2))
    outlook = Outlook(np.ones(2), np.random.default_rng(0), posterior, best=0.5)
    np.testing.assert_array_equal(ExpectedImprovement().score(outlook), 0.0)


def test_what_may_not_be_chosen_drowns_nothing():
    """The first point is so much better that, beside it, all others would underflow to a tie."""
    posterior = Posterior(np.array([0.0, 7.0, 5.0, 6.0]), np.diag([1.0, *[1e-4] * 3]), np.zeros(4))
    eligible = np.array([False, True, True, True])
    outlook = Outlook(np.ones(4), np.random.default_rng(0), posterior, 0.0, eligible=eligible)
    scores = ExpectedImprovement().score(outlook)
    assert np.isfinite(scores).all()
    assert int(np.where(eligible, scores, -1).argmax()) == 2
    assert np.sort(scores[eligible])[-2] < 1

"""Mixtures against brute force: bisection, numerical integration and plain normals."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from scipy.stats import norm

from bayestl.models.gaussian_mixture import GaussianMixture

F64 = torch.float64
LEVELS = (1e-12, 1e-6, 0.001, 0.05, 0.5, 0.9, 0.975, 1 - 1e-6, 1 - 1e-12)


def drawn(k: int, n: int, seed: int = 0, spread: float = 1.0) -> GaussianMixture:
    """Components of very different widths, `spread` decades around one."""
    rng = np.random.default_rng(seed)
    return GaussianMixture(
        torch.from_numpy(rng.dirichlet(np.ones(k))),
        torch.from_numpy(3.0 * rng.normal(size=(k, n))),
        torch.from_numpy(10.0 ** rng.uniform(-2 * spread, 2 * spread, (k, n))),
    )


def brute_force(mixture: GaussianMixture, level: float) -> np.ndarray:
    """Each quantile by a search of SciPy's; from above the median by what exceeds it."""
    weights = mixture.weights.numpy()
    upper = level > 0.5
    found = []
    for mean, variance in zip(mixture.means.T.numpy(), mixture.variances.T.numpy(), strict=True):
        sd = np.sqrt(variance)

        def excess(at: float, mean=mean, sd=sd) -> float:
            if upper:
                return (1.0 - level) - float(weights @ norm.sf(at, mean, sd))
            return float(weights @ norm.cdf(at, mean, sd)) - level

        ends = norm.ppf(level, mean, sd)
        low, high = ends.min() - sd.max(), ends.max() + sd.max()
        found.append(brentq(excess, low, high, xtol=1e-13, rtol=1e-14, maxiter=500))
    return np.array(found)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("spread", [0.0, 0.5, 2.0])
def test_quantiles_are_those_of_brute_force(level, spread):
    mixture = drawn(7, 40, spread=spread)
    found = mixture.quantile(level).numpy()
    scale = np.sqrt(mixture.moments()[1].numpy())
    # probabilities are known to 1e-16 or so, which moves quantiles that far out by this much
    tolerance = 1e-8 if min(level, 1 - level) > 1e-9 else 1e-3
    assert (np.abs(found - brute_force(mixture, level)) / scale).max() < tolerance


@pytest.mark.parametrize("level", LEVELS)
def test_one_component_is_the_normal_distribution(level):
    means = torch.tensor([[0.0, -3.0, 1e6, 2.0, 5.0]], dtype=F64)
    variances = torch.tensor([[1.0, 1e-20, 1e-6, 1e12, 1e-300]], dtype=F64)
    found = GaussianMixture(torch.ones(1, dtype=F64), means, variances).quantile(level)
    expected = norm.ppf(level, means[0].numpy(), variances[0].sqrt().numpy())
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)


def test_tiny_and_huge_components_side_by_side():
    """A spike of 30 % at zero, on a plain a trillion times as wide."""
    mixture = GaussianMixture(
        torch.tensor([0.3, 0.7], dtype=F64),
        torch.tensor([[0.0], [0.0]], dtype=F64),
        torch.tensor([[1e-24], [1.0]], dtype=F64),
    )
    assert mixture.quantile(0.5).item() == 0.0
    # below the spike and above it only the plain counts
    assert mixture.quantile(0.2).item() == pytest.approx(norm.ppf(0.2 / 0.7), abs=1e-9)
    assert mixture.quantile(0.8).item() == pytest.approx(norm.ppf(0.5 / 0.7), abs=1e-9)
    assert mixture.quantile(0.4).item() == pytest.approx(0.0, abs=1e-9)  # within it


def test_components_far_apart_with_nothing_between():
    mixture = GaussianMixture(
        torch.tensor([0.4, 0.6], dtype=F64),
        torch.tensor([[-1e4], [1e4]], dtype=F64),
        torch.ones(2, 1, dtype=F64),
    )
    assert mixture.quantile(0.1).item() == pytest.approx(-1e4 + norm.ppf(0.25))
    assert mixture.quantile(0.7).item() == pytest.approx(1e4 + norm.ppf(0.5))


@pytest.mark.parametrize("level", [0.05, 0.5, 0.9])
def test_a_component_for_outliers_costs_no_further_steps(level, monkeypatch):
    narrow = drawn(4, 200, seed=1, spread=0.1)
    mean, _ = narrow.moments()
    wide = GaussianMixture.normal(mean, torch.full_like(mean, 1e3))
    steps, ndtr = [], torch.special.ndtr
    monkeypatch.setattr(torch.special, "ndtr", lambda z: steps.append(z.shape[1]) or ndtr(z))
    mixture = GaussianMixture.stacked([0.995, 0.005], [narrow, wide])
    found = mixture.quantile(level)
    assert sum(steps) <= 6 * 200  # those that are found cost no more
    below = mixture.weights @ ndtr((found - mixture.means) / mixture.variances.sqrt())
    np.testing.assert_allclose(below.numpy(), level, rtol=1e-7)


@pytest.mark.parametrize("level", [0.05, 0.5, 0.95])
def test_a_step_that_ends_where_it_began_is_no_reason_to_search_on(level, monkeypatch):
    rng = np.random.default_rng(0)
    means = rng.normal(size=4_000) + 0.02 * rng.normal(size=(5, 4_000))
    deviations = np.array([0.1, 0.05, 0.06, 1.0, 0.4])[:, None] * np.ones(4_000)
    weights = torch.tensor([0.6, 0.1, 0.25, 0.01, 0.04], dtype=F64)
    mixture = GaussianMixture(weights, *map(torch.from_numpy, (means, deviations**2)))
    steps, ndtr = [], torch.special.ndtr
    monkeypatch.setattr(torch.special, "ndtr", lambda z: steps.append(z.shape[1]) or ndtr(z))
    mixture.quantile(level)
    assert len(steps) <= 6


def test_quantiles_rise_with_their_level():
    mixture = drawn(5, 30, seed=3, spread=2.0)
    found = np.stack([mixture.quantile(level).numpy() for level in LEVELS])
    assert (np.diff(found, axis=0) > 0).all()


@pytest.mark.parametrize("seed", range(4))
def test_widths_and_gaps_of_any_size_hide_no_quantile(seed):
    """Newton's method steps out of a gap with nearly no density, or to and fro beside a spike."""
    rng = np.random.default_rng(seed)
    k, n = 10, 4_000
    weights = np.full(k, 1 / k) if seed % 2 else rng.dirichlet(np.ones(k))
    means = rng.normal(size=(k, n)) * 10 ** rng.uniform(-2, 2, n)
    variances = 100 ** rng.uniform(-3, 1, (k, n))
    mixture = GaussianMixture(*map(torch.from_numpy, (weights, means, variances)))
    before = torch.full((n,), -math.inf, dtype=F64)
    for level in (1e-5, 0.05, 0.3, 0.5, 0.6, 0.7, 0.999):
        found = mixture.quantile(level)
        assert (found >= before).all()
        z = (found - mixture.means) / mixture.variances.sqrt()
        below = mixture.weights @ torch.special.ndtr(z)
        np.testing.assert_allclose(below.numpy(), level, atol=1e-6 * min(level, 1 - level))
        before = found


def test_no_values_have_no_quantiles():
    mixture = drawn(3, 0)
    assert mixture.quantile(0.9).shape == (0,)
    assert [m.shape for m in mixture.moments()] == [(0,), (0,)]
    assert mixture.log_density(torch.empty(0, dtype=F64)).shape == (0,)


def test_moments_and_density_are_those_of_numerical_integration():
    mixture = drawn(4, 6, seed=1, spread=0.3)
    grid = torch.linspace(-60, 60, 200_001, dtype=F64)
    step = (grid[1] - grid[0]).item()
    mean, variance = mixture.moments()
    for i in range(6):
        one = GaussianMixture(
            mixture.weights, mixture.means[:, i : i + 1], mixture.variances[:, i : i + 1]
        )
        density = one.log_density(grid).exp()
        assert density.sum().item() * step == pytest.approx(1.0)
        assert (density @ grid).item() * step == pytest.approx(mean[i].item(), abs=1e-9)
        square = (density @ (grid - mean[i]).square()).item() * step
        assert square == pytest.approx(variance[i].item())


def test_density_is_the_logarithm_of_a_weighted_sum_even_where_it_underflows():
    mixture, values = drawn(4, 9, seed=2), torch.linspace(-3, 3, 9, dtype=F64)
    each = norm.pdf(values.numpy(), mixture.means.numpy(), mixture.variances.sqrt().numpy())
    expected = np.log(mixture.weights.numpy() @ each)
    np.testing.assert_allclose(mixture.log_density(values).numpy(), expected)
    far = mixture.log_density(torch.full((9,), 1e4, dtype=F64))
    assert torch.isfinite(far).all()
    assert (far < -1e3).all()


def test_an_affine_map_moves_everything_with_it():
    mixture, values = drawn(3, 8, seed=4), torch.linspace(-2, 2, 8, dtype=F64)
    moved = mixture.affine(5.0, 0.25)
    for level in (0.05, 0.5, 0.99):
        torch.testing.assert_close(moved.quantile(level), 5.0 + 0.25 * mixture.quantile(level))
    torch.testing.assert_close(
        moved.log_density(5.0 + 0.25 * values), mixture.log_density(values) - np.log(0.25)
    )


def test_stacked_is_the_mixture_of_mixtures():
    members, values = [drawn(3, 8, seed=s) for s in (5, 6, 7)], torch.linspace(-2, 2, 8, dtype=F64)
    stacked = GaussianMixture.stacked([0.25, 0.0, 0.75], members)
    assert len(stacked.weights) == 6  # what has no weight leaves no trace
    assert stacked.weights.sum().item() == pytest.approx(1.0)
    expected = (
        0.25 * members[0].log_density(values).exp() + 0.75 * members[2].log_density(values).exp()
    )
    torch.testing.assert_close(stacked.log_density(values).exp(), expected)
    with pytest.raises(ValueError, match="longer"):
        GaussianMixture.stacked([1.0], members)

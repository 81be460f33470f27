import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bayestl.models.gaussian_mixture import GaussianMixture
from bayestl.models.stacking import NEGLIGIBLE, distances, stacking_weights, trimmed


def score(weights, errors, between, count, prior) -> float:
    crps = weights @ errors - 0.5 * weights @ between @ weights
    return count * np.log(crps) - prior @ np.log(weights)


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.integers(2, 3), st.integers(5, 60))
def test_stacking_weights_are_the_best_of_the_simplex(seed, members, n):
    rng = np.random.default_rng(seed)
    means, deviations = rng.normal(size=(members, n)), 10.0 ** rng.uniform(-1, 1, members)
    parts = [
        GaussianMixture(*(torch_of(a) for a in ([1.0], [m], [np.full(n, d**2)])))
        for m, d in zip(means, deviations, strict=True)
    ]
    errors = np.array([p.absolute_error(torch_of(np.zeros(n))).mean().item() for p in parts])
    between = np.array([[p.distance(q).mean().item() for q in parts] for p in parts])
    prior = np.array([3.0, *[0.3] * (members - 1)])
    found = stacking_weights(errors, between, n, prior)
    assert found.sum() == pytest.approx(1.0)
    assert (found > 0).all()
    axes = [np.linspace(1e-4, 1 - 1e-4, 60)] * (members - 1)
    grid = np.stack([a.ravel() for a in np.meshgrid(*axes)], 1)
    grid = np.c_[1 - grid.sum(1), grid]
    best = min(score(w, errors, between, n, prior) for w in grid[grid.min(1) > 0])
    assert score(found, errors, between, n, prior) < best + 1e-3
    for unit in (1e-6, 1e6):  # the metric's unit does not matter
        again = stacking_weights(unit * errors, unit * between, n, prior)
        np.testing.assert_allclose(again, found, atol=1e-3)


def torch_of(array) -> torch.Tensor:
    return torch.tensor(np.asarray(array), dtype=torch.float64)


def test_the_prior_keeps_the_first_until_there_is_evidence():
    errors, between = np.array([1.0, 1.0]), np.array([[0.5, 0.5], [0.5, 0.5]])
    prior = np.array([3.0, 0.3])
    alike = stacking_weights(errors, between, 10, prior)
    np.testing.assert_allclose(alike, prior / prior.sum(), atol=1e-4)
    better = np.array([1.0, 0.4])
    weights = [stacking_weights(better, between, n, prior)[1] for n in (1, 10, 100)]
    assert weights == sorted(weights)
    assert weights[-1] > 0.95


def test_distances_are_those_of_the_mixtures():
    values, weights = torch_of([0.0, 1.0]), torch_of([0.25, 0.75])
    parts = [
        GaussianMixture.normal(torch_of([m, m]), torch_of([d**2, d**2]))
        for m, d in ((0.0, 1.0), (0.5, 0.2))
    ]
    errors, between = distances(parts, values, weights)
    for k, part in enumerate(parts):
        assert errors[k] == weights @ part.absolute_error(values)
        for other, found in zip(parts, between[k], strict=True):
            assert found == weights @ part.distance(other)


def test_weights_without_those_that_hardly_count():
    weights = np.array([0.7, 0.3 - NEGLIGIBLE / 2, NEGLIGIBLE / 2])
    assert trimmed(weights)[2] == 0.0
    assert trimmed(weights).sum() == pytest.approx(1.0)
    assert trimmed(weights)[0] / trimmed(weights)[1] == pytest.approx(weights[0] / weights[1])

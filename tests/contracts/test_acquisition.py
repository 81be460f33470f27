"""Laws for every `Acquisition`."""

from dataclasses import FrozenInstanceError, is_dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayestl.acquisition.acquisition import Outlook
from bayestl.acquisition.improvement import ExpectedImprovement
from bayestl.acquisition.uninformed import RandomSampling
from bayestl.acquisition.variance import IntegratedVariance, PosteriorVariance
from bayestl.errors import AcquisitionError
from bayestl.models.posterior import Posterior

ACQUISITIONS = [
    IntegratedVariance(),
    PosteriorVariance(),
    ExpectedImprovement(),
    RandomSampling(),
]
EVERY = pytest.mark.parametrize("acquisition", ACQUISITIONS, ids=lambda a: type(a).__name__)
LOOKING = pytest.mark.parametrize(
    "acquisition", [a for a in ACQUISITIONS if a.needs_posterior], ids=lambda a: type(a).__name__
)


@st.composite
def outlooks(draw):
    n, seed = draw(st.integers(1, 12)), draw(st.integers(0, 10_000))
    scale = 10.0 ** draw(st.integers(-6, 6))
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(n, draw(st.integers(1, n))))  # may be singular
    posterior = Posterior(
        scale * rng.normal(size=n), scale**2 * root @ root.T, scale**2 * rng.uniform(1e-6, 1, n)
    )
    best = draw(st.none() | st.floats(-3, 3).map(lambda b: scale * b))
    weights = rng.uniform(0.1, 1, n)
    return Outlook(weights, rng, posterior, best, draw(st.booleans()))


@EVERY
@given(outlook=outlooks())
def test_scores_are_finite_and_not_negative_one_a_point(acquisition, outlook):
    scores = acquisition.score(outlook)
    assert scores.shape == (outlook.size,)
    assert np.isfinite(scores).all()
    assert (scores >= 0).all()


@LOOKING
@given(outlook=outlooks(), seed=st.integers(0, 1_000))
def test_scores_follow_their_points_into_any_order(acquisition, outlook, seed):
    order = np.random.default_rng(seed).permutation(outlook.size)
    posterior = outlook.posterior
    shuffled = Posterior(
        posterior.mean[order],
        posterior.covariance[np.ix_(order, order)],
        posterior.noise_variance[order],
    )
    other = replace(outlook, weights=outlook.weights[order], belief=shuffled)
    np.testing.assert_allclose(
        acquisition.score(other), acquisition.score(outlook)[order], rtol=1e-6, atol=1e-12
    )


@LOOKING
@given(outlook=outlooks())
def test_the_unit_of_the_metric_does_not_change_the_order(acquisition, outlook):
    p = outlook.posterior
    other = replace(
        outlook,
        belief=Posterior(8 * p.mean, 64 * p.covariance, 64 * p.noise_variance),
        best=None if outlook.best is None else 8 * outlook.best,
    )
    first, second = acquisition.score(outlook), acquisition.score(other)
    np.testing.assert_allclose(
        first / max(first.max(), 1e-300), second / max(second.max(), 1e-300), rtol=1e-6, atol=1e-12
    )


@EVERY
def test_scores_are_determined_by_the_outlook(acquisition):
    posterior = Posterior(np.arange(4.0), np.eye(4), np.ones(4))

    def score(seed):
        return acquisition.score(Outlook(np.ones(4), np.random.default_rng(seed), posterior))

    np.testing.assert_array_equal(score(3), score(3))


@EVERY
def test_a_posterior_is_needed_exactly_where_declared(acquisition):
    blind = Outlook(np.ones(3), np.random.default_rng(0))
    if not acquisition.needs_posterior:
        assert acquisition.score(blind).shape == (3,)
        return
    with pytest.raises(AcquisitionError, match="RandomSampling"):
        acquisition.score(blind)


@EVERY
def test_an_acquisition_is_a_frozen_recipe(acquisition):
    assert is_dataclass(acquisition)
    assert acquisition == type(acquisition)()
    assert hash(acquisition) == hash(type(acquisition)())
    with pytest.raises((FrozenInstanceError, TypeError)):
        acquisition.anything = 1

"""The short way to the evidence says what the long way says."""

import numpy as np
import pytest
import torch

from bayestl.models.gaussian_process import few_measurements
from bayestl.models.gaussian_process.evidence import NOTHING, Given
from bayestl.models.gaussian_process.few_measurements import FewMeasurements
from bayestl.models.gaussian_process.fitting import fit
from tests.models.gaussian_process.test_fitting import (
    CHOICES,
    GROUPS,
    POSITIONS,
    measured,
    scrambled,
)


def few(hyperparameters, x, z, given=NOTHING) -> FewMeasurements | None:
    kernel, noise = hyperparameters.kernel, hyperparameters.noise
    return FewMeasurements.of(kernel, noise, hyperparameters.flat, x, z, given)


@pytest.mark.parametrize("groups", [GROUPS, POSITIONS, CHOICES])
@pytest.mark.parametrize("n", [1, 30])
def test_evidence_and_gradient_are_those_of_any_process(groups, n):
    hyperparameters, (x, z) = scrambled(groups, 1, 1, False), measured(groups, 1, n)
    extra = torch.linspace(0.0, 0.3, n, dtype=torch.float64)
    relative, known = torch.linspace(0.2, 5.0, n, dtype=torch.float64), torch.outer(z, z)
    given = Given(extra, relative, known)
    ready = few(hyperparameters, x, z, given)
    assert ready is not None
    found = ready.log_evidence(hyperparameters.vector())
    assert found is not None
    number, gradient = hyperparameters.log_posterior(x, z, given)
    prior, of_prior = hyperparameters.priors.log_density(hyperparameters.vector())
    assert found[0] == pytest.approx(number - prior, rel=1e-11)
    np.testing.assert_allclose(found[1], gradient - of_prior, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(
    ("environments", "latents", "stretch"), [(2, 1, False), (1, 2, False), (1, 1, True)]
)
def test_what_is_more_than_one_process_goes_the_long_way(environments, latents, stretch):
    hyperparameters = scrambled(GROUPS, environments, latents, stretch)
    assert few(hyperparameters, *measured(GROUPS, environments, 5)) is None
    assert few(scrambled(GROUPS, 1, 1, False), *measured(GROUPS, 1, 1_000)) is None


def test_a_covariance_that_cannot_be_factorised_goes_the_long_way():
    hyperparameters, (x, z) = scrambled(GROUPS, 1, 1, False), measured(GROUPS, 1, 40)
    x = x[:1].repeat(40, 1)
    with torch.no_grad():
        hyperparameters.kernel.raw_amplitude.fill_(12.0)
        hyperparameters.noise.raw_level.fill_(-15.0)
    ready = few(hyperparameters, x, z)
    assert ready is not None
    vector = hyperparameters.vector()
    assert ready.log_evidence(vector) is None
    number, gradient = hyperparameters.objective(x, z)(vector)
    assert number == hyperparameters.log_posterior(x, z)[0]
    assert np.isfinite(gradient).all()


def test_a_search_ends_where_the_long_way_ends(monkeypatch):
    (x, z), vectors = measured(GROUPS, 1, 30), []
    for elements in (few_measurements.MAX_ELEMENTS, 0):
        monkeypatch.setattr(few_measurements, "MAX_ELEMENTS", elements)
        hyperparameters = scrambled(GROUPS, 1, 1, False)
        assert (few(hyperparameters, x, z) is None) == (elements == 0)
        assert fit(hyperparameters, x, z).sound
        vectors.append(hyperparameters.vector())
    np.testing.assert_allclose(*vectors, atol=1e-3)

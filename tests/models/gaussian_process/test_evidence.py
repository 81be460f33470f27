import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from bayestl.errors import FitError
from bayestl.models.gaussian_process.evidence import cholesky, leave_one_out, log_evidence


def covariance(n: int, seed: int = 0) -> torch.Tensor:
    a = np.random.default_rng(seed).normal(size=(n, n))
    return torch.from_numpy(a @ a.T + 0.5 * np.eye(n))


def test_the_evidence_is_the_normal_density():
    K, z = covariance(6), torch.linspace(-1, 2, 6, dtype=torch.float64)
    expected = multivariate_normal(np.zeros(6), K.numpy()).logpdf(z.numpy())
    assert log_evidence(K, z)[0] == pytest.approx(expected)


def test_its_gradient_is_that_of_finite_differences():
    z, K, step = torch.linspace(-1, 2, 5, dtype=torch.float64), covariance(5), 1e-5
    _, gradient = log_evidence(K, z)
    assert torch.equal(gradient, gradient.T)
    for i, j in ((0, 0), (1, 3)):
        towards = torch.zeros_like(K)
        towards[i, j] = towards[j, i] = step  # keeps the matrix symmetric
        change = log_evidence(K + towards, z)[0] - log_evidence(K - towards, z)[0]
        expected = (gradient * towards).sum().item() / step
        assert change / (2 * step) == pytest.approx(expected, rel=1e-6)


def test_leaving_one_out_is_conditioning_on_the_others():
    K, z = covariance(6).numpy(), np.linspace(-1, 2, 6)
    precision = torch.from_numpy(np.linalg.inv(K).diagonal()[[1, 4]])
    alpha = torch.from_numpy(np.linalg.solve(K, z)[[1, 4]])
    mean, variance = leave_one_out(precision, alpha, torch.from_numpy(z[[1, 4]]))
    for position, row in enumerate((1, 4)):
        others = np.delete(np.arange(6), row)
        weights = np.linalg.solve(K[np.ix_(others, others)], K[others, row])
        assert mean[position].item() == pytest.approx(weights @ z[others])
        assert variance[position].item() == pytest.approx(K[row, row] - weights @ K[others, row])


def test_a_singular_covariance_takes_jitter_and_says_how_much():
    _, jitter = cholesky(torch.ones(4, 4, dtype=torch.float64))
    assert jitter > 0
    assert cholesky(covariance(4))[1] == 0


def test_an_indefinite_covariance_is_refused():
    with pytest.raises(FitError, match="not positive definite"):
        cholesky(-torch.eye(3, dtype=torch.float64))

import numpy as np
import pytest

from bayestl.acquisition.acquisition import Outlook
from bayestl.acquisition.variance import IntegratedVariance, PosteriorVariance
from bayestl.models.posterior import Posterior


def conditioned_covariance(posterior, index):
    """Textbook conditioning of the joint Gaussian on one noisy measurement, by a solve."""
    n = len(posterior.mean)
    select = np.eye(n)[[index]]
    gram = select @ posterior.covariance @ select.T + posterior.noise_variance[index]
    gain = np.linalg.solve(gram, select @ posterior.covariance)
    return posterior.covariance - posterior.covariance @ select.T @ gain


@pytest.mark.parametrize("seed", range(5))
def test_integrated_variance_equals_brute_force(a_posterior, seed):
    posterior = a_posterior(9, seed)
    weights = np.random.default_rng(seed).uniform(0, 2, 9)
    outlook = Outlook(weights, np.random.default_rng(0), posterior)
    before = weights @ posterior.variance
    expected = [before - weights @ np.diag(conditioned_covariance(posterior, j)) for j in range(9)]
    np.testing.assert_allclose(IntegratedVariance().score(outlook), expected, rtol=1e-10)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # botorch's import
def test_integrated_variance_equals_botorch(a_posterior):
    """botorch's qNIPV differs from ours by the constant: the integral before."""
    import torch
    from botorch.acquisition.active_learning import qNegIntegratedPosteriorVariance
    from botorch.models import SingleTaskGP

    rng = np.random.default_rng(0)
    x, pool = torch.from_numpy(rng.random((6, 2))), torch.from_numpy(rng.random((12, 2)))
    noise = torch.full((6, 1), 0.1, dtype=torch.float64)
    y = torch.sin(6 * x.sum(-1, keepdim=True))
    y = (y - y.mean()) / y.std()
    model = SingleTaskGP(x, y, noise, outcome_transform=None).eval()
    acquisition = qNegIntegratedPosteriorVariance(model, mc_points=pool)
    with torch.no_grad():
        theirs = acquisition(pool.unsqueeze(1)).numpy()
        joint = model(pool)
        posterior = Posterior(joint.mean.numpy(), joint.covariance_matrix.numpy(), np.full(12, 0.1))
    outlook = Outlook(np.ones(12), rng, posterior)
    ours = IntegratedVariance().score(outlook)
    np.testing.assert_allclose((ours - posterior.variance.sum()) / 12, theirs, rtol=1e-6)


def test_integrated_variance_prefers_the_middle_where_posterior_variance_ties():
    x = np.linspace(0, 1, 11)
    covariance = np.exp(-0.5 * (x[:, None] - x[None]) ** 2 / 0.3**2)
    posterior = Posterior(np.zeros(11), covariance, np.full(11, 0.01))
    outlook = Outlook(np.ones(11), np.random.default_rng(0), posterior)
    assert IntegratedVariance().score(outlook).argmax() == 5
    np.testing.assert_allclose(PosteriorVariance().score(outlook), 1.0)


def test_a_point_without_weight_attracts_nothing():
    posterior = Posterior(np.zeros(2), np.diag([4.0, 1.0]), np.full(2, 0.1))
    outlook = Outlook(np.array([0.0, 1.0]), np.random.default_rng(0), posterior)
    scores = IntegratedVariance().score(outlook)
    assert scores[0] == 0
    assert scores[1] > 0


def test_a_certain_and_noise_free_point_is_worth_nothing():
    posterior = Posterior(np.zeros(2), np.diag([0.0, 1.0]), np.zeros(2))
    outlook = Outlook(np.ones(2), np.random.default_rng(0), posterior)
    np.testing.assert_allclose(IntegratedVariance().score(outlook), [0.0, 1.0])

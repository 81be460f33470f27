import numpy as np
import pytest
import torch
from botorch.acquisition import LogExpectedImprovement, PosteriorStandardDeviation
from botorch.acquisition.logei import qLogExpectedImprovement
from botorch.acquisition.objective import ScalarizedPosteriorTransform

from bayestl.models.botorch_adapter import EnvironmentModel
from bayestl.models.gp import MultiTaskGP


@pytest.fixture
def fitted(make_table):
    table = make_table({"source": (30, 1.0, 0.0), "target": (6, 1.0, 1.0)})
    return MultiTaskGP().fit(table, metric="latency", target="target")


def test_it_says_what_the_process_says(fitted, make_test):
    configs = make_test()[0].iloc[:8]
    model = EnvironmentModel(fitted)
    posterior = model.posterior(model.encode(configs), observation_noise=True)
    expected = fitted.posterior(configs)
    assert posterior.mean.squeeze(-1).detach().numpy() == pytest.approx(expected.mean)
    variance = expected.variance + expected.noise_variance
    assert posterior.variance.squeeze(-1).detach().numpy() == pytest.approx(variance)


def test_it_is_of_one_environment(fitted, make_test):
    configs = make_test()[0].iloc[:8]
    means = [
        EnvironmentModel(fitted, e).posterior(EnvironmentModel(fitted, e).encode(configs)).mean
        for e in ("source", "target")
    ]
    assert (means[1] - means[0]).mean().item() == pytest.approx(1.0, abs=0.2)


def test_acquisition_functions_of_botorch_work_and_have_gradients(fitted, make_test):
    model = EnvironmentModel(fitted)
    x = model.encode(make_test()[0].iloc[:12]).unsqueeze(-2).requires_grad_()
    minimise = ScalarizedPosteriorTransform(torch.tensor([-1.0], dtype=torch.float64))
    scores = [
        LogExpectedImprovement(model, best_f=0.0, posterior_transform=minimise)(x),
        qLogExpectedImprovement(model, best_f=0.0, posterior_transform=minimise)(x),
        PosteriorStandardDeviation(model)(x),
    ]
    for score in scores:
        assert score.shape == (12,)
        (gradient,) = torch.autograd.grad(score.sum(), x, retain_graph=True)
        assert np.isfinite(gradient.numpy()).all()
    assert scores[2].detach().numpy() == pytest.approx(
        np.sqrt(fitted.posterior(make_test()[0].iloc[:12]).variance)
    )

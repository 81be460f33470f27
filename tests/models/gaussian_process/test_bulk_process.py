import pytest
import torch

from bayestl.models.encoding import Group
from bayestl.models.gaussian_process.bulk_process import BulkProcess
from bayestl.models.gaussian_process.conditioning import Conditioned
from bayestl.models.gaussian_process.fitting import Hyperparameters
from bayestl.models.gaussian_process.kernels import CoregionalizedKernel, EnvironmentNoise


def process(amplitude: float, noise: float, n: int = 300) -> Conditioned:
    """A smooth process of three options, with a prior as wide as asked."""
    groups = [Group(name) for name in "abc"]
    hyperparameters = Hyperparameters(CoregionalizedKernel(groups, 1), EnvironmentNoise(1))
    with torch.no_grad():
        hyperparameters.kernel.raw_amplitude.fill_(amplitude).log_()
        hyperparameters.kernel.options[0].raw_lengthscales.fill_(1.0).log_()
        hyperparameters.noise.raw_level.fill_(noise).log_()
    x, z = inputs(n, 0), torch.sin(3.0 * inputs(n, 0)[:, :3].sum(-1))
    return Conditioned.on(hyperparameters, x, z)


def inputs(n: int, seed: int) -> torch.Tensor:
    x = torch.rand(n, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x[:, -1] = 0.0
    return x


@pytest.mark.parametrize(("amplitude", "noise"), [(1.0, 1e-1), (10.0, 1e-2), (50.0, 1e-1)])
def test_the_variance_is_that_of_float64(amplitude, noise):
    exact, x = process(amplitude, noise), inputs(200, 1)
    bulk, kernel = BulkProcess.of(exact), exact.hyperparameters.kernel
    mean, variance = exact.marginals(x)
    with torch.no_grad():
        cross = kernel.forward(bulk.x, x)
        prior = kernel.forward(x, x, diag=True)
    assert (bulk.alpha @ cross).numpy() == pytest.approx(mean.numpy(), abs=1e-6)
    found = prior - bulk.explained(cross.clone())
    assert (found + noise).numpy() == pytest.approx((variance + noise).numpy(), rel=1e-3)
    alone = prior - (bulk.inverse.double() @ cross[len(bulk.first) :]).square().sum(0)
    assert (alone - variance).abs().max() > noise  # the first rows are needed


def test_means_covariances_and_variances_are_those_of_the_process():
    exact, places, x = process(10.0, 1e-2), inputs(4, 2), inputs(50, 1)
    _, half = exact.towards(places)
    mean, covariance, variance = BulkProcess.of(exact).towards(places, half)(x)
    expected, joint = exact.joint(torch.cat([places, x]))
    joint = joint.detach()
    assert mean.numpy() == pytest.approx(expected.detach()[4:].numpy(), abs=1e-9)
    assert covariance.numpy() == pytest.approx(joint[:4, 4:].numpy(), abs=1e-9)
    assert variance.numpy() == pytest.approx(joint.diagonal()[4:].numpy(), abs=1e-3 * 1e-2)


def test_one_configuration_is_answered_as_among_others():
    exact, x = process(10.0, 1e-2), inputs(50, 1)
    bulk = BulkProcess.of(exact)
    with torch.no_grad():
        cross = exact.hyperparameters.kernel.forward(bulk.x, x)
    together = bulk.explained(cross.clone())
    alone = torch.cat([bulk.explained(cross[:, [i]]) for i in range(3)])
    assert alone.numpy() == pytest.approx(together[:3].numpy(), abs=1e-4 * 1e-2)


def test_every_row_has_its_place():
    exact = process(10.0, 1e-2)
    bulk = BulkProcess.of(exact)
    assert sorted(bulk.order.tolist()) == list(range(300))
    assert 0 < len(bulk.first) < 300
    assert torch.equal(bulk.x, exact.x[bulk.order])
    assert len(bulk.first) + len(bulk.inverse) == 300


def test_where_the_noise_is_negligible_all_is_float64():
    exact = process(200.0, 1e-13, n=20)
    bulk = BulkProcess.of(exact)
    assert len(bulk.first) == 20
    with torch.no_grad():
        cross = exact.hyperparameters.kernel.forward(bulk.x, inputs(5, 1))
    half = torch.linalg.solve_triangular(bulk.first, cross, upper=False)
    assert torch.equal(bulk.explained(cross), half.square().sum(0))


def test_towards_no_places_there_are_no_covariances():
    exact = process(10.0, 1e-2)
    places = inputs(0, 2)
    mean, covariance, _ = BulkProcess.of(exact).towards(places, torch.zeros(300, 0).double())(
        inputs(5, 1)
    )
    assert covariance.shape == (0, 5)
    assert mean.numpy() == pytest.approx(exact.marginals(inputs(5, 1))[0].numpy(), abs=1e-9)

"""Mathematical laws of the coregionalized process, against NumPy and against itself."""

import gpytorch
import numpy as np
import pytest
import torch

from bayestl.models.encoding import Group
from bayestl.models.gaussian_process.conditioning import Conditioned
from bayestl.models.gaussian_process.fitting import Hyperparameters, fit
from bayestl.models.gaussian_process.kernels import (
    OWN_OFFSET,
    REACH,
    SHARED_OFFSET,
    CoregionalizedKernel,
    EnvironmentNoise,
)

GROUPS = [Group("a"), Group("b", True)]


def inputs(n: int, environments: int, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    where = rng.integers(environments, size=n)
    return torch.from_numpy(np.c_[rng.random(n), rng.integers(2, size=n), where].astype(float))


def process(environments: int, latents: int = 1, stretch: bool = False) -> Hyperparameters:
    return Hyperparameters(
        CoregionalizedKernel(GROUPS, environments, latents, stretch), EnvironmentNoise(environments)
    )


def set_raw(module: torch.nn.Module, name: str, values) -> None:
    with torch.no_grad():
        getattr(module, name).copy_(torch.as_tensor(values, dtype=torch.float64))


def observed(x: torch.Tensor, seed: int = 1) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=len(x)))


def numpy_covariance(x1, x2, lengthscales, main, loadings, residual, amplitude):
    """The module's equation, written once more."""
    a = np.sqrt(5) * np.abs(np.subtract.outer(x1[:, 0], x2[:, 0])) / lengthscales[0]
    b = np.subtract.outer(x1[:, 1], x2[:, 1]) / lengthscales[1]

    def product(d, b):
        return (1 + d + d**2 / 3) * np.exp(-d - b**2 / 2)

    k = product(a, b) + main * product(a / REACH, b / REACH)
    t1, t2 = x1[:, 2].astype(int), x2[:, 2].astype(int)
    B = np.outer(loadings, loadings) + np.diag(residual)
    same = t1[:, None] == t2[None, :]
    return amplitude**2 * B[np.ix_(t1, t2)] * k + SHARED_OFFSET + OWN_OFFSET * same


def test_the_process_is_the_closed_form():
    model, x, new = process(2), inputs(15, 2), inputs(6, 2, seed=3)
    lengthscales, main, loadings, residual = [0.7, 1.3], 2.5, [0.9, -0.4], [0.2, 0.5]
    amplitude, noise = 1.2, [0.03, 0.1]
    set_raw(model.kernel.options[0], "raw_main", np.log(main - 1e-6))
    set_raw(model.kernel.options[0], "raw_lengthscales", np.log(np.array(lengthscales) - 1e-6))
    set_raw(model.kernel, "loadings", np.array(loadings)[:, None])
    set_raw(model.kernel, "raw_residual", np.log(np.array(residual) - 1e-6))
    set_raw(model.kernel, "raw_amplitude", np.log(amplitude - 1e-6))
    set_raw(model.noise, "raw_level", np.log(1 - 1e-6))
    set_raw(model.noise, "raw_ratio", np.log(np.array(noise) - 1e-6))
    z = observed(x)
    belief = Conditioned.on(model, x, z)
    given = (lengthscales, main, loadings, residual, amplitude)
    X, N = x.numpy(), new.numpy()
    K = numpy_covariance(X, X, *given) + np.diag(np.array(noise)[X[:, 2].astype(int)])
    cross = numpy_covariance(N, X, *given)
    mean = cross @ np.linalg.solve(K, z.numpy())
    covariance = numpy_covariance(N, N, *given) - cross @ np.linalg.solve(K, cross.T)
    with torch.no_grad():
        joint_mean, joint_covariance = belief.joint(new)
    assert joint_mean.numpy() == pytest.approx(mean)
    assert joint_covariance.numpy() == pytest.approx(covariance)
    marginal_mean, variance = belief.marginals(new)
    assert marginal_mean.numpy() == pytest.approx(mean)
    assert variance.numpy() == pytest.approx(np.diag(covariance))


def test_gpytorch_conditions_the_same_kernel_to_the_same_belief():
    model, x, new = process(2, latents=2, stretch=True), inputs(15, 2), inputs(6, 2, seed=3)
    z = observed(x)

    class Exact(gpytorch.models.ExactGP):
        def __init__(self):
            noise = gpytorch.likelihoods.FixedNoiseGaussianLikelihood(
                model.noise.forward(x).detach()
            )
            super().__init__(x, z, noise)

        def forward(self, inputs):
            zero = torch.zeros(inputs.shape[:-1], dtype=inputs.dtype)
            return gpytorch.distributions.MultivariateNormal(zero, model.kernel(inputs))

    exact = Exact().eval()
    with torch.no_grad():
        theirs = exact(new)
        mean, covariance = Conditioned.on(model, x, z).joint(new)
    assert mean.numpy() == pytest.approx(theirs.mean.numpy(), abs=1e-6)
    assert covariance.numpy() == pytest.approx(theirs.covariance_matrix.numpy(), abs=1e-6)


def test_icm_with_diagonal_coregionalization_is_independent_processes(monkeypatch):
    monkeypatch.setattr("bayestl.models.gaussian_process.kernels.SHARED_OFFSET", 0.0)
    both, alone = process(2), process(1)
    for model in (both, alone):
        set_raw(model.kernel, "loadings", torch.zeros_like(model.kernel.loadings))
        set_raw(model.kernel, "raw_residual", torch.zeros_like(model.kernel.raw_residual))
    x, new = inputs(20, 2), inputs(6, 1, seed=3)
    z = observed(x)
    mine = x[:, -1] == 0
    joint = Conditioned.on(both, x, z).marginals(new)
    separate = Conditioned.on(alone, x[mine], z[mine]).marginals(new)
    for a, b in zip(joint, separate, strict=True):
        assert a.numpy() == pytest.approx(b.numpy())


def test_lmc_with_one_latent_is_icm():
    icm, lmc = process(3, latents=1, stretch=False), process(3, latents=1, stretch=True)
    set_raw(lmc.kernel, "raw_residual_stretch", np.log(1 - 1e-6))
    x = inputs(20, 3)
    with torch.no_grad():
        assert lmc.covariance(x).numpy() == pytest.approx(icm.covariance(x).numpy())


def test_the_gradient_of_the_objective_is_that_of_finite_differences():
    model, x = process(2, latents=2, stretch=True), inputs(12, 2)
    z = observed(x)

    start, step = model.vector(), 1e-5
    _, gradient = model.log_posterior(x, z)
    for i in range(len(start)):
        values = []
        for sign in (1, -1):
            moved = start.copy()
            moved[i] += sign * step
            model.move(moved)
            values.append(model.log_posterior(x, z)[0])
        slope = (values[0] - values[1]) / (2 * step)
        assert gradient[i] == pytest.approx(slope, rel=1e-4, abs=1e-5)


def test_fitting_raises_the_objective_and_recovers_the_noise():
    truth, x = process(2), inputs(300, 2)
    set_raw(truth.noise, "raw_level", np.log(0.05))
    with torch.no_grad():
        factor = torch.linalg.cholesky(truth.covariance(x))
    z = factor @ observed(x)
    model = process(2)
    before, _ = model.log_posterior(x, z)
    outcome = fit(model, x, z)
    assert outcome.sound
    assert outcome.evidence + model.log_prior() > before + 1
    assert model.noise.variance.detach().numpy() == pytest.approx([0.05, 0.05], rel=0.5)


def test_intervals_of_data_drawn_from_the_model_cover_as_they_say():
    covered = []
    for seed in range(10):
        x = inputs(90, 2, seed)
        truth = process(2)
        set_raw(truth.kernel, "raw_residual", np.log([0.1, 0.1]))
        with torch.no_grad():
            factor = torch.linalg.cholesky(truth.covariance(x))
        z = factor @ observed(x, seed + 100)
        model = process(2)
        fit(model, x[:60], z[:60])
        belief = Conditioned.on(model, x[:60], z[:60])
        mean, variance = belief.marginals(x[60:])
        deviation = (variance + belief.noise(x[60:])).sqrt()
        covered.append(((z[60:] - mean).abs() < 1.6449 * deviation).double().mean().item())
    assert 0.85 < np.mean(covered) < 0.95

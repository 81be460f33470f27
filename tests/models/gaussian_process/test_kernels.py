import numpy as np
import pytest
import torch

from bayestl.models.encoding import Group
from bayestl.models.gaussian_process.kernels import (
    REACH,
    CoregionalizedKernel,
    EnvironmentNoise,
    OptionKernel,
    WithMainEffects,
    product,
    together,
    value,
    with_main_effects,
)

GROUPS = [Group("a"), Group("b", True, (1, 2, 3)), Group("c", True)]


def inputs(n: int, environments: int, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    x = np.zeros((n, 6))
    x[:, 0] = rng.random(n)
    x[np.arange(n), 1 + rng.integers(3, size=n)] = np.sqrt(0.5)
    x[:, 4] = rng.integers(2, size=n)
    x[:, 5] = rng.integers(environments, size=n)
    return torch.from_numpy(x)


def scrambled(module: torch.nn.Module, seed: int = 1) -> torch.nn.Module:
    """The module with every parameter moved."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(
                0.5 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            )
    return module.double()


def textbook(chosen: np.ndarray, apart: np.ndarray) -> np.ndarray:
    d = np.sqrt(5 * apart)
    return (1 + d + d**2 / 3) * np.exp(-d - chosen / 2)


def test_the_product_of_squared_distances_and_its_gradient():
    chosen = torch.tensor([0.4, 0.0, 2.0, 0.1], dtype=torch.float64, requires_grad=True)
    apart = torch.tensor([0.0, 1e-12, 0.3, 9.0], dtype=torch.float64, requires_grad=True)
    main = torch.tensor(2.5, dtype=torch.float64, requires_grad=True)
    c, a = chosen.detach(), apart.detach()
    assert product(c.clone(), a.clone()).numpy() == pytest.approx(textbook(c.numpy(), a.numpy()))
    far = textbook(c.numpy() / REACH**2, a.numpy() / REACH**2)
    expected = textbook(c.numpy(), a.numpy()) + 2.5 * far
    assert with_main_effects(c.clone(), a.clone(), main.detach()).numpy() == pytest.approx(expected)
    both = WithMainEffects.apply(chosen, apart, main)
    assert both.detach().numpy() == pytest.approx(expected)
    inside = (c[2:].clone().requires_grad_(), a[2:].clone().requires_grad_(), main)
    assert torch.autograd.gradcheck(WithMainEffects.apply, inside)
    (slope,) = torch.autograd.grad(both.sum(), apart)
    at_zero = np.exp(-0.2) + 2.5 / REACH**2 * np.exp(-0.2 / REACH**2)
    assert slope[0].item() == pytest.approx(-5 / 6 * at_zero)


def test_the_option_kernel_is_its_equation():
    kernel = scrambled(OptionKernel(GROUPS))
    x = inputs(7, 1)[:, :-1]
    a, b, c = value(kernel, "lengthscales").tolist()
    d = np.sqrt(5) * np.abs(np.subtract.outer(x[:, 0], x[:, 0])) / a
    differ = (x[:, None, 1:4] != x[None, :, 1:4]).any(-1).double().numpy()
    apart = np.subtract.outer(x[:, 4], x[:, 4])

    def interactions(stretch: float) -> np.ndarray:
        scaled = d / stretch
        squares = (differ / b**2 + apart**2 / c**2) / stretch**2
        return (1 + scaled + scaled**2 / 3) * np.exp(-scaled - squares / 2)

    expected = interactions(1.0) + value(kernel, "main").item() * interactions(REACH)
    assert kernel.forward(x, x).detach().numpy() == pytest.approx(expected)
    with torch.no_grad():
        assert kernel.forward(x, x).numpy() == pytest.approx(expected)
    stretches = (1.0, 1.5, 4.0)
    for stretch, found in zip(stretches, kernel.interactions(x, x, stretches), strict=True):
        assert found.numpy() == pytest.approx(interactions(stretch))


def test_what_reaches_far_is_nearly_a_sum_of_main_effects():
    """Over all configurations of two-level options, by a factorial analysis of the covariance."""
    kernel = OptionKernel([Group(name, True) for name in "abcd"]).double()
    x = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 4).double()
    signs = (2 * x - 1) / 4
    with torch.no_grad():
        near, far = kernel.interactions(x, x, (1.0, REACH))

    def interacting(covariance: torch.Tensor) -> float:
        total = covariance.trace() - covariance.mean() * len(x)
        main = (signs.T @ covariance @ signs).trace()
        return float(1 - main / total)

    assert interacting(near) > 0.5
    assert interacting(far) < 0.05


@pytest.mark.parametrize(("latents", "stretch"), [(1, False), (2, True), (3, True)])
def test_the_covariance_is_symmetric_positive_definite_and_has_its_diagonal(latents, stretch):
    kernel = scrambled(CoregionalizedKernel(GROUPS, 3, latents, stretch))
    x = inputs(40, 3)
    with torch.no_grad():
        covariance = kernel.forward(x, x)
        assert torch.allclose(covariance, covariance.T)
        assert float(torch.linalg.eigvalsh(covariance).min()) > -1e-9
        assert torch.allclose(kernel.forward(x, x, diag=True), covariance.diagonal())
        assert float(torch.linalg.eigvalsh(kernel.coregionalization).min()) > 0


def test_gpytorch_evaluates_the_kernel_as_one_of_its_own():
    kernel = scrambled(CoregionalizedKernel(GROUPS, 2, 2, True))
    x = inputs(9, 2)
    with torch.no_grad():
        assert torch.allclose(kernel(x, x).to_dense(), kernel.forward(x, x))
        batch = x.reshape(3, 3, -1)
        assert torch.allclose(kernel.forward(batch, batch)[1], kernel.forward(batch[1], batch[1]))


def test_an_environment_without_data_has_the_common_noise():
    noise = EnvironmentNoise(2)
    assert noise.variance.tolist() == pytest.approx([0.02, 0.02], rel=1e-3)


@pytest.mark.parametrize("groups", [GROUPS, GROUPS[:1], GROUPS[1:]], ids=["all", "apart", "chosen"])
def test_several_kernels_together_are_each_by_itself(groups):
    kernels = [scrambled(OptionKernel(groups), seed) for seed in (1, 2, 3)]
    width = sum(group.width for group in groups)
    x1, x2 = inputs(7, 1)[:, :width], inputs(9, 1, seed=1)[:, :width]
    x2[0] = x1[0]
    with torch.no_grad():
        expected = [kernel.forward(x1, x2) for kernel in kernels]
    for found, one in zip(together(kernels, x1, x2), expected, strict=True):
        torch.testing.assert_close(found, one, rtol=1e-12, atol=1e-12)
        assert not found.requires_grad

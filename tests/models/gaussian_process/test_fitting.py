import pytest
import torch
from gpytorch.priors import LogNormalPrior

from bayestl.models.encoding import Group
from bayestl.models.gaussian_process.evidence import Given
from bayestl.models.gaussian_process.fitting import Hyperparameters, fit
from bayestl.models.gaussian_process.kernels import CoregionalizedKernel, EnvironmentNoise

GROUPS = [Group("a"), Group("b", True, (1, 2, 3)), Group("c", True)]
POSITIONS, CHOICES = [Group("a"), Group("b")], [Group("a", True), Group("b", True)]


def scrambled(groups, environments, latents, stretch) -> Hyperparameters:
    """Hyperparameters away from the modes of their priors."""
    hyperparameters = Hyperparameters(
        CoregionalizedKernel(groups, environments, latents, stretch),
        EnvironmentNoise(environments),
    )
    generator = torch.Generator().manual_seed(environments)
    with torch.no_grad():
        for parameter in hyperparameters.parameters():
            moved = 0.5 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(moved)
    return hyperparameters


def measured(groups, environments: int, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    width = sum(group.width for group in groups)
    features = torch.rand(n, width, generator=generator).double().round(decimals=1)
    where = torch.randint(environments, (n, 1), generator=generator).double()
    return torch.cat([features, where], -1), torch.randn(n, generator=generator).double()


def exactly(prior) -> torch.distributions.Distribution:
    """The prior in float64: gpytorch's keep squares and logarithms of their scale in float32."""
    if isinstance(prior, LogNormalPrior):
        return torch.distributions.LogNormal(prior.loc.double(), prior.scale.double())
    return torch.distributions.StudentT(prior.df.double(), prior.loc.double(), prior.scale.double())


@pytest.mark.parametrize(
    ("groups", "environments", "latents", "stretch"),
    [
        (GROUPS, 1, 1, False),
        (POSITIONS, 1, 1, False),
        (CHOICES, 1, 1, False),
        (GROUPS, 3, 1, False),
        (GROUPS, 3, 1, True),
        (GROUPS, 2, 3, False),
        (GROUPS, 3, 2, True),
    ],
)
def test_the_log_posterior_has_the_gradient_of_automatic_differentiation(
    groups, environments, latents, stretch
):
    hyperparameters = scrambled(groups, environments, latents, stretch)
    (x, z), n = measured(groups, environments, 30), 30
    extra, known = torch.linspace(0.0, 0.3, n, dtype=torch.float64), torch.outer(z, z)
    relative = torch.linspace(5.0, 0.2, n, dtype=torch.float64)
    given = Given(extra, relative, known)
    gaussian = torch.distributions.MultivariateNormal(
        torch.zeros(n, dtype=torch.float64), hyperparameters.covariance(x, given)
    )
    priors = [exactly(p).log_prob(of(m)).sum() for _, m, p, of, _ in hyperparameters.named_priors()]
    expected = gaussian.log_prob(z) + sum(priors)
    gradients = torch.autograd.grad(expected, list(hyperparameters.parameters()))
    number, gradient = hyperparameters.log_posterior(x, z, given)
    assert number == pytest.approx(expected.item(), abs=1e-8)
    flat = torch.cat([g.reshape(-1) for g in gradients]).numpy()
    assert gradient == pytest.approx(flat, rel=1e-8, abs=1e-8)


def test_moving_takes_a_copy():
    hyperparameters = scrambled(GROUPS, 2, 1, False)
    vector = hyperparameters.vector()
    hyperparameters.move(vector)
    vector[:] = 7.0
    assert (hyperparameters.vector() != 7.0).all()


def test_a_copy_elsewhere_leaves_the_original():
    hyperparameters = scrambled(GROUPS, 2, 2, True)
    before = hyperparameters.vector()
    other = hyperparameters.at(before + 1.0)
    assert (other.vector() == before + 1.0).all()
    assert (hyperparameters.vector() == before).all()
    assert other.log_prior() != hyperparameters.log_prior()
    x, _ = measured(GROUPS, 2, 5)
    other.move(before)
    assert torch.equal(other.covariance(x), hyperparameters.covariance(x))


def test_a_fit_ends_where_the_gradient_vanishes():
    hyperparameters = scrambled(GROUPS, 2, 1, False)
    x, z = measured(GROUPS, 2, 60)
    before = hyperparameters.log_posterior(x, z)[0]
    outcome = fit(hyperparameters, x, z)
    after, gradient = hyperparameters.log_posterior(x, z)
    assert outcome.sound
    assert after > before + 1
    assert outcome.evidence == pytest.approx(after - hyperparameters.log_prior())
    assert abs(gradient).max() < 0.5

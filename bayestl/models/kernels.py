"""Covariances over options and over environments, built on gpytorch's kernels and priors.

An input is a row of features (see `encoding`) followed by the environment's index. The
covariance is the second line of the model, for environments t, t' and configurations x, x':

    f_t(x) = m + m_t + sum_q A[t, q] u_q(x) + delta_t(x)
    k      = c + c_e [t = t'] + sum_q A[t, q] A[t', q] k_q(x, x') + [t = t'] v_t k_delta(x, x')

k_delta is k_1 with every lengthscale multiplied by one number. ICM is one latent, LMC is
several. Every log-normal prior is given by its mode, which is where a maximum a posteriori
estimate stays when there are no data.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from gpytorch.constraints import GreaterThan
from gpytorch.kernels import Kernel
from gpytorch.module import Module
from gpytorch.priors import LogNormalPrior
from gpytorch.priors.prior import Prior

from bayestl.models.encoding import Group

SHARED_OFFSET = 1.0
OWN_OFFSET = 25.0
"""Variances c and c_e of the constants, in squared standard deviations of the metric.

Generous and fixed: one measurement settles an environment's level, and before it
anything within a few orders of magnitude is believed.
"""


def positive(module: Module, name: str, shape: Sequence[int], mode: float, spread: float) -> None:
    """Register a positive parameter, optimised on the log scale, with a log-normal prior.

    `raw_<name>` starts at the prior's mode; `spread` is the standard deviation of the log.
    """
    constraint = GreaterThan(
        1e-6,
        transform=torch.exp,  # type: ignore[arg-type]  # annotated as Softplus, takes any map
        inv_transform=torch.log,
    )
    start = torch.full(tuple(shape), mode, dtype=torch.float64)
    module.register_parameter(
        f"raw_{name}", torch.nn.Parameter(constraint.inverse_transform(start))
    )
    module.register_constraint(f"raw_{name}", constraint)
    prior = LogNormalPrior(math.log(mode) + spread**2, spread, validate_args=False)
    module.register_prior(f"{name}_prior", prior, lambda m: value(m, name))


def value(module: torch.nn.Module, name: str) -> torch.Tensor:
    """The value of a parameter that `positive` registered."""
    constraint = getattr(module, f"raw_{name}_constraint")
    return constraint.transform(getattr(module, f"raw_{name}"))


class Matern52(torch.autograd.Function):
    """(1 + d + d^2/3) exp(-d) with d = sqrt(5 s), of a squared distance s.

    The derivative in s, -5/6 (1 + d) exp(-d), has no pole at zero distance, where the
    chain rule through the square root has one.
    """

    @staticmethod
    def forward(ctx: Any, squared: torch.Tensor) -> torch.Tensor:
        distance = (5.0 * squared).sqrt_()
        decay = torch.exp(-distance)
        slope = (1.0 + distance).mul_(decay)
        ctx.save_for_backward(slope)
        return distance.square_().div_(3.0).mul_(decay).add_(slope)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        (slope,) = ctx.saved_tensors
        return gradients[0] * slope * (-5.0 / 6.0)


def squared_distance(x1: torch.Tensor, x2: torch.Tensor) -> torch.Tensor:
    """(..., n, m) squared Euclidean distances between the rows of x1 and of x2."""
    square1, square2 = x1.square().sum(-1, keepdim=True), x2.square().sum(-1, keepdim=True)
    product = x1 @ x2.transpose(-1, -2)
    return (square1 + square2.transpose(-1, -2) - 2.0 * product).clamp_min(0.0)


def squared_norm(x1: torch.Tensor, x2: torch.Tensor) -> torch.Tensor:
    """(..., n) squared Euclidean distances between rows of the same position."""
    return (x1 - x2).square().sum(-1)


class OptionKernel(Kernel):
    """Covariance over configurations, one lengthscale a group of columns.

        k(x, x') = prod over choices of exp(-d^2 / 2) * Matern-5/2 of positions,
        d: distance within a group in units of its lengthscale

    A product over choices gives interactions of rising order falling shares of the
    variance, as in the analysis of a factorial experiment. The prior on lengthscales
    grows with the square root of the number of groups (Hvarfner, Hellsten and Nardi, 2024,
    "Vanilla Bayesian optimization performs great in high dimensions"), so that many
    options do not make all configurations unrelated.

    Parameters
    ----------
    groups : of the columns, in order
    """

    raw_lengthscales: torch.nn.Parameter

    def __init__(self, groups: Sequence[Group]) -> None:
        super().__init__()
        columns = [(g, group.choice) for g, group in enumerate(groups) for _ in range(group.width)]
        self.group_of = torch.tensor([g for g, _ in columns], dtype=torch.long)
        self.choices = [c for c, (_, choice) in enumerate(columns) if choice]
        self.positions = [c for c, (_, choice) in enumerate(columns) if not choice]
        mode = math.exp(math.sqrt(2) - 3) * math.sqrt(max(len(groups), 1))
        positive(self, "lengthscales", (len(groups),), mode, math.sqrt(3))

    def forward(
        self,
        x1: torch.Tensor,
        x2: torch.Tensor,
        diag: bool = False,
        last_dim_is_batch: bool = False,
        stretch: torch.Tensor | float = 1.0,
        **params: Any,
    ) -> torch.Tensor:
        """k(x1, x2), with every lengthscale multiplied by `stretch`."""
        scale = value(self, "lengthscales")[self.group_of] * stretch
        x1, x2 = x1 / scale, x2 / scale
        distance = squared_norm if diag else squared_distance
        chosen = distance(x1[..., self.choices], x2[..., self.choices])
        covariance = torch.exp(-0.5 * chosen)
        if self.positions:
            apart = distance(x1[..., self.positions], x2[..., self.positions])
            covariance = covariance * Matern52.apply(apart)
        return covariance


class CoregionalizedKernel(Kernel):
    """The covariance of the module's equation, over configurations and environments.

    Parameters
    ----------
    groups : of the features, in order
    environments : how many there are, T; the last column of an input counts from 0
    latents : Q; the first is what environments have in common (loadings around 1),
        further ones are how they differ (loadings around 0)
    stretch : whether the residual's lengthscales may differ from the first latent's by
        a common factor; without it, A A^T + diag(v) is the coregionalization of ICM
    """

    loadings: torch.nn.Parameter

    def __init__(
        self,
        groups: Sequence[Group],
        environments: int,
        latents: int = 1,
        stretch: bool = False,
    ) -> None:
        super().__init__()
        kernels = [OptionKernel(groups) for _ in range(latents)]
        self.options = torch.nn.ModuleList(kernels)
        common = torch.zeros(latents, dtype=torch.float64)
        common[0] = 1.0
        start = common.repeat(environments, 1)
        start[:, 1:] = _contrasts(environments, latents - 1)
        with torch.no_grad():
            for q, options in enumerate(kernels[1:], start=1):
                options.raw_lengthscales.add_(math.log(5.0 / q))
        self.register_parameter("loadings", torch.nn.Parameter(start))
        self.register_prior("loadings_prior", _loadings_prior(common), lambda m: m.loadings)
        positive(self, "amplitude", (), mode=1.0, spread=2.0)
        positive(self, "residual", (environments,), mode=0.01, spread=1.5)
        self.stretch = stretch
        if stretch:
            positive(self, "residual_stretch", (), mode=1.0, spread=0.5)

    @property
    def coregionalization(self) -> torch.Tensor:
        """(T, T), the covariance of the environments' functions at one configuration."""
        return value(self, "amplitude") ** 2 * (
            self.loadings @ self.loadings.T + torch.diag(value(self, "residual"))
        )

    def forward(
        self,
        x1: torch.Tensor,
        x2: torch.Tensor,
        diag: bool = False,
        last_dim_is_batch: bool = False,
        **params: Any,
    ) -> torch.Tensor:
        x1, environment1 = x1[..., :-1], x1[..., -1].long()
        x2, environment2 = x2[..., :-1], x2[..., -1].long()
        loadings1, loadings2 = self.loadings[environment1], self.loadings[environment2]
        own = value(self, "residual")[environment1]
        if not diag:
            environment1, environment2 = environment1.unsqueeze(-1), environment2.unsqueeze(-2)
            loadings1, loadings2 = loadings1.unsqueeze(-2), loadings2.unsqueeze(-3)
            own = own.unsqueeze(-1)
        same = (environment1 == environment2).to(x1.dtype)
        own = own * same
        weights = [loadings1[..., q] * loadings2[..., q] for q in range(len(self.options))]
        if self.stretch:
            stretch = value(self, "residual_stretch")
            total = own * self.options[0].forward(x1, x2, diag, stretch=stretch)
        else:
            weights[0] = weights[0] + own
            total = 0.0
        for weight, kernel in zip(weights, self.options, strict=True):
            total = total + weight * kernel.forward(x1, x2, diag)
        return value(self, "amplitude") ** 2 * total + SHARED_OFFSET + OWN_OFFSET * same


class StudentTPrior(Prior, torch.distributions.StudentT):  # type: ignore[misc]  # x or value
    """A prior with a sharp peak and heavy tails: alike, unless the data say otherwise."""

    _transform = None


def _loadings_prior(common: torch.Tensor) -> StudentTPrior:
    """Around what is common; a reversed sign is costly, but a few measurements pay for it."""
    scale = 0.5 - 0.3 * common
    return StudentTPrior(3.0, common, scale, validate_args=False)


def _contrasts(environments: int, latents: int) -> torch.Tensor:
    """(T, latents) starting values: the first environment, the target, differs from the others.

    Together with long lengthscales, which is how environments tend to differ, they keep
    a latent from starting where its loading would only shrink to nothing.
    """
    start = torch.full((environments, latents), 0.05, dtype=torch.float64)
    start[0] = 0.5 / torch.arange(1, latents + 1)
    return start


class EnvironmentNoise(Module):
    """The variance of one measurement in each environment, around a common level.

    An environment with few or no measurements borrows the level of the others.
    """

    def __init__(self, environments: int) -> None:
        super().__init__()
        positive(self, "level", (), mode=0.02, spread=1.0)
        positive(self, "ratio", (environments,), mode=1.0, spread=0.5)

    @property
    def variance(self) -> torch.Tensor:
        """(T,)"""
        return value(self, "level") * value(self, "ratio")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., n), the variance at inputs whose last column is the environment."""
        return self.variance[x[..., -1].long()]

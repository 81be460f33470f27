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

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from gpytorch.constraints import GreaterThan, Interval
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


REACH = 10.0
"""By how much the lengthscales of main effects exceed those of interactions."""

LEAST = 1e-6
"""What positive parameters stay above."""

STRIP = 2**17
"""Elements that a CPU computes at a time: so few that they stay in its cache, and so many that
threads side by side seldom wait for the interpreter's lock."""

TINY = 1e-300
"""What has a reciprocal root, and counts as no distance."""

LOG2_E = 1.0 / math.log(2.0)

Gradient = dict[torch.nn.Parameter, torch.Tensor]
"""Parameter -> the derivative of a number in it."""


def positive(module: Module, name: str, shape: Sequence[int], mode: float, spread: float) -> None:
    """Register a positive parameter, optimised on the log scale, with a log-normal prior.

    `raw_<name>` starts at the prior's mode; `spread` is the standard deviation of the log.
    """
    constraint = GreaterThan(
        LEAST,
        transform=torch.exp,  # type: ignore[arg-type]  # annotated as Softplus, takes any map
        inv_transform=torch.log,
    )
    start = torch.full(tuple(shape), mode, dtype=torch.float64)
    module.register_parameter(
        f"raw_{name}", torch.nn.Parameter(constraint.inverse_transform(start))
    )
    module.register_constraint(f"raw_{name}", constraint)
    prior = LogNormalPrior(math.log(mode) + spread**2, spread, validate_args=False)
    module.register_prior(f"{name}_prior", prior, partial(value, name=name))


def value(module: torch.nn.Module, name: str) -> torch.Tensor:
    """The value of a parameter that `positive` registered."""
    return getattr(module, f"raw_{name}").exp() + LEAST


def unchanging(module: torch.nn.Module) -> dict[int, Any]:
    """What copies of a module may share, as `copy.deepcopy` wants to know it: id -> object.

    All but parameters and where its buffers are: to copy the dozen of other things that a module
    has takes longer than that.
    """
    parts: list[Any] = list(module.buffers())
    for one in module.modules():
        if isinstance(one, Prior | Interval):
            parts.append(one)
        else:
            own = ("_parameters", "_buffers", "_modules")
            parts += [part for name, part in vars(one).items() if name not in own]
    return {id(part): part for part in parts}


def derivative(module: torch.nn.Module, name: str) -> torch.Tensor:
    """The derivative of a value in the parameter behind it."""
    return getattr(module, f"raw_{name}").exp()


def log_derivative(module: torch.nn.Module, name: str) -> torch.Tensor:
    """The derivative of a value's logarithm in the parameter behind it."""
    return derivative(module, name) / value(module, name)


def product(chosen: torch.Tensor, apart: torch.Tensor) -> torch.Tensor:
    """exp(-c/2) (1 + d + d^2/3) exp(-d), d = sqrt(5 a), of squared distances c and a.

    Both are overwritten: fresh memory costs more than arithmetic here. A reciprocal root and a
    power of two take half as long as `sqrt` and `exp`.
    """
    square = apart.mul_(5.0).clamp_min_(TINY)
    distance = square.rsqrt().mul_(square)
    decay = torch.add(distance, chosen, alpha=0.5, out=chosen).mul_(-LOG2_E).exp2_()
    return decay.addcmul_(decay, distance.add_(square, alpha=1.0 / 3.0))


def with_main_effects(
    chosen: torch.Tensor,
    apart: torch.Tensor,
    main: torch.Tensor,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """p(c, a) + main p(c / REACH^2, a / REACH^2), p being `product`, from one root; as there.

    Written to `out` where it is given.
    """
    square = apart.mul_(5.0).clamp_min_(TINY)
    distance = square.rsqrt().mul_(square)
    far = torch.add(distance, chosen, alpha=0.5 / REACH).mul_(-LOG2_E / REACH).exp2_()
    decay = torch.add(distance, chosen, alpha=0.5, out=chosen).mul_(-LOG2_E).exp2_()
    far.addcmul_(far, torch.add(distance, square, alpha=1.0 / (3.0 * REACH)), value=1.0 / REACH)
    near = decay.addcmul_(decay, distance.add_(square, alpha=1.0 / 3.0))
    return torch.addcmul(near, main, far, out=near if out is None else out)


def linearized(
    chosen: torch.Tensor, apart: torch.Tensor, main: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """`with_main_effects`, and its derivatives in c, a and main.

    That of p in c is minus half of it, that in a is -5/6 (1 + d) exp(-d - c/2), which has no pole
    at zero distance, where the chain rule through the square root has one.
    """
    square = apart.mul_(5.0).clamp_min_(TINY)
    distance = square.rsqrt().mul_(square)
    far_decay = torch.add(distance, chosen, alpha=0.5 / REACH).mul_(-LOG2_E / REACH).exp2_()
    decay = torch.add(distance, chosen, alpha=0.5, out=chosen).mul_(-LOG2_E).exp2_()
    in_apart = torch.addcmul(decay, decay, distance)
    far_slope = torch.addcmul(far_decay, far_decay, distance, value=1.0 / REACH)
    near = torch.addcmul(in_apart, decay, square, value=1.0 / 3.0)
    far = torch.addcmul(far_slope, far_decay, square, value=1.0 / (3.0 * REACH**2))
    in_apart.addcmul_(main / REACH**2, far_slope).mul_(-5.0 / 6.0)
    in_chosen = torch.addcmul(near, main / REACH**2, far).mul_(-0.5)
    return near.addcmul_(main, far), in_chosen, in_apart, far


class WithMainEffects(torch.autograd.Function):
    """`with_main_effects`, differentiable."""

    @staticmethod
    def forward(
        ctx: Any, chosen: torch.Tensor, apart: torch.Tensor, main: torch.Tensor
    ) -> torch.Tensor:
        total, *slopes = linearized(chosen.clone(), apart.clone(), main)
        ctx.save_for_backward(*slopes)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, ...]:  # type: ignore[override]
        in_chosen, in_apart, in_main = (gradients[0] * slope for slope in ctx.saved_tensors)
        return in_chosen, in_apart, in_main.sum()


def squared_distance(x1: torch.Tensor, x2: torch.Tensor) -> torch.Tensor:
    """(..., n, m) squared Euclidean distances between the rows of x1 and of x2."""
    left, right = _sides(x1, x2)
    return (left @ right).clamp_min_(0.0)


def _sides(x1: torch.Tensor, x2: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(..., n, p + 2) and (..., p + 2, m), whose product is |a|^2 + |b|^2 - 2 a.b."""
    one1, one2 = torch.ones_like(x1[..., :1]), torch.ones_like(x2[..., :1])
    square1, square2 = x1.square().sum(-1, keepdim=True), x2.square().sum(-1, keepdim=True)
    left = torch.cat([-2.0 * x1, square1, one1], -1)
    return left, torch.cat([x2, one2, square2], -1).transpose(-1, -2)


def distance_gradient(x1: torch.Tensor, x2: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
    """(p,) sum_ij slope_ij (x1_ik - x2_jk)^2 for each column k of (n, p) x1 and (m, p) x2.

    All of them by one matrix product, the squares multiplied out.
    """
    crossed = x1 * (slope @ x2)
    return slope.sum(-1) @ x1.square() + slope.sum(0) @ x2.square() - 2.0 * crossed.sum(0)


Sides = tuple[torch.Tensor, torch.Tensor]
"""(n, p) choices and (n, q) positions, in units of their lengthscales."""


def _strips(
    ones: Sides, others: Sides, *, triangle: bool = False
) -> Iterator[tuple[slice, slice, torch.Tensor, torch.Tensor]]:
    """Some rows at a time, with their squared distances over the choices and over the positions.

    As many as a CPU keeps in its cache. With `triangle`, of one side with itself, each to no
    more columns than the lower triangle has in its last row. By rounding a distance may be a
    little less than nothing.
    """
    n, m = len(ones[0]), len(others[0])
    sides = [_sides(one, other) for one, other in zip(ones, others, strict=True)]
    most = max(STRIP // max(m, 1), 1)
    for start in range(0, n, most):
        end = min(start + most, n)
        rows, columns = slice(start, end), slice(0, end if triangle else m)
        chosen, apart = (left[rows] @ right[:, columns] for left, right in sides)
        yield rows, columns, chosen, apart


def squared_norm(x1: torch.Tensor, x2: torch.Tensor) -> torch.Tensor:
    """(..., n) squared Euclidean distances between rows of the same position."""
    return (x1 - x2).square().sum(-1)


class OptionKernel(Kernel):
    """Covariance over configurations, one lengthscale a group of columns.

        k(x, x') = p(d) + main p(d / REACH),
        p(d) = prod over choices of exp(-d^2 / 2) * Matern-5/2 of positions,
        d: distance within a group in units of its lengthscale

    A product over choices gives interactions of rising order falling shares of the
    variance, as in the analysis of a factorial experiment. With long lengthscales next to
    nothing is left of them: the second term is nearly a sum of functions of single options, the
    main effects, which measurements are too few to tell from the rest without it. Both have the
    same lengthscales up to a factor, since an option without a main effect hardly ever interacts
    (effect heredity; Chipman, 1996, "Bayesian variable selection with related predictors").

    The prior on lengthscales grows with the square root of the number of groups (Hvarfner,
    Hellsten and Nardi, 2024, "Vanilla Bayesian optimization performs great in high
    dimensions"), so that many options do not make all configurations unrelated.

    Parameters
    ----------
    groups : of the columns, in order
    """

    raw_lengthscales: torch.nn.Parameter
    raw_main: torch.nn.Parameter
    group_of: torch.Tensor
    choices: torch.Tensor
    positions: torch.Tensor

    def __init__(self, groups: Sequence[Group]) -> None:
        super().__init__()
        columns = [(g, group.choice) for g, group in enumerate(groups) for _ in range(group.width)]
        kinds = {
            "group_of": [g for g, _ in columns],
            "choices": [c for c, (_, choice) in enumerate(columns) if choice],
            "positions": [c for c, (_, choice) in enumerate(columns) if not choice],
        }
        for name, which in kinds.items():  # as buffers they go where the parameters go
            self.register_buffer(name, torch.tensor(which, dtype=torch.long), persistent=False)
        mode = math.exp(math.sqrt(2) - 3) * math.sqrt(max(len(groups), 1))
        positive(self, "lengthscales", (len(groups),), mode, math.sqrt(3))
        positive(self, "main", (), mode=4.0, spread=2.0)

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
        main = value(self, "main")
        ones, others = (self._scaled(x, stretch) for x in (x1, x2))
        batched = diag or x1.dim() > 2 or x2.dim() > 2
        if torch.is_grad_enabled() or batched or x1.device.type != "cpu":
            distance = squared_norm if diag else squared_distance
            chosen, apart = (distance(a, b) for a, b in zip(ones, others, strict=True))
            if torch.is_grad_enabled():
                return WithMainEffects.apply(chosen, apart, main)  # type: ignore[return-value]
            return with_main_effects(chosen, apart, main)
        return self._in_strips(ones, others)

    def copied(self) -> OptionKernel:
        """The same with parameters of its own; what never changes is shared."""
        return copy.deepcopy(self, unchanging(self))

    def interactions(
        self, x1: torch.Tensor, x2: torch.Tensor, stretches: Sequence[float]
    ) -> list[torch.Tensor]:
        """p of k(x1, x2), 1 at x1 = x2, with each of some stretches, without a gradient."""
        with torch.no_grad():
            sides = zip(self._scaled(x1), self._scaled(x2), strict=True)
            chosen, apart = (squared_distance(one, other) for one, other in sides)
            return [product(chosen / s**2, apart / s**2) for s in stretches]

    def linearized(
        self, x: torch.Tensor, stretch: torch.Tensor | float = 1.0
    ) -> tuple[torch.Tensor, Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]]:
        """k(x, x), and the map from symmetric (n, n) df/dk to df/d(log lengthscales, main)."""
        choices, positions = scaled = self._scaled(x, stretch)

        def pullback(upstream: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            columns, of_main = x.new_zeros(x.shape[-1]), x.new_zeros(())
            # once more: to keep all this from before would cost more than to compute it
            for some, before, chosen, apart in _strips(scaled, scaled, triangle=True):
                weight = upstream[some, before].clone()
                weight[:, : some.start] *= 2.0  # each of these stands for its mirror image too
                slopes = linearized(chosen, apart, main)[1:]
                in_chosen, in_apart, in_main = (each.mul_(weight) for each in slopes)
                for kind, x_of, slope in (
                    (self.choices, choices, in_chosen),
                    (self.positions, positions, in_apart),
                ):
                    columns[kind] -= 2.0 * distance_gradient(x_of[some], x_of[before], slope)
                of_main += in_main.sum()
            logs = torch.zeros_like(self.raw_lengthscales).index_add_(0, self.group_of, columns)
            return logs, of_main

        main, covariance = value(self, "main"), x.new_empty(len(x), len(x))
        for some, before, chosen, apart in _strips(scaled, scaled, triangle=True):
            strip = with_main_effects(chosen, apart, main)
            covariance[some, before], covariance[before, some] = strip, strip.mT
        return covariance, pullback

    def _scaled(self, x: torch.Tensor, stretch: torch.Tensor | float = 1.0) -> Sides:
        """The columns of choices and those of positions, in units of the lengthscales."""
        x = x / (value(self, "lengthscales")[self.group_of] * stretch)
        return x[..., self.choices], x[..., self.positions]

    def _in_strips(self, ones: Sides, others: Sides) -> torch.Tensor:
        """(n, m) k between scaled columns."""
        main = value(self, "main")
        result = ones[0].new_empty(len(ones[0]), len(others[0]))
        for rows, _, chosen, apart in _strips(ones, others):
            with_main_effects(chosen, apart, main, out=result[rows])
        return result


def together(
    kernels: Sequence[OptionKernel], x1: torch.Tensor, x2: torch.Tensor
) -> list[torch.Tensor]:
    """(n, m) k(x1, x2) of several kernels over the same columns, without a gradient.

    All their distances are one product of matrices: lengthscales are on the side of x1, and
    what there is of x2, as it is and squared, serves all.
    """
    with torch.no_grad():
        scales = torch.stack([value(k, "lengthscales")[k.group_of] for k in kernels])
        distances = []
        for columns in (kernels[0].choices, kernels[0].positions):
            a, b, w = x1[:, columns], x2[:, columns], scales[:, None, columns] ** -2
            weighted = a * w
            square = (a * weighted).sum(-1, keepdim=True)
            left = torch.cat([-2.0 * weighted, square, w.expand_as(weighted)], -1)
            right = torch.cat([b, b.new_ones(len(b), 1), b.square()], -1)
            distances.append((left.flatten(0, 1) @ right.T).view(len(kernels), len(x1), len(x2)))
        mains = torch.stack([value(kernel, "main") for kernel in kernels]).view(-1, 1, 1)
        chosen, apart = distances
        return list(with_main_effects(chosen, apart, mains))


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

    options: Sequence[OptionKernel]  # type: ignore[assignment]  # a ModuleList of them
    loadings: torch.nn.Parameter
    raw_amplitude: torch.nn.Parameter
    raw_residual: torch.nn.Parameter
    raw_residual_stretch: torch.nn.Parameter

    def __init__(
        self,
        groups: Sequence[Group],
        environments: int,
        latents: int = 1,
        stretch: bool = False,
    ) -> None:
        super().__init__()
        kernels = [OptionKernel(groups) for _ in range(latents)]
        self.add_module("options", torch.nn.ModuleList(kernels))
        common = torch.zeros(latents, dtype=torch.float64)
        common[0] = 1.0
        start = common.repeat(environments, 1)
        start[:, 1:] = _contrasts(environments, latents - 1)
        with torch.no_grad():
            for q, options in enumerate(kernels[1:], start=1):
                options.raw_lengthscales.add_(math.log(5.0 / q))
        self.register_parameter("loadings", torch.nn.Parameter(start))
        self.register_prior("loadings_prior", _loadings_prior(common), _loadings)
        positive(self, "amplitude", (), mode=1.0, spread=2.0)
        with torch.no_grad():  # a search starts from the variance of standardised values
            self.raw_amplitude.sub_(0.5 * torch.log1p(value(kernels[0], "main")))
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
        total = self._spread(self._offsets(), x1, x2, diag)
        for options, stretch, between in self._parts():
            part = options.forward(x1[..., :-1], x2[..., :-1], diag, stretch=stretch)
            weight = self._spread(between, x1, x2, diag)
            if torch.is_grad_enabled():
                total = torch.addcmul(total, weight, part)
            else:  # in memory that is there: fresh memory costs more than arithmetic here
                total = part.mul_(weight).add_(total)
        return total

    def linearized(
        self, x: torch.Tensor
    ) -> tuple[torch.Tensor, Callable[[torch.Tensor], Gradient]]:
        """k(x, x), and the map from symmetric (n, n) df/dk to df/d(every parameter)."""
        which, found = self._which(x), []
        covariance = x.new_zeros(len(x), len(x))
        for options, stretch, between in self._parts():
            part, pull = options.linearized(x[:, :-1], stretch)
            weight = self._spread(between, x, x)
            covariance.addcmul_(weight, part)
            found.append((part, pull, weight, between))
        covariance += self._spread(self._offsets(), x, x)

        def pullback(upstream: torch.Tensor) -> Gradient:
            of_between, of_options = [], []
            for part, pull, weight, between in found:
                if len(between) == 1:  # of one environment: without another n x n matrix
                    of_between.append(torch.dot(upstream.view(-1), part.view(-1)).view(1, 1))
                    of_options.append([weight[0, 0] * each for each in pull(upstream)])
                else:
                    of_between.append(which.T @ (upstream * part) @ which)
                    of_options.append([*pull(upstream * weight)])
            scale = 2.0 * sum(
                (of * between).sum() for of, (*_, between) in zip(of_between, found, strict=True)
            )
            squared = value(self, "amplitude") ** 2
            shared = torch.stack(of_between[: len(self.options)])
            gradient: Gradient = {
                self.loadings: 2.0 * squared * torch.einsum("qst,tq->sq", shared, self.loadings),
                self.raw_amplitude: scale * log_derivative(self, "amplitude"),
                # the residual's part is the last, which without a stretch is the first latent's
                self.raw_residual: squared
                * of_between[-1 if self.stretch else 0].diagonal()
                * derivative(self, "residual"),
            }
            if self.stretch:
                own = of_options.pop()
                gradient[self.raw_residual_stretch] = own[0].sum() * log_derivative(
                    self, "residual_stretch"
                )
                of_options[0] = [a + b for a, b in zip(of_options[0], own, strict=True)]
            for options, (logs, of_main) in zip(self.options, of_options, strict=True):
                gradient[options.raw_lengthscales] = logs * log_derivative(options, "lengthscales")
                gradient[options.raw_main] = of_main * derivative(options, "main")
            return gradient

        return covariance, pullback

    def _parts(self) -> list[tuple[OptionKernel, torch.Tensor | float, torch.Tensor]]:
        """What the covariance is the sum of: kernel, stretch and (T, T) variances."""
        squared = value(self, "amplitude") ** 2
        own = torch.diag(squared * value(self, "residual"))
        columns = self.loadings.unbind(-1)
        parts: list[tuple[OptionKernel, torch.Tensor | float, torch.Tensor]] = [
            (options, 1.0, squared * torch.outer(column, column))
            for options, column in zip(self.options, columns, strict=True)
        ]
        if self.stretch:
            return [*parts, (self.options[0], value(self, "residual_stretch"), own)]
        first, stretch, shared = parts[0]
        return [(first, stretch, shared + own), *parts[1:]]

    def _offsets(self) -> torch.Tensor:
        """(T, T) variances of the constants."""
        own = torch.eye(len(self.loadings), dtype=torch.float64, device=self.loadings.device)
        return SHARED_OFFSET + OWN_OFFSET * own

    def _spread(
        self, between: torch.Tensor, x1: torch.Tensor, x2: torch.Tensor, diag: bool = False
    ) -> torch.Tensor:
        """(..., n, m), or of shape 1 where all are equal: what is (T, T) between environments."""
        if len(between) == 1:
            return between[0] if diag else between
        which1, which2 = self._which(x1), self._which(x2)
        if diag:
            return (which1 @ between * which2).sum(-1)
        return which1 @ between @ which2.transpose(-1, -2)

    def _which(self, x: torch.Tensor) -> torch.Tensor:
        """(..., n, T) indicators of the inputs' environments."""
        return torch.nn.functional.one_hot(x[..., -1].long(), len(self.loadings)).to(x.dtype)


class StudentTPrior(Prior, torch.distributions.StudentT):  # type: ignore[misc]  # x or value
    """A prior with a sharp peak and heavy tails: alike, unless the data say otherwise."""

    _transform = None


def _loadings(module: Any) -> torch.Tensor:
    return module.loadings


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

    raw_level: torch.nn.Parameter
    raw_ratio: torch.nn.Parameter

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

    def linearized(
        self, x: torch.Tensor
    ) -> tuple[torch.Tensor, Callable[[torch.Tensor], Gradient]]:
        """The (n,) variance at x, and the map from (n,) df/dvariance to df/d(parameters)."""
        environment, variance = x[:, -1].long(), self.variance

        def pullback(upstream: torch.Tensor) -> Gradient:
            each = variance * torch.zeros_like(variance).index_add_(0, environment, upstream)
            return {
                self.raw_level: each.sum() * log_derivative(self, "level"),
                self.raw_ratio: each * log_derivative(self, "ratio"),
            }

        return variance[environment], pullback

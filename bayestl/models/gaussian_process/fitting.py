"""Hyperparameters by maximum a posteriori, deterministic and on one thread.

The objective is log evidence + log priors; scipy's L-BFGS-B climbs it from the best of a few
starting points, each of which costs one evaluation.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import torch
from gpytorch.module import Module
from gpytorch.priors import LogNormalPrior
from scipy.optimize import minimize
from scipy.special import gammaln
from threadpoolctl import ThreadpoolController
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from bayestl.errors import FitError
from bayestl.models.gaussian_process.evidence import NOTHING, Given, log_evidence
from bayestl.models.gaussian_process.few_measurements import FewMeasurements
from bayestl.models.gaussian_process.kernels import (
    LEAST,
    CoregionalizedKernel,
    EnvironmentNoise,
    unchanging,
)

MAX_ITERATIONS = 100

MEMORY = 20
"""Steps that L-BFGS-B remembers, about as many as there are hyperparameters: its usual ten take a
tenth more evaluations."""

TOLERANCE = 1e-5
"""The search ends with a step that gains a smaller share of the objective: within a tenth of a nat
of the maximum, nearly always."""

_BOUND = 15.0  # of a logarithm, far outside every prior: keeps line searches finite
_HOPELESS = 1e10


Objective = Callable[[np.ndarray], tuple[float, np.ndarray]]
"""From a vector of all parameters to the log posterior and its gradient."""


@cache
def _keep_freed_memory() -> None:
    """Have glibc keep what is freed, up to 60 MB, for the next evaluation.

    It keeps twice the largest block that it has ever given back to the kernel (mallopt(3)), and to
    take the pages of a few matrices anew each time would be a fifth of the time of a fit.
    """
    torch.empty(30_000_000 // 8, dtype=torch.float64)


@cache
def _libraries() -> ThreadpoolController:
    """The numerical libraries that were loaded; looking for them takes milliseconds."""
    return ThreadpoolController()


@contextmanager
def one_thread() -> Iterator[None]:
    """Run with one thread: more only wait for each other on matrices of this size."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with _libraries().limit(limits=1):
            yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class Priors:
    """The priors of all k parameters of a module, each one number.

    Parameters
    ----------
    positive : (k,), which have a log-normal prior on the value behind them; the others have
        a Student's t on themselves
    location, scale : (k,), of the logarithm of the value, or of the parameter itself
    freedom : (k,), degrees of freedom of Student's t
    """

    positive: np.ndarray
    location: np.ndarray
    scale: np.ndarray
    freedom: np.ndarray

    @classmethod
    def of(cls, module: Module) -> Priors:
        """The priors that gpytorch has registered, in the order of the parameters."""
        found = {}
        for name, owner, prior, _, _ in module.named_priors():
            key = name.rpartition(".")[-1].removesuffix("_prior")
            positive = isinstance(prior, LogNormalPrior)
            parameter = owner.get_parameter(f"raw_{key}" if positive else key)
            freedom = math.inf if positive else prior.df
            row = (positive, prior.loc, prior.scale, freedom)
            found[parameter] = [np.broadcast_to(part, parameter.shape).ravel() for part in row]
        rows = [found[parameter] for parameter in module.parameters()]
        return cls(*(np.concatenate(column) for column in zip(*rows, strict=True)))

    def log_density(self, vector: np.ndarray) -> tuple[float, np.ndarray]:
        """Of the values behind (k,) parameters, and its gradient in the parameters."""
        p, t = self.positive, ~self.positive
        growth = np.exp(vector[p])
        logs = np.log(growth + LEAST)
        z = (logs - self.location[p]) / self.scale[p]
        normal = -0.5 * z**2 - logs
        gradient = np.empty_like(vector)
        gradient[p] = -(z / self.scale[p] + 1.0) * growth / (growth + LEAST)
        v = self.freedom[t]
        z = (vector[t] - self.location[t]) / self.scale[t]
        student = -0.5 * (v + 1.0) * np.log1p(z**2 / v)
        gradient[t] = -(v + 1.0) * z / (v + z**2) / self.scale[t]
        return float(normal.sum() + student.sum()) + self._constant, gradient

    @cached_property
    def _constant(self) -> float:
        """What of the log density no parameter changes."""
        v = self.freedom[~self.positive]
        student = gammaln((v + 1.0) / 2.0) - gammaln(v / 2.0) - 0.5 * np.log(math.pi * v)
        normal = self.positive.sum() * 0.5 * math.log(2.0 * math.pi)
        return float(student.sum() - normal - np.log(self.scale).sum())


class Hyperparameters(Module):
    """Everything that a fit adjusts: the kernel and the noise."""

    def __init__(self, kernel: CoregionalizedKernel, noise: EnvironmentNoise) -> None:
        super().__init__()
        self.kernel = kernel
        self.noise = noise
        self.double()
        self.flat = tuple(self.parameters())
        self.priors = Priors.of(self)

    def covariance(self, x: torch.Tensor, given: Given = NOTHING) -> torch.Tensor:
        """(n, n), of measurements at x."""
        noise = self.noise.forward(x) * given.relative + given.extra
        return self.kernel.forward(x, x) + torch.diag(noise) + given.known

    def vector(self) -> np.ndarray:
        """All parameters, one after the other."""
        return parameters_to_vector(self.flat).detach().numpy().copy()

    def move(self, vector: np.ndarray) -> None:
        """Set all parameters."""
        vector_to_parameters(torch.tensor(vector), self.flat)

    def at(self, vector: np.ndarray) -> Hyperparameters:
        """A copy with other parameters."""
        shared = unchanging(self)
        del shared[id(self.flat)]
        result = copy.deepcopy(self, shared)
        result.move(vector)
        return result

    def log_posterior(
        self, x: torch.Tensor, z: torch.Tensor, given: Given = NOTHING
    ) -> tuple[float, np.ndarray]:
        """Log evidence of z at x + log prior, and its gradient in `vector`, in closed form.

        Raises
        ------
        FitError
            If the covariance cannot be factorised.
        """
        with torch.no_grad():
            covariance, of_kernel = self.kernel.linearized(x)
            noise, of_noise = self.noise.linearized(x)
            covariance.add_(given.known).diagonal().add_(noise * given.relative + given.extra)
            evidence, upstream = log_evidence(covariance, z)
            found = of_kernel(upstream) | of_noise(upstream.diagonal() * given.relative)
            gradient = torch.cat([found[p].reshape(-1) for p in self.flat]).numpy()
        prior, of_prior = self.priors.log_density(self.vector())
        return evidence + prior, gradient + of_prior

    def objective(self, x: torch.Tensor, z: torch.Tensor, given: Given = NOTHING) -> Objective:
        """`log_posterior` as a function of `vector`, made ready for a search; raises as it does."""
        few = FewMeasurements.of(self.kernel, self.noise, self.flat, x, z, given)

        def log_posterior(vector: np.ndarray) -> tuple[float, np.ndarray]:
            found = few and few.log_evidence(vector)
            if not found:
                self.move(vector)
                return self.log_posterior(x, z, given)
            prior, of_prior = self.priors.log_density(vector)
            return found[0] + prior, found[1] + of_prior

        return log_posterior

    def log_prior(self) -> float:
        """The log density of the priors."""
        return self.priors.log_density(self.vector())[0]


@dataclass(frozen=True)
class Fit:
    """How an optimisation ended.

    Parameters
    ----------
    evidence : log marginal likelihood of the standardised values
    evaluations : of the objective
    sound : False if the optimiser broke down; reaching the limit of iterations is sound
    message : its words
    """

    evidence: float
    evaluations: int
    sound: bool
    message: str


def fit(
    hyperparameters: Hyperparameters,
    x: torch.Tensor,
    z: torch.Tensor,
    given: Given = NOTHING,
) -> Fit:
    """Move `hyperparameters` to their maximum a posteriori given z at x.

    If the optimiser breaks down, the best point that it saw is kept and `sound` is
    False; nothing is raised, since the priors' modes are a usable model.
    """
    _keep_freed_memory()
    best = (math.inf, hyperparameters.vector())
    log_posterior = hyperparameters.objective(x, z, given)

    def negative(vector: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal best
        try:
            number, gradient = log_posterior(vector)
        except FitError:
            return _HOPELESS, np.zeros_like(vector)
        if not (math.isfinite(number) and np.isfinite(gradient).all()):
            return _HOPELESS, np.zeros_like(vector)
        if -number < best[0]:
            best = (-number, vector.copy())
        return -number, -gradient

    with one_thread():
        starts = _starts(hyperparameters)
        for start in starts:
            negative(start)
        outcome = minimize(
            negative,
            best[1],
            jac=True,
            method="L-BFGS-B",
            bounds=[(-_BOUND, _BOUND)] * len(best[1]),
            options={
                "maxiter": MAX_ITERATIONS,
                "maxcor": MEMORY,
                "ftol": TOLERANCE,
                "gtol": 1e-2,
            },
        )
        hyperparameters.move(best[1])
        evidence = -best[0] - hyperparameters.log_prior()
    sound = outcome.status in (0, 1) and math.isfinite(best[0])
    evaluations = int(outcome.nfev) + len(starts)
    return Fit(evidence, evaluations, sound, str(outcome.message))


def _starts(hyperparameters: Hyperparameters) -> list[np.ndarray]:
    """Starting points: the priors' modes, and long lengthscales; the target alike, or opposed."""
    kernel, modes = hyperparameters.kernel, hyperparameters.vector()
    starts = []
    for sign in (1.0, -1.0) if len(kernel.loadings) > 1 else (1.0,):
        for factor in (1.0, 4.0):
            with torch.no_grad():
                kernel.loadings[0, 0] *= sign
                for options in kernel.options:
                    options.raw_lengthscales.add_(math.log(factor))
            starts.append(hyperparameters.vector())
            hyperparameters.move(modes)
    return starts

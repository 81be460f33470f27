"""Hyperparameters by maximum a posteriori, deterministic and on one thread.

The objective is log evidence + log priors; scipy's L-BFGS-B climbs it from the best of a few
starting points, each of which costs one evaluation.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from gpytorch.module import Module
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from bayestl.errors import FitError
from bayestl.models.evidence import log_evidence
from bayestl.models.kernels import CoregionalizedKernel, EnvironmentNoise

MAX_ITERATIONS = 100
_BOUND = 15.0  # of a logarithm, far outside every prior: keeps line searches finite
_HOPELESS = 1e10


@contextmanager
def one_thread() -> Iterator[None]:
    """Run with one thread: more only wait for each other on matrices of this size."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(limits=1):
            yield
    finally:
        torch.set_num_threads(before)


class Hyperparameters(Module):
    """Everything that a fit adjusts: the kernel and the noise."""

    def __init__(self, kernel: CoregionalizedKernel, noise: EnvironmentNoise) -> None:
        super().__init__()
        self.kernel = kernel
        self.noise = noise
        self.double()
        self.prior_terms = [(prior, of, m) for _, m, prior, of, _ in self.named_priors()]

    def covariance(self, x: torch.Tensor, extra: torch.Tensor | float = 0.0) -> torch.Tensor:
        """(n, n), of measurements at x whose noise has `extra` variance."""
        return self.kernel.forward(x, x) + torch.diag(self.noise.forward(x) + extra)

    def log_prior(self) -> torch.Tensor:
        """The log density of the priors."""
        terms = [prior.log_prob(of(module)).sum() for prior, of, module in self.prior_terms]
        return torch.stack(terms).sum()


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
    extra: torch.Tensor | float = 0.0,
) -> Fit:
    """Move `hyperparameters` to their maximum a posteriori given z at x.

    If the optimiser breaks down, the best point that it saw is kept and `sound` is
    False; nothing is raised, since the priors' modes are a usable model.
    """
    parameters = [p for p in hyperparameters.parameters() if p.requires_grad]
    best = (math.inf, parameters_to_vector(parameters).detach().numpy().copy())

    def negative(vector: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal best
        vector_to_parameters(torch.from_numpy(vector), parameters)
        try:
            loss = (
                -log_evidence(hyperparameters.covariance(x, extra), z) - hyperparameters.log_prior()
            )
        except FitError:
            return _HOPELESS, np.zeros_like(vector)
        gradients = torch.autograd.grad(loss, parameters)
        gradient = torch.cat([g.reshape(-1) for g in gradients]).numpy()
        number = loss.item()
        if not (math.isfinite(number) and np.isfinite(gradient).all()):
            return _HOPELESS, np.zeros_like(vector)
        if number < best[0]:
            best = (number, vector.copy())
        return number, gradient

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
            options={"maxiter": MAX_ITERATIONS, "ftol": 3e-6, "gtol": 1e-2},
        )
        vector_to_parameters(torch.from_numpy(best[1]), parameters)
        with torch.no_grad():
            evidence = -best[0] - hyperparameters.log_prior().item()
    sound = outcome.status in (0, 1) and math.isfinite(best[0])
    evaluations = int(outcome.nfev) + len(starts)
    return Fit(evidence, evaluations, sound, str(outcome.message))


def _starts(hyperparameters: Hyperparameters) -> list[np.ndarray]:
    """Starting points: the priors' modes, and long lengthscales; the target alike, or opposed."""
    parameters = [p for p in hyperparameters.parameters() if p.requires_grad]
    kernel = hyperparameters.kernel
    modes = parameters_to_vector(parameters).detach().clone()
    starts = []
    for sign in (1.0, -1.0) if len(kernel.loadings) > 1 else (1.0,):
        for factor in (1.0, 4.0):
            with torch.no_grad():
                kernel.loadings[0, 0] *= sign
                for options in kernel.options:
                    options.get_parameter("raw_lengthscales").add_(math.log(factor))
                starts.append(parameters_to_vector(parameters).detach().numpy().copy())
            vector_to_parameters(modes.clone(), parameters)
    return starts

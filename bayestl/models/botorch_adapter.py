"""A fitted process as a botorch model, so that botorch's acquisition functions work on it.

This is the only file that imports botorch. Importing it changes global settings of
gpytorch; the rest of the package computes nothing with them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from botorch.acquisition.objective import PosteriorTransform
from botorch.models.model import Model
from botorch.posteriors import GPyTorchPosterior
from botorch.posteriors.posterior import Posterior
from gpytorch.distributions import MultivariateNormal

from bayestl.models.gp import FittedGP
from bayestl.models.model import Configs


class EnvironmentModel(Model):
    """The process of one environment, over encoded configurations.

    The metric is on its transformed scale (the logarithm of a positive one) and keeps
    its direction: negate it, or give a `ScalarizedPosteriorTransform` with weight -1, to
    minimise with an acquisition function that maximises.

    Parameters
    ----------
    fitted : the process
    environment : the target unless named

    Raises
    ------
    UnknownEnvironment
        For an environment that the fit did not see.
    """

    def __init__(self, fitted: FittedGP, environment: str | None = None) -> None:
        super().__init__()
        self.fitted = fitted
        self.environment = environment
        self.position = fitted.position(environment)

    @property
    def num_outputs(self) -> int:
        """One metric."""
        return 1

    @property
    def batch_shape(self) -> torch.Size:
        """One model, not a batch of them."""
        return torch.Size()

    def encode(self, configs: Configs) -> torch.Tensor:
        """(n, d) features of configurations, which is what `posterior` takes."""
        canonical = self.fitted.space.frame(configs)
        return self.fitted.inputs(canonical, self.environment)[..., :-1]

    def posterior(
        self,
        X: torch.Tensor,
        output_indices: list[int] | None = None,
        observation_noise: bool | torch.Tensor = False,
        posterior_transform: PosteriorTransform | Callable[[Any], Any] | None = None,
    ) -> Posterior:
        """The joint Gaussian at (batch x q x d) features, differentiable in them."""
        where = torch.full((*X.shape[:-1], 1), float(self.position), dtype=X.dtype)
        x = torch.cat([X, where], dim=-1)
        mean, covariance = self.fitted.mixture.joint(x)
        if observation_noise is not False:
            covariance = covariance + torch.diag_embed(self.fitted.mixture.noise(x))
        scaling = self.fitted.scaling
        normal = MultivariateNormal(
            scaling.centre + scaling.spread * mean, scaling.spread**2 * covariance
        )
        posterior = GPyTorchPosterior(normal)
        return posterior if posterior_transform is None else posterior_transform(posterior)

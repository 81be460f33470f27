"""botorch's `MultiTaskGP` behind the socket: the rival that a Bayesian optimiser would pick.

The intrinsic coregionalization model with botorch's defaults throughout: its kernel with
dimension-scaled priors, its positive task kernel, one mean and one noise a task, fitted
with `fit_gpytorch_mll`. What it asks of its users is done for it: options encoded into
[0, 1] as for our own processes, environments numbered from 0, and the logarithm of the
metric standardised in each environment apart.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from botorch.fit import fit_gpytorch_mll
from botorch.models import MultiTaskGP
from gpytorch.mlls import ExactMarginalLogLikelihood

from bayestl.data.measurement import Metric
from bayestl.data.space import ConfigSpace
from bayestl.data.table import MeasurementTable
from bayestl.errors import FitError
from bayestl.models.encoding import Encoding
from bayestl.models.model import QUANTILES, Configs, Diagnostics, Where, expect_target
from bayestl.models.observations import Observations
from bayestl.models.posterior import Posterior
from bayestl.models.scaling import Scaling

_BLOCK = 500  # configurations predicted at once: it builds their joint covariance


@dataclass(frozen=True)
class BotorchMultiTaskGP:
    """Recipe: botorch's `MultiTaskGP`, on the target and at most so many rows of the sources.

    Parameters
    ----------
    source_rows : a random choice, the same share from each source; the fit takes a time
        that grows with the cube of the number of rows
    iterations : of L-BFGS-B at most; without a limit some fits take minutes for a gain in
        evidence that does not show in the error
    """

    source_rows: int = 200
    iterations: int = 500

    def fit(
        self, table: MeasurementTable, *, metric: str, target: str, seed: int = 0
    ) -> FittedBotorch:
        """The model fitted to the usable rows; see `Model.fit`. The metric must be positive."""
        observations = Observations.of(table, metric, target, "log")
        n_target = int(observations.is_target.sum())
        if not n_target:
            raise FitError(f"expected measurements of {metric!r} in {target!r}, got none")
        x, z = observations.take(_rows(observations, self.source_rows, seed))
        logs = observations.scaling.centre + observations.scaling.spread * z
        tasks = x[:, -1].long()
        centre = torch.stack([logs[tasks == t].mean() for t in range(int(tasks.max()) + 1)])
        spread = torch.stack([_spread(logs[tasks == t]) for t in range(int(tasks.max()) + 1)])
        y = ((logs - centre[tasks]) / spread[tasks]).unsqueeze(-1)
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its optimiser, which tries again
            torch.manual_seed(seed)
            model = MultiTaskGP(x, y, task_feature=-1, output_tasks=[0], outcome_transform=None)
            fit_gpytorch_mll(
                ExactMarginalLogLikelihood(model.likelihood, model),
                optimizer_kwargs={"options": {"maxiter": self.iterations}},
            )
        return FittedBotorch(
            metric=table.metric(metric),
            target=target,
            diagnostics=Diagnostics(
                model=repr(self),
                n_source=len(z) - n_target,
                n_target=n_target,
                dropped=observations.dropped,
            ),
            encoding=observations.encoding,
            scaling=Scaling(log=True, centre=float(centre[0]), spread=float(spread[0])),
            model=model,
        )


@dataclass(frozen=True)
class FittedBotorch:
    """botorch's model that has seen a table.

    Parameters
    ----------
    metric, target, diagnostics : see `Fitted`
    encoding, scaling : how configurations become features, and the target's values z
    model : in evaluation mode; task 0 is the target
    """

    metric: Metric
    target: str
    diagnostics: Diagnostics
    encoding: Encoding
    scaling: Scaling
    model: MultiTaskGP

    @property
    def space(self) -> ConfigSpace:
        """The union space of the table."""
        return self.encoding.space

    def predict(
        self,
        configs: Configs,
        environment: str | None = None,
        quantiles: Sequence[float] = QUANTILES,
    ) -> pd.DataFrame:
        """What a new measurement of the target would give; see `Fitted.predict`."""
        frame = self.space.frame(configs)
        x = self._features(frame, environment)
        mean, variance = [], []
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for block in x.split(_BLOCK):
                posterior = self.model.posterior(block, observation_noise=True)
                mean.append(posterior.mean.squeeze(-1).numpy())
                variance.append(posterior.variance.squeeze(-1).numpy())
        return self.scaling.summary(
            np.concatenate(mean), np.concatenate(variance), quantiles, frame.index
        )

    def posterior(self, configs: Configs, environment: Where = None) -> Posterior:
        """The joint posterior of the noise-free logarithm; see `HasPosterior.posterior`."""
        x = self._features(self.space.frame(configs), environment)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            posterior: Any = self.model.posterior(x)
            found = posterior.distribution
            noise = (
                self.model.posterior(x, observation_noise=True).variance - found.variance[:, None]
            )
        scale = self.scaling.spread
        return Posterior(
            self.scaling.centre + scale * found.mean.numpy(),
            scale**2 * found.covariance_matrix.numpy(),
            scale**2 * noise.squeeze(-1).numpy(),
        )

    def _features(self, frame: pd.DataFrame, environment: Where) -> torch.Tensor:
        expect_target(self, environment)
        features = self.encoding.encode(frame)
        return torch.cat([features, torch.zeros(len(features), 1, dtype=features.dtype)], dim=-1)


def _rows(observations: Observations, source_rows: int, seed: int) -> torch.Tensor:
    """Every row of the target, and a random share of each source's."""
    environment = observations.x[:, -1].long().numpy()
    rng = np.random.default_rng(seed)
    sources = sorted(set(environment.tolist()) - {0})
    share = source_rows // max(len(sources), 1)
    chosen = [np.flatnonzero(environment == 0)]
    chosen += [rng.permutation(np.flatnonzero(environment == t))[:share] for t in sources]
    return torch.from_numpy(np.sort(np.concatenate(chosen)))


def _spread(values: torch.Tensor) -> torch.Tensor:
    """The standard deviation, or one where it says nothing."""
    spread = values.std() if len(values) > 1 else torch.zeros(())
    return spread if float(spread) > 1e-9 else torch.ones((), dtype=values.dtype)

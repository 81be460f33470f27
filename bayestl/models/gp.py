"""Coregionalized Gaussian processes: three frozen recipes and what they become once fitted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from bayestl.data.measurement import Metric
from bayestl.data.space import ConfigSpace
from bayestl.data.table import MeasurementTable
from bayestl.errors import FileError, FitError
from bayestl.models.blocks import in_blocks
from bayestl.models.calibration import calibration, miscalibration
from bayestl.models.effects import Explained
from bayestl.models.encoding import Encoding, Group
from bayestl.models.gaussian_mixture import GaussianMixture
from bayestl.models.gaussian_process.conditioning import Conditioned, as_tensor, kept_relative
from bayestl.models.gaussian_process.device import afford, device_of
from bayestl.models.gaussian_process.evidence import Given
from bayestl.models.gaussian_process.fitting import Fit, Hyperparameters, one_thread
from bayestl.models.gaussian_process.integration import Mixture, integrate, spaced
from bayestl.models.gaussian_process.kernels import CoregionalizedKernel, EnvironmentNoise, value
from bayestl.models.gaussian_process.outliers import fit_robustly, unexplained_variance
from bayestl.models.gaussian_process.repeats import noisy_configurations, relative_noise
from bayestl.models.gaussian_process.solver import bytes_needed
from bayestl.models.model import (
    QUANTILES,
    Configs,
    Diagnostics,
    Where,
    checked_seed,
    expect_one,
    expect_table,
    positions_of,
)
from bayestl.models.observations import (
    CONDITIONED_ROWS,
    FITTED_ROWS,
    Observations,
    rows_allowed,
)
from bayestl.models.persistence import save
from bayestl.models.posterior import Posterior
from bayestl.models.scaling import NO_LOG, Scaling, TransformName
from bayestl.models.state import State

JUDGED_ROWS = 200
"""Leave-one-out calibration looks at no more target measurements than this."""


@dataclass(frozen=True)
class MultiTaskGP:
    """Recipe: one function shared by all environments, scaled and shifted in each (ICM).

        f_t = m_t + A[t] u + delta_t,  cov = (A A^T + diag(v))[t, t'] k(x, x')

    The intrinsic coregionalization model of Bonilla, Chai and Williams (2008,
    "Multi-task Gaussian process prediction") with free signs and a rank of one, plus an
    environment-specific part, so that a misleading source can be left behind.

    Parameters
    ----------
    transform : `log` for a positive metric, `identity`, or `auto`, which takes the
        logarithm when every value is positive and says so when it does not
    device : `cpu`, `cuda`, `cuda:1`, or `auto` for a GPU where there is one: where the process
        lives; its hyperparameters are found on the CPU, and its answers are the same anywhere
    most_rows : how many measurements the process is conditioned on at most; 5,000 unless
        given
    """

    transform: TransformName = "auto"
    device: str = "cpu"
    most_rows: int | None = None

    def fit(self, table: MeasurementTable, *, metric: str, target: str, seed: int = 0) -> FittedGP:
        """The process fitted to every usable row; see `Model.fit`."""
        return self.at_mode(table, metric=metric, target=target, seed=seed).integrated(seed)

    def at_mode(
        self, table: MeasurementTable, *, metric: str, target: str, seed: int = 0
    ) -> FittedGP:
        """The process with the best hyperparameters alone, sure of them and so cheaper."""
        return _fit(self, table, metric, target, seed, latents=1, stretch=False)


@dataclass(frozen=True)
class LMCGP:
    """Recipe: several functions shared by all environments, mixed differently in each (LMC).

        f_t = m_t + sum_q A[t, q] u_q + delta_t

    The linear model of coregionalization (Journel and Huijbregts, 1978; Alvarez, Rosasco
    and Lawrence, 2012, "Kernels for vector-valued functions"): each latent function has
    its own lengthscales; the environment-specific delta_t shares those of the first up
    to one multiplier.

    Parameters
    ----------
    latents : how many functions are shared
    transform, device, most_rows : as for `MultiTaskGP`
    """

    latents: int = 2
    transform: TransformName = "auto"
    device: str = "cpu"
    most_rows: int | None = None

    def __post_init__(self) -> None:
        count = self.latents
        if not isinstance(count, Integral) or isinstance(count, bool) or count < 1:
            raise FitError(
                f"expected a number of latent functions from 1 on, such as LMCGP(2), got {count!r}"
            )

    def fit(self, table: MeasurementTable, *, metric: str, target: str, seed: int = 0) -> FittedGP:
        """The process fitted to every usable row; see `Model.fit`."""
        return self.at_mode(table, metric=metric, target=target, seed=seed).integrated(seed)

    def at_mode(
        self, table: MeasurementTable, *, metric: str, target: str, seed: int = 0
    ) -> FittedGP:
        """The process with the best hyperparameters alone, sure of them and so cheaper."""
        return _fit(self, table, metric, target, seed, latents=self.latents, stretch=True)


@dataclass(frozen=True)
class TargetOnlyGP:
    """Recipe: a Gaussian process of the target's measurements alone, blind to all sources.

    Parameters
    ----------
    transform, device, most_rows : as for `MultiTaskGP`
    """

    transform: TransformName = "auto"
    device: str = "cpu"
    most_rows: int | None = None

    def fit(self, table: MeasurementTable, *, metric: str, target: str, seed: int = 0) -> FittedGP:
        """The process fitted to the target's usable rows; see `Model.fit`."""
        return self.at_mode(table, metric=metric, target=target, seed=seed).integrated(seed)

    def at_mode(
        self, table: MeasurementTable, *, metric: str, target: str, seed: int = 0
    ) -> FittedGP:
        """The process with the best hyperparameters alone, sure of them and so cheaper."""
        return _fit(
            self, expect_table(table).of(target), metric, target, seed, latents=1, stretch=False
        )


@dataclass(frozen=True)
class FittedGP(Explained):
    """A coregionalized process that has seen a table.

    Parameters
    ----------
    metric, target, diagnostics : see `Fitted`
    encoding, scaling : the doors to the standardised world in which `belief` lives
    environments : the names behind the environments' positions, the target first
    table_order : the same names in the order of the table
    belief : the process with the best hyperparameters
    mixture : what answers: that process alone, or with its doubt about hyperparameters
    """

    metric: Metric
    target: str
    diagnostics: Diagnostics
    encoding: Encoding
    scaling: Scaling
    environments: tuple[str, ...]
    table_order: tuple[str, ...]
    belief: Conditioned
    mixture: Mixture

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
        """What a new measurement would give, in the metric's unit; see `Fitted.predict`.

        Raises
        ------
        ConfigurationError
            For a configuration that the space does not know.
        UnknownEnvironment
            For an environment that the fit did not see.
        """
        expect_one(environment)

        def answer(some: Configs) -> pd.DataFrame:
            frame = self.space.frame(some)
            mean, variance = self.measurements(frame, environment).moments()
            return self.scaling.summary(mean.numpy(), variance.numpy(), quantiles, frame.index)

        return in_blocks(answer, configs)

    def measurements(
        self, canonical: pd.DataFrame, environment: str | None = None
    ) -> GaussianMixture:
        """New measurements at configurations of `ConfigSpace.frame`, standardised."""
        x = self.inputs(canonical, environment)
        mean, variance = self.mixture.marginals(x)
        variance = variance + self.mixture.noise(x)
        return GaussianMixture.normal(mean, variance)

    def posterior(self, configs: Configs, environment: Where = None) -> Posterior:
        """The joint posterior of the noise-free metric; see `HasPosterior.posterior`."""
        x = self.inputs(self.space.frame(configs), environment)
        with torch.no_grad():
            mean, covariance = self.mixture.joint(x)
        spread = self.scaling.spread
        return Posterior(
            self.scaling.centre + spread * mean.numpy(),
            spread**2 * covariance.numpy(),
            spread**2 * self.mixture.noise(x).numpy(),
        )

    def integrated(self, seed: int = 0) -> FittedGP:
        """The same process with its doubt about the hyperparameters; see `integration`."""
        mixture = integrate(self.belief, seed)
        result = replace(self, mixture=mixture)
        details = {**self.diagnostics.details, "mixed": len(mixture.parts)}
        warnings = self.diagnostics.warnings
        if self.diagnostics.n_target:
            found = result.leave_one_out_calibration()
            details["calibration"] = found
            warnings += () if (warning := miscalibration(found)) is None else (warning,)
        diagnostics = replace(self.diagnostics, warnings=warnings, details=details)
        return replace(result, diagnostics=diagnostics)

    def environment_correlation(self) -> pd.DataFrame:
        """Environments x environments: how alike their responses to the options are."""
        with torch.no_grad():
            covariance = self.belief.hyperparameters.kernel.coregionalization.numpy()
        deviation = np.sqrt(np.diag(covariance))
        correlation = pd.DataFrame(
            covariance / np.outer(deviation, deviation), self.environments, self.environments
        )
        return correlation.loc[list(self.table_order), list(self.table_order)]

    def inputs(self, canonical: pd.DataFrame, environment: Where = None) -> torch.Tensor:
        """(n, width + 1) inputs of the process for configurations of `ConfigSpace.frame`."""
        places = self.positions(environment, len(canonical))
        where = torch.from_numpy(np.array(places, dtype=float))  # torch reads lists slowly
        return torch.cat([self.encoding.encode(canonical), where.unsqueeze(-1)], dim=-1)

    def save(self, path: str | Path) -> None:
        """Write the process to one file, whole or not at all; see `persistence.save`.

        Raises
        ------
        FileError
            If the file cannot be written.
        """
        save(self, path)

    def to_state(self) -> State:
        """Everything that its answers depend on; see `persistence`."""
        parts = self.mixture.parts
        processes = [self.belief, *(part for part in parts if part is not self.belief)]
        kernel = self.belief.hyperparameters.kernel
        plain = {
            "scaling": asdict(self.scaling),
            "environments": list(self.environments),
            "table_order": list(self.table_order),
            "latents": len(kernel.options),
            "stretch": kernel.stretch,
            "processes": len(processes),
            "mixed": [next(i for i, p in enumerate(processes) if p is part) for part in parts],
        }
        arrays = {
            f"{place}.{name}": array
            for place, process in enumerate(processes)
            for name, array in process.to_arrays().items()
        }
        shared = {
            name: getattr(self.belief, name).numpy() for name in ("x", "z", "extra", "relative")
        }
        return State.of(self, plain, shared | arrays)

    @classmethod
    def from_state(cls, state: State) -> FittedGP:
        """The process that `to_state` described; raises as `Persistent.from_state`."""
        encoding = Encoding(state.space)
        environments = state.values("environments", str)
        z = as_tensor(state.array("z", None))
        x = as_tensor(state.array("x", len(z), encoding.width + 1))
        extra, relative = as_tensor(state.array("extra", len(z))), kept_relative(state, len(z))
        if not set(x[:, -1].tolist()) <= set(range(len(environments))):
            raise FileError(f"expected measurements in {len(environments)} environments")
        latents, stretch = state.value("latents", int), state.value("stretch", bool)
        if not 1 <= latents <= len(state.array("0.parameters", None)):
            raise FileError(f"expected at least one latent function, got {latents}")
        processes = [
            Conditioned.from_arrays(
                state.within(f"{place}."),
                hyperparameters_of(encoding.groups, len(environments), latents, stretch),
                x,
                z,
                extra,
                relative,
            )
            for place in range(state.value("processes", int))
        ]
        scaling = Scaling(**state.value("scaling", dict))
        if not (type(scaling.log) is bool and math.isfinite(scaling.centre) and scaling.spread > 0):
            raise FileError(f"expected a scaling, got {scaling}")
        return cls(
            metric=state.metric,
            target=state.target,
            diagnostics=state.diagnostics,
            encoding=encoding,
            scaling=scaling,
            environments=environments,
            table_order=state.values("table_order", str),
            belief=processes[0],
            mixture=Mixture(tuple(processes[place] for place in state.values("mixed", int))),
        )

    def position(self, environment: str | None = None) -> int:
        """The position of an environment, the target's unless named."""
        return self.positions(environment, 1)[0]

    def positions(self, environment: Where, count: int) -> list[int]:
        """The same for each of `count` configurations; raises as `positions_of`."""
        return positions_of(environment, count, target=self.target, environments=self.environments)

    def leave_one_out_calibration(self) -> dict[str, Any]:
        """How sure the process may be: each target measurement given all others; see `calibration`.

        In closed form, with the hyperparameters held, of at most `JUDGED_ROWS` of them. An
        outlier is judged as the measurement that was expected there.
        """
        rows = torch.nonzero(self.belief.x[:, -1] == 0).squeeze(-1)
        rows = spaced(rows, JUDGED_ROWS)
        with torch.no_grad():
            mean, variance = self.mixture.leave_one_out(rows)
        expected = GaussianMixture.normal(mean, variance - self.belief.extra[rows])
        spread = self.scaling.spread
        return calibration(expected.affine(0.0, spread), spread * self.belief.z[rows])

    def leave_one_out(self) -> GaussianMixture:
        """Each of the target's measurements given all others, standardised, as if no outlier.

        But repeats of the same configuration. In closed form, with the hyperparameters held.
        """
        rows = torch.nonzero(self.belief.x[:, -1] == 0).squeeze(-1)
        with torch.no_grad():
            mean, variance = self.mixture.leave_one_out(rows)
            least = self.mixture.noise_of(rows)
        expected = torch.maximum(variance - self.belief.extra[rows], least)
        return GaussianMixture.normal(mean, expected)

    @property
    def target_x(self) -> torch.Tensor:
        """(n, d) the inputs at which they were measured."""
        return self.belief.x[self.belief.x[:, -1] == 0]

    @property
    def target_z(self) -> torch.Tensor:
        """(n,) the target's measurements that the process stands on, standardised."""
        return self.belief.z[self.belief.x[:, -1] == 0]


def hyperparameters_of(
    groups: Sequence[Group], environments: int, latents: int, stretch: bool
) -> Hyperparameters:
    """Kernel and noise where a search starts, near the modes of their priors."""
    start = _start(tuple(groups), environments, latents, stretch)
    return start.at(start.vector())


@lru_cache(maxsize=16)
def _start(
    groups: tuple[Group, ...], environments: int, latents: int, stretch: bool
) -> Hyperparameters:
    """The same for all: to register parameters and priors anew takes four times as long."""
    return Hyperparameters(
        CoregionalizedKernel(groups, environments, latents, stretch),
        EnvironmentNoise(environments),
    )


def _fit(
    recipe: MultiTaskGP | LMCGP | TargetOnlyGP,
    table: MeasurementTable,
    metric: str,
    target: str,
    seed: int,
    *,
    latents: int,
    stretch: bool,
) -> FittedGP:
    device, seed = device_of(recipe.device), checked_seed(seed)
    seen = Observations.of(table, metric, target, recipe.transform)
    rows = min(rows_allowed(recipe.most_rows, CONDITIONED_ROWS), len(seen.z))
    afford(bytes_needed([rows], device), device, f"a process of {rows} measurements")
    hyperparameters = hyperparameters_of(
        seen.encoding.groups, len(seen.environments), latents, stretch
    )
    fitted_rows = seen.subset(FITTED_ROWS, seed)
    with one_thread():
        outcome, belief = infer(seen, hyperparameters, fitted_rows, seed, rows, device)
    warnings = _warnings(seen, recipe.transform, outcome, belief)
    n_target = int(seen.is_target.sum())
    diagnostics = Diagnostics(
        model=repr(recipe),
        n_source=len(seen.z) - n_target,
        n_target=n_target,
        dropped=seen.dropped,
        warnings=tuple(warnings),
        details=_details(seen, outcome, len(fitted_rows), belief),
    )
    return FittedGP(
        metric=table.metric(metric),
        target=target,
        diagnostics=diagnostics,
        encoding=seen.encoding,
        scaling=seen.scaling,
        environments=seen.environments,
        table_order=table.environment_names,
        belief=belief,
        mixture=Mixture((belief,)),
    )


def infer(
    seen: Observations,
    hyperparameters: Hyperparameters,
    fitted_rows: torch.Tensor,
    seed: int,
    conditioned_rows: int,
    device: torch.device,
) -> tuple[Fit, Conditioned]:
    """Fit the hyperparameters on some rows, then condition on all, or as many as we may."""
    relative = relative_noise(seen.x, seen.z)
    x, z, noise = *seen.take(fitted_rows), relative[fitted_rows]
    outcome, extra = fit_robustly(hyperparameters, x, z, Given(relative=noise))
    rows = seen.subset(conditioned_rows, seed)
    if len(rows) == len(fitted_rows):
        return outcome, Conditioned.on(hyperparameters, x, z, extra, noise, device=device)
    first = Conditioned.on(hyperparameters, x, z, extra, noise)
    every = unexplained_variance(first, seen.x, seen.z, relative)
    every[fitted_rows] = extra
    x, z, noise = *seen.take(rows), relative[rows]
    return outcome, Conditioned.on(hyperparameters, x, z, every[rows], noise, device=device)


def _warnings(
    seen: Observations, transform: TransformName, outcome: Fit, belief: Conditioned
) -> list[str]:
    warnings, kept = [], len(belief.z)
    outliers = int((belief.extra > 0).sum())
    if transform == "auto" and not seen.scaling.log:
        warnings.append(NO_LOG)
    if not outcome.sound:
        warnings.append(f"the search for hyperparameters broke down: {outcome.message}")
    if kept < len(seen.z):
        warnings.append(
            f"conditioned on {kept} of {len(seen.z)} measurements, to bound the cost; most_rows "
            "says how many may be"
        )
    if outliers:
        warnings.append(f"{outliers} of {kept} measurements are outliers and count for little")
    if belief.warning:
        warnings.append(belief.warning)
    return warnings


def _details(seen: Observations, outcome: Fit, fitted: int, belief: Conditioned) -> dict[str, Any]:
    hyperparameters = belief.hyperparameters
    kernel, spread = hyperparameters.kernel, seen.scaling.spread
    noisy = noisy_configurations(belief.x, belief.relative)
    with torch.no_grad():
        lengthscales = [
            dict(
                zip(
                    (g.name for g in seen.encoding.groups),
                    value(k, "lengthscales").tolist(),
                    strict=True,
                )
            )
            for k in kernel.options
        ]
        noise = (spread * hyperparameters.noise.variance.sqrt()).tolist()
        loadings = kernel.loadings.tolist()
    return {
        "transform": "log" if seen.scaling.log else "identity",
        "evidence": outcome.evidence,
        "evaluations": outcome.evaluations,
        "optimizer": outcome.message,
        "fitted_on": fitted,
        "conditioned_on": len(belief.z),
        "solved": belief.solved,
        "outliers": {
            name: int((belief.extra[belief.x[:, -1] == t] > 0).sum())
            for t, name in enumerate(seen.environments)
        },
        "own_noise": {
            name: int((noisy[:, -1] == t).sum()) for t, name in enumerate(seen.environments)
        },
        "lengthscales": lengthscales,
        "loadings": dict(zip(seen.environments, loadings, strict=True)),
        "noise": dict(zip(seen.environments, noise, strict=True)),
    }

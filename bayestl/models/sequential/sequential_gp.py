"""`SequentialGP`: the sources fitted once, the target on top of them in milliseconds.

The same family as the joint models, fitted in two stages (see `source_block` and
`target_block`). Nothing flows back from the target to its sources, which loses nothing that
few measurements could tell, and gains a refit whose cost does not depend on the sources, and
hyperparameters of the target that are integrated out instead of estimated.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from bayestl.data.measurement import Metric
from bayestl.data.space import ConfigSpace
from bayestl.data.table import MeasurementTable
from bayestl.errors import FitError
from bayestl.models.blocks import in_blocks
from bayestl.models.calibration import calibration, miscalibration
from bayestl.models.effects import Explained
from bayestl.models.encoding import Encoding
from bayestl.models.gaussian_mixture import GaussianMixture
from bayestl.models.gaussian_process.conditioning import Conditioned, as_tensor, kept_relative
from bayestl.models.gaussian_process.device import CPU, afford, device_of
from bayestl.models.gaussian_process.fitting import Fit, one_thread
from bayestl.models.gaussian_process.integration import spaced
from bayestl.models.gaussian_process.kernels import value
from bayestl.models.gaussian_process.repeats import noisy_configurations, relative_noise
from bayestl.models.gaussian_process.solver import bytes_needed
from bayestl.models.gp import hyperparameters_of, infer
from bayestl.models.model import (
    QUANTILES,
    Configs,
    Diagnostics,
    Where,
    checked_seed,
    expect_one,
    positions_of,
)
from bayestl.models.observations import FITTED_ROWS, Observations, rows_allowed
from bayestl.models.persistence import save
from bayestl.models.posterior import Posterior
from bayestl.models.scaling import NO_LOG, Scaling, TransformName
from bayestl.models.sequential.hypotheses import RELATIONS, UNRELATED, Hypotheses
from bayestl.models.sequential.own_residual import with_own_residual
from bayestl.models.sequential.placing import Placing
from bayestl.models.sequential.source_block import SourceBlock, SourceView, reliability, with_zero
from bayestl.models.sequential.sources_as_targets import taught
from bayestl.models.sequential.target_block import FOLLOWS, TargetBlock, TargetPrior
from bayestl.models.sequential.template import Part
from bayestl.models.state import State

MAX_ELEMENTS = 2e8
"""Matrix elements (1.6 GB) that the factors of all sources may take; past it, rows are left out."""

LARGEST_SOURCE = 5_000
"""A source's process is conditioned on at most this many rows, and so is the target's."""

SUBSET = 0
"""The seed by which rows of a large source are left out, always the same ones."""

UNRELIABLE = 0.3
"""Of a less reliable source there is a warning."""

COMPARED = 512
"""Configurations at which environments are compared."""


@dataclass(frozen=True)
class SequentialGP:
    """Recipe: a process for each source, and the target as what they say plus what is its own.

        y = a + g + h(g) + b g + c . (f - g) + t(f) + delta + lambda odd,  g = sum_s w_s f_s

    See `hypotheses` for the terms. The evidence weighs every template w, relation and set of
    hyperparameters; the prediction is their mixture.

    Parameters
    ----------
    transform : `log` for a positive metric, `identity`, or `auto`, which takes the
        logarithm when every value is positive and says so when it does not
    device : `cpu`, `cuda`, `cuda:1`, or `auto` for a GPU where there is one: where the process
        lives; its hyperparameters are found on the CPU, and its answers are the same anywhere
    most_rows : how many measurements each source's process is conditioned on at most; unless given,
        5,000, or fewer where many large sources would take more than 1.6 GB together
    """

    transform: TransformName = "auto"
    device: str = "cpu"
    most_rows: int | None = None

    def fit(
        self, table: MeasurementTable, *, metric: str, target: str, seed: int = 0
    ) -> FittedSequentialGP:
        """The process fitted to every usable row; see `Model.fit`.

        Nothing in it is random, whatever the seed, so that `refit` may take over the sources.

        Raises
        ------
        FitError
            Also if no source was measured: `TargetOnlyGP` needs none.
        """
        checked_seed(seed)
        device = device_of(self.device)
        seen = _observations(self, table, metric, target)
        count = _measured_sources(seen, metric)
        alone = [seen.source(place) for place in range(1, 1 + count)]
        workers = min(torch.get_num_threads(), count)
        most = _most_rows(self, count)
        sizes = [min(most, len(source.z)) for source in alone]
        what = f"{count} processes of {sum(sizes)} measurements of sources"
        afford(bytes_needed(sizes, device, workers), device, what)
        with one_thread(), ThreadPoolExecutor(workers) as pool:
            # each source on one thread, and as many of them as torch may use
            found = list(pool.map(partial(_fit_source, rows=most, device=device), alone))
            fits, processes = map(list, zip(*found, strict=True))
            unit = seen.scaling.spread if seen.scaling.log else 0.0
            sources = SourceBlock.of(processes, _placing(table, seen), unit)
            prior = taught(TargetPrior.of(seen.encoding.groups, sources))
        return _conditioned(self, table, metric, seen, prior, fits)


@dataclass(frozen=True)
class FittedSequentialGP(Explained):
    """A sequential process that has seen a table.

    Parameters
    ----------
    metric, target, diagnostics : see `Fitted`
    recipe : what was fitted
    encoding, scaling : the doors to the standardised world in which `block` lives
    environments : the names behind the environments' positions, the target first
    block : the target on top of its sources
    fits : how the fit of each source ended
    """

    metric: Metric
    target: str
    diagnostics: Diagnostics
    recipe: SequentialGP
    encoding: Encoding
    scaling: Scaling
    environments: tuple[str, ...]
    block: TargetBlock
    fits: tuple[Fit, ...]

    @property
    def space(self) -> ConfigSpace:
        """The union space of the table."""
        return self.encoding.space

    def refit(self, table: MeasurementTable, seed: int = 0) -> FittedSequentialGP:
        """The recipe fitted to another table: equal to `fit`, and fast while the sources stay.

        If only the target's measurements changed, the sources' processes are taken over.
        """
        checked_seed(seed)
        metric = self.metric.name
        seen = _observations(self.recipe, table, metric, self.target)
        if not self._same_sources(seen):
            return self.recipe.fit(table, metric=metric, target=self.target, seed=seed)
        prior, placing = self.block.prior, _placing(table, seen)
        before = prior.sources.placing
        if (before and before.levels) != (placing and placing.levels):
            with one_thread():
                prior = taught(TargetPrior.of(prior.groups, prior.sources.placed(placing)))
        return _conditioned(self.recipe, table, metric, seen, prior, self.fits)

    def _same_sources(self, seen: Observations) -> bool:
        if seen.environments != self.environments or seen.scaling != self.scaling:
            return False
        n_source = int((~seen.is_target).sum())
        if seen.encoding != self.encoding or n_source != self.diagnostics.n_source:
            return False
        processes = self.block.prior.sources.processes
        most = _most_rows(self.recipe, len(processes))
        for place, process in enumerate(processes, start=1):
            rows = seen.source(place)
            x, z = rows.take(rows.subset(most, SUBSET))
            if not (torch.equal(x, process.x) and torch.equal(z, process.z)):
                return False
        return True

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
            mixture = self.measurements(frame, environment)
            return self.scaling.mixture_summary(mixture, quantiles, frame.index)

        return in_blocks(answer, configs)

    def measurements(
        self, canonical: pd.DataFrame, environment: str | None = None
    ) -> GaussianMixture:
        """New measurements at configurations of `ConfigSpace.frame`, standardised."""
        place = self.position(environment)
        x = self.encoding.encode(canonical)
        if not place:
            return self.block.measurements(x)
        process = self.block.prior.sources.processes[place - 1]
        mean, variance = process.marginals(with_zero(x))
        variance = variance + process.noise(with_zero(x))
        return GaussianMixture.normal(mean, variance)

    def leave_one_out(self) -> GaussianMixture:
        """Each of the target's measurements given all others, standardised.

        But repeats of the same configuration.
        """
        return self.block.leave_one_out()

    @property
    def target_x(self) -> torch.Tensor:
        """(n, p) the features at which they were measured."""
        return self.block.measured.x

    @property
    def target_z(self) -> torch.Tensor:
        """(n,) the target's measurements, standardised."""
        return self.block.z

    def posterior(self, configs: Configs, environment: Where = None) -> Posterior:
        """The joint posterior of the noise-free metric; see `HasPosterior.posterior`.

        What the target's measurements tell of a source is in it, and not in `predict`, which
        answers for a source with the source's own process.
        """
        frame = self.space.frame(configs)
        places = self.positions(environment, len(frame))
        where = torch.tensor(places, dtype=torch.long)
        mean, covariance = self.block.joint(self.encoding.encode(frame), where)
        noises = [self.block.noise_variance]
        for process in self.block.prior.sources.processes:
            noises.append(process.hyperparameters.noise.variance[0].item())
        spread = self.scaling.spread
        return Posterior(
            self.scaling.centre + spread * mean.numpy(),
            spread**2 * covariance.numpy(),
            spread**2 * np.array(noises)[where.numpy()],
        )

    def environment_correlation(self) -> pd.DataFrame:
        """Environments x environments: how alike their responses to the options are.

        The correlation of the posterior means where anything was measured, at most 512
        configurations.
        """
        sources = self.block.prior.sources
        own = [p.x[:, :-1] for p in sources.processes]
        if (placing := sources.placing) is not None:
            own = [placing.moved(x, s, 0) for s, x in enumerate(own, start=1)]
        every = torch.cat([self.block.measured.x, *own])
        distinct = torch.unique(every, dim=0) if every.shape[1] else every[:1]
        x = spaced(distinct, COMPARED)
        target = self.block.measurements(x).moments()[0]
        asked = zip(sources.processes, sources.seen(x), strict=True)
        responses = torch.stack([target, *(p.marginals(with_zero(at))[0] for p, at in asked)])
        deviation = responses.std(-1, correction=0, keepdim=True)
        apart = responses - responses.mean(-1, keepdim=True)
        standard = torch.where(deviation < 1e-9, 0.0, apart / deviation)
        correlation = standard @ standard.T / responses.shape[-1]
        correlation.fill_diagonal_(1.0)
        return pd.DataFrame(correlation.numpy(), self.environments, self.environments)

    def position(self, environment: str | None = None) -> int:
        """The position of an environment, the target's unless named."""
        return self.positions(environment, 1)[0]

    def positions(self, environment: Where, count: int) -> list[int]:
        """The same for each of `count` configurations; raises as `positions_of`."""
        return positions_of(environment, count, target=self.target, environments=self.environments)

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
        block, prior = self.block, self.block.prior
        placing = prior.sources.placing
        plain = {
            "placing": placing and {"levels": placing.levels, "scales": placing.scales},
            "scales": {"prior": prior.scales, "posterior": block.scales},
            "unit": prior.sources.unit,
            "transform": self.recipe.transform,
            "most_rows": self.recipe.most_rows,
            "scaling": asdict(self.scaling),
            "environments": list(self.environments),
            "fits": [asdict(fit) for fit in self.fits],
            "outliers": block.outliers,
            "outlier_variance": block.outlier_variance,
            "unrelated": block.unrelated,
            "parts": [len(part.template.own) for part in block.parts],
        }
        arrays = {
            "z": block.z.numpy(),
            "relative": block.relative.numpy(),
            "related": block.related.numpy(),
            "templates": block.templates.numpy(),
            "log_related": prior.log_related.numpy(),
            "follows": np.array(prior.follows),
            "reliability": prior.sources.reliability.numpy(),
            "measured.x": block.measured.x.numpy(),
            "measured.means": block.measured.means.numpy(),
            "measured.odd": block.measured.odd.numpy(),
        }
        for s, process in enumerate(prior.sources.processes):
            own = {name: getattr(process, name).numpy() for name in ("x", "z", "extra", "relative")}
            own |= {"odd": prior.sources.odd[s].numpy(), **process.to_arrays()}
            own["half"] = block.measured.halves[s].to(CPU).numpy()
            arrays |= {f"source{s}.{name}": array for name, array in own.items()}
        for p, part in enumerate(block.parts):
            own = {f.name: getattr(part.given, f.name).double().numpy() for f in fields(Hypotheses)}
            own |= {
                name: getattr(part, name).numpy()
                for name in ("log_weights", "half", "alpha", "extra")
            }
            own["template"] = part.template.weights.numpy()
            for place, kernel in enumerate(part.template.own):
                for name, parameter in kernel.named_parameters():
                    own[f"own{place}.{name}"] = parameter.detach().view(-1).numpy()
            arrays |= {f"part{p}.{name}": array for name, array in own.items()}
        return State.of(self, plain, arrays)

    @classmethod
    def from_state(cls, state: State) -> FittedSequentialGP:
        """The process that `to_state` described; raises as `Persistent.from_state`."""
        encoding = Encoding(state.space)
        scaling = Scaling(**state.value("scaling", dict))
        environments = state.values("environments", str)
        transform: Any = state.value("transform", str)
        most_rows: Any = state.plain.get("most_rows")  # older files have none
        z = as_tensor(state.array("z", None))
        n, count, width = len(z), len(environments) - 1, encoding.width
        processes, odd, halves = [], [], []
        for s in range(count):
            own = state.within(f"source{s}.")
            source_z = as_tensor(own.array("z", None))
            m = len(source_z)
            processes.append(
                Conditioned.from_arrays(
                    own,
                    hyperparameters_of(encoding.groups, 1, 1, False),
                    as_tensor(own.array("x", m, width + 1)),
                    source_z,
                    as_tensor(own.array("extra", m)),
                    kept_relative(own, m),
                )
            )
            odd.append(as_tensor(own.array("odd", m)))
            halves.append(as_tensor(own.array("half", processes[-1].solver.rank, n)))
        trusted = (
            as_tensor(state.array("reliability", count))
            if "reliability" in state.arrays  # older files have none
            else reliability(processes)
        )
        unit = state.value("unit", float) if "unit" in state.plain else 0.0  # older files
        placing = _placing_in(state, encoding)
        sources = SourceBlock(tuple(processes), tuple(odd), trusted, placing, unit)
        drawn = TargetPrior.of(encoding.groups, sources)
        log_related = as_tensor(state.array("log_related", len(drawn.related)))
        scales = state.plain.get("scales", {"prior": {}, "posterior": {}})  # older files have none
        prior = replace(
            drawn, log_related=log_related, scales=scales["prior"], follows=_follows_in(state)
        )
        measured_x = as_tensor(state.array("measured.x", n, width))
        measured = SourceView(
            measured_x,
            sources.seen(measured_x),
            as_tensor(state.array("measured.means", n, count)),
            as_tensor(state.array("measured.odd", n, count)),
            tuple(halves),
        )
        block = TargetBlock(
            prior,
            measured,
            z,
            kept_relative(state, n),
            tuple(
                _part(state.within(f"part{p}."), prior, n, own)
                for p, own in enumerate(_own_kernels(state))
            ),
            state.value("outliers", float),
            state.value("outlier_variance", float),
            as_tensor(state.array("related", len(drawn.related))),
            state.value("unrelated", float),
            as_tensor(state.array("templates", None)),
            scales["posterior"],
        )
        return cls(
            metric=state.metric,
            target=state.target,
            diagnostics=state.diagnostics,
            recipe=SequentialGP(transform, most_rows=most_rows),
            encoding=encoding,
            scaling=scaling,
            environments=environments,
            block=block,
            fits=tuple(Fit(**fit) for fit in state.values("fits", dict)),
        )


def _own_kernels(state: State) -> tuple[int, ...]:
    """How many kernels of its own each part has; older files have the number of parts."""
    parts = state.plain.get("parts")
    return (0,) * parts if type(parts) is int else state.values("parts", int)


def _part(state: State, prior: TargetPrior, n: int, own: int) -> Part:
    """The hypotheses of one template, from their arrays."""
    log_weights = as_tensor(state.array("log_weights", None))
    k = len(log_weights)
    columns = [  # older files have no overhead
        as_tensor(state.array(f.name, k) if f.name in state.arrays else np.zeros(k))
        for f in fields(Hypotheses)
    ]
    given = Hypotheses(
        *(
            column.long() if f.name in ("reach", "stretch", "relation") else column
            for f, column in zip(fields(Hypotheses), columns, strict=True)
        )
    )
    template = prior.template(as_tensor(state.array("template", len(prior.sources))))
    kernels = tuple(prior.options.copied() for _ in range(own))
    with torch.no_grad():
        for place, kernel in enumerate(kernels):
            for name, parameter in kernel.named_parameters():
                values = state.array(f"own{place}.{name}", parameter.numel())
                parameter.copy_(as_tensor(values).view_as(parameter))
    template = replace(template, own=kernels)
    return Part(
        template,
        given,
        log_weights,
        _half_in(state, k, n),
        as_tensor(state.array("alpha", k, n)),
        as_tensor(state.array("extra", k, n)),
    )


def _half_in(state: State, k: int, n: int) -> torch.Tensor:
    """The halves of k inverse covariances; of older files, which have the inverses, a root."""
    if "half" in state.arrays:
        return as_tensor(state.array("half", k, n, n))
    values, axes = torch.linalg.eigh(as_tensor(state.array("inverse", k, n, n)))
    return (axes * values.clamp_min(0.0).sqrt().unsqueeze(-2)).mT.contiguous()


def _follows_in(state: State) -> tuple[float, float, float]:
    """How likely the target was to follow which sources; older files have none."""
    if "follows" not in state.arrays:
        return FOLLOWS
    mean, one, none = state.array("follows", 3).tolist()
    return mean, one, none


def _placing_in(state: State, encoding: Encoding) -> Placing | None:
    """The placing of a state; older files have none."""
    found: Any = state.plain.get("placing")
    if found is None:
        return None
    levels = [{n: tuple(table) for n, table in each.items()} for each in found["levels"]]
    return Placing(encoding, tuple(levels), found["scales"])


def _placing(table: MeasurementTable, seen: Observations) -> Placing | None:
    if not table.levels_may_differ():
        return None
    return Placing.of(seen.encoding, [table.levels_of(name) for name in seen.environments])


def _unplaced(table: MeasurementTable, seen: Observations) -> list[str]:
    """Warnings of options whose levels some environments declare and others do not show."""
    declared = {o: None for name in seen.environments for o in table.environment(name).levels}
    known = {name: table.levels_of(name) for name in seen.environments if declared}
    missing = {o: [name for name, levels in known.items() if o not in levels] for o in declared}
    return [
        f"the levels of {option!r} in {', '.join(map(repr, names))} are not known, so that its "
        "values meet those of other environments as they are; declare them: "
        f"Environment({names[0]!r}, levels={{{option!r}: (...)}})"
        for option, names in missing.items()
        if names
    ]


def _observations(
    recipe: SequentialGP, table: MeasurementTable, metric: str, target: str
) -> Observations:
    seen = Observations.of(table, metric, target, recipe.transform, scaled_by_sources=True)
    count = 1 + _measured_sources(seen, metric)
    return Observations(
        seen.encoding, seen.scaling, seen.environments[:count], seen.x, seen.z, seen.dropped
    )


def _measured_sources(seen: Observations, metric: str) -> int:
    """How many sources have rows; they come before those that have none."""
    measured = set(seen.x[:, -1].long().tolist()) - {0}
    if not measured:
        raise FitError(
            f"a sequential model expected measurements of {metric!r} in a source environment "
            f"beside {seen.environments[0]!r}, got none; TargetOnlyGP needs none"
        )
    return len(measured)


def _most_rows(recipe: SequentialGP, sources: int) -> int:
    """How many rows each source's process may be conditioned on."""
    otherwise = min(LARGEST_SOURCE, int((MAX_ELEMENTS / sources) ** 0.5))
    return rows_allowed(recipe.most_rows, otherwise)


def _fit_source(seen: Observations, rows: int, device: torch.device) -> tuple[Fit, Conditioned]:
    hyperparameters = hyperparameters_of(seen.encoding.groups, 1, 1, False)
    return infer(seen, hyperparameters, seen.subset(FITTED_ROWS, SUBSET), SUBSET, rows, device)


def _conditioned(
    recipe: SequentialGP,
    table: MeasurementTable,
    metric: str,
    seen: Observations,
    prior: TargetPrior,
    fits: Sequence[Fit],
) -> FittedSequentialGP:
    in_target = torch.nonzero(seen.is_target).squeeze(-1)
    x, z = seen.take(spaced(in_target, LARGEST_SOURCE))
    with one_thread():
        block = TargetBlock.conditioned(prior, x[:, :-1], z, relative_noise(x, z))
        block, search = with_own_residual(block)
    details = _details(seen, block, fits, search)
    if len(z):
        spread = seen.scaling.spread
        left_out = block.leave_one_out().affine(0.0, spread)
        details["calibration"] = calibration(left_out, spread * z)
    return FittedSequentialGP(
        metric=table.metric(metric),
        target=seen.environments[0],
        diagnostics=Diagnostics(
            model=repr(recipe),
            n_source=len(seen.z) - len(in_target),
            n_target=len(in_target),
            dropped=seen.dropped,
            warnings=(
                *_warnings(recipe, seen, block, fits, search, details),
                *_unplaced(table, seen),
            ),
            details=details,
        ),
        recipe=recipe,
        encoding=seen.encoding,
        scaling=seen.scaling,
        environments=seen.environments,
        block=block,
        fits=tuple(fits),
    )


def _details(
    seen: Observations, block: TargetBlock, fits: Sequence[Fit], search: Fit | None
) -> dict[str, Any]:
    sources = seen.environments[1:]
    spread, prior = seen.scaling.spread, block.prior
    names = ["the mean of all", *sources] if len(sources) > 1 else list(sources)
    by_relation = {
        relation.name: float(block.related[prior.related.relation == position].sum())
        for position, relation in enumerate(RELATIONS)
    }
    processes = list(zip(sources, prior.sources.processes, strict=True))
    noise = {seen.environments[0]: block.noise_variance}
    noise |= {n: p.hyperparameters.noise.variance[0].item() for n, p in processes}
    groups = [group.name for group in seen.encoding.groups]
    every = torch.eye(len(sources), dtype=torch.float64)
    return {
        "transform": "log" if seen.scaling.log else "identity",
        "relation": {**by_relation, UNRELATED.name: block.unrelated},
        "follows": {
            **dict(zip(names, block.templates[:-1].tolist(), strict=True)),
            "none": block.unrelated,
        },
        "reliability": dict(zip(sources, prior.sources.reliability.tolist(), strict=True)),
        "scales": {option: dict(odds) for option, odds in block.scales.items()},
        "hypotheses": len(block.weights),
        "outliers": {
            seen.environments[0]: block.outliers,
            **{n: int((p.extra > 0).sum()) for n, p in processes},
        },
        "own_noise": {
            seen.environments[0]: len(noisy_configurations(block.measured.x, block.relative)),
            **{n: len(noisy_configurations(p.x, p.relative)) for n, p in processes},
        },
        "noise": {name: spread * variance**0.5 for name, variance in noise.items()},
        "conditioned_on": {n: len(p.z) for n, p in processes},
        "solved": {n: p.solved for n, p in processes},
        "lengthscales": {
            name: dict(zip(groups, prior.sources.lengthscales(row).tolist(), strict=True))
            for name, row in zip(sources, every, strict=True)
        },
        "source_fits": {name: _ended(fit) for name, fit in zip(sources, fits, strict=True)},
        "own_residual": search and _own_residual(groups, block, search),
    }


def _ended(fit: Fit) -> dict[str, Any]:
    return {"evidence": fit.evidence, "evaluations": fit.evaluations, "message": fit.message}


def _own_residual(groups: Sequence[str], block: TargetBlock, search: Fit) -> dict[str, Any]:
    """How much a residual with lengthscales of its own counts, and what they are."""
    own = [kernel for part in block.parts for kernel in part.template.own]
    logs = [value(kernel, "lengthscales").detach().log() for kernel in own]
    typical = torch.stack(logs).mean(0).exp().tolist() if logs else []
    return {
        "weight": float(block.weights @ block.own_residual.double()),
        "lengthscales": dict(zip(groups, typical, strict=bool(logs))),
        **_ended(search),
    }


def _warnings(
    recipe: SequentialGP,
    seen: Observations,
    block: TargetBlock,
    fits: Sequence[Fit],
    search: Fit | None,
    details: dict[str, Any],
) -> list[str]:
    warnings = []
    processes = block.prior.sources.processes
    kept, n_source = sum(len(p.z) for p in processes), int((~seen.is_target).sum())
    if recipe.transform == "auto" and not seen.scaling.log:
        warnings.append(NO_LOG)
    for name, fit in zip(seen.environments[1:], fits, strict=True):
        if not fit.sound:
            warnings.append(
                f"the search for the hyperparameters of {name!r} broke down: {fit.message}"
            )
    if search and not search.sound:
        warnings.append(f"the search for the target's own residual broke down: {search.message}")
    for name, process in zip(seen.environments[1:], processes, strict=True):
        if process.warning:
            warnings.append(f"source {name!r}: {process.warning}")
    for name, share in details["reliability"].items():
        if share < UNRELIABLE:
            warnings.append(
                f"source {name!r} counts for little: its options account for {share:.0%} of the "
                "variance of its own measurements"
            )
    if jitter := max(part.jitter for part in block.parts):
        warnings.append(
            f"the covariance of the target's measurements needed {jitter:g} added to its diagonal"
        )
    if kept < n_source:
        warnings.append(
            f"conditioned on {kept} of {n_source} measurements of sources, to bound the memory; "
            "most_rows says how many may be"
        )
    if len(block.z) < int(seen.is_target.sum()):
        warnings.append(
            f"conditioned on {len(block.z)} of {int(seen.is_target.sum())} measurements of the "
            "target, to bound the cost"
        )
    outliers = round(block.outliers) + sum(int((p.extra > 0).sum()) for p in processes)
    if outliers:
        warnings.append(
            f"{outliers} of {kept + len(block.z)} measurements are outliers and count for little"
        )
    if block.unrelated > 0.5:
        warnings.append(
            "the sources mislead: the target's own measurements predict it better without them"
        )
    if "calibration" in details and (found := miscalibration(details["calibration"])):
        warnings.append(found)
    return warnings

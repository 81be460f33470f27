"""RGPE: Gaussian processes of the sources and the target, weighted by how well they rank.

Feurer, Letham and Bakshy (2018, "Scalable meta-learning for Bayesian optimization using
ranking-weighted Gaussian process ensembles"): each environment has a process of its own; a
draw of its values at the target's measured configurations misranks some pairs of them, and a
process weighs as often as it misranks fewest. The target's own process is judged by
what it says of configurations that were left out, and sources that rank clearly worse than it
does have no weight, however many they are.

Departures, for values in their unit instead of a rank: the sources are not standardised one
by one but shifted by their mean difference to the target's measurements; what is left of
it is added to their variance, since a source that is sure of itself is not sure of the
target; and the prediction is the mixture, not the average of the random variables, whose
variance falls where the members disagree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from bayestl.data.measurement import Metric
from bayestl.data.space import ConfigSpace
from bayestl.data.table import MeasurementTable
from bayestl.errors import FitError
from bayestl.models.blocks import in_blocks
from bayestl.models.conformal import FEW_POINTS, PRIOR_POINTS, PRIOR_SIZE
from bayestl.models.encoding import Encoding
from bayestl.models.gaussian_mixture import GaussianMixture
from bayestl.models.gp import FittedGP, TargetOnlyGP
from bayestl.models.model import QUANTILES, Configs, Diagnostics, checked_seed, expect_target
from bayestl.models.regression import FOLDS
from bayestl.models.scaling import Scaling, TransformName
from bayestl.transfer.shift import ENOUGH_TO_CHOOSE, offset
from bayestl.transfer.sources import SHIFTED_SIZE, Transfer, few_points, silent_sources

CLEARLY_WORSE = 95
"""Of the target's losses, the percentile that a source's median loss may not exceed."""

_LEAST_VARIANCE = 1e-12


@dataclass(frozen=True)
class RankingWeightedEnsemble:
    """Recipe: the ensemble of Feurer, Letham and Bakshy (2018), known as RGPE.

    With fewer than three configurations of the target there is nothing to rank: all sources
    count alike, and the target's own process is left out.

    Parameters
    ----------
    draws : of each process, by which its rank is judged
    transform : `log` for a positive metric, `identity`, or `auto`
    """

    draws: int = 256
    transform: TransformName = "auto"

    def __post_init__(self) -> None:
        if self.draws < 1:
            raise FitError(f"expected at least one draw, got {self.draws}")

    def fit(
        self, table: MeasurementTable, *, metric: str, target: str, seed: int = 0
    ) -> FittedEnsemble:
        """A process for each environment, weighted at the target's rows; see `Model.fit`.

        Raises
        ------
        FitError
            If no source has a usable row, a value does not fit the transform, or the seed is
            none.
        """
        seed = checked_seed(seed)
        transfer = Transfer.of(self, table, metric, target)
        names, observations = transfer.names, transfer.observations
        scaling = observations.scaling
        base = TargetOnlyGP("log" if scaling.log else "identity")
        own = _sorted(transfer.measured, metric)
        points = Points.of(own, metric, scaling)
        members = []
        for name in names:
            fitted = base.fit(table.of(name), metric=metric, target=name, seed=seed)
            members.append(Member.shifted(fitted, points, scaling.spread))
        weights = np.full(len(names), 1 / len(names))
        if len(points.g) >= ENOUGH_TO_CHOOSE:
            without = partial(base.at_mode, metric=metric, target=target, seed=seed)
            weights = ranking_weights(self._losses(members, own, points, without, seed))
            members.append(Member(base.fit(own, metric=metric, target=target, seed=seed)))
        everyone = (*names, target)[: len(members)]
        return FittedEnsemble(
            metric=table.metric(metric),
            target=target,
            diagnostics=Diagnostics(
                model=str(self),
                n_source=int((~observations.is_target).sum()),
                n_target=len(own),
                dropped=observations.dropped,
                warnings=(
                    *silent_sources(table, target, names),
                    *few_points(len(points.g), len(names)),
                    *_cautions(self, scaling, len(points.g)),
                ),
                details={
                    "transform": base.transform,
                    "weights": dict(zip(everyone, weights.tolist(), strict=True)),
                    "offset": {
                        name: member.offset for name, member in zip(names, members, strict=False)
                    },
                },
            ),
            space=table.space,
            log=scaling.log,
            weights=tuple(weights.tolist()),
            members=tuple(members),
        )

    def _losses(
        self,
        sources: Sequence[Member],
        own: MeasurementTable,
        points: Points,
        without: Callable[[MeasurementTable], FittedGP],
        seed: int,
    ) -> np.ndarray:
        """(draws, members) pairs that each misranks, the target's process the last."""
        rng, count = np.random.default_rng(seed), len(points.g)
        losses = []
        for member in sources:
            found = member.process.posterior(points.configurations)
            size, axes = np.linalg.eigh(found.covariance)
            root = axes * np.sqrt(np.clip(size, 0.0, None))
            drawn = found.mean + rng.normal(size=(self.draws, count)) @ root.T
            losses.append(_misranked(drawn, drawn, points.g))
        mean, deviation = _left_out(own, points, without, seed)
        drawn = mean + deviation * rng.normal(size=(self.draws, count))
        measured = np.broadcast_to(points.g, drawn.shape)
        return np.column_stack([*losses, _misranked(drawn, measured, points.g)])


@dataclass(frozen=True)
class Points:
    """The k distinct configurations that the target has measured.

    Parameters
    ----------
    configurations : (k rows)
    g : (k,) values on the transformed scale, repeats averaged
    weights : (k,) numbers of repeats
    row : (n,), for each measurement, its configuration
    """

    configurations: pd.DataFrame
    g: np.ndarray
    weights: np.ndarray
    row: np.ndarray

    @classmethod
    def of(cls, own: MeasurementTable, metric: str, scaling: Scaling) -> Points:
        """The configurations among the target's usable measurements."""
        values = own.frame[metric].to_numpy(dtype=float)
        g = np.log(values) if scaling.log else values
        configurations = own.configurations()
        keys = [own.space.key(record) for record in own.space.records(configurations)]
        place = {key: number for number, key in enumerate(dict.fromkeys(keys))}
        row = np.array([place[key] for key in keys], dtype=int)
        counts = np.bincount(row, minlength=len(place))
        _, first = np.unique(row, return_index=True)
        return cls(
            configurations=configurations.iloc[first],
            g=np.bincount(row, g, minlength=len(place)) / counts,
            weights=counts.astype(float),
            row=row,
        )


@dataclass(frozen=True)
class Member:
    """One environment's process, and how it answers for the target, on the transformed scale.

    Parameters
    ----------
    process : of the environment alone
    offset : added to its mean
    mismatch : the variance of the target around that; None for the target's own process, whose
        noise it is
    """

    process: FittedGP
    offset: float = 0.0
    mismatch: float | None = None

    @classmethod
    def shifted(cls, process: FittedGP, points: Points, spread: float) -> Member:
        """A source's process, with its offset to the target and what that leaves.

        As in `HeldOut`: with fewer than `FEW_POINTS` points, what is left counts beside
        `PRIOR_POINTS` imagined residuals, whose size is a share of the metric's spread.
        """
        count = len(points.g)
        if not count:
            return cls(process, 0.0, (PRIOR_SIZE * spread) ** 2)
        predicted = process.posterior(points.configurations).mean
        line, errors = offset(predicted, points.g, points.weights)
        squares = np.square(errors) if count > 1 else np.empty(0)  # of one point, nothing is left
        imagined = PRIOR_POINTS if count < FEW_POINTS else 0.0
        total = imagined * (SHIFTED_SIZE * spread) ** 2 + squares.sum()
        return cls(process, line.intercept, float(total / (imagined + len(squares))))

    def measurements(self, canonical: pd.DataFrame) -> GaussianMixture:
        """New measurements of the target at configurations of `ConfigSpace.frame`."""
        process, scaling = self.process, self.process.scaling
        if self.mismatch is None:
            return process.measurements(canonical).affine(scaling.centre, scaling.spread)
        mean, variance = process.mixture.marginals(process.inputs(canonical))
        return GaussianMixture.normal(
            scaling.centre + self.offset + scaling.spread * mean,
            (scaling.spread**2 * variance + self.mismatch).clamp_min(_LEAST_VARIANCE),
        )


@dataclass(frozen=True)
class FittedEnsemble:
    """Weighted processes that have seen a table.

    Parameters
    ----------
    metric, target, diagnostics : see `Fitted`
    space : the union space of the table
    log : whether the processes are of the logarithm
    weights, members : of the sources and, where it could be judged, the target's process
    """

    metric: Metric
    target: str
    diagnostics: Diagnostics
    space: ConfigSpace
    log: bool
    weights: tuple[float, ...]
    members: tuple[Member, ...]

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
            For another environment than the target, for which nothing was weighted.
        """
        expect_target(self, environment)

        def answer(some: Configs) -> pd.DataFrame:
            frame = self.space.frame(some)
            mixture = GaussianMixture.stacked(
                self.weights, [member.measurements(frame) for member in self.members]
            )
            return Scaling(self.log, 0.0, 1.0).mixture_summary(mixture, quantiles, frame.index)

        return in_blocks(answer, configs)


def ranking_weights(losses: np.ndarray) -> np.ndarray:
    """(members,) how often each loses least of the (draws, members), ties shared.

    The last member is the target's, to which sources that are `CLEARLY_WORSE` yield.
    """
    worst = np.percentile(losses[:, -1], CLEARLY_WORSE)
    kept = np.median(losses, axis=0) <= worst
    kept[-1] = True
    allowed = np.where(kept, losses, np.inf)
    best = allowed == allowed.min(axis=1, keepdims=True)
    return (best / best.sum(axis=1, keepdims=True)).mean(axis=0)


def _misranked(drawn: np.ndarray, others: np.ndarray, g: np.ndarray) -> np.ndarray:
    """(draws,) pairs i, j with g_i < g_j but not drawn_i < others_j, or the other way round."""
    less = g[:, None] < g
    counts = []
    for one, other in zip(drawn, others, strict=True):  # a draw at a time, to bound the memory
        wrong = (one[:, None] < other) != less
        counts.append(wrong.sum() - wrong.diagonal().sum())
    return np.array(counts)


def _sorted(rows: MeasurementTable, metric: str) -> MeasurementTable:
    """One environment's rows in an order that does not depend on how they came."""
    encoded = Encoding(rows.space).encode(rows.configurations()).numpy()
    return rows.select(np.lexsort((rows.frame[metric].to_numpy(dtype=float), *encoded.T)))


def _left_out(
    own: MeasurementTable,
    points: Points,
    without: Callable[[MeasurementTable], FittedGP],
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """(k,) means and deviations of the configurations, by processes without their fold."""
    count = len(points.g)
    fold = np.random.default_rng(seed).permutation(count) % min(FOLDS, count)
    mean, deviation = np.empty(count), np.empty(count)
    for out in range(fold.max() + 1):
        held = fold == out
        fitted = without(own.select(~held[points.row]))
        found = fitted.posterior(points.configurations[held])
        mean[held], deviation[held] = found.mean, np.sqrt(found.variance)
    return mean, deviation


def _cautions(recipe: RankingWeightedEnsemble, scaling: Scaling, points: int) -> Iterator[str]:
    if recipe.transform == "auto" and not scaling.log:
        yield "some values are not positive: fitted on the metric itself, not on its logarithm"
    if points < FEW_POINTS:
        yield (
            f"intervals rest on {points} configurations of the target, fewer than "
            f"{FEW_POINTS}: they are wide by assumption, not calibrated"
        )

"""`TransferGP`, the model to reach for: several processes, weighed by how they predict the target.

A source can mislead, and then transfer is worse than none. So every member predicts each
target measurement from all the others, in closed form, and the members are mixed by the
weights under which those predictions are best (stacking of predictive distributions; Yao,
Vehtari, Simpson and Gelman, 2018), judged by the continuous ranked probability score: unlike
the log density it says how far off a prediction was, so that a member which calls a tenth
of the measurements outliers does not win over one that explains them. A prior that is worth
a few measurements keeps the sequential model in front unless the target says otherwise, or
that model itself finds that the target has nothing to do with its sources; while there are
fewer than five measurements the prior decides alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from bayestl.data.measurement import Metric
from bayestl.data.space import ConfigSpace
from bayestl.data.table import ENVIRONMENT, MeasurementTable
from bayestl.errors import FileError, FitError
from bayestl.models.blocks import in_blocks
from bayestl.models.effects import Explained
from bayestl.models.gaussian_mixture import GaussianMixture
from bayestl.models.gaussian_process.fitting import one_thread
from bayestl.models.gaussian_process.repeats import shares
from bayestl.models.gp import LMCGP, FittedGP, MultiTaskGP, TargetOnlyGP
from bayestl.models.model import (
    QUANTILES,
    Configs,
    Diagnostics,
    Where,
    expect_one,
    expect_table,
    several,
)
from bayestl.models.persistence import save
from bayestl.models.posterior import Posterior
from bayestl.models.scaling import NO_LOG, Scaling, TransformName
from bayestl.models.sequential.sequential_gp import FittedSequentialGP, SequentialGP
from bayestl.models.stacking import distances, stacking_weights, trimmed
from bayestl.models.state import State

ENOUGH_TO_JUDGE = 5
"""Target configurations below which leave-one-out scores decide nothing."""

FIRST, OTHERS = 3.0, 0.1
"""What the prior on the weights is worth, in measurements: of the first member, of each other."""

MINOR = 0.2
"""A member with no more weight answers with its best hyperparameters alone, which is cheaper."""

Member = FittedSequentialGP | FittedGP


@dataclass(frozen=True)
class TransferGP:
    """Recipe: `SequentialGP` and `TargetOnlyGP`, and joint models if asked, by what they are worth.

    Parameters
    ----------
    transform : `log` for a positive metric, `identity`, or `auto`, which takes the
        logarithm when every value is positive and says so when it does not
    latents : joint models to weigh as well, by their number of latent functions: (1,) adds
        `MultiTaskGP`, (1, 2) `LMCGP(2)` too; they take seconds where the others take
        milliseconds to fit again
    device, most_rows : of every member, see there
    """

    transform: TransformName = "auto"
    latents: tuple[int, ...] = ()
    device: str = "cpu"
    most_rows: int | None = None

    def __post_init__(self) -> None:
        given = self.latents if isinstance(self.latents, (tuple, list)) else (None,)
        if not all(isinstance(count, int) and count >= 1 for count in given):
            raise FitError(
                f"expected numbers of latent functions from 1 on, such as (1, 2), got "
                f"{self.latents!r}"
            )
        object.__setattr__(self, "latents", tuple(given))

    def fit(
        self, table: MeasurementTable, *, metric: str, target: str, seed: int = 0
    ) -> FittedTransferGP:
        """The members fitted to every usable row, and weighed; see `Model.fit`."""
        return self._fit(table, metric, target, seed, None)

    def _fit(
        self,
        table: MeasurementTable,
        metric: str,
        target: str,
        seed: int,
        previous: FittedSequentialGP | None,
    ) -> FittedTransferGP:
        expect_table(table).environment(target)
        rows = table.usable(metric).frame
        measured = set(rows[ENVIRONMENT])
        members: dict[str, Member] = {}
        where: dict[str, Any] = {"device": self.device, "most_rows": self.most_rows}
        # scores compare only on one scale: a value of a source may have ruled out the log
        linear = self.transform == "auto" and bool((rows[metric] <= 0).any())
        if measured - {target}:
            if previous is None:
                recipe = SequentialGP(self.transform, **where)
                first = recipe.fit(table, metric=metric, target=target, seed=seed)
            else:
                first = previous.refit(table, seed)
            members[SequentialGP.__name__] = first
            for count in self.latents:
                one = count == 1
                name = MultiTaskGP.__name__ if one else f"{LMCGP.__name__}({count})"
                joint = (
                    MultiTaskGP(self.transform, **where)
                    if one
                    else LMCGP(count, self.transform, **where)
                )
                members[name] = joint.at_mode(table, metric=metric, target=target, seed=seed)
        if target in measured or not members:
            transform = "identity" if linear and members else self.transform
            alone = TargetOnlyGP(transform, **where)
            members[TargetOnlyGP.__name__] = alone.at_mode(
                table, metric=metric, target=target, seed=seed
            )
        with one_thread():
            stack = _stack(members)
        for name, member in members.items():
            if isinstance(member, FittedGP) and stack.weights[name] > MINOR:
                members[name] = member.integrated(seed)
        return FittedTransferGP(members, stack, self)


@dataclass(frozen=True)
class Stack:
    """How much each member counts, and why.

    Parameters
    ----------
    weights : member -> its share of the prediction, of sum 1
    reason : one sentence
    scores : member -> mean continuous ranked probability score of the target's measurements,
        each predicted from all others, on the transformed scale; small is good
    """

    weights: dict[str, float]
    reason: str
    scores: dict[str, float]


@dataclass(frozen=True)
class FittedTransferGP(Explained):
    """The members that were fitted, which answer together.

    Parameters
    ----------
    members : name -> fitted process, the preferred one first
    stack : how much each counts
    recipe : what was fitted
    """

    members: dict[str, Member]
    stack: Stack
    recipe: TransferGP

    @property
    def first(self) -> Member:
        """The preferred member, which knows every environment."""
        return next(iter(self.members.values()))

    @property
    def chosen(self) -> Member:
        """The member that counts most."""
        return self.members[max(self.stack.weights, key=self.stack.weights.__getitem__)]

    @property
    def space(self) -> ConfigSpace:
        """The union space of the table."""
        return self.first.space

    @property
    def metric(self) -> Metric:
        """What is predicted."""
        return self.first.metric

    @property
    def target(self) -> str:
        """The environment that is predicted unless another is named."""
        return self.first.target

    @property
    def diagnostics(self) -> Diagnostics:
        """What the member that counts most says, with every member's weight and score."""
        first, chosen = self.first.diagnostics, self.chosen.diagnostics
        weights = self.stack.weights
        stack = {
            "chosen": max(weights, key=weights.__getitem__),
            "reason": self.stack.reason,
            "weights": weights,
            "leave_one_out": self.stack.scores,
        }
        warnings = chosen.warnings
        if len(self.members) > 1 and weights.get(TargetOnlyGP.__name__, 0.0) > 0.5:
            misleading = "the sources mislead: the target's own measurements predict it better"
            warnings = (misleading, *warnings)
        if self.recipe.transform == "auto" and not self.first.scaling.log:
            warnings = tuple(dict.fromkeys((NO_LOG, *warnings)))
        return replace(
            first,
            model=repr(self.recipe),
            warnings=warnings,
            details={**stack, **chosen.details},
        )

    def refit(self, table: MeasurementTable, seed: int = 0) -> FittedTransferGP:
        """The recipe fitted to another table: equal to `fit`, and fast while the sources stay."""
        previous = self.first if isinstance(self.first, FittedSequentialGP) else None
        return self.recipe._fit(table, self.metric.name, self.target, seed, previous)

    def predict(
        self,
        configs: Configs,
        environment: str | None = None,
        quantiles: Sequence[float] = QUANTILES,
    ) -> pd.DataFrame:
        """What a new measurement would give, in the metric's unit; see `Fitted.predict`."""
        expect_one(environment)
        members = self._answering(environment)
        if len(members) == 1:
            return self.members[members[0]].predict(configs, environment, quantiles)
        plain = Scaling(self.first.scaling.log, 0.0, 1.0)

        def answer(some: Configs) -> pd.DataFrame:
            frame, parts = self.space.frame(some), []
            for name in members:
                scaling = self.members[name].scaling
                mixture = self.members[name].measurements(frame, environment)
                parts.append(mixture.affine(scaling.centre, scaling.spread))
            shares = [self.stack.weights[name] for name in members]
            stacked = GaussianMixture.stacked(shares, parts)
            return plain.mixture_summary(stacked, quantiles, frame.index)

        return in_blocks(answer, configs)

    def posterior(self, configs: Configs, environment: Where = None) -> Posterior:
        """The joint posterior of the noise-free metric; see `HasPosterior.posterior`.

        Over several environments it is that of one process which knows them all.
        """
        members = self._answering(environment)
        # every member reads them, and a generator is exhausted by the first
        some = configs if isinstance(configs, pd.DataFrame) else self.space.frame(configs)
        posteriors = [self.members[name].posterior(some, environment) for name in members]
        if len(members) == 1:
            return posteriors[0]
        return Posterior.mixed([self.stack.weights[name] for name in members], posteriors)

    def environment_correlation(self) -> pd.DataFrame:
        """Environments x environments: how alike their responses to the options are."""
        return self.first.environment_correlation()

    def save(self, path: str | Path) -> None:
        """Write every member to one file, whole or not at all; see `persistence.save`.

        Raises
        ------
        FileError
            If the file cannot be written.
        """
        save(self, path)

    def to_state(self) -> State:
        """Everything that its answers depend on; see `persistence`."""
        plain = {
            "weights": self.stack.weights,
            "reason": self.stack.reason,
            "scores": self.stack.scores,
            "transform": self.recipe.transform,
            "latents": list(self.recipe.latents),
            "most_rows": self.recipe.most_rows,
            "order": list(self.members),
        }
        return State(plain, members=self.members)

    @classmethod
    def from_state(cls, state: State) -> FittedTransferGP:
        """The members that `to_state` described; raises as `Persistent.from_state`."""
        weights, scores = state.value("weights", dict), state.value("scores", dict)
        members = {name: state.members[name] for name in state.values("order", str)}
        if not all(isinstance(m, FittedGP | FittedSequentialGP) for m in members.values()):
            raise FileError(f"expected processes as members, got {list(members)}")
        if set(weights) != set(members) or abs(sum(weights.values()) - 1.0) > 1e-6:
            raise FileError(f"expected a weight a member, of sum 1, got {weights}")
        transform: Any = state.value("transform", str)
        most_rows: Any = state.plain.get("most_rows")  # older files have none
        recipe = TransferGP(transform, state.values("latents", int), most_rows=most_rows)
        return cls(members, Stack(weights, state.value("reason", str), scores), recipe)

    def _answering(self, environment: Where) -> list[str]:
        """The members with a weight; elsewhere than in the target the first, which knows it."""
        if environment is None or isinstance(environment, str):
            names = {environment or self.target}
        else:
            names = set(several(environment))
        if not names <= {self.target}:
            return [next(iter(self.members))]
        return [name for name, weight in self.stack.weights.items() if weight > 0]


def _stack(members: dict[str, Member]) -> Stack:
    names = list(members)
    prior = _prior(members)
    weights = dict(zip(names, (prior / prior.sum()).tolist(), strict=True))
    values = _unscaled(members[names[0]])
    if not len(values):
        return Stack(weights, "there is nothing in the target to judge by", {})
    seen = [_unscaled(member) for member in members.values()]
    if any(len(z) != len(values) or not torch.allclose(z, values) for z in seen):
        return Stack(weights, "members stand on different measurements of many", {})
    left_out = [
        m.leave_one_out().affine(m.scaling.centre, m.scaling.spread) for m in members.values()
    ]
    each, count = shares(members[names[0]].target_x)
    errors, between = distances(left_out, values, each)
    scores = dict(zip(names, (errors - 0.5 * between.diagonal()).tolist(), strict=True))
    if len(names) == 1:
        return Stack(weights, "there is no other source of knowledge", scores)
    if count < ENOUGH_TO_JUDGE:
        few = f"{count} target configurations are too few to judge by: the prior weights stand"
        return Stack(weights, few, scores)
    found = trimmed(stacking_weights(errors.numpy(), between.numpy(), count, prior))
    weights = dict(zip(names, found.tolist(), strict=True))
    best = names[int(np.argmax(found))]
    reason = f"{best} has {weights[best]:.0%} of the weight that predicts the target best"
    return Stack(weights, reason, scores)


def _prior(members: dict[str, Member]) -> np.ndarray:
    """(K,) what the prior on each weight is worth.

    A sequential model knows how likely the target is to have nothing to do with its sources,
    and a process of the target alone then does it better.
    """
    worth = np.array([FIRST] + [OTHERS] * (len(members) - 1))
    first = next(iter(members.values()))
    if isinstance(first, FittedSequentialGP) and TargetOnlyGP.__name__ in members:
        alone = list(members).index(TargetOnlyGP.__name__)
        moved = first.block.unrelated * (FIRST - OTHERS)
        worth[0] -= moved
        worth[alone] += moved
    if len(members) > 1 and not len(first.target_z):
        worth[1:] = 0.0
    return worth


def _unscaled(member: Member) -> torch.Tensor:
    """(n,) the target's measurements on the transformed scale."""
    return member.scaling.centre + member.scaling.spread * member.target_z

"""`TransferGP`, the model to reach for: several processes fitted, one chosen by the target.

A source can mislead, and then transfer is worse than none. So every member predicts each
target measurement from all the others, in closed form, and the first in the order of
preference keeps its place unless another is clearly better: by more than one standard
error of the paired difference (the one-standard-error rule of Breiman, Friedman, Olshen
and Stone, 1984). With fewer than five target points there is nothing to judge by, and
the preferred member stands.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from bayestl.data.measurement import Metric
from bayestl.data.space import ConfigSpace
from bayestl.data.table import ENVIRONMENT, MeasurementTable
from bayestl.errors import FileError
from bayestl.models.effects import Explained
from bayestl.models.gp import LMCGP, FittedGP, MultiTaskGP, TargetOnlyGP
from bayestl.models.model import QUANTILES, Configs, Diagnostics, Where
from bayestl.models.persistence import save
from bayestl.models.posterior import Posterior
from bayestl.models.scaling import TransformName
from bayestl.models.state import State

ENOUGH_TO_JUDGE = 5
"""Target measurements below which leave-one-out scores decide nothing."""


@dataclass(frozen=True)
class TransferGP:
    """Recipe: the best of `MultiTaskGP`, `LMCGP` and `TargetOnlyGP` for this target.

    Parameters
    ----------
    transform : `log` for a positive metric, `identity`, or `auto`, which takes the
        logarithm when every value is positive and says so when it does not
    """

    transform: TransformName = "auto"

    def fit(
        self, table: MeasurementTable, *, metric: str, target: str, seed: int = 0
    ) -> FittedTransferGP:
        """The chosen process fitted to every usable row; see `Model.fit`."""
        members = self._members(table, metric, target)
        fitted = {
            type(member).__name__: member.at_mode(table, metric=metric, target=target, seed=seed)
            for member in members
        }
        choice = _choose(fitted)
        fitted[choice.name] = fitted[choice.name].integrated(seed)
        return FittedTransferGP(fitted, choice, repr(self))

    def _members(
        self, table: MeasurementTable, metric: str, target: str
    ) -> list[MultiTaskGP | LMCGP | TargetOnlyGP]:
        """In the order of preference: those that have something to learn from."""
        table.environment(target)
        rows = table.usable(metric).frame
        measured = set(rows[ENVIRONMENT])
        if measured == {target}:
            return [TargetOnlyGP(self.transform)]
        shared = MultiTaskGP(self.transform)
        if target not in measured:
            return [shared]
        # scores compare only on one scale: a value of a source may have ruled out the log
        linear = self.transform == "auto" and bool((rows[metric] <= 0).any())
        alone = TargetOnlyGP("identity" if linear else self.transform)
        return [shared, LMCGP(transform=self.transform), alone]


@dataclass(frozen=True)
class Choice:
    """Which member was chosen, and why.

    Parameters
    ----------
    name : the member's
    reason : one sentence
    scores : member -> mean leave-one-out log density of the target's measurements
    """

    name: str
    reason: str
    scores: dict[str, float]


@dataclass(frozen=True)
class FittedTransferGP(Explained):
    """The members that were fitted, of which the chosen one answers.

    Parameters
    ----------
    members : name -> fitted process
    choice : which of them answers
    recipe : in words, for diagnostics
    """

    members: dict[str, FittedGP]
    choice: Choice
    recipe: str

    @property
    def chosen(self) -> FittedGP:
        """The process that answers."""
        return self.members[self.choice.name]

    @property
    def space(self) -> ConfigSpace:
        """The union space of the table."""
        return self.chosen.space

    @property
    def metric(self) -> Metric:
        """What is predicted."""
        return self.chosen.metric

    @property
    def target(self) -> str:
        """The environment that is predicted unless another is named."""
        return self.chosen.target

    @property
    def diagnostics(self) -> Diagnostics:
        """What the chosen process says, with the choice and every member's score."""
        first, chosen = next(iter(self.members.values())).diagnostics, self.chosen.diagnostics
        choice = {
            "chosen": self.choice.name,
            "reason": self.choice.reason,
            "leave_one_out": self.choice.scores,
        }
        warnings = chosen.warnings
        if len(self.members) > 1 and self.choice.name == TargetOnlyGP.__name__:
            misleading = "the sources mislead: the target's own measurements predict it better"
            warnings = (misleading, *warnings)
        return replace(
            first, model=self.recipe, warnings=warnings, details={**choice, **chosen.details}
        )

    def predict(
        self,
        configs: Configs,
        environment: str | None = None,
        quantiles: Sequence[float] = QUANTILES,
    ) -> pd.DataFrame:
        """What a new measurement would give, in the metric's unit; see `Fitted.predict`."""
        return self._member(environment).predict(configs, environment, quantiles)

    def posterior(self, configs: Configs, environment: Where = None) -> Posterior:
        """The joint posterior of the noise-free metric; see `HasPosterior.posterior`.

        Over several environments it is that of one process which knows them all.
        """
        return self._member(environment).posterior(configs, environment)

    def environment_correlation(self) -> pd.DataFrame:
        """Environments x environments: how alike their responses to the options are."""
        return self._member(None, every=True).environment_correlation()

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
        return State({"choice": asdict(self.choice), "recipe": self.recipe}, members=self.members)

    @classmethod
    def from_state(cls, state: State) -> FittedTransferGP:
        """The members that `to_state` described; raises as `Persistent.from_state`."""
        choice = Choice(**state.value("choice", dict))
        members = dict(state.members)
        if choice.name not in members or not all(isinstance(m, FittedGP) for m in members.values()):
            raise FileError(f"expected {choice.name!r} among the members, got {list(members)}")
        return cls(members, choice, state.value("recipe", str))

    def _member(self, environment: Where, every: bool = False) -> FittedGP:
        """The chosen process; where it knows only the target, the preferred one for the rest."""
        names = {environment} if isinstance(environment, str) else set(environment or ())
        elsewhere = every or not names <= {self.target}
        return next(iter(self.members.values())) if elsewhere else self.chosen


def _choose(members: dict[str, FittedGP]) -> Choice:
    names = list(members)
    densities = {name: member.leave_one_out_density() for name, member in members.items()}
    n_target = len(densities[names[0]])
    scores = {name: float(d.mean()) for name, d in densities.items() if len(d)}
    if len(names) == 1:
        only = "there is no other source of knowledge"
        return Choice(names[0], only, scores)
    if n_target < ENOUGH_TO_JUDGE:
        few = f"{n_target} target measurements are too few to judge by"
        return Choice(names[0], few, scores)
    best = names[0]
    for name in names[1:]:
        gain = densities[name] - densities[best]
        if gain.mean() > gain.std(ddof=1) / math.sqrt(n_target):
            best = name
    if best == names[0]:
        return Choice(best, "no other member predicts the target clearly better", scores)
    gain = float(np.mean(densities[best] - densities[names[0]]))
    clearly = f"predicts the target better than {names[0]} by {gain:.2f} nats a measurement"
    return Choice(best, clearly, scores)

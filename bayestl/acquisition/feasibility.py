"""`Feasibility`: how likely a configuration is to give a value in the target.

    P(success | x, target) = expit(a + b . phi(x) + c [target])

with phi the models' encoding of options and Gaussian priors on b and c: a logistic
regression at its posterior mode (MacKay, 1992). It is additive on purpose. Few failures
are ever seen, and most follow from one option (a batch that does not fit the memory,
a kernel the engine lacks), which an additive rule finds among many options where a
kernel over all of them sees no two configurations alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit

from bayestl.data.measurement import TRANSIENT, Status
from bayestl.data.space import ConfigSpace, Configuration
from bayestl.data.table import ENVIRONMENT, STATUS, MeasurementTable
from bayestl.models.encoding import Encoding

NOT_TRANSFERRED = frozenset({Status.UNSUPPORTED})
"""In a source, says something about that machine or build alone."""

SOURCE_WEIGHT = 0.3
"""How much a source's row counts beside a target's row."""

SOURCE_WORTH = 10.0
"""How many target rows all the sources' rows together count for at most."""

EFFECT_STD = 3.0
"""The prior standard deviation of an option's effect over its domain, in log odds."""


@dataclass(frozen=True)
class Feasibility:
    """What a table's outcomes say about failures in the target; build it with `of`.

    Every status but `ok` and `contaminated` is a failure of the configuration. A
    time-out is one too: the configuration would cost the whole deadline again.

    Parameters
    ----------
    space : the options
    failed : configurations that failed in the target and never succeeded there
    intercept, effects : the log odds of success in the target and their change along the
        features; None where nothing failed, so that everything is taken to succeed
    """

    space: ConfigSpace
    failed: tuple[Configuration, ...] = ()
    intercept: float = 0.0
    effects: np.ndarray | None = None

    @classmethod
    def of(cls, table: MeasurementTable, target: str) -> Feasibility:
        """The feasibility in `target` after every outcome in the table.

        Raises
        ------
        UnknownEnvironment
            If the table does not know the target.
        """
        table.environment(target)
        status = table.frame[STATUS]
        at_target = (table.frame[ENVIRONMENT] == target).to_numpy()
        telling = ~status.isin(TRANSIENT).to_numpy()
        telling &= at_target | ~status.isin(NOT_TRANSFERRED).to_numpy()
        table, at_target = table.select(telling), at_target[telling]
        ok = (table.frame[STATUS] == Status.OK.value).to_numpy()
        if ok.all():
            return cls(table.space)
        failed = _failed_only(table, at_target, ok)
        intercept, effects = _logistic(table, at_target, ok)
        return cls(table.space, failed, intercept, effects)

    def probability(self, configs: pd.DataFrame | Sequence[Mapping[str, Any]]) -> np.ndarray:
        """(n,) probabilities of success in the target."""
        if self.effects is None:
            return np.ones(len(configs))
        return expit(self.intercept + _features(self.space, configs) @ self.effects)


def _failed_only(
    table: MeasurementTable, at_target: np.ndarray, ok: np.ndarray
) -> tuple[Configuration, ...]:
    space, configurations = table.space, table.configurations()
    succeeded = {space.key(c) for c in space.records(configurations[at_target & ok])}
    failed = {space.key(c): c for c in space.records(configurations[at_target & ~ok])}
    return tuple(c for key, c in failed.items() if key not in succeeded)


def _logistic(
    table: MeasurementTable, at_target: np.ndarray, ok: np.ndarray
) -> tuple[float, np.ndarray]:
    """The intercept in the target and the effects, at their posterior mode.

    One imagined success of the default configuration in the target stands for what is
    known beforehand; it also keeps the mode finite when everything failed.
    """
    from sklearn.linear_model import LogisticRegression  # slow to import, and rarely needed

    x = _features(table.space, [*table.space.records(table.configurations()), table.space.default])
    is_target = np.append(at_target, True)
    weight = np.ones(len(x))
    weight[~is_target] = min(SOURCE_WEIGHT, SOURCE_WORTH / max(1, int((~is_target).sum())))
    model = LogisticRegression(C=EFFECT_STD**2, max_iter=1_000)
    model.fit(np.column_stack([x, is_target]), np.append(ok, True), sample_weight=weight)
    coefficients, intercept = np.ravel(model.coef_), np.ravel(model.intercept_)
    return float(intercept[0] + coefficients[-1]), coefficients[:-1]


def _features(
    space: ConfigSpace, configs: pd.DataFrame | Sequence[Mapping[str, Any]]
) -> np.ndarray:
    return Encoding(space).encode(space.frame(configs)).numpy()

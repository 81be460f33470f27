"""`Method`: a model, and how it chooses which configurations of the target to measure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import pandas as pd

from bayestl.acquisition.acquisition import Acquisition
from bayestl.acquisition.propose import propose
from bayestl.data.table import MeasurementTable
from bayestl.errors import StudyError
from bayestl.models.encoding import Encoding
from bayestl.models.model import Fitted, Model, Refits
from bayestl.study.scenario import Split


class Choice(Protocol):
    """How a method spends its budget; a frozen recipe."""

    def choose(
        self, model: Model, split: Split, budgets: Sequence[int], seed: int
    ) -> list[list[int]]:
        """For each budget the positions in `split.pool` that are measured.

        Values of rows that it has not chosen are not for it to look at.
        """
        ...


@runtime_checkable
class Designs(Protocol):
    """A recipe that says what should be measured for it."""

    def design(
        self, table: MeasurementTable, *, metric: str, target: str, n: int, seed: int = 0
    ) -> pd.DataFrame:
        """At most n configurations, known from the sources alone."""
        ...


@dataclass(frozen=True)
class InOrder:
    """The pool's first rows: a random sample, the same for every method."""

    def choose(
        self, model: Model, split: Split, budgets: Sequence[int], seed: int
    ) -> list[list[int]]:
        return [list(range(budget)) for budget in budgets]


@dataclass(frozen=True)
class Designed:
    """What a recipe's `design` asks for: of each configuration the nearest in the pool.

    Near on the features that the Gaussian processes see. Where the design is shorter than
    the budget, the pool's first rows follow.

    Parameters
    ----------
    designer : the recipe whose design it is; the method's own model unless given
    """

    designer: Designs | None = None

    def choose(
        self, model: Model, split: Split, budgets: Sequence[int], seed: int
    ) -> list[list[int]]:
        designer = self.designer or model
        if not isinstance(designer, Designs):
            raise StudyError(
                f"expected a recipe with a design, such as GuidedSampling, got {designer}"
            )
        encoding = Encoding(split.pool.space)
        places = encoding.encode(split.pool.configurations()).numpy()
        chosen = []
        known = MeasurementTable.concat([split.sources, split.pool.select([])])
        for budget in budgets:
            wanted = designer.design(
                known, metric=split.metric, target=split.target, n=budget, seed=seed
            )
            left = np.ones(len(places), dtype=bool)
            rows: list[int] = []
            for place in encoding.encode(wanted).numpy():
                distance = np.where(left, ((places - place) ** 2).sum(axis=1), np.inf)
                rows.append(int(distance.argmin()))
                left[rows[-1]] = False
            rest = [row for row in range(len(places)) if left[row]]
            chosen.append([*rows, *rest][:budget])
        return chosen


@dataclass(frozen=True)
class Active:
    """An active learner: it sees what it has asked for, and asks for more.

    Parameters
    ----------
    acquisition : what is gained by a measurement
    learner : the model that it believes in while it asks; the method's own unless given
    initial : how many rows of the pool, in order, are measured before there is a model; with
        sources none is needed
    batch : how many are asked for before the model is fitted again
    """

    acquisition: Acquisition
    learner: Model | None = None
    initial: int = 0
    batch: int = 1

    def choose(
        self, model: Model, split: Split, budgets: Sequence[int], seed: int
    ) -> list[list[int]]:
        learner = self.learner or model
        configurations = split.pool.configurations()
        keys = [split.pool.space.key(c) for c in split.pool.space.records(configurations)]
        rows = list(range(min(self.initial, max(budgets))))
        fitted: Fitted | None = None
        while len(rows) < max(budgets):
            known = split.train(rows)
            if isinstance(fitted, Refits):
                fitted = fitted.refit(known, seed)
            else:
                fitted = learner.fit(known, metric=split.metric, target=split.target, seed=seed)
            free = [row for row in range(len(keys)) if row not in rows]
            proposed = propose(
                self.acquisition,
                fitted,
                configurations,
                n=min(self.batch, max(budgets) - len(rows)),
                measured=split.pool.space.records(configurations.iloc[rows]),
                seed=seed + len(rows),
            )
            wanted = [split.pool.space.key(c) for c in proposed]
            rows += [next(row for row in free if keys[row] == key) for key in wanted]
        return [rows[:budget] for budget in budgets]


@dataclass(frozen=True)
class Method:
    """What a study compares.

    Parameters
    ----------
    model : the recipe that is fitted to what was chosen
    choice : how its target measurements are chosen
    """

    model: Model
    choice: Choice = field(default_factory=InOrder)

"""`Method`: a model, and how it chooses which configurations of the target to measure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, get_args, runtime_checkable

import numpy as np
import pandas as pd

from bayestl.acquisition.acquisition import Acquisition
from bayestl.acquisition.propose import propose
from bayestl.data.designs import DesignName, design
from bayestl.data.sampling import Method as SampleName
from bayestl.data.sampling import sample
from bayestl.data.table import MeasurementTable
from bayestl.errors import NoCandidateLeft, StudyError
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
    """What a design asks for: of each configuration the nearest in the pool.

    Near on the features that the Gaussian processes see. Where the design is shorter than
    the budget, the pool's first rows follow; where it is longer, it is a random part of it.

    Parameters
    ----------
    designer : a recipe with a `design`, such as `GuidedSampling`, which is given the sources; or a
        sample or design of the target's space, which knows of none: ``"sobol"``,
        ``"latin_hypercube"``, ``"uniform"``, ``"plackett_burman"``, ``"box_behnken"`` or
        ``"central_composite"``, see `sample` and `design`. The method's own model unless given
    """

    designer: Designs | SampleName | DesignName | None = None

    def choose(
        self, model: Model, split: Split, budgets: Sequence[int], seed: int
    ) -> list[list[int]]:
        wanted = self._wanted(model, split, seed)
        encoding = Encoding(split.pool.space)
        places = encoding.encode(split.pool.configurations()).numpy()
        chosen = []
        for budget in budgets:
            left = np.ones(len(places), dtype=bool)
            rows: list[int] = []
            for place in encoding.encode(wanted(budget)).numpy():
                distance = np.where(left, ((places - place) ** 2).sum(axis=1), np.inf)
                rows.append(int(distance.argmin()))
                left[rows[-1]] = False
            rest = [row for row in range(len(places)) if left[row]]
            chosen.append([*rows, *rest][:budget])
        return chosen

    def _wanted(self, model: Model, split: Split, seed: int) -> Callable[[int], pd.DataFrame]:
        """From a budget to at most so many configurations."""
        space = split.pool.space_of(split.target)
        designer: Any = self.designer or model
        if designer in get_args(SampleName):
            return lambda n: sample(space, n, method=designer, seed=seed)
        if designer in get_args(DesignName):
            return lambda n: design(space, designer, seed=seed).configurations.head(n)
        if not isinstance(designer, Designs):
            raise StudyError(
                "expected a recipe with a design, such as GuidedSampling, or one of "
                f"{[*get_args(SampleName), *get_args(DesignName)]}, got {designer!r}"
            )
        known = MeasurementTable.concat([split.sources, split.pool.select([])])
        asked: Any = {"metric": split.metric, "target": split.target, "seed": seed}
        return lambda n: designer.design(known, n=n, **asked)


@dataclass(frozen=True)
class Active:
    """An active learner: it sees what it has asked for, and asks for more.

    Repeats of a configuration are measured last, when it has asked for each of the pool's.

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
            try:
                proposed = propose(
                    self.acquisition,
                    fitted,
                    configurations,
                    n=min(self.batch, max(budgets) - len(rows)),
                    measured=split.pool.space.records(configurations.iloc[rows]),
                    seed=seed + len(rows),
                )
            except NoCandidateLeft:  # what is left of the pool are repeats
                rows += free
                break
            wanted = [split.pool.space.key(c) for c in proposed]
            rows += [next(row for row in free if keys[row] == key) for key in wanted]
        return [rows[:budget] for budget in budgets]


@dataclass(frozen=True)
class Method:
    """What a study compares.

    Parameters
    ----------
    model : the recipe that is fitted to what was chosen
    choice : how its target measurements are chosen; `InOrder` unless given
    """

    model: Model
    choice: Choice = field(default_factory=InOrder)

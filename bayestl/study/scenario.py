"""`Scenario`: a transfer that methods are judged on, from which environments to which."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np
import pandas as pd

from bayestl.data.table import ENVIRONMENT, MeasurementTable
from bayestl.errors import StudyError


@dataclass(frozen=True)
class Split:
    """One draw of a scenario: what can be learnt from, and what is judged on.

    Parameters
    ----------
    sources : the measurements that are known beforehand
    pool : measurements of the target that a method may ask for, in random order
    test : measurements of the target that no method is given
    metric : what is predicted
    target : the environment that is new
    """

    sources: MeasurementTable
    pool: MeasurementTable
    test: MeasurementTable
    metric: str
    target: str

    def train(self, rows: Sequence[int]) -> MeasurementTable:
        """The sources' rows, and the pool's at these positions in this order."""
        return MeasurementTable.concat([self.sources, self.pool.select(np.asarray(rows, int))])

    @cached_property
    def digest(self) -> str:
        """64 hexadecimal digits that are others if one value of the split is."""
        seal = hashlib.sha256(f"{self.metric}\n{self.target}\n".encode())
        for table in (self.sources, self.pool, self.test):
            seal.update(json.dumps(table.schema.to_dict(), sort_keys=True).encode())
            seal.update(pd.util.hash_pandas_object(table.frame.astype(str)).to_numpy().tobytes())
        return seal.hexdigest()


class Scenario(Protocol):
    """A frozen description that worker processes can receive."""

    @property
    def name(self) -> str:
        """Unique in a study, such as ``"hardware/azure/Adiac"``."""
        ...

    @property
    def group(self) -> str:
        """What changes between the sources and the target."""
        ...

    def split(self, seed: int) -> Split:
        """The draw of that seed; the same seed gives the same."""
        ...


@dataclass(frozen=True)
class RecordedScenario:
    """A transfer over a recorded table: random rows are given, others are judged on.

    Parameters
    ----------
    group : what changes between the sources and the target
    target, sources : environments of the table
    metric : what is predicted
    table : from a seed to the measurements; recorded ones are the same for every seed
    label : tells two scenarios of one group and target apart
    source_rows : how many random rows each source contributes; None is every row
    pool_rows, test_rows : at most so many random rows of the target
    """

    group: str
    target: str
    sources: tuple[str, ...]
    metric: str
    table: Callable[[int], MeasurementTable] = field(repr=False, compare=False)
    label: str = ""
    source_rows: int | None = None
    pool_rows: int = 50
    test_rows: int = 1_000

    def __post_init__(self) -> None:
        if not callable(self.table):
            raise StudyError(
                f"{self.name}: expected a function from a seed to a table, got a "
                f"{type(self.table).__name__}; write: def table(seed): return ..."
            )
        if isinstance(self.sources, str):
            raise StudyError(
                f"{self.name}: expected a list of sources, such as ({self.sources!r},), got a text"
            )
        if len(set(self.sources)) < len(self.sources):
            raise StudyError(f"{self.name}: expected each source once, got {self.sources!r}")
        least = {"source_rows": 0, "pool_rows": 0, "test_rows": 1}
        for what, count in least.items():
            if (getattr(self, what) or 0) < count and getattr(self, what) is not None:
                raise StudyError(
                    f"{self.name}: expected {what} of at least {count}, got {getattr(self, what)}"
                )
        if self.target in self.sources:
            raise StudyError(
                f"{self.name}: expected sources other than the target, on which methods are judged"
            )

    @property
    def name(self) -> str:
        return "/".join(filter(None, (self.group, self.label, self.target)))

    def split(self, seed: int) -> Split:
        """Rows in an order drawn with seed and name; the first of the target's are the pool.

        Raises
        ------
        StudyError
            If the target has no row beyond the pool.
        """
        table = self.table(seed).usable(self.metric)
        where = table.frame[ENVIRONMENT].to_numpy()
        rng = np.random.default_rng([seed, zlib.crc32(self.name.encode())])
        asked = rng.permutation(np.flatnonzero(where == self.target))
        known = [
            rng.permutation(np.flatnonzero(where == source))[: self.source_rows]
            for source in self.sources
        ]
        if len(asked) <= self.pool_rows:
            raise StudyError(
                f"{self.name}: expected more than {self.pool_rows} measurements of "
                f"{self.metric!r} in {self.target!r}, of which the rest is judged on, got "
                f"{len(asked)}; lower pool_rows"
            )
        test = asked[self.pool_rows :][: self.test_rows]
        of_target = table.of(self.target)
        place = np.cumsum(where == self.target) - 1  # of a row among the target's
        return Split(
            sources=table.select(np.concatenate(known) if known else []).of(*self.sources),
            pool=of_target.select(place[asked[: self.pool_rows]]),
            test=of_target.select(place[test]),
            metric=self.metric,
            target=self.target,
        )

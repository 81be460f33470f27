"""`Pool`: the points that are believed about jointly when a configuration is proposed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bayestl.data.space import Configuration, Key
from bayestl.errors import AcquisitionError, NoCandidateLeft

MAX_POOL = 1_000
"""More candidates than this are thinned to a seeded random subset."""

Points = dict[Key, Configuration]
"""Distinct configurations by their key, in order."""


@dataclass(frozen=True)
class Pool:
    """Candidates, then what else was measured or is being measured.

    Parameters
    ----------
    points : the configurations by key; the order is that of the arrays
    weights : (n,), zero for a point that is no candidate
    eligible : (n,), whether the point may be proposed
    """

    points: Points
    weights: np.ndarray
    eligible: np.ndarray

    @classmethod
    def of(
        cls,
        candidates: pd.DataFrame,
        weights: Sequence[float] | np.ndarray | None,
        taken: Collection[Key],
        others: Points,
        rng: np.random.Generator,
    ) -> Pool:
        """The pool of `candidates` and `others`, from which `taken` may not be proposed.

        Raises
        ------
        NoCandidateLeft
            If every candidate is taken, or there is not one weight a candidate.
        """
        rows: Any = candidates.astype(object).to_dict("records")
        points = distinct(rows, list(candidates.columns))
        if not len(points.keys() - taken):
            raise NoCandidateLeft(
                f"no candidate is left: each of the {len(points)} was measured, is pending or "
                "failed; widen the options, or allow replicates"
            )
        worth = _worth(candidates, weights)
        if len(points) > MAX_POOL:  # what may be proposed goes first: something must be left
            keys = list(points)
            shuffled = [keys[position] for position in rng.permutation(len(keys))]
            kept = sorted(shuffled, key=lambda key: key in taken)[:MAX_POOL]
            points = {key: points[key] for key in kept}
        every = {**points, **others}
        return cls(
            every,
            weights=np.array([worth[key] if key in points else 0.0 for key in every]),
            eligible=np.array([key in points and key not in taken for key in every]),
        )

    @property
    def configurations(self) -> list[Configuration]:
        """The points, in order."""
        return list(self.points.values())

    def positions(self, keys: Collection[Key]) -> list[int]:
        """Where the points with these keys are, in the pool's order."""
        return [position for position, key in enumerate(self.points) if key in keys]


def distinct(configs: Sequence[Mapping[str, Any]], names: list[str]) -> Points:
    """The distinct configurations over the options `names`.

    Raises
    ------
    AcquisitionError
        If one lacks an option.
    """
    points: Points = {}
    for config in configs:
        if not config.keys() >= set(names):
            raise AcquisitionError(f"expected a value for each of {names}, got {dict(config)}")
        point = {name: None if pd.isna(config[name]) else config[name] for name in names}
        points.setdefault(tuple(point.values()), point)
    return points


def _worth(
    candidates: pd.DataFrame, weights: Sequence[float] | np.ndarray | None
) -> dict[Key, float]:
    numbers = np.ones(len(candidates)) if weights is None else np.asarray(weights, float)
    if numbers.shape != (len(candidates),) or not (np.isfinite(numbers) & (numbers >= 0)).all():
        raise AcquisitionError(
            f"expected {len(candidates)} weights of zero or more, one a candidate, got {weights!r}"
        )
    rows = candidates.astype(object).where(candidates.notna(), None)
    return dict(zip(rows.itertuples(index=False, name=None), numbers.tolist(), strict=True))

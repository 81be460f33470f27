"""The target's configurations cut into folds, to predict what a fit was not given."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from bayestl.data.space import Key
from bayestl.data.table import ENVIRONMENT, MeasurementTable


def target_folds(
    table: MeasurementTable, target: str, count: int, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For each fold, the positions of the rows to learn from and of those held out.

    Repeats of a configuration share a fold; rows of other environments are never held out.
    There are no more folds than configurations of the target.
    """
    positions = np.flatnonzero((table.frame[ENVIRONMENT] == target).to_numpy())
    keys = _keys(table.select(positions))
    number = {key: place for place, key in enumerate(dict.fromkeys(keys))}
    folds = min(count, len(number))
    shuffled = np.random.default_rng(seed).permutation(len(number)) % max(folds, 1)
    fold = np.array([shuffled[number[key]] for key in keys])
    for out in range(folds):
        held = positions[fold == out]
        yield np.setdiff1d(np.arange(len(table)), held), held


def repeat_weights(table: MeasurementTable) -> np.ndarray:
    """(n,) for each row 1/c, c being how many rows have its configuration."""
    keys = _keys(table)
    count = Counter(keys)
    return np.array([1 / count[key] for key in keys])


def _keys(table: MeasurementTable) -> list[Key]:
    return [table.space.key(record) for record in table.space.records(table.configurations())]

"""The target's configurations cut into folds, to predict what a fit was not given."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bayestl.data.table import ENVIRONMENT, MeasurementTable


def target_folds(
    table: MeasurementTable, target: str, count: int, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For each fold, the positions of the rows to learn from and of those held out.

    Repeats of a configuration share a fold; rows of other environments are never held out.
    There are no more folds than configurations of the target.
    """
    positions = np.flatnonzero((table.frame[ENVIRONMENT] == target).to_numpy())
    records = table.space.records(table.configurations().iloc[positions])
    keys = [table.space.key(record) for record in records]
    number = {key: place for place, key in enumerate(dict.fromkeys(keys))}
    folds = min(count, len(number))
    shuffled = np.random.default_rng(seed).permutation(len(number)) % max(folds, 1)
    fold = np.array([shuffled[number[key]] for key in keys])
    for out in range(folds):
        held = positions[fold == out]
        yield np.setdiff1d(np.arange(len(table)), held), held

"""Predictions of measurements that the model was not given, where no test was set aside."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bayestl.data.table import ENVIRONMENT, MeasurementTable
from bayestl.errors import TableError
from bayestl.models.model import Model


def cross_validate(
    model: Model,
    table: MeasurementTable,
    *,
    metric: str,
    target: str,
    folds: int = 5,
    seed: int = 0,
) -> pd.DataFrame:
    """The target's measurements, each predicted by a model fitted without its fold.

    Repeats of a configuration share a fold; the sources' rows are always given. The error
    holds for configurations like those measured: where a learner chose them, they are
    harder than random ones.

    Returns
    -------
    `measured` and the columns of `predict`, in the metric's unit, in the order of the
    target's usable rows

    Raises
    ------
    TableError
        If the target has fewer than two configurations, or there are fewer than two folds.
    """
    usable = table.usable(metric)
    positions = np.flatnonzero((usable.frame[ENVIRONMENT] == target).to_numpy())
    configurations = usable.configurations().iloc[positions]
    keys = [usable.space.key(c) for c in usable.space.records(configurations)]
    number = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    if folds < 2 or len(number) < 2:
        raise TableError(
            f"expected at least two folds and two measured configurations of {target!r}, got "
            f"{folds} and {len(number)}"
        )
    shuffled = np.random.default_rng(seed).permutation(len(number)) % min(folds, len(number))
    fold = np.array([shuffled[number[key]] for key in keys])
    parts = []
    for out in range(shuffled.max() + 1):
        held = positions[fold == out]
        kept = np.setdiff1d(np.arange(len(usable)), held)
        fitted = model.fit(usable.select(kept), metric=metric, target=target, seed=seed)
        prediction = fitted.predict(configurations[fold == out])
        parts.append(prediction.assign(measured=usable.frame[metric].iloc[held].to_numpy()))
    result = pd.concat(parts).loc[configurations.index].reset_index(drop=True)
    return result[["measured", *result.columns.drop("measured")]]

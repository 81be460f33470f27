"""Predictions of measurements that the model was not given, where no test was set aside."""

from __future__ import annotations

import pandas as pd

from bayestl.data.table import MeasurementTable
from bayestl.errors import TableError
from bayestl.models.folds import target_folds
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
    splits = list(target_folds(usable, target, folds, seed))
    if len(splits) < 2:
        raise TableError(
            f"expected at least two folds and two measured configurations of {target!r}, got "
            f"{folds} folds and {len(usable.of(target).configurations().drop_duplicates())}"
        )
    parts = []
    for kept, held in splits:
        fitted = model.fit(usable.select(kept), metric=metric, target=target, seed=seed)
        out = usable.frame.iloc[held]
        prediction = fitted.predict(out[list(usable.space.names)])
        parts.append(prediction.assign(measured=out[metric].to_numpy()))
    result = pd.concat(parts).sort_index().reset_index(drop=True)
    return result[["measured", *result.columns.drop("measured")]]

"""Several models on equal terms: the same rows to learn from, the same rows to be judged by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bayestl.data.table import ENVIRONMENT, MeasurementTable
from bayestl.errors import TableError
from bayestl.models.model import Fitted, Model
from bayestl.study.metrics import score


@dataclass(frozen=True)
class Comparison:
    """What `compare` found.

    Parameters
    ----------
    scores : one row a method and budget: `method`, `n_target`, and what `metrics.score` gives:
        `mape` and `median_ape` [%], `spearman`, `coverage90` (a share) and `width_ratio90`
    predictions : one row a method and test row at the largest budget: `method`, `measured`,
        and the columns of `predict`, in the metric's unit
    fitted : method -> the model fitted at the largest budget
    """

    scores: pd.DataFrame
    predictions: pd.DataFrame
    fitted: Mapping[str, Fitted]

    @property
    def final(self) -> pd.DataFrame:
        """The scores at the largest budget, the most accurate method first."""
        largest = self.scores["n_target"] == self.scores["n_target"].max()
        return self.scores[largest].sort_values("mape", ignore_index=True)


def compare(
    models: Mapping[str, Model],
    table: MeasurementTable,
    test: MeasurementTable,
    *,
    metric: str,
    target: str,
    budgets: Sequence[int] = (),
    seed: int = 0,
) -> Comparison:
    """Every model, fitted at every budget and judged on the same measurements.

    For one table that was measured, such as a campaign's: it gives the fitted models and what
    they predict, and ends where a fit fails. What is drawn several times, or over several
    transfers, is a `Study`, which counts failures and can be continued.

    Parameters
    ----------
    models : method's name -> recipe
    table : every source row, and the target's rows in the order they were measured; a
        budget of n is the first n of the usable ones
    test : measurements of the target that no model is given
    budgets : numbers of target measurements; all of them unless given

    Raises
    ------
    TableError
        If `test` has no usable row or another unit, or a budget exceeds the target's measurements.
    """
    if test.metric(metric).unit != table.metric(metric).unit:
        raise TableError(
            f"mixed units: the test has {test.metric(metric)}, the table {table.metric(metric)}; "
            "convert one of them"
        )
    held_out = test.of(target).usable(metric)
    if not len(held_out):
        raise TableError(f"expected test measurements of {metric!r} in {target!r}, got none")
    available = len(table.of(target).usable(metric))
    budgets = sorted(map(int, budgets)) or [available]
    if not 0 <= budgets[0] <= budgets[-1] <= available:
        raise TableError(f"expected budgets of at most {available} target rows, got {budgets}")
    measured = held_out.frame[metric].reset_index(drop=True)
    scores, predictions, fitted = [], {}, {}
    for budget, given in zip(budgets, _first(table, metric, target, budgets), strict=True):
        for name, model in models.items():
            fitted[name] = model.fit(given, metric=metric, target=target, seed=seed)
            predictions[name] = fitted[name].predict(held_out.configurations())
            scored = score(measured, predictions[name])
            scores.append({"method": name, "n_target": budget, **scored})
    final = [p.assign(method=name, measured=measured) for name, p in predictions.items()]
    return Comparison(pd.DataFrame(scores), pd.concat(final, ignore_index=True), fitted)


def _first(
    table: MeasurementTable, metric: str, target: str, budgets: Sequence[int]
) -> Iterator[MeasurementTable]:
    """The usable rows of every other environment, with the first n of the target's."""
    usable = table.usable(metric)
    is_target = (usable.frame[ENVIRONMENT] == target).to_numpy()
    rank = np.cumsum(is_target)
    for budget in budgets:
        yield usable.select(~is_target | (rank <= budget))

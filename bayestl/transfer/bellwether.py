"""The bellwether: the one source that speaks for the others, before the target is asked.

Krishna and Menzies (TSE 2018, "Bellwethers: a baseline method for transfer learning"); for
performance, Krishna, Nair, Jamshidi and Menzies (TSE 2020, "Whence to learn? Transferring
knowledge in configurable systems using BEETLE"). Of a community of environments, that from
which the others are predicted best is the one to transfer from.

Departures: BEETLE races regression trees on growing samples and compares residuals; here
one model of each source is judged once, by rank correlation, so that an environment which is
merely slower is no worse a source.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy.stats import rankdata

from bayestl.data.table import MeasurementTable
from bayestl.errors import FitError
from bayestl.models.encoding import Encoding
from bayestl.models.gp import TargetOnlyGP
from bayestl.models.model import Fitted, Model, checked_seed, expect_recipe
from bayestl.models.observations import Observations
from bayestl.transfer.model_shift import LinearShift
from bayestl.transfer.sources import silent_sources, source_names

JUDGED_ROWS = 300
"""Of each source, at most so many rows are learnt from, and predicted, to find the bellwether."""


@dataclass(frozen=True)
class Bellwether:
    """Recipe: a transfer strategy, given the one source that predicts the other sources best.

    Each source's model is asked about every other source; that with the highest mean rank
    correlation is the bellwether, and the strategy never sees the others. No row of the
    target is looked at for that, so the choice stands before there is one.

    Parameters
    ----------
    strategy : the recipe fitted to the bellwether and the target; `LinearShift` unless given
    judge : the recipe fitted to each source to find it; `TargetOnlyGP` unless given
    """

    strategy: Model = field(default_factory=LinearShift)
    judge: Model = field(default_factory=TargetOnlyGP)

    def __post_init__(self) -> None:
        expect_recipe(self.strategy)
        expect_recipe(self.judge)

    def fit(self, table: MeasurementTable, *, metric: str, target: str, seed: int = 0) -> Fitted:
        """The strategy fitted to the bellwether and the target; see `Model.fit`.

        Its `diagnostics.details` name the ``bellwether`` and give each source's mean
        ``rank_correlation`` with the others, empty where there is one source.

        Raises
        ------
        FitError
            If no source has a usable row, the seed is none, or as the strategy.
        """
        seed = checked_seed(seed)
        observations = Observations.of(table, metric, target, "identity")
        names = source_names(self, observations, metric)
        scores = dict(zip(names, self._scores(table, metric, names, seed), strict=False))
        chosen = max(scores, key=lambda name: scores[name]) if scores else names[0]
        fitted: Any = self.strategy.fit(
            table.of(chosen, target), metric=metric, target=target, seed=seed
        )
        if "diagnostics" not in getattr(fitted, "__dataclass_fields__", ()):
            raise FitError(
                f"{self}: expected a strategy whose fitted model has a field `diagnostics`, got "
                f"{type(fitted).__name__}; wrap the Bellwether in it instead"
            )
        diagnostics = replace(
            fitted.diagnostics,
            model=str(self),
            warnings=(*silent_sources(table, target, names), *fitted.diagnostics.warnings),
            details={
                **fitted.diagnostics.details,
                "bellwether": chosen,
                "rank_correlation": scores,
            },
        )
        return replace(fitted, diagnostics=diagnostics)

    def _scores(
        self, table: MeasurementTable, metric: str, names: Sequence[str], seed: int
    ) -> list[float]:
        """Each source's mean rank correlation with the others; nothing of a single one."""
        if len(names) < 2:
            return []
        some = {name: _some(table.of(name).usable(metric), metric, seed) for name in names}
        scores = []
        for name in names:
            model = self.judge.fit(some[name], metric=metric, target=name, seed=seed)
            scores.append(
                float(np.mean([_agreement(model, some[o], metric) for o in names if o != name]))
            )
        return scores


def _some(rows: MeasurementTable, metric: str, seed: int) -> MeasurementTable:
    """At most `JUDGED_ROWS` of one environment's rows, whatever order they are in."""
    if len(rows) <= JUDGED_ROWS:
        return rows
    encoded = Encoding(rows.space).encode(rows.configurations()).numpy()
    order = np.lexsort((rows.frame[metric].to_numpy(dtype=float), *encoded.T))
    return rows.select(np.random.default_rng(seed).permutation(order)[:JUDGED_ROWS])


def _agreement(model: Fitted, rows: MeasurementTable, metric: str) -> float:
    """The rank correlation of what a model predicts with what was measured; 0 of a constant."""
    measured = rows.frame[metric].to_numpy(dtype=float)
    predicted = model.predict(rows.configurations(), quantiles=(0.5,))["q50"].to_numpy()
    if np.ptp(measured) == 0 or np.ptp(predicted) == 0:
        return 0.0
    return float(np.corrcoef(rankdata(predicted), rankdata(measured))[0, 1])

"""Ridge regression on what the sources measured at the very configuration that is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from bayestl.data.space import ConfigSpace, Key
from bayestl.data.table import ENVIRONMENT, MeasurementTable
from bayestl.errors import ConfigurationError
from bayestl.models.conformal import Regressor
from bayestl.models.model import Configs, checked_seed
from bayestl.models.regression import FittedRegression, cross_validated
from bayestl.models.scaling import Scaling, TransformName
from bayestl.transfer.shift import ENOUGH_TO_CHOOSE, offset, straight
from bayestl.transfer.sources import Transfer, examples_at_target, few_points

PENALTIES = tuple(np.logspace(-4, 3, 22))
"""What the penalty is chosen from, by leave-one-out error."""


@dataclass(frozen=True)
class SourceValues:
    """One feature a source: its standardised value at the same configuration, repeats averaged.

    Parameters
    ----------
    space : the union space of the table
    names : the sources
    values : configuration -> (sources,) values, for those that every source has measured
    """

    space: ConfigSpace
    names: tuple[str, ...]
    values: Mapping[Key, np.ndarray]

    @classmethod
    def in_table(
        cls, table: MeasurementTable, metric: str, names: tuple[str, ...], scaling: Scaling
    ) -> SourceValues:
        """The values in a table of which every named source has usable rows."""
        frame = table.of(*names).usable(metric).frame
        z = scaling.scale(frame[metric].to_numpy(dtype=float))
        column = {name: position for position, name in enumerate(names)}
        repeats: dict[Key, list[list[float]]] = {}
        rows = zip(table.space.records(frame), frame[ENVIRONMENT], z, strict=True)
        for record, name, value in rows:
            seen = repeats.setdefault(table.space.key(record), [[] for _ in names])
            seen[column[name]].append(value)
        complete = {key: seen for key, seen in repeats.items() if all(seen)}
        # sorted, so that the order of the rows does not change the last bit of the mean
        means = {
            key: np.array([np.mean(sorted(v)) for v in seen]) for key, seen in complete.items()
        }
        return cls(table.space, names, means)

    def covers(self, configurations: pd.DataFrame) -> np.ndarray:
        """(n,) whether every source has measured the canonical configuration."""
        records = self.space.records(configurations)
        return np.array([self.space.key(r) in self.values for r in records], dtype=bool)

    def of(self, configurations: pd.DataFrame) -> np.ndarray:
        """(n, sources) features of canonical configurations.

        Raises
        ------
        ConfigurationError
            For a configuration that a source has not measured.
        """
        covered = self.covers(configurations)
        if not covered.all():
            raise ConfigurationError(
                f"expected configurations that every source ({', '.join(self.names)}) has "
                f"measured, got {int((~covered).sum())} of {len(covered)} that one has not, row "
                f"{configurations.index[int(np.argmin(covered))]!r} the first; ask `covers` "
                "beforehand, or take a model that predicts everywhere, such as LinearShift"
            )
        records = self.space.records(configurations)
        rows = [self.values[self.space.key(record)] for record in records]
        return np.array(rows).reshape(len(rows), len(self.names))


@dataclass(frozen=True)
class FittedSourceValues(FittedRegression):
    """A regression on source values, which predicts only what every source has measured."""

    features: SourceValues

    def covers(self, configs: Configs) -> np.ndarray:
        """(n,) whether each configuration can be predicted; the others make `predict` raise.

        Raises
        ------
        ConfigurationError
            For a configuration that the space does not know.
        """
        return self.features.covers(self.space.frame(configs))


@dataclass(frozen=True)
class SourceValuesRidge:
    """Recipe: ridge regression from the sources' measured values to the target's.

    Both on the transformed scale, so by default log-log. It knows nothing of the options:
    only configurations that every source has measured can be learned from or asked for,
    see `FittedSourceValues.covers`. The penalty has the least leave-one-out error, in
    closed form; with fewer than three configurations of the target, an offset to the
    mean of the sources. Intervals are those of CV+.

    Parameters
    ----------
    transform : `log` for a positive metric, `identity`, or `auto`
    """

    transform: TransformName = "auto"

    def fit(
        self, table: MeasurementTable, *, metric: str, target: str, seed: int = 0
    ) -> FittedSourceValues:
        """The regression on the target's usable rows that the sources cover; see `Model.fit`.

        Raises
        ------
        FitError
            If no source has a usable row, a value does not fit the transform, or the seed is
            none.
        UnknownEnvironment, TableError
            For a target or a metric that the table does not know.
        """
        seed = checked_seed(seed)
        transfer = Transfer.of(self, table, metric, target)
        names, observations = transfer.names, transfer.observations
        features = SourceValues.in_table(table, metric, names, observations.scaling)
        measured = transfer.measured
        covered = features.covers(measured.configurations())
        examples = examples_at_target(measured.select(covered), metric, observations, features)
        fitted = transfer.fitted(
            features,
            examples,
            cross_validated(examples, fit=_ridge, seed=seed),
            warnings=few_points(len(examples.z), len(names), "a ridge regression"),
        )
        lacking = {"not measured in every source": int((~covered).sum())}
        diagnostics = replace(
            fitted.diagnostics,
            n_target=int(covered.sum()),
            dropped={**fitted.diagnostics.dropped, **(lacking if not covered.all() else {})},
            details={
                **fitted.diagnostics.details,
                "sources": names,
                "covered_configurations": len(features.values),
            },
        )
        return FittedSourceValues(
            **{**vars(fitted), "features": features, "diagnostics": diagnostics}
        )


def _ridge(x: np.ndarray, z: np.ndarray, weights: np.ndarray) -> Regressor:
    from sklearn.linear_model import RidgeCV

    if len(z) < ENOUGH_TO_CHOOSE:
        return straight(offset, offset, x, z, weights)
    ridge: Any = RidgeCV(PENALTIES)  # leave-one-out is its default
    return ridge.fit(x, z, sample_weight=weights)

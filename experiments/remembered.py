"""Recipes that fit the same sources once, for experiments that transfer from them many times."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from hashlib import sha256

import pandas as pd

from bayestl.data.table import ENVIRONMENT, MeasurementTable
from bayestl.models.model import Fitted, Model, Refits

_FITS: OrderedDict[str, Fitted] = OrderedDict()
_KEPT = 16
_REFITTABLE: OrderedDict[str, Refits] = OrderedDict()
_REFITTABLE_KEPT = 4


@dataclass(frozen=True)
class Remembered:
    """A recipe whose last fits are kept: every shift fits the same sources at every budget."""

    recipe: Model

    def fit(self, table: MeasurementTable, *, metric: str, target: str, seed: int = 0) -> Fitted:
        """The recipe fitted to the table, or what it was fitted to the same table before."""
        values = table.usable(metric).frame[metric].to_numpy(dtype=float).tobytes()
        key = sha256(values + f"{self.recipe} {metric} {target} {seed}".encode()).hexdigest()
        if key not in _FITS:
            _FITS[key] = self.recipe.fit(table, metric=metric, target=target, seed=seed)
        _FITS.move_to_end(key)
        while len(_FITS) > _KEPT:
            _FITS.popitem(last=False)
        return _FITS[key]


@dataclass(frozen=True)
class RememberedSources:
    """A recipe that is refitted where its sources are known; which `Refits` says changes no bit."""

    recipe: Model

    def fit(self, table: MeasurementTable, *, metric: str, target: str, seed: int = 0) -> Fitted:
        """The recipe fitted to the table, its sources taken over from an earlier fit."""
        usable = table.usable(metric).frame
        sources = usable[(usable[ENVIRONMENT] != target).to_numpy()]
        seal = sha256(f"{self.recipe} {metric} {target} {table.space!r}".encode())
        seal.update(
            pd.util.hash_pandas_object(sources.astype(str), index=False).to_numpy().tobytes()
        )
        key = seal.hexdigest()
        if key in _REFITTABLE:
            fitted = _REFITTABLE[key].refit(table, seed)
        else:
            fitted = self.recipe.fit(table, metric=metric, target=target, seed=seed)
        if isinstance(fitted, Refits):
            _REFITTABLE[key] = fitted
            _REFITTABLE.move_to_end(key)
        while len(_REFITTABLE) > _REFITTABLE_KEPT:
            _REFITTABLE.popitem(last=False)
        return fitted

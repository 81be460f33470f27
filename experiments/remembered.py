"""Recipes that fit the same sources once, for experiments that transfer from them many times.

What is kept belongs to everything that it was fitted to, the space and the configurations as well
as the values: one pool of measurements is often described in two ways.
"""

from __future__ import annotations

import json
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
        rows = table.usable(metric).frame
        key = _key(self.recipe, table, rows, metric, target, seed)
        if key not in _FITS:
            _FITS[key] = self.recipe.fit(table, metric=metric, target=target, seed=seed)
        _FITS.move_to_end(key)
        while len(_FITS) > _KEPT:
            _FITS.popitem(last=False)
        return _FITS[key]


@dataclass(frozen=True)
class RememberedSources:
    """A recipe that is refitted where its sources are known; which `Refits` says changes no bit.

    Where `Remembered` waits for the very table, this takes one with other rows of the target.
    """

    recipe: Model

    def fit(self, table: MeasurementTable, *, metric: str, target: str, seed: int = 0) -> Fitted:
        """The recipe fitted to the table, its sources taken over from an earlier fit."""
        usable = table.usable(metric).frame
        sources = usable[(usable[ENVIRONMENT] != target).to_numpy()]
        key = _key(self.recipe, table, sources, metric, target)
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


def _key(recipe: Model, table: MeasurementTable, rows: pd.DataFrame, *asked: str | int) -> str:
    """64 hexadecimal digits of the recipe, what is asked, the table's schema and these rows."""
    schema = json.dumps(table.schema.to_dict(), sort_keys=True)
    seal = sha256(f"{recipe} {asked} {schema}".encode())
    seal.update(pd.util.hash_pandas_object(rows.astype(str), index=False).to_numpy().tobytes())
    return seal.hexdigest()

"""A recipe whose last fits are kept, for strategies that fit the same sources again and again."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from hashlib import sha256

from bayestl.data.table import MeasurementTable
from bayestl.models.model import Fitted, Model

_FITS: OrderedDict[str, Fitted] = OrderedDict()
_KEPT = 16


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

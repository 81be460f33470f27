"""The measurements of one metric as tensors, in an order that no renaming changes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import torch

from bayestl.data.measurement import Status
from bayestl.data.table import ENVIRONMENT, STATUS, MeasurementTable
from bayestl.errors import FitError
from bayestl.models.encoding import Encoding
from bayestl.models.model import expect_table
from bayestl.models.scaling import Scaling, TransformName

FITTED_ROWS = 500
"""Hyperparameters are fitted on at most this many rows."""

LEAST_SPREAD = 0.2
"""Of the typical spread, which a target may have although its sources hardly vary."""

CONDITIONED_ROWS = 5_000
"""The process is conditioned on at most this many rows, unless a recipe's `most_rows` says so."""


@dataclass(frozen=True)
class Observations:
    """n usable measurements, sorted by environment, features and value.

    Parameters
    ----------
    encoding, scaling : how x and z came from the table
    environments : the target, then the others by falling number of rows; inputs hold
        positions in this list
    x : (n, width + 1) features, then the environment's position
    z : (n,) standardised values
    dropped : reason -> rows of the table that cannot be used
    """

    encoding: Encoding
    scaling: Scaling
    environments: tuple[str, ...]
    x: torch.Tensor
    z: torch.Tensor
    dropped: dict[str, int]

    @classmethod
    def of(
        cls,
        table: MeasurementTable,
        metric: str,
        target: str,
        transform: TransformName,
        *,
        scaled_by_sources: bool = False,
    ) -> Observations:
        """The usable rows of `metric`.

        With `scaled_by_sources` the scale is that of the sources, if there is one, so that it
        stays when more of the target is measured.

        Raises
        ------
        FitError
            If there is none, or a value does not fit the transform.
        UnknownEnvironment, TableError
            For a target or a metric that the table does not know.
        """
        expect_table(table).environment(target)
        usable = table.usable(metric)
        if not len(usable):
            raise FitError(
                f"expected measurements of {metric!r} in {target!r} or a source environment, "
                "got none; measure some configurations first"
            )
        values = usable.frame[metric].to_numpy(dtype=float)
        names = usable.frame[ENVIRONMENT].to_numpy(dtype=object)
        scaling = Scaling.of(values, names, transform)
        if scaled_by_sources and (names != target).any():
            elsewhere = names != target
            known: TransformName = "log" if scaling.log else "identity"
            scaling = Scaling.of(values[elsewhere], names[elsewhere], known, least=LEAST_SPREAD)
        z = scaling.scale(values)
        environments = _ordered(table.environment_names, target, names, z)
        position = {name: float(index) for index, name in enumerate(environments)}
        encoding = Encoding(table.space)
        where = torch.tensor([position[name] for name in names], dtype=torch.float64)
        x = torch.cat([encoding.encode(usable.configurations()), where.unsqueeze(-1)], dim=-1)
        order = np.lexsort((z, *x.numpy().T))
        dropped = _dropped(table, metric)
        return cls(encoding, scaling, environments, x[order], torch.from_numpy(z[order]), dropped)

    @property
    def is_target(self) -> torch.Tensor:
        """(n,), which rows were measured in the target."""
        return self.x[:, -1] == 0

    def source(self, position: int) -> Observations:
        """The rows of one environment, as if it were the only one and the target."""
        x, z = self.take(torch.nonzero(self.x[:, -1] == position).squeeze(-1))
        alone = torch.cat([x[:, :-1], torch.zeros(len(x), 1, dtype=x.dtype)], -1)
        return Observations(
            self.encoding, self.scaling, (self.environments[position],), alone, z, {}
        )

    def subset(self, size: int, seed: int) -> torch.Tensor:
        """Positions of at most `size` rows: the target's first, then a fair share a source.

        Beside sources the target is cut to three quarters of `size`. A source with fewer rows
        than its share leaves the rest to the others. With one seed, a smaller subset is
        part of a larger one.
        """
        if len(self.z) <= size:
            return torch.arange(len(self.z))
        rng = np.random.default_rng(seed)
        groups = [np.flatnonzero(self.x[:, -1].numpy() == t) for t in range(len(self.environments))]
        sources = [group for group in sorted(groups[1:], key=len) if len(group)]
        chosen = [_some(groups[0], max(size * 3 // 4, 1) if sources else size, rng)]
        left = size - len(chosen[0])
        for remaining, group in zip(range(len(sources), 0, -1), sources, strict=True):
            chosen.append(_some(group, left // remaining, rng))
            left -= len(chosen[-1])
        return torch.from_numpy(np.sort(np.concatenate(chosen)))

    def take(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """x and z of some rows."""
        return self.x[rows], self.z[rows]


def rows_allowed(most_rows: int | None, otherwise: int) -> int:
    """A recipe's `most_rows`, or what holds where it says nothing.

    Raises
    ------
    FitError
        If it is no positive number.
    """
    if most_rows is None:
        return otherwise
    if type(most_rows) is not int or most_rows < 1:
        raise FitError(f"expected most_rows as a positive number or None, got {most_rows!r}")
    return most_rows


def _ordered(
    known: tuple[str, ...], target: str, names: np.ndarray, z: np.ndarray
) -> tuple[str, ...]:
    def place(name: str) -> tuple[bool, int, float]:
        rows = z[names == name]
        return name != target, -len(rows), float(rows.mean()) if len(rows) else 0.0

    return tuple(sorted(known, key=place))


def _some(rows: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    return rng.permutation(rows)[:size]


def _dropped(table: MeasurementTable, metric: str) -> dict[str, int]:
    failed = table.frame[STATUS] != Status.OK.value
    reasons = Counter(str(status) for status in table.frame[STATUS][failed])
    hollow = int((~failed & table.frame[metric].isna()).sum())
    return {**reasons, **({f"no value of {metric}": hollow} if hollow else {})}

"""Which values of an option meet, where environments have tables of their own.

Boards differ in what they offer: one clocks its GPU from 115 to 1300 MHz, another from 200 to
2200. A source answers for a configuration of the target at a value of its own table, found on
a scale that the data choose for each option (see `target_block`):

    value      the same number, which is what holds unless the data say otherwise
    fraction   the same share of the table's highest level
    rank       the same place between the table's lowest and highest level

A source's process is the same on every scale. Only the target's features are moved, and nothing
at all where tables do not differ or one of them is not known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch

from bayestl.models.encoding import Encoding, Group, positions

Scale = Literal["value", "fraction", "rank"]

PRIOR: Mapping[Scale, float] = {"value": 0.8, "fraction": 0.1, "rank": 0.1}
"""How likely an option is to act on each scale."""

Levels = Mapping[str, tuple[float, ...]]
"""Option -> its table in one environment."""


@dataclass(frozen=True)
class Placing:
    """What each environment offers, and on which scale its values meet the others'.

    Parameters
    ----------
    encoding : of the features that are moved
    levels : for each environment, the target's first, the tables of the same options
    scales : option -> scale, of those whose values do not meet as they are
    """

    encoding: Encoding
    levels: tuple[Levels, ...]
    scales: Mapping[str, Scale] = field(default_factory=dict)

    @classmethod
    def of(cls, encoding: Encoding, known: Sequence[Levels]) -> Placing | None:
        """With every option whose tables are known everywhere and differ; None if there is none.

        `known` has those of each environment, the target's first, as
        `MeasurementTable.levels_of` finds them.
        """
        options = dict.fromkeys(group.option for group in encoding.groups)
        everywhere = [o for o in options if all(len(levels.get(o, ())) > 1 for levels in known)]
        differing = [o for o in everywhere if len({levels[o] for levels in known}) > 1]
        each = tuple({option: levels[option] for option in differing} for levels in known)
        return cls(encoding, each) if differing else None

    def choices(self) -> dict[str, tuple[Scale, ...]]:
        """Option -> the scales that there are; a fraction needs levels from zero on."""
        scales: dict[str, tuple[Scale, ...]] = {}
        for option in self.levels[0]:
            tables = {levels[option] for levels in self.levels}
            if len(tables) > 1:
                positive = all(levels[0] >= 0 for levels in tables)
                scales[option] = ("value", "fraction", "rank") if positive else ("value", "rank")
        return scales

    def on(self, option: str, scale: Scale) -> Placing:
        """The placing with that option's values on a scale."""
        others = {name: known for name, known in self.scales.items() if name != option}
        return replace(self, scales=others if scale == "value" else {**others, option: scale})

    def seen_from(self, source: int) -> Placing:
        """The same with a source as the target and without the former one, nothing chosen."""
        others = (*self.levels[1 : source + 1], *self.levels[source + 2 :])
        return replace(self, levels=(self.levels[source + 1], *others), scales={})

    def moved(self, x: torch.Tensor, own: int, other: int) -> torch.Tensor:
        """(n, p) features where environment `other` meets those of configurations of `own`."""
        result, start = x, 0
        for group in self.encoding.groups:
            block = slice(start, start + group.width)
            start += group.width
            scale = self.scales.get(group.option)
            if scale is None or self.levels[own][group.option] == self.levels[other][group.option]:
                continue
            result = x.clone() if result is x else result
            result[:, block] = self._met(x[:, block], group, scale, own, other)
        return result

    def _met(
        self, block: torch.Tensor, group: Group, scale: Scale, own: int, other: int
    ) -> torch.Tensor:
        """The columns of one group, moved."""
        option = self.encoding.space.options[group.option]
        mine, theirs = (np.array(self.levels[place][group.option]) for place in (own, other))
        there = positions(option, theirs)
        if scale == "fraction":
            ends = positions(option, mine * (theirs[-1] / mine[-1]))
        else:
            ends = np.interp(np.linspace(0, 1, len(mine)), np.linspace(0, 1, len(theirs)), there)
        starts = positions(option, mine)
        if not group.levels:
            met = torch.from_numpy(_along(block[:, 0].numpy(), starts, ends))
            if not group.optional:
                return met.unsqueeze(-1)
            active = block[:, 1] == 0
            return torch.stack([torch.where(active, met, block[:, 0]), block[:, 1]], -1)
        # between two levels of the other's table a value has a share of both indicators
        offered = [c for c, level in enumerate(group.levels) if level in set(theirs.tolist())]
        if not offered:
            return block
        every = positions(option, np.array(group.levels))
        met = _along(every, starts, ends)
        shares = np.zeros((len(every), len(every)))
        for column, indicator in zip(offered, np.eye(len(offered)), strict=True):
            shares[:, column] = np.interp(met, every[offered], indicator)
        return block @ torch.from_numpy(shares)


def _along(at: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Where a line from knot to knot leads; the first and the last step go on beyond the ends."""
    step = np.clip(np.searchsorted(starts, at) - 1, 0, len(starts) - 2)
    slope = (ends[step + 1] - ends[step]) / (starts[step + 1] - starts[step])
    return ends[step] + slope * (at - starts[step])

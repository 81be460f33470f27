"""The only door from tables to tensors: configurations as float64 features.

Every feature lies in [0, 1], so that one prior on lengthscales fits all of them:

    Real, Integer         position in the domain, on a log scale where the option says so
    Ordinal of numbers    position between its first and last level, on the scale, linear or
                          logarithmic, on which the levels are the more evenly spaced
    Ordinal of text       rank
    Boolean               0 or 1
    Categorical           one indicator a choice
    not active            an indicator of its own, beside a neutral position

The columns of one option form a `Group`, which has one lengthscale. It is either a position
or a choice, which kernels treat differently; an option with two levels is a choice. A
numeric option with a few levels has two groups, its position and its levels: where the
metric is smooth in the option the evidence gives the position a short lengthscale and
the levels a long one, where the levels behave as unrelated choices the other way round.
So the data choose between ordinal and one-hot, by degrees, and the lengthscales record it.

An option with one level says nothing and has no column.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch

from bayestl.data.options import Boolean, Categorical, Integer, Option, Ordinal, Real, Value
from bayestl.data.space import ConfigSpace

FEW_LEVELS = range(3, 9)
"""How many levels a numeric option may have to be seen as choices too."""

_INDICATOR = math.sqrt(0.5)  # two choices are then at distance 1, as false and true are
_NEUTRAL = 0.5


@dataclass(frozen=True)
class Group:
    """The columns that share one lengthscale: an option, or the levels of an option.

    Parameters
    ----------
    option : the option's name
    choice : whether it matters only which value it is, not how far two values are apart
    levels : the levels that have an indicator each; empty where one column says it
    optional : whether the option can be inactive, which takes one more column
    """

    option: str
    choice: bool = False
    levels: tuple[Value, ...] = ()
    optional: bool = False

    @property
    def name(self) -> str:
        """What diagnostics call the group."""
        return f"{self.option} (levels)" if self.levels else self.option

    @property
    def width(self) -> int:
        """How many columns the group has."""
        return (len(self.levels) or 1) + self.optional


@dataclass(frozen=True)
class Encoding:
    """The features of the configurations of a space.

    Parameters
    ----------
    space : the union space of a table, so that levels which only one environment has,
        or which nobody has measured yet, have their place
    """

    space: ConfigSpace
    groups: tuple[Group, ...] = field(init=False)

    def __post_init__(self) -> None:
        groups = [
            group
            for name, option in self.space.options.items()
            for group in _groups(name, option, name in self.space.conditions)
        ]
        object.__setattr__(self, "groups", tuple(groups))

    @property
    def width(self) -> int:
        """How many columns there are."""
        return sum(group.width for group in self.groups)

    def encode(self, configurations: pd.DataFrame) -> torch.Tensor:
        """(n, width) features of canonical configurations, as `ConfigSpace.frame` returns them."""
        features = np.zeros((len(configurations), self.width))
        start = 0
        for group in self.groups:
            values = configurations[group.option].to_numpy(dtype=object)
            block = features[:, start : start + group.width]
            _fill(block, group, self.space.options[group.option], values)
            start += group.width
        return torch.from_numpy(features)


def _groups(name: str, option: Option, optional: bool) -> list[Group]:
    levels = option.levels
    if levels is not None and len(levels) == 1:
        return [Group(name, choice=True, optional=True)] if optional else []
    if isinstance(option, Categorical):
        return [Group(name, True, option.choices, optional)]
    position = Group(name, levels is not None and len(levels) == 2, optional=optional)
    numeric = isinstance(option, Integer) or (isinstance(option, Ordinal) and option.numeric)
    if numeric and levels is not None and len(levels) in FEW_LEVELS:
        return [position, Group(name, True, levels)]
    return [position]


def _fill(block: np.ndarray, group: Group, option: Option, values: np.ndarray) -> None:
    """Write the group's columns; `block` starts as zeros."""
    if group.levels:
        inactive = pd.isna(values)
        active = np.flatnonzero(~inactive)
        rank = {level: column for column, level in enumerate(group.levels)}
        block[active, [rank[value] for value in values[active].tolist()]] = _INDICATOR
    else:
        places = positions(option, values)
        inactive = np.isnan(places)
        block[:, 0] = np.where(inactive, _NEUTRAL, places)
    if group.optional:
        block[inactive, -1] = _INDICATOR


def positions(option: Option, values: np.ndarray) -> np.ndarray:
    """Positions in [0, 1], NaN where not active; an option with one level is at 0.5 throughout."""
    if isinstance(option, (Real, Integer)):
        numbers, low, high, log = values.astype(float), option.low, option.high, option.log
    elif isinstance(option, Boolean):
        numbers, low, high, log = values.astype(float), 0.0, 1.0, False
    elif isinstance(option, Ordinal) and option.numeric:
        unit, log = _scale(np.array(option.levels, dtype=float))
        numbers = unit + values.astype(float)
        low, high = unit + float(option.levels[0]), unit + float(option.levels[-1])
    else:
        assert option.levels is not None
        rank: dict[Value | None, float] = {level: p for p, level in enumerate(option.levels)}
        rank[None] = math.nan
        numbers = np.array([rank[value] for value in values.tolist()])
        low, high, log = 0.0, len(option.levels) - 1.0, False
    if log:
        numbers, low, high = np.log(numbers), math.log(low), math.log(high)
    if low == high:  # also neighbours whose logarithms are the same number
        return np.where(np.isnan(numbers), np.nan, _NEUTRAL)
    return (numbers - low) / (high - low)


def _scale(levels: np.ndarray) -> tuple[float, bool]:
    """What to add to ascending levels, and whether to take logarithms then.

    Whoever lists 1, 2, 4, 8 or 0, 8, 16, 32 expects each step to matter about as much. The
    logarithm of levels from zero on is of the level plus the first positive one.
    """
    if len(levels) < 3 or levels[0] < 0:
        return 0.0, False
    unit = 0.0 if levels[0] > 0 else levels[1]
    log = _unevenness(np.log(unit + levels)) < _unevenness(levels)
    return (unit, True) if log else (0.0, False)


def _unevenness(ascending: np.ndarray) -> float:
    """How far positions between the first and the last are from steps of one length."""
    span = ascending[-1] - ascending[0]
    if span == 0 or not np.isfinite(span):
        return math.inf
    even = np.linspace(0.0, 1.0, len(ascending))
    return float(np.square((ascending - ascending[0]) / span - even).sum())

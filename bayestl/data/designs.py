"""Classical designs of experiments: configurations at the ends and middles of the options.

Plackett and Burman (1946), for main effects with hardly more runs than options; Box and Behnken
(1960) and Box and Wilson (1951, the central composite design, faced, so that it stays within
the options), for curvature and interactions. The tables of signs are those of pyDOE3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pandas as pd

from bayestl.data.options import Categorical, Option
from bayestl.data.sampling import ENUMERATION_LIMIT
from bayestl.data.space import ConfigSpace
from bayestl.errors import SpaceError

DesignName = Literal["plackett_burman", "box_behnken", "central_composite"]


@dataclass(frozen=True)
class Design:
    """The runs of a design.

    Parameters
    ----------
    configurations : valid and distinct, one a row, in a random order
    dropped : how many runs of the table of signs were left out, since they violate a constraint
    """

    configurations: pd.DataFrame
    dropped: int

    def __len__(self) -> int:
        return len(self.configurations)


def design(space: ConfigSpace, method: DesignName, *, seed: int = 0) -> Design:
    """The design over every option of the space that varies.

    The signs -1, 0 and 1 are the option's lowest, middle and highest level (`Option.at` 0, 1/2
    and 1); for `plackett_burman`, which has no middle, two levels are enough.

    Parameters
    ----------
    space : the space; fix options that shall not vary with `ConfigSpace.subspace`
    method : `plackett_burman`, `box_behnken` or `central_composite`
    seed : of the order of the runs

    Raises
    ------
    SpaceError
        If an option has no lowest and highest level, or no middle where one is needed, if
        there are too few or too many options, or no run satisfies the constraints.
    """
    if method not in get_args(DesignName):
        raise SpaceError(f"expected a design of {', '.join(get_args(DesignName))}, got {method!r}")
    varied = {
        name: option
        for name, option in space.options.items()
        if option.levels is None or len(option.levels) > 1
    }
    _check(varied, method)
    signs = _signs(len(varied), method)
    quantiles = dict(zip(varied, (signs.T + 1) / 2, strict=True))
    frame = pd.DataFrame(
        {
            name: pd.Series(
                [option.at(u) for u in quantiles.get(name, np.zeros(len(signs))).tolist()],
                dtype=object,
            )
            for name, option in space.options.items()
        }
    )
    frame = frame.where(space.active(frame), None)
    valid = frame[space.satisfied(frame)]
    if not len(valid):
        raise SpaceError(
            f"none of the {len(frame)} runs of the {method} design satisfies the constraints; "
            "sample the space instead"
        )
    distinct = {space.key(record): record for record in space.records(valid)}
    order = np.random.default_rng(seed).permutation(len(distinct))
    records = list(distinct.values())
    return Design(
        pd.DataFrame([records[i] for i in order], columns=list(space.names), dtype=object),
        dropped=len(frame) - len(valid),
    )


def _check(varied: Mapping[str, Option], method: DesignName) -> None:
    """Refuse options that a design has no levels for."""
    needed = 2 if method == "plackett_burman" else 3
    for name, option in varied.items():
        fix = f"fix it, as with space.subspace({name}={option.default!r}), or sample the space"
        if isinstance(option, Categorical) and len(option.choices) > 2:
            raise SpaceError(
                f"the {method} design expects options with a lowest and a highest level, got "
                f"{name!r} with {len(option.choices)} unordered choices; {fix}"
            )
        if option.levels is not None and len(option.levels) < needed:
            raise SpaceError(
                f"the {method} design expects options with a middle, got {name!r} with two "
                f"levels; {fix}"
            )
    least = 3 if method == "box_behnken" else 2 if method == "central_composite" else 1
    if len(varied) < least:
        raise SpaceError(
            f"the {method} design expects at least {least} options that vary, got {len(varied)}"
        )
    if method == "central_composite" and 2 ** len(varied) > ENUMERATION_LIMIT:
        raise SpaceError(
            f"the central_composite design of {len(varied)} options has more than "
            f"{ENUMERATION_LIMIT} runs; fix some of them, or take plackett_burman"
        )


def _signs(options: int, method: DesignName) -> np.ndarray:
    """(runs, options) of -1, 0 and 1, one run in the centre at most."""
    import pyDOE3

    if method == "plackett_burman":
        return pyDOE3.pbdesign(options)
    if method == "box_behnken":
        return pyDOE3.bbdesign(options, center=1)
    return pyDOE3.ccdesign(options, center=(0, 1), face="faced")

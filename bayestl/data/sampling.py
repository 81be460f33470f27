"""Valid configurations of a space: samples, enumerations and pools of candidates.

Samples are drawn from the options' priors and those that violate a constraint are
rejected; where that finds too few and the space is finite, the rest is drawn from the
list of all valid configurations. So a space in which one combination in a million is
valid can still be sampled, as long as it can be listed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Literal

import numpy as np
import pandas as pd
from scipy.stats import qmc

from bayestl.data.expression import Expression
from bayestl.data.space import ConfigSpace, Configuration, Key
from bayestl.errors import SpaceError

Method = Literal["sobol", "uniform", "latin_hypercube"]
"""How the unit cube is filled before its points become configurations."""

ENUMERATION_LIMIT = 100_000
"""How many configurations are listed unless told otherwise."""

MAX_STEPS = 2_000_000
"""How many partial configurations an enumeration looks at before it gives up."""

MIN_DRAWS = 16_384
DRAWS_PER_SAMPLE = 64
"""How many draws are tried, in all and for each configuration asked for."""


def sample(
    space: ConfigSpace, n: int, *, method: Method = "sobol", seed: int = 0, distinct: bool = True
) -> pd.DataFrame:
    """n valid configurations, one a row, in the order they were drawn.

    Parameters
    ----------
    space : the space
    n : how many
    method : a scrambled Sobol sequence, independent uniform draws, or Latin hypercubes
        Each quantile is mapped through the option's prior (`Option.at`). Rejection keeps the
        Sobol points that are valid; a Latin hypercube is exact only where all are.
    seed : the same seed gives the same configurations
    distinct : no configuration twice

    Raises
    ------
    SpaceError
        If there are fewer than n distinct configurations, or valid ones are so rare that
        they cannot be found; the message says how many there are, or how rare.
    """
    if n < 0:
        raise SpaceError(f"expected n >= 0 configurations, got {n}")
    rng = np.random.default_rng(seed)
    draw = _draws(method, len(space.names), rng)
    found: list[Configuration] = []
    seen: set[Key] = set()
    drawn = valid = 0
    most = max(MIN_DRAWS, DRAWS_PER_SAMPLE * n)
    if distinct:  # as many draws as there are combinations: what is missing is sooner listed
        most = min(most, space.cardinality)
    while len(found) < n and drawn < most:
        points = draw(max(n, drawn))
        configurations = _valid_configurations(space, points)
        drawn, valid = drawn + len(points), valid + len(configurations)
        found += _unseen(space, configurations, seen) if distinct else configurations
    if len(found) < n:
        rarity = f"{valid} of {drawn} draws satisfied the constraints"
        found += _listed(space, n - len(found), seen, rng, rarity, distinct)
    return pd.DataFrame(found[:n], columns=list(space.names), dtype=object)


def enumerate_space(space: ConfigSpace, limit: int = ENUMERATION_LIMIT) -> pd.DataFrame:
    """Every valid configuration once, one a row, in lexicographic order of the levels.

    An option that is not active comes before its levels. Branches are cut as soon as a
    constraint can be decided, so that the product of all levels is never formed.

    Raises
    ------
    SpaceError
        If an option has no list of levels, or there are more than `limit` configurations.
    """
    found = list(islice(_configurations(space), limit + 1))
    if len(found) > limit:
        raise SpaceError(
            f"the space has more than {limit} valid configurations; sample it, or raise the limit"
        )
    return _sorted(space, found)


def candidates(space: ConfigSpace, limit: int, seed: int = 0) -> pd.DataFrame:
    """All valid configurations if there are at most `limit`, else `limit` of them.

    The choice among more is a scrambled Sobol sample; the default configuration is always
    a candidate, the first one of a sample.

    Raises
    ------
    SpaceError
        If the limit is below 1, or as `sample`.
    """
    if limit < 1:
        raise SpaceError(f"expected room for at least one candidate, got limit={limit}")
    if _is_finite(space):
        with suppress(SpaceError):  # too long a search; random draws may be lucky where it is not
            found = list(islice(_configurations(space), limit + 1))
            if len(found) <= limit:
                return _sorted(space, found)
    drawn = space.records(sample(space, limit, seed=seed))
    default = space.default
    others = [c for c in drawn if space.key(c) != space.key(default)]
    return pd.DataFrame([default, *others][:limit], columns=list(space.names), dtype=object)


def _draws(method: Method, dimension: int, rng: np.random.Generator) -> Callable[[int], np.ndarray]:
    """A function that returns the next points of the unit cube, (at least so many, dimension)."""
    if method == "uniform":
        return lambda n: rng.random((n, dimension))
    if method == "latin_hypercube":
        return lambda n: qmc.LatinHypercube(dimension, rng=rng).random(n)
    if method != "sobol":
        raise SpaceError(f"expected method sobol, uniform or latin_hypercube, got {method!r}")
    sequence = qmc.Sobol(dimension, rng=rng)
    # a Sobol sequence is balanced only at powers of two
    return lambda n: sequence.random_base2(math.ceil(math.log2(n)))


def _valid_configurations(space: ConfigSpace, points: np.ndarray) -> list[Configuration]:
    """The configurations at points of the unit cube, without those that violate a constraint."""
    values = {
        name: pd.Series([option.at(u) for u in column], dtype=object)
        for (name, option), column in zip(space.options.items(), points.T.tolist(), strict=True)
    }
    frame = pd.DataFrame(values)
    frame = frame.where(space.active(frame), None)
    return space.records(frame[space.satisfied(frame)])


def _unseen(
    space: ConfigSpace, configurations: list[Configuration], seen: set[Key]
) -> list[Configuration]:
    """The configurations that are not in `seen`, to which they are added."""
    fresh = []
    for configuration in configurations:
        key = space.key(configuration)
        if key not in seen:
            seen.add(key)
            fresh.append(configuration)
    return fresh


def _listed(
    space: ConfigSpace,
    n: int,
    seen: set[Key],
    rng: np.random.Generator,
    rarity: str,
    distinct: bool,
) -> list[Configuration]:
    """n further configurations out of the list of all, where rejection found too few."""
    if not _is_finite(space):
        raise SpaceError(f"valid configurations are too rare to sample: {rarity}")
    try:
        every = space.records(enumerate_space(space))
    except SpaceError as error:
        raise SpaceError(f"valid configurations are too rare: {rarity}, and {error}") from None
    rest = [c for c in every if space.key(c) not in seen] if distinct else every
    if distinct and len(rest) < n:
        raise SpaceError(
            f"the space has only {len(every)} distinct valid configurations, "
            f"{len(seen) + n} were asked for; ask for fewer or pass distinct=False"
        )
    return [rest[i] for i in rng.choice(len(rest), n, replace=not distinct)]


def _is_finite(space: ConfigSpace) -> bool:
    return all(option.levels is not None for option in space.options.values())


def _configurations(space: ConfigSpace) -> Iterator[Configuration]:
    """Every valid configuration, lazily, each option after those that its condition names."""
    levels = {name: option.levels for name, option in space.options.items()}
    for name in space.names:
        if levels[name] is None:
            raise SpaceError(f"option {name!r} has no list of levels; sample the space instead")
    order = space.activation_order
    due = _due(space.constraints, order)
    values: Configuration = dict.fromkeys(space.names)
    steps = 0

    def extend(position: int) -> Iterator[Configuration]:
        nonlocal steps
        if position == len(order):
            yield dict(values)
            return
        name = order[position]
        condition = space.conditions.get(name)
        active = condition is None or condition.holds(values)
        for value in (levels[name] or ()) if active else (None,):
            steps += 1
            if steps > MAX_STEPS:
                raise SpaceError(
                    f"gave up listing the space after {MAX_STEPS} partial configurations"
                )
            values[name] = value
            if all(constraint.holds(values) is not False for constraint in due[position]):
                yield from extend(position + 1)
        values[name] = None

    return extend(0)


def _due(constraints: tuple[Expression, ...], order: tuple[str, ...]) -> list[list[Expression]]:
    """For each position of the order, the constraints that can be decided there."""
    due: list[list[Expression]] = [[] for _ in order]
    for constraint in constraints:
        due[max((order.index(name) for name in constraint.names), default=0)].append(constraint)
    return due


def _sorted(space: ConfigSpace, configurations: list[Configuration]) -> pd.DataFrame:
    """The configurations as a frame, in lexicographic order of the positions of their levels."""
    ranks = [
        {None: -1} | {level: rank for rank, level in enumerate(option.levels or ())}
        for option in space.options.values()
    ]

    def position(configuration: Configuration) -> tuple[int, ...]:
        pairs = zip(ranks, configuration.values(), strict=True)
        return tuple(rank[value] for rank, value in pairs)

    ordered = sorted(configurations, key=position)
    return pd.DataFrame(ordered, columns=list(space.names), dtype=object)

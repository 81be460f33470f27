"""Hypothesis strategies for bayestl's values: options, spaces, configurations, tables."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from bayestl.data.environment import Environment
from bayestl.data.measurement import Metric, Status
from bayestl.data.options import Boolean, Categorical, Integer, Option, Ordinal, Real
from bayestl.data.space import ConfigSpace, Configuration
from bayestl.data.table import MeasurementTable
from bayestl.errors import SpaceError

texts = st.text(min_size=1, max_size=6, alphabet=st.characters(exclude_categories=("Cs", "Cc")))
"""Any text that a file can hold on one line."""

words = st.sampled_from(("fp32", "fp16", "int8", "None", "true", "0-3", "a b", 'say "x"', "ä"))
numbers = st.one_of(
    st.integers(-100, 100), st.floats(-1e6, 1e6, allow_subnormal=False).map(lambda x: x + 0.0)
)
units = st.sampled_from(("", "MHz", "%"))


@st.composite
def reals(draw: st.DrawFn) -> Real:
    """A real option, on a linear or a log scale."""
    log = draw(st.booleans())
    low, high = sorted(
        x + 0.0  # -0.0 and 0.0 are one number, and no interval to draw from
        for x in draw(st.lists(st.floats(1e-3 if log else -1e3, 1e3), min_size=2, max_size=2))
    )
    return Real(low, high, log=log, unit=draw(units))


@st.composite
def integers(draw: st.DrawFn, width: int = 8) -> Integer:
    """An integer option with at most `width` + 1 values."""
    log = draw(st.booleans())
    low = draw(st.integers(1 if log else -20, 20))
    high = low + draw(st.integers(0, width))
    return Integer(low, high, log=log, default=draw(st.integers(low, high)), unit=draw(units))


def distinct_levels(elements: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    """One to five levels that no file can confuse."""
    levels = st.lists(elements, min_size=1, max_size=5, unique_by=lambda level: str(level).lower())
    return levels.filter(lambda found: len(set(found)) == len(found)).map(tuple)


@st.composite
def ordinals(draw: st.DrawFn) -> Ordinal:
    """An ordinal option with numbers or text as levels."""
    levels = draw(
        st.one_of(distinct_levels(numbers).map(sorted).map(tuple), distinct_levels(words))
    )
    return Ordinal(levels, default=draw(st.sampled_from(levels)), unit=draw(units))


@st.composite
def categoricals(draw: st.DrawFn) -> Categorical:
    """A categorical option whose choices may be of several types."""
    choices = draw(distinct_levels(st.one_of(words, st.integers(0, 9), st.just(0.5))))
    return Categorical(
        choices, draw(st.sampled_from(choices)), doc=draw(st.sampled_from(("", "d")))
    )


booleans = st.builds(Boolean, st.booleans())
finite_options = st.one_of(integers(), ordinals(), categoricals(), booleans)
"""Options with few levels."""
options = st.one_of(finite_options, reals())
"""Options of every kind."""


def levels_of(option: Option) -> st.SearchStrategy[Any]:
    """A value of the option's domain."""
    if isinstance(option, Real):
        return st.floats(option.low, option.high)
    return st.sampled_from(option.levels or ())


def _literal(value: Any) -> str:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else repr(value)


@st.composite
def relations(draw: st.DrawFn, options: dict[str, Option]) -> str:
    """A relation between one or two of the options, as text."""

    def about(name: str) -> str:
        option = options[name]
        levels = st.lists(levels_of(option), min_size=1, max_size=3)
        values = draw(levels)
        if isinstance(option, (Real, Integer)):
            return f"{name} {draw(st.sampled_from(('<=', '>=', '!=')))} {values[0]!r}"
        return f"{name} in ({', '.join(map(_literal, values))},)"

    names = draw(st.lists(st.sampled_from(sorted(options)), min_size=1, max_size=2, unique=True))
    joined = draw(st.sampled_from((" or ", " and "))).join(f"({about(name)})" for name in names)
    return f"not ({joined})" if draw(st.booleans()) else joined


@st.composite
def spaces(draw: st.DrawFn, finite: bool = False, most: int = 4) -> ConfigSpace:
    """A space with conditions, which may come before what they depend on, and constraints."""
    kinds = draw(st.lists(finite_options if finite else options, min_size=1, max_size=most))
    names = draw(st.permutations([f"x{i}" for i in range(len(kinds))]))
    named: dict[str, Option] = dict(zip(names, kinds, strict=True))
    conditions = {}
    for i in range(1, len(kinds)):  # an option depends on options with lower numbers alone
        if draw(st.integers(0, 2)) == 0:
            conditions[f"x{i}"] = draw(relations({f"x{j}": named[f"x{j}"] for j in range(i)}))
    constraints: list[str] = []
    for constraint in draw(st.lists(relations(named), max_size=2)):
        try:  # one that refuses the default configuration is left out
            ConfigSpace(named, [*constraints, constraint], conditions)
        except SpaceError:
            continue
        constraints.append(constraint)
    return ConfigSpace(named, constraints, conditions)


@st.composite
def configurations(draw: st.DrawFn, space: ConfigSpace) -> Configuration:
    """A valid configuration; the default one where the drawn values violate a constraint."""
    values: Configuration = dict.fromkeys(space.names)
    for name in space.activation_order:
        condition = space.conditions.get(name)
        if condition is None or condition.holds(values):
            values[name] = draw(levels_of(space.options[name]))
    return space.configuration(values) if space.contains(values) else space.default


environments = st.builds(
    Environment,
    name=texts.filter(str.strip),
    hardware=st.sampled_from(("", "Jetson TX2")),
    engine=st.sampled_from(("", "onnxruntime 1.20")),
    settings=st.dictionaries(texts, st.one_of(words, numbers, st.booleans()), max_size=2),
    levels=st.dictionaries(
        texts, st.lists(numbers, min_size=1, max_size=4, unique=True).map(sorted), max_size=2
    ),
)
"""Environments with any name, settings and levels."""


@st.composite
def tables(draw: st.DrawFn, space: ConfigSpace | None = None) -> MeasurementTable:
    """A table with failures, repeats, two metrics and environments with and without rows."""
    space = draw(spaces()) if space is None else space
    n = draw(st.integers(1, 6))
    described = draw(st.lists(environments, min_size=1, max_size=3, unique_by=lambda e: e.name))
    known = [replace(environment, levels={}) for environment in described]
    frame = space.frame(draw(st.lists(configurations(space), min_size=n, max_size=n)))
    frame["where"] = draw(
        st.lists(st.sampled_from([e.name for e in known]), min_size=n, max_size=n)
    )
    frame["how"] = draw(st.lists(st.sampled_from(list(Status)), min_size=n, max_size=n))
    positive = st.lists(st.floats(1e-3, 1e3), min_size=n, max_size=n)
    frame["latency"], frame["rate"] = draw(positive), draw(positive)
    frame.loc[draw(st.lists(st.integers(0, n - 1), max_size=2)), "rate"] = np.nan
    return MeasurementTable.from_frame(
        frame,
        options=space,
        environment="where",
        environments=known,
        status="how",
        metrics=[Metric("latency", "ms"), Metric("rate", "1/s", "maximize")],
    )

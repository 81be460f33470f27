"""`ConfigSpace`: the options of a system, and which configurations are valid.

A configuration is a plain dict from every option to its value, in the space's order.
An option whose condition does not hold is not active: its value is None.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from types import MappingProxyType
from typing import Any, cast

import numpy as np
import pandas as pd

from bayestl.data.expression import Expression
from bayestl.data.options import (
    Boolean,
    Categorical,
    Integer,
    Option,
    Ordinal,
    Real,
    Value,
    option_from_dict,
    option_to_dict,
)
from bayestl.errors import ConfigurationError, SpaceError

Configuration = dict[str, Value | None]
"""Option -> value, with None for an option that is not active."""

Key = tuple[Any, ...]
"""A configuration as a hashable value."""


@dataclass(frozen=True, init=False)
class ConfigSpace:
    """The options of a system with their domains, conditions and constraints.

    Parameters
    ----------
    options : mapping from name to option
        Such as ``{"threads": Integer(1, 8), "precision": Categorical(("fp32", "fp16"))}``.
    constraints : expressions, or their text, that every configuration must satisfy
        A constraint that speaks of an option that is not active is satisfied.
    conditions : mapping from option to expression, or its text
        The option is active only where the expression holds; an option that depends
        on one that is not active is not active either.

    Attributes
    ----------
    activation_order : the options, each after those that its condition names

    Raises
    ------
    SpaceError
        If there is no option, a name is empty or no text, an option is of no kind, an expression
        is malformed or names no option, conditions form a circle, or the default configuration
        violates a constraint.

    Examples
    --------
    >>> from bayestl.data.options import Categorical, Integer
    >>> space = ConfigSpace(
    ...     {
    ...         "mode": Categorical(("sequential", "parallel")),
    ...         "threads": Integer(1, 8, default=2),
    ...         "spin": Integer(0, 1000),
    ...     },
    ...     constraints=["mode == 'sequential' or threads >= 2"],
    ...     conditions={"spin": "mode == 'parallel'"},
    ... )
    >>> space.default
    {'mode': 'sequential', 'threads': 2, 'spin': None}
    >>> space.configuration({"mode": "parallel", "threads": 4.0})
    {'mode': 'parallel', 'threads': 4, 'spin': 0}
    >>> space.contains({"mode": "parallel", "threads": 1})
    False
    """

    options: Mapping[str, Option]
    constraints: tuple[Expression, ...]
    conditions: Mapping[str, Expression]
    activation_order: tuple[str, ...] = field(init=False, compare=False, repr=False)

    def __init__(
        self,
        options: Mapping[str, Option],
        constraints: Iterable[Expression | str] = (),
        conditions: Mapping[str, Expression | str] | None = None,
    ) -> None:
        if not isinstance(options, Mapping):
            raise SpaceError(
                f"expected options by their names, such as {{'threads': Integer(1, 8)}}, got "
                f"{options!r}"
            )
        if isinstance(constraints, str):
            raise SpaceError(f"expected a list of constraints, got the text {constraints!r}")
        relations = {name: _expression(text) for name, text in (conditions or {}).items()}
        object.__setattr__(self, "options", MappingProxyType(dict(options)))
        object.__setattr__(self, "constraints", tuple(map(_expression, constraints)))
        object.__setattr__(self, "conditions", MappingProxyType(relations))
        self._check()
        object.__setattr__(self, "activation_order", self._activation_order())
        violated = self._violated(self.default)
        if violated is not None:
            raise SpaceError(f"the default configuration violates {violated.text!r}")

    def __reduce__(self) -> tuple[Any, ...]:
        return ConfigSpace, (dict(self.options), self.constraints, dict(self.conditions))

    def __hash__(self) -> int:
        return hash((self.names, self.constraints))

    def _check(self) -> None:
        """Raise unless options have names and kinds, and expressions speak of options."""
        if not self.options:
            raise SpaceError("expected at least one option, got none")
        for name, option in self.options.items():
            if not isinstance(name, str) or not name:
                raise SpaceError(f"expected option names that are text, got {name!r}")
            if not isinstance(option, Option):
                raise SpaceError(
                    f"option {name!r}: expected a kind such as Integer, got {option!r}"
                )
        for name in self.conditions:
            if name not in self.options:
                raise SpaceError(f"a condition names the unknown option {name!r}; {self._known()}")
        for expression in (*self.constraints, *self.conditions.values()):
            for name in sorted(expression.names):
                if name not in self.options:
                    raise SpaceError(
                        f"{expression.text!r} names the unknown option {name!r}; {self._known()}"
                    )

    @property
    def names(self) -> tuple[str, ...]:
        """The options' names, in order."""
        return tuple(self.options)

    @property
    def default(self) -> Configuration:
        """The default configuration."""
        return self._activate({})

    @property
    def cardinality(self) -> float:
        """How many combinations of levels there are, before constraints; inf if any is real."""
        sizes = [_size(option) for option in self.options.values()]
        return math.prod(sizes)

    def configuration(self, values: Mapping[str, Any]) -> Configuration:
        """The canonical configuration of `values`; options left out take their defaults.

        Raises
        ------
        ConfigurationError
            For an unknown option, a value outside its domain, a value for an option
            that is not active, or a violated constraint.
        """
        for name in values:
            if name not in self.options:
                raise ConfigurationError(f"unknown option {name!r}; {self._known()}")
        given = {}
        for name, value in values.items():
            if _is_missing(value):
                continue
            try:
                given[name] = self.options[name].canonical(value)
            except ConfigurationError as error:
                raise ConfigurationError(f"option {name!r}: {error}") from None
        result = self._activate(given)
        for name in given:
            if result[name] is None:
                condition = self.conditions[name].text
                raise ConfigurationError(
                    f"option {name!r} is active only where {condition!r}; leave it out"
                )
        violated = self._violated(result)
        if violated is not None:
            shown = {name: result[name] for name in sorted(violated.names)}
            raise ConfigurationError(f"{shown} violates the constraint {violated.text!r}")
        return result

    def contains(self, values: Mapping[str, Any]) -> bool:
        """Whether `configuration(values)` would succeed."""
        try:
            self.configuration(values)
        except ConfigurationError:
            return False
        return True

    def frame(self, configs: pd.DataFrame | Sequence[Mapping[str, Any]]) -> pd.DataFrame:
        """Canonical configurations, one a row, one object column an option; index kept.

        Unlike `configuration`, and so a list of mappings, a frame must have a column for
        every option and a value for every active one: what is left out by mistake would
        otherwise silently become its default.

        Raises
        ------
        ConfigurationError
            As `configuration`, naming the row; or for a missing column or value.
        """
        if not isinstance(configs, pd.DataFrame):
            return self._frame_of(configs)
        missing = [name for name in self.names if name not in configs.columns]
        if missing:
            raise ConfigurationError(f"expected a column for every option, missing {missing}")
        if configs.columns.nlevels > 1 or not configs.columns.is_unique:
            raise ConfigurationError(
                f"expected distinct columns of one name each, got {list(configs.columns)}"
            )
        absent = configs[list(self.names)].isna().to_numpy()
        columns, inside = {}, np.empty_like(absent)
        for place, (name, option) in enumerate(self.options.items()):
            columns[name], inside[:, place] = _canonical(option, configs[name], absent[:, place])
        result = pd.DataFrame(columns, index=configs.index, dtype=object)
        active = self.active(result).to_numpy()
        faulty = ((inside == absent) | (active == absent)).any(axis=1) | ~self.satisfied(result)
        if faulty.any():
            self._refuse_row(configs, int(np.argmax(faulty)), active)
        return result

    def active(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Whether each option is active in each row of canonical values."""
        values = {name: frame[name].tolist() for name in self.names if self.conditions}
        result = {name: np.ones(len(frame), dtype=bool) for name in self.names}
        for name in self.activation_order:
            if name in self.conditions:
                holds = [held is True for held in _holds(self.conditions[name], values)]
                result[name] = np.array(holds, dtype=bool)
                values[name] = [
                    value if on else None for value, on in zip(values[name], holds, strict=True)
                ]
        return pd.DataFrame(result, index=frame.index)

    def satisfied(self, frame: pd.DataFrame) -> np.ndarray:
        """Whether each row of canonical values satisfies every constraint; (n,) boolean."""
        result = np.ones(len(frame), dtype=bool)
        for constraint in self.constraints:
            values = {name: frame[name].tolist() for name in constraint.names}
            if values:
                held = _holds(constraint, values)
                result &= np.array([value is not False for value in held], dtype=bool)
        return result

    def key(self, config: Mapping[str, Any]) -> Key:
        """The canonical configuration as a hashable value, equal for equal configurations."""
        return tuple(config[name] for name in self.names)

    def records(self, frame: pd.DataFrame) -> list[Configuration]:
        """The rows of a frame made by `frame`, as configurations."""
        return cast(list[Configuration], frame[list(self.names)].to_dict("records"))

    def subspace(self, **fixed: Value) -> ConfigSpace:
        """The space in which the given options have just the given value."""
        for name in fixed:
            if name not in self.options:
                raise ConfigurationError(f"unknown option {name!r}; {self._known()}")
        options = {
            name: self._fixed(name, fixed[name]) if name in fixed else option
            for name, option in self.options.items()
        }
        return replace(self, options=options)

    def restricted(self, frame: pd.DataFrame) -> ConfigSpace:
        """The smallest space that holds every row of a frame made by `frame`.

        An option that is active in no row keeps its domain. Where the default configuration
        falls outside, the first row takes its place.
        """
        seen = {name: [v for v in frame[name].tolist() if v is not None] for name in self.names}
        first = {name: values[0] for name, values in seen.items() if values}
        options = dict(self.options)
        for name, default in first.items():
            options[name] = _narrowed(self.options[name], seen[name], default)
        if all(options[name].contains(self.options[name].default) for name in first):
            for name in first:
                options[name] = replace(options[name], default=self.options[name].default)
        return replace(self, options=options)

    @staticmethod
    def union(spaces: Sequence[ConfigSpace]) -> ConfigSpace:
        """The smallest space that holds every configuration of `spaces`.

        Environments may offer different levels of one option, such as two boards'
        frequency tables. Conditions must agree; a constraint is kept only if every
        space has it, since the others' configurations may violate it.
        """
        if not spaces:
            raise SpaceError("expected at least one space, got none")
        first = spaces[0]
        for other in spaces[1:]:
            if set(other.names) != set(first.names):
                odd = sorted(set(other.names) ^ set(first.names))
                raise SpaceError(f"expected spaces with the same options, {odd} differ")
            if dict(other.conditions) != dict(first.conditions):
                raise SpaceError("expected spaces with the same conditions")
        options = {n: _merged(n, [space.options[n] for space in spaces]) for n in first.names}
        shared = [c for c in first.constraints if all(c in space.constraints for space in spaces)]
        return ConfigSpace(options, shared, first.conditions)

    def to_dict(self) -> dict[str, Any]:
        """The space as plain values, for JSON and TOML; the order of the options counts."""
        return {
            "options": {name: option_to_dict(option) for name, option in self.options.items()},
            "constraints": [constraint.text for constraint in self.constraints],
            "conditions": {name: relation.text for name, relation in self.conditions.items()},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ConfigSpace:
        """The space that `to_dict` wrote.

        Raises
        ------
        SpaceError
            As the constructor and `option_from_dict`.
        """
        options = {
            name: option_from_dict(option) for name, option in values.get("options", {}).items()
        }
        return cls(options, values.get("constraints", ()), values.get("conditions", {}))

    def _frame_of(self, configs: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
        rows = []
        if isinstance(configs, Mapping) or not hasattr(configs, "__iter__"):
            raise ConfigurationError(
                "expected a frame or a list of configurations, such as [{'threads': 4}], got "
                f"{'one' if isinstance(configs, Mapping) else 'a'} {type(configs).__name__}"
            )
        for row, values in enumerate(configs):
            if not isinstance(values, Mapping):
                raise ConfigurationError(
                    f"row {row}: expected option -> value, such as {{'threads': 4}}, got {values!r}"
                )
            try:
                rows.append(self.configuration(values))
            except ConfigurationError as error:
                raise ConfigurationError(f"row {row}: {error}") from None
        return pd.DataFrame(rows, columns=list(self.names), dtype=object)

    def _refuse_row(self, configs: pd.DataFrame, row: int, active: np.ndarray) -> None:
        """Raise what is wrong with a row that `frame` found faulty."""
        record = {name: configs[name].tolist()[row] for name in self.names}
        label = configs.index.tolist()[row]
        for name, on in zip(self.names, active[row], strict=True):
            if on and _is_missing(record[name]):
                raise ConfigurationError(
                    f"row {label!r}: no value of {name!r}; every active option needs one: fill "
                    "it in, or say in a ConfigSpace under which condition the option is active"
                )
        try:
            self.configuration(record)
        except ConfigurationError as error:
            raise ConfigurationError(f"row {label!r}: {error}") from None

    def _activate(self, given: Mapping[str, Value]) -> Configuration:
        """`given` with defaults filled in and options that are not active set to None."""
        values: Configuration = dict.fromkeys(self.names)
        for name in self.activation_order:
            condition = self.conditions.get(name)
            if condition is None or condition.holds(values):
                values[name] = given.get(name, self.options[name].default)
        return values

    def _violated(self, values: Configuration) -> Expression | None:
        for constraint in self.constraints:
            if constraint.holds(values) is False:
                return constraint
        return None

    def _activation_order(self) -> tuple[str, ...]:
        graph = {
            name: sorted(self.conditions[name].names) if name in self.conditions else ()
            for name in self.names
        }
        try:
            return tuple(TopologicalSorter(graph).static_order())
        except CycleError as error:
            raise SpaceError(f"conditions form a circle: {' -> '.join(error.args[1])}") from None

    def _fixed(self, name: str, value: Value) -> Option:
        try:
            only = self.options[name].canonical(value)
        except ConfigurationError as error:
            raise ConfigurationError(f"option {name!r}: {error}") from None
        return _narrowed(self.options[name], (only,), only)

    def _known(self) -> str:
        return f"expected one of {', '.join(self.names)}"


def _expression(text: Expression | str) -> Expression:
    return text if isinstance(text, Expression) else Expression(text)


def _holds(expression: Expression, columns: Mapping[str, Sequence[Any]]) -> list[bool | None]:
    """Whether the expression holds in each row; evaluated once for each distinct row."""
    names = sorted(expression.names)
    rows = list(zip(*(columns[name] for name in names), strict=True))
    held = {row: expression.holds(dict(zip(names, row, strict=True))) for row in set(rows)}
    return [held[row] for row in rows]


def _canonical(
    option: Option, column: pd.Series, absent: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Canonical values, and which are there: None where absent or outside the domain.

    Each distinct value is looked at once.
    """
    column = column.infer_objects()  # of numbers that are objects
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "biuf":
        return _canonical_numbers(option, column.to_numpy())
    known: dict[tuple[type, Any], Value | None] = {}
    result = np.empty(len(column), dtype=object)
    for row, (value, missing) in enumerate(zip(column.tolist(), absent.tolist(), strict=True)):
        if missing:
            continue
        key = (type(value), value)  # 1, 1.0 and True are one key of a dict
        try:
            if key not in known:
                known[key] = option.canonical(value) if option.contains(value) else None
            result[row] = known[key]
        except TypeError:  # a list or another value that cannot be a key is in no domain
            continue
    return result, pd.notna(result)


def _canonical_numbers(option: Option, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same of numbers or truth values, fast enough for a million."""
    if isinstance(option, Real) and values.dtype.kind == "f":
        inside = (values >= option.low) & (values <= option.high)
        result = values.astype(float).astype(object)
        result[~inside] = None
        return result, inside
    position, distinct = pd.factorize(values)
    known = np.empty(len(distinct) + 1, dtype=object)  # the last is of what is absent
    known[:-1] = [option.canonical(v) if option.contains(v) else None for v in distinct.tolist()]
    return known[position], pd.notna(known)[position]


def _is_missing(value: Any) -> bool:
    """None, and the NaN and NA that pandas puts in its place."""
    return (
        value is None
        or value is pd.NA
        or value is pd.NaT
        or (isinstance(value, (float, np.floating)) and bool(np.isnan(value)))
    )


def _size(option: Option) -> float:
    if isinstance(option, Integer):
        return option.high - option.low + 1
    return math.inf if option.levels is None else len(option.levels)


def _narrowed(option: Option, values: Sequence[Value], default: Value) -> Option:
    """The option with only the canonical values given, or only their range."""
    if isinstance(option, (Real, Integer)):
        return replace(option, low=min(values), high=max(values), default=default)
    kept = tuple(level for level in option.levels or () if level in set(values))
    if isinstance(option, Ordinal):
        return replace(option, levels=kept, default=default)
    if len(kept) == len(option.levels or ()):
        return replace(option, default=default)
    return Categorical(kept, default, option.unit, option.doc)


def _merged(name: str, options: Sequence[Option]) -> Option:
    first = options[0]
    if all(option == first for option in options):
        return first
    booleans = [option for option in options if isinstance(option, Boolean)]
    if booleans and all(type(v) is bool for option in options for v in option.levels or (0,)):
        return booleans[0]  # the others are what `subspace` makes of a fixed one
    if any(type(option) is not type(first) or option.unit != first.unit for option in options):
        found = (f"{o.kind} [{o.unit}]" if o.unit else o.kind for o in options)
        raise SpaceError(
            f"option {name!r}: expected one kind and unit in every space, got "
            f"{', '.join(dict.fromkeys(found))}; name the kind where it was inferred"
        )
    if isinstance(first, (Real, Integer)):
        ranges = [option for option in options if isinstance(option, (Real, Integer))]
        low, high = min(option.low for option in ranges), max(option.high for option in ranges)
        return replace(first, low=low, high=high)
    lists = [option.levels or () for option in options]
    if isinstance(first, Ordinal):
        return replace(first, levels=_merged_levels(name, lists))
    if isinstance(first, Categorical):
        # 1 and True stay two choices here, which Categorical refuses
        choices = {(type(v) is bool, v): v for levels in lists for v in levels}
        return replace(first, choices=tuple(choices.values()))
    return first


def _merged_levels(name: str, lists: Sequence[Sequence[Value]]) -> tuple[Value, ...]:
    """All levels: numbers ascending, others in an order that agrees with every list."""
    numbers = [v for levels in lists for v in levels if isinstance(v, (int, float))]
    if len(numbers) == sum(map(len, lists)):
        return tuple(sorted(set(numbers)))
    before: dict[Value, set[Value]] = {}
    for levels in lists:
        before.setdefault(levels[0], set())
        for previous, level in pairwise(levels):
            before.setdefault(level, set()).add(previous)
    try:
        return tuple(TopologicalSorter(before).static_order())
    except CycleError:
        raise SpaceError(f"option {name!r}: levels are ordered in different ways") from None

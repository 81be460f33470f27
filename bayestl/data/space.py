"""`ConfigSpace`: the options of a system, and which configurations are valid.

A configuration is a plain dict from every option to its value, in the space's order.
An option whose condition does not hold is not active: its value is None.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from graphlib import CycleError, TopologicalSorter
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from bayestl.data.expression import Expression
from bayestl.data.options import Categorical, Integer, Option, Ordinal, Real, Value
from bayestl.errors import ConfigurationError, SpaceError

Configuration = dict[str, Value | None]
"""Option -> value, with None for an option that is not active."""

Key = tuple[Any, ...]
"""A configuration as a hashable value."""


@dataclass(frozen=True)
class ConfigSpace:
    """The options of a system with their domains, conditions and constraints.

    Parameters
    ----------
    options : mapping from name to option
        Such as ``{"threads": Integer(1, 8), "precision": Categorical(("fp32", "fp16"))}``.
    constraints : expressions that every configuration must satisfy
        A constraint that speaks of an option that is not active is satisfied.
    conditions : mapping from option to expression
        The option is active only where the expression holds; an option that depends
        on one that is not active is not active either.

    Raises
    ------
    SpaceError
        If a name, an expression or a condition is malformed, conditions form a
        circle, or the default configuration violates a constraint.
    """

    options: Mapping[str, Option]
    constraints: Sequence[Expression | str] = ()
    conditions: Mapping[str, Expression | str] = field(default_factory=dict)
    _order: tuple[str, ...] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not self.options:
            raise SpaceError("expected at least one option, got none")
        for name, option in self.options.items():
            if not isinstance(name, str) or not name:
                raise SpaceError(f"expected option names that are text, got {name!r}")
            if not isinstance(option, Option):
                raise SpaceError(
                    f"option {name!r}: expected a kind such as Integer, got {option!r}"
                )
        object.__setattr__(self, "options", MappingProxyType(dict(self.options)))
        object.__setattr__(self, "constraints", tuple(map(_expression, self.constraints)))
        conditions = {name: _expression(text) for name, text in self.conditions.items()}
        object.__setattr__(self, "conditions", MappingProxyType(conditions))
        for expression in (*self.constraints, *conditions.values()):
            self._check_names(expression)
        for name in conditions:
            if name not in self.options:
                raise SpaceError(f"a condition names the unknown option {name!r}; {self._known()}")
        object.__setattr__(self, "_order", self._activation_order())
        violated = self._violated(self._activate({}))
        if violated is not None:
            raise SpaceError(f"the default configuration violates {violated.text!r}")

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
                raise ConfigurationError(
                    f"option {name!r} is active only where {self.conditions[name].text!r}; leave it out"  # type: ignore[union-attr]
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

        Unlike `configuration`, a frame must have a column for every option: a column
        left out by mistake would otherwise silently become its default.

        Raises
        ------
        ConfigurationError
            As `configuration`, naming the row; or for a missing column.
        """
        if not isinstance(configs, pd.DataFrame):
            configs = pd.DataFrame(
                [self.configuration(c) for c in configs], columns=self.names, dtype=object
            )
        missing = [name for name in self.names if name not in configs.columns]
        if missing:
            raise ConfigurationError(f"expected a column for every option, missing {missing}")
        if not configs.columns.is_unique:
            raise ConfigurationError(f"expected distinct columns, got {list(configs.columns)}")
        rows = []
        records = configs[list(self.names)].astype(object).to_dict("records")
        for label, record in zip(configs.index, records, strict=True):
            try:
                rows.append(self.configuration(record))  # type: ignore[arg-type]
            except ConfigurationError as error:
                raise ConfigurationError(f"row {label!r}: {error}") from None
        return pd.DataFrame(rows, columns=list(self.names), index=configs.index, dtype=object)

    def key(self, config: Mapping[str, Any]) -> Key:
        """The canonical configuration as a hashable value, equal for equal configurations."""
        return tuple(config[name] for name in self.names)

    def records(self, frame: pd.DataFrame) -> list[Configuration]:
        """The rows of a frame made by `frame`, as configurations."""
        return frame[list(self.names)].to_dict("records")  # type: ignore[return-value]

    def subspace(self, **fixed: Value) -> ConfigSpace:
        """The space in which the given options have just the given value."""
        for name in fixed:
            if name not in self.options:
                raise ConfigurationError(f"unknown option {name!r}; {self._known()}")
        options = {
            name: _fixed(option, fixed[name]) if name in fixed else option
            for name, option in self.options.items()
        }
        return replace(self, options=options)

    @staticmethod
    def union(spaces: Sequence[ConfigSpace]) -> ConfigSpace:
        """The smallest space that holds every configuration of `spaces`.

        Environments may offer different levels of one option, such as two boards'
        frequency tables. Conditions must agree; a constraint is kept only if every
        space has it, since the others' configurations may violate it.
        """
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

    def _activate(self, given: Mapping[str, Value]) -> Configuration:
        """`given` with defaults filled in and options that are not active set to None."""
        values: Configuration = dict.fromkeys(self.names)
        for name in self._order:
            condition = self.conditions.get(name)
            if condition is None or condition.holds(values):  # type: ignore[union-attr]
                values[name] = given.get(name, self.options[name].default)
        return values

    def _violated(self, values: Configuration) -> Expression | None:
        for constraint in self.constraints:
            if constraint.holds(values) is False:  # type: ignore[union-attr]
                return constraint  # type: ignore[return-value]
        return None

    def _activation_order(self) -> tuple[str, ...]:
        graph = {
            name: self.conditions[name].names if name in self.conditions else ()
            for name in self.names
        }  # type: ignore[union-attr]
        try:
            return tuple(TopologicalSorter(graph).static_order())
        except CycleError as error:
            raise SpaceError(f"conditions form a circle: {' -> '.join(error.args[1])}") from None

    def _check_names(self, expression: Expression | str) -> None:
        assert isinstance(expression, Expression)
        for name in sorted(expression.names):
            if name not in self.options:
                raise SpaceError(
                    f"{expression.text!r} names the unknown option {name!r}; {self._known()}"
                )

    def _known(self) -> str:
        return f"expected one of {', '.join(self.names)}"


def _expression(text: Expression | str) -> Expression:
    return text if isinstance(text, Expression) else Expression(text)


def _is_missing(value: Any) -> bool:
    """None, and the NaN and NA that pandas puts in its place."""
    return (
        value is None
        or value is pd.NA
        or (isinstance(value, (float, np.floating)) and np.isnan(value))
    )


def _size(option: Option) -> float:
    if isinstance(option, Integer):
        return option.high - option.low + 1
    return math.inf if option.levels is None else len(option.levels)


def _fixed(option: Option, value: Value) -> Option:
    value = option.canonical(value)
    if isinstance(option, (Real, Integer)):
        return replace(option, low=value, high=value, default=value)
    if isinstance(option, Ordinal):
        return replace(option, levels=(value,), default=value)
    return Categorical((value,), value, option.unit, option.doc)


def _merged(name: str, options: Sequence[Option]) -> Option:
    first = options[0]
    if all(option == first for option in options):
        return first
    if any(type(option) is not type(first) or option.unit != first.unit for option in options):
        raise SpaceError(
            f"option {name!r}: expected one kind and unit in every space, got {options}"
        )
    if isinstance(first, (Real, Integer)):
        low, high = min(o.low for o in options), max(o.high for o in options)  # type: ignore[union-attr]
        return replace(first, low=low, high=high)
    levels = list(dict.fromkeys(level for option in options for level in option.levels or ()))
    if isinstance(first, Ordinal):
        return replace(first, levels=tuple(sorted(levels) if first.numeric else levels))  # type: ignore[type-var]
    return Categorical(tuple(levels), first.default, first.unit, first.doc)

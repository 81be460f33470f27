"""The five kinds of option: what a configuration may set, and to what.

An option is a domain without a name; a `ConfigSpace` gives it one. Every kind
answers the same few questions:

    contains(value)   is the value in the domain?
    canonical(value)  the value in the option's own type (numpy scalars unwrapped)
    parse(text)       the value that a text means, such as a cell of a CSV file
    at(u)             the value at quantile u of the option's prior, 0 <= u < 1
    levels            all values in order, or None when there are too many to list
    default           the value that a configuration has when it does not say
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence, Set
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, ClassVar

from bayestl.errors import ConfigurationError, SpaceError

Value = bool | int | float | str
"""What an option can be set to."""

MAX_LISTED_LEVELS = 1_000_000
"""An integer range longer than this is sampled, never enumerated."""

_DERIVED: Any = None
"""A default that the option derives from its domain when it is made."""


def _plain(value: Any) -> Any:
    """The Python scalar inside a numpy scalar; anything else unchanged."""
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", 0) == 0 else value


def _number(value: Any) -> float | int | None:
    """The value as a finite number, or None: text and booleans are not numbers."""
    value = _plain(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return value if abs(value) <= sys.float_info.max else None  # False for NaN too


def _check_interval(low: float, high: float, log: bool) -> None:
    if _number(low) is None or _number(high) is None or not low <= high:
        raise SpaceError(f"expected finite low <= high, got low={low!r}, high={high!r}")
    if not isinstance(log, bool):
        raise SpaceError(f"log must be true or false, got {log!r}")
    if log and low <= 0:
        raise SpaceError(f"a log scale needs low > 0, got low={low!r}; set log=false or raise low")


class _Domain:
    """What the kinds share: the test of a value, in terms of `canonical`."""

    __slots__ = ()
    kind: ClassVar[str]

    def canonical(self, value: Any) -> Value:
        raise NotImplementedError

    def contains(self, value: Any) -> bool:
        """Whether the value is in the domain."""
        try:
            self.canonical(value)
        except ConfigurationError:
            return False
        return True

    def parse(self, text: str) -> Value:
        """The value of the domain that a text means: ``"8"``, ``"8.0"``, ``"true"``, ``"int8"``.

        Raises
        ------
        ConfigurationError
            If it means none.
        """
        for read in (str, _boolean_in, int, float):  # a level that is this very text comes first
            try:
                return self.canonical(read(text))
            except (ConfigurationError, ValueError):
                continue
        return self.canonical(text)


@dataclass(frozen=True, slots=True)
class Real(_Domain):
    """A real number in [low, high]; `log` spreads samples and distances over its logarithm.

    Parameters
    ----------
    low, high, log : the range, both ends in it
    default : the middle of the range unless given, on the logarithm with `log`
    unit, doc : for people; tables whose units differ are not joined
    """

    low: float
    high: float
    log: bool = False
    default: float = _DERIVED
    unit: str = ""
    doc: str = ""
    kind: ClassVar[str] = "real"

    def __post_init__(self) -> None:
        _check_interval(self.low, self.high, self.log)
        object.__setattr__(self, "low", float(self.low))
        object.__setattr__(self, "high", float(self.high))
        middle = self.at(0.5) if self.default is None else self.default
        object.__setattr__(self, "default", _checked_default(self, middle))

    @property
    def levels(self) -> tuple[Value, ...] | None:
        return (self.low,) if self.low == self.high else None

    def canonical(self, value: Any) -> float:
        number = _number(value)
        if number is None or not self.low <= number <= self.high:
            raise ConfigurationError(
                f"expected a number in [{self.low:g}, {self.high:g}], got {value!r}"
            )
        return float(number)

    def at(self, u: float) -> float:
        if self.log:
            value = math.exp(math.log(self.low) + u * math.log(self.high / self.low))
        else:
            value = self.low + u * (self.high - self.low)
        return min(max(value, self.low), self.high)


@dataclass(frozen=True, slots=True)
class Integer(_Domain):
    """A whole number in [low, high]; `log` spreads samples and distances over its logarithm.

    Parameters
    ----------
    low, high, log : the range, both ends in it
    default : `low` unless given
    unit, doc : for people; tables whose units differ are not joined
    """

    low: int
    high: int
    log: bool = False
    default: int = _DERIVED
    unit: str = ""
    doc: str = ""
    kind: ClassVar[str] = "integer"

    def __post_init__(self) -> None:
        _check_interval(self.low, self.high, self.log)
        if self.low != int(self.low) or self.high != int(self.high):
            raise SpaceError(f"expected whole numbers, got low={self.low!r}, high={self.high!r}")
        object.__setattr__(self, "low", int(self.low))
        object.__setattr__(self, "high", int(self.high))
        default = self.low if self.default is None else self.default
        object.__setattr__(self, "default", _checked_default(self, default))

    @property
    def levels(self) -> tuple[Value, ...] | None:
        count = self.high - self.low + 1
        return tuple(range(self.low, self.high + 1)) if count <= MAX_LISTED_LEVELS else None

    def canonical(self, value: Any) -> int:
        number = _number(value)
        if number is None or number != int(number) or not self.low <= number <= self.high:
            raise ConfigurationError(
                f"expected a whole number in [{self.low}, {self.high}], got {value!r}"
            )
        return int(number)

    def at(self, u: float) -> int:
        if self.log:  # equal mass to each unit cell of the logarithm
            low, high = math.log(self.low), math.log(self.high + 1)
            value = math.floor(math.exp(low + u * (high - low)))
        else:
            value = self.low + math.floor(u * (self.high - self.low + 1))
        return min(max(value, self.low), self.high)


@dataclass(frozen=True, slots=True)
class Ordinal(_Domain):
    """One of a list of levels whose order matters, such as a frequency table in MHz.

    Parameters
    ----------
    levels : numbers in ascending order, or texts in an order that means something
    default : the first level unless given
    unit, doc : for people; tables whose units differ are not joined
    """

    levels: tuple[Value, ...]
    default: Value = _DERIVED
    unit: str = ""
    doc: str = ""
    _level: Mapping[Value, Value] = field(init=False, compare=False, repr=False)
    kind: ClassVar[str] = "ordinal"

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", _checked_levels(self.levels))
        object.__setattr__(self, "_level", {level: level for level in self.levels})
        if self.numeric and list(self.levels) != sorted(map(_rank, self.levels)):
            raise SpaceError(f"expected numeric levels in ascending order, got {self.levels!r}")
        default = self.levels[0] if self.default is None else self.default
        object.__setattr__(self, "default", _checked_default(self, default))

    @property
    def numeric(self) -> bool:
        """Whether every level is a number, so that distances between levels have a meaning."""
        return all(_number(level) is not None for level in self.levels)

    def canonical(self, value: Any) -> Value:
        return _one_of(self._level, value)

    def at(self, u: float) -> Value:
        return self.levels[min(int(u * len(self.levels)), len(self.levels) - 1)]


@dataclass(frozen=True, slots=True)
class Categorical(_Domain):
    """One of a set of choices without an order.

    Parameters
    ----------
    choices : texts, or other values
    default : the first choice unless given
    unit, doc : for people; tables whose units differ are not joined
    """

    choices: tuple[Value, ...]
    default: Value = _DERIVED
    unit: str = field(default="", repr=False)
    doc: str = ""
    _level: Mapping[Value, Value] = field(init=False, compare=False, repr=False)
    kind: ClassVar[str] = "categorical"

    def __post_init__(self) -> None:
        object.__setattr__(self, "choices", _checked_levels(self.choices))
        object.__setattr__(self, "_level", {choice: choice for choice in self.choices})
        default = self.choices[0] if self.default is None else self.default
        object.__setattr__(self, "default", _checked_default(self, default))

    @property
    def levels(self) -> tuple[Value, ...]:
        return self.choices

    def canonical(self, value: Any) -> Value:
        return _one_of(self._level, value)

    def at(self, u: float) -> Value:
        return self.choices[min(int(u * len(self.choices)), len(self.choices) - 1)]


@dataclass(frozen=True, slots=True)
class Boolean(_Domain):
    """On or off; 0 and 1 are read as off and on.

    Parameters
    ----------
    default : off unless given
    unit, doc : for people; tables whose units differ are not joined
    """

    default: bool = False
    unit: str = field(default="", repr=False)
    doc: str = ""
    kind: ClassVar[str] = "boolean"

    def __post_init__(self) -> None:
        object.__setattr__(self, "default", _checked_default(self, self.default))

    @property
    def levels(self) -> tuple[Value, ...]:
        return (False, True)

    def canonical(self, value: Any) -> bool:
        value = _plain(value)
        if isinstance(value, (bool, int, float)) and value in (0, 1):
            return bool(value)
        raise ConfigurationError(f"expected true or false, got {value!r}")

    def at(self, u: float) -> bool:
        return u >= 0.5


Option = Real | Integer | Ordinal | Categorical | Boolean
"""Any kind of option."""


def is_numeric(option: Option) -> bool:
    """Whether every value is a number, so that environments may differ in what they offer."""
    return isinstance(option, (Real, Integer)) or (isinstance(option, Ordinal) and option.numeric)


def same_value(a: Any, b: Any) -> bool:
    """Whether two values are the same setting: 1 and 1.0 are, 1 and True or "1" are not."""
    return isinstance(a, bool) == isinstance(b, bool) and a == b


def option_to_dict(option: Option) -> dict[str, Any]:
    """The option as plain values, for JSON and TOML: its kind, and what is not at its default."""
    values: dict[str, Any] = {"kind": option.kind}
    for key, default in _parameters(type(option)).items():
        value = getattr(option, key)
        if key == "default" or default is MISSING or value != default:
            values[key] = list(value) if isinstance(value, tuple) else value
    return values


def option_from_dict(values: Mapping[str, Any]) -> Option:
    """The option that `option_to_dict` wrote.

    Raises
    ------
    SpaceError
        For an unknown kind, an unknown or missing parameter, or one of the wrong type.
    """
    kinds = {kind.kind: kind for kind in (Real, Integer, Ordinal, Categorical, Boolean)}
    kind = values.get("kind")
    if not isinstance(kind, str) or kind not in kinds:
        raise SpaceError(f"expected a kind out of {', '.join(kinds)}, got {kind!r}")
    known = _parameters(kinds[kind])
    given = {key: value for key, value in values.items() if key != "kind"}
    for key, value in given.items():
        if key not in known:
            raise SpaceError(f"unknown key {key!r} of kind {kind!r}; expected {', '.join(known)}")
        if key in _TYPES and not isinstance(value, _TYPES[key]):
            raise SpaceError(f"{key}: expected a {_TYPES[key].__name__}, got {value!r}")
    for key, default in known.items():
        if default is MISSING and key not in given:
            raise SpaceError(f"kind {kind!r} needs the key {key!r}")
    return kinds[kind](**given)


_TYPES: Mapping[str, type] = {"log": bool, "unit": str, "doc": str, "levels": list, "choices": list}
"""The types of the parameters whose values no option checks by itself."""


def _parameters(kind: type[Option]) -> dict[str, Any]:
    """The parameters of a kind of option, with their defaults."""
    return {parameter.name: parameter.default for parameter in fields(kind) if parameter.init}


def _boolean_in(text: str) -> bool:
    named = {"true": True, "false": False}.get(text.strip().lower())
    if named is None:
        raise ValueError(f"expected true or false, got {text!r}")
    return named


def _rank(level: Value) -> float:
    number = _number(level)
    assert number is not None
    return number


def _one_of(level: Mapping[Value, Value], value: Any) -> Value:
    value = _plain(value)
    if isinstance(value, (bool, int, float, str)):
        found = level.get(value)
        if found is not None and same_value(found, value):
            return found
    shown = ", ".join(map(repr, list(level)[:8])) + (", ..." if len(level) > 8 else "")
    raise ConfigurationError(f"expected one of {shown}, got {value!r}")


def _checked_levels(levels: Sequence[Any]) -> tuple[Value, ...]:
    # a set has no first level, which is the default, nor the same order in every process
    if isinstance(levels, (str, Set)) or not hasattr(levels, "__len__") or not len(levels):
        raise SpaceError(f"expected a non-empty list of levels, got {levels!r}")
    plain = tuple(_plain(level) for level in levels)
    seen: dict[Value, Value] = {}
    for level in plain:
        if not isinstance(level, (str, bool)) and _number(level) is None:
            raise SpaceError(f"expected levels that are text, numbers or booleans, got {level!r}")
        # 1 and True would be one key of a dict, 1 and "1" one cell of a CSV file
        for form in {level, str(level)}:
            if form in seen:
                raise SpaceError(f"expected distinct levels, got {seen[form]!r} and {level!r}")
            seen[form] = level
    return plain


def _checked_default(option: _Domain, default: Any) -> Value:
    try:
        return option.canonical(default)
    except ConfigurationError as error:
        raise SpaceError(f"the default is outside the domain: {error}") from None

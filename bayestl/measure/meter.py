"""`Meter`: what a measurement reads, such as time, memory and energy.

A reading says where it comes from and how fine it is. What cannot be read is a
reading of kind `unavailable` without a value: it is never zero, and neither is a
counter that stood still.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib import import_module
from inspect import signature
from typing import Any, Protocol

from bayestl.data.measurement import Metric
from bayestl.errors import EngineError

METERS: Mapping[str, str] = {
    "nvml": "bayestl.measure.meters.nvml:NvmlEnergy",
    "rapl": "bayestl.measure.meters.rapl:RaplEnergy",
    "ina3221": "bayestl.measure.meters.ina3221:Ina3221Energy",
    "external": "bayestl.measure.meters.external:ExternalEnergy",
    "estimate": "bayestl.measure.meters.estimate:EstimatedEnergy",
}
"""Meter's name -> ``module:class``: those that are asked for by name.

Time and memory are always read (`meters/process.py`).
"""


class Kind(StrEnum):
    """How a reading came about."""

    COUNTER = "counter"  # a difference or a state that the system counts itself
    INTEGRATED = "integrated"  # a sum over sampled values, such as power
    ESTIMATED = "estimated"  # computed from assumptions
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True)
class Reading:
    """What a meter read between `begin` and `end`.

    Parameters
    ----------
    value : in `unit`; None exactly where the kind is `unavailable`
    unit : such as ``"ms"``
    kind : how it came about
    domain : what it covers, such as ``"process"``
    resolution_s : the finest difference in time that it can tell; None where it has none
    source : where it was read, or why it cannot be
    """

    value: float | None
    unit: str
    kind: Kind
    domain: str
    resolution_s: float | None
    source: str

    def __post_init__(self) -> None:
        if (self.value is None) != (self.kind is Kind.UNAVAILABLE):
            raise EngineError(f"expected a value exactly where there is one, got {self!r}")

    @classmethod
    def unavailable(cls, unit: str, domain: str, why: str) -> Reading:
        """The reading of a meter that could not read; `why` says what to do about it."""
        return cls(None, unit, Kind.UNAVAILABLE, domain, None, why)

    def to_dict(self) -> dict[str, Any]:
        """The reading as plain JSON values."""
        return {**self.__dict__, "kind": self.kind.value}


class Meter(Protocol):
    """Reads one quantity over windows: ``open, (begin, end, disturbance)*, close``.

    A meter's arguments are plain JSON values, checked when it is made; making one
    touches nothing. No method raises for what the machine lacks: the readings say it.
    """

    @property
    def metric(self) -> Metric:
        """What is read. Meters that count differently have metrics of different names."""
        ...

    @property
    def accumulates(self) -> bool:
        """Whether a longer window reads more, so that the reading is shared among its calls."""
        ...

    @property
    def window_s(self) -> float:
        """The shortest window in s over which the reading can be trusted."""
        ...

    def open(self) -> None:
        """Find the source; a meter without one says so in its readings."""
        ...

    def begin(self) -> None:
        """Start a window."""
        ...

    def end(self) -> Reading:
        """The reading of the window that `begin` started."""
        ...

    def disturbance(self) -> str | None:
        """Who else was seen in the window that `end` ended; None where nobody was."""
        ...

    def close(self) -> None:
        """Release threads, programs and handles, also when nothing was opened."""
        ...


def load_meter(reference: str, arguments: Mapping[str, Any]) -> Meter:
    """The meter at ``module:class``, as the values of `METERS` are written; not opened.

    Raises
    ------
    EngineError
        If there is no such meter, or it does not take these arguments.
    """
    module, _, name = reference.partition(":")
    try:
        meter = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise EngineError(
            f"expected a meter at 'module:class', got {reference!r}: {error}"
        ) from error
    expect(isinstance(arguments, Mapping), f"{name}: a mapping of arguments", arguments)
    try:
        signature(meter).bind(**arguments)
    except TypeError as error:
        known = ", ".join(signature(meter).parameters) or "no arguments"
        raise EngineError(f"{name}: {error}; it takes {known}") from error
    return meter(**arguments)


def expect(holds: bool, expected: str, got: Any) -> None:
    """Raise the `EngineError` of an argument that is not what a meter expected."""
    if not holds:
        raise EngineError(f"expected {expected}, got {got!r}")


def is_number(value: Any) -> bool:
    """Whether a JSON value is a finite number."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and abs(value) <= sys.float_info.max

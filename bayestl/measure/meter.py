"""`Meter`: what a measurement reads, such as time, CPU time and memory.

A reading says where it comes from and how fine it is. What cannot be read is a
reading of kind `unavailable` without a value: it is never zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from bayestl.errors import EngineError


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

    def to_dict(self) -> dict[str, Any]:
        """The reading as plain JSON values."""
        return {**self.__dict__, "kind": self.kind.value}


class Meter(Protocol):
    """Reads one quantity over a window: ``open, (begin, end)*``."""

    @property
    def unit(self) -> str: ...

    def open(self) -> None:
        """Find the source; a meter without one says so in its readings."""
        ...

    def begin(self) -> None:
        """Start a window."""
        ...

    def end(self) -> Reading:
        """The reading of the window that `begin` started."""
        ...

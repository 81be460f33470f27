"""`Meter`: what a measurement reads, such as time, CPU time and memory.

A reading says where it comes from and how fine it is. What cannot be read is a
reading of kind `unavailable` without a value: it is never zero.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
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


class WallClock:
    """Elapsed time by the monotonic clock."""

    unit = "ms"

    def open(self) -> None:
        self._resolution_s = time.get_clock_info("perf_counter").resolution
        self.begin()

    def begin(self) -> None:
        self._start_ns = time.perf_counter_ns()

    def end(self) -> Reading:
        elapsed_ns = time.perf_counter_ns() - self._start_ns
        return Reading(
            elapsed_ns / 1e6, self.unit, Kind.COUNTER, "wall", self._resolution_s, "perf_counter"
        )


class CpuTime:
    """CPU time of every thread of this process, in user space and in the kernel."""

    unit = "ms"

    def open(self) -> None:
        self._resolution_s = time.get_clock_info("process_time").resolution
        self.begin()

    def begin(self) -> None:
        self._start_ns = time.process_time_ns()

    def end(self) -> Reading:
        spent_ns = time.process_time_ns() - self._start_ns
        return Reading(
            spent_ns / 1e6, self.unit, Kind.COUNTER, "process", self._resolution_s, "process_time"
        )


class PeakMemory:
    """The most memory this process ever held resident: interpreter, engine, network and all.

    VmHWM rather than ru_maxrss, which a process inherits from the one that started it.
    """

    unit = "MiB"
    status = Path("/proc/self/status")

    def open(self) -> None:
        """Nothing to find: the kernel keeps the file."""

    def begin(self) -> None:
        """Nothing to start: the peak is the process's."""

    def end(self) -> Reading:
        try:
            text = self.status.read_text(encoding="ascii", errors="replace")
        except OSError as error:
            return self._unavailable(str(error))
        for line in text.splitlines():
            if line.startswith("VmHWM:"):
                value = int(line.split()[1]) / 1024
                return Reading(value, self.unit, Kind.COUNTER, "process", None, "VmHWM")
        return self._unavailable(f"no VmHWM in {self.status}")

    def _unavailable(self, why: str) -> Reading:
        return Reading(None, self.unit, Kind.UNAVAILABLE, "process", None, why)

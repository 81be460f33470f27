"""`Sentinel`: the default configuration, measured again and again, shows when a machine drifts."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field
from typing import Any

KEPT = 9
"""The level is the median of this many latest sentinels of the regime."""


@dataclass
class Sentinel:
    """What the default configuration of one environment took, and takes.

    Parameters
    ----------
    every : measurements between two sentinels; None for no more than the first
    limit : a sentinel this far from the level, as a ratio less one, has drifted

    A level that does not come back begins a new regime: other neighbours, another clock,
    another place of the virtual cores. Regimes are counted from 1.
    """

    every: int | None
    limit: float
    regime: int = 1
    since: int = 0
    latency_ms: float | None = None
    _level_ms: list[float] = field(default_factory=list)

    @property
    def due(self) -> bool:
        """Whether it should be measured now: after so many others, or while nothing is known."""
        return self.every is not None and (self.latency_ms is None or self.since >= self.every)

    @property
    def level_ms(self) -> float | None:
        """The median of the regime's sentinels."""
        return statistics.median(self._level_ms) if self._level_ms else None

    def drifted(self, latency_ms: float) -> bool:
        """Whether this is another level than the regime's."""
        level = self.level_ms
        return level is not None and abs(math.log(latency_ms / level)) > math.log1p(self.limit)

    def note(self, latency_ms: float) -> bool:
        """Take the sentinel; whether it begins a new regime."""
        new = self.drifted(latency_ms)
        if new:
            self.regime += 1
            self._level_ms = []
        self._level_ms = [*self._level_ms, latency_ms][-KEPT:]
        self.latency_ms, self.since = latency_ms, 0
        return new

    def to_dict(self) -> dict[str, Any]:
        """The state as plain values, for the provenance of a measurement."""
        return {
            "latency_ms": self.latency_ms,
            "level_ms": self.level_ms,
            "regime": self.regime,
            "measurements_since": self.since,
        }

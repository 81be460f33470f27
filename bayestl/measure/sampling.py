"""How one measurement is timed: warm up until steady, then keep every sample."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bayestl.errors import EngineError
from bayestl.measure.meter import Meter, Reading
from bayestl.measure.meters.process import WallClock

STEADY_WINDOW = 3
STEADY_GAIN = 0.9
"""Warm-up ends when the last three calls took at least 0.9 of the three before."""


@dataclass(frozen=True)
class Sampling:
    """When a warm-up and a series of samples may end.

    Parameters
    ----------
    warmup_iterations, warmup_s : the warm-up's floor; both must be reached
    warmup_limit_s : the warm-up ends here even where calls still become faster
    min_samples : taken however long they last
    sample_s : after `min_samples`, sampling ends when this time has passed
    max_samples : or when there are this many

    More samples of one process stop helping at about ten: processes differ by more
    than the samples within one (measured: 5 % against 2 %), so precision comes from
    repeating the measurement, not from a longer one.
    """

    warmup_iterations: int = 3
    warmup_s: float = 0.05
    warmup_limit_s: float = 0.5
    min_samples: int = 10
    sample_s: float = 0.3
    max_samples: int = 1_000

    def __post_init__(self) -> None:
        counts_ok = self.warmup_iterations >= 1 and 1 <= self.min_samples <= self.max_samples
        times_ok = self.warmup_s >= 0 and self.warmup_limit_s >= 0 and self.sample_s >= 0
        if not (counts_ok and times_ok):
            raise EngineError(
                "expected warmup_iterations >= 1, 1 <= min_samples <= max_samples and times >= 0, "
                f"got {self!r}"
            )

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Samples:
    """What `sample` saw.

    Parameters
    ----------
    warmup_ms, latency_ms : every call's time, in order
    steady : whether the warm-up ended because calls no longer became faster
    readings : of each further meter, over all samples together
    """

    warmup_ms: Sequence[float]
    latency_ms: Sequence[float]
    steady: bool
    readings: Mapping[str, Reading]


def sample(call: Callable[[], Any], sampling: Sampling, meters: Mapping[str, Meter]) -> Samples:
    """Call until steady, then time further calls; garbage collection is off meanwhile."""
    gc.collect()
    gc.disable()
    try:
        clock = WallClock()
        for meter in (clock, *meters.values()):
            meter.open()
        warmup, steady = _warm_up(call, clock, sampling)
        for meter in meters.values():
            meter.begin()
        latency = _timed(call, clock, sampling)
        readings = {name: meter.end() for name, meter in meters.items()}
        return Samples(warmup, latency, steady, readings)
    finally:
        gc.enable()


def _warm_up(call: Callable[[], Any], clock: Meter, sampling: Sampling) -> tuple[list[float], bool]:
    started, times = time.perf_counter(), []
    while True:
        times.append(_time_once(call, clock))
        elapsed = time.perf_counter() - started
        if len(times) < sampling.warmup_iterations or elapsed < sampling.warmup_s:
            continue
        if _is_steady(times):
            return times, True
        if elapsed >= sampling.warmup_limit_s:
            return times, False


def _is_steady(times: Sequence[float]) -> bool:
    if len(times) < 2 * STEADY_WINDOW:
        return False
    before = statistics.median(times[-2 * STEADY_WINDOW : -STEADY_WINDOW])
    return statistics.median(times[-STEADY_WINDOW:]) >= STEADY_GAIN * before


def _timed(call: Callable[[], Any], clock: Meter, sampling: Sampling) -> list[float]:
    started, times = time.perf_counter(), []
    while len(times) < sampling.max_samples:
        times.append(_time_once(call, clock))
        if len(times) >= sampling.min_samples and time.perf_counter() - started > sampling.sample_s:
            break
    return times


def _time_once(call: Callable[[], Any], clock: Meter) -> float:
    clock.begin()
    call()
    value = clock.end().value
    assert value is not None  # the wall clock is always there
    return value

"""How one measurement is timed: warm up until steady, then sample until the median is known."""

from __future__ import annotations

import gc
import math
import random
import statistics
import time
from bisect import insort
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bayestl.errors import EngineError
from bayestl.measure.meter import Meter, Reading, is_number
from bayestl.measure.meters.process import WallClock

STEADY_WINDOW = 3
STEADY_GAIN = 0.9
"""Warm-up ends when the last three calls took at least 0.9 of the three before."""

NORMAL_95 = 1.959964
PHASE_S = 0.1
"""A long window begins at a random moment within this time: counters step that often."""


@dataclass(frozen=True)
class Sampling:
    """When a warm-up and a series of samples may end.

    More samples of one process stop helping at about ten: processes differ by more
    than the samples within one (measured: 5 % against 2 %), so precision comes from
    repeating the measurement, not from a longer one.

    Parameters
    ----------
    warmup_iterations, warmup_s : the warm-up's floor; both must be reached
    warmup_limit_s : the warm-up ends here even where calls still become faster
    min_samples, min_sample_s : the samples' floor; both must be reached
    interval : sampling ends when the 95 % confidence interval of the median is within
        this part of it on either side
    sample_s : or when this time has passed and there are `min_samples`
    max_samples : or when there are this many
    """

    warmup_iterations: int = 3
    warmup_s: float = 0.05
    warmup_limit_s: float = 0.5
    min_samples: int = 10
    min_sample_s: float = 0.05
    interval: float = 0.01
    sample_s: float = 0.3
    max_samples: int = 1_000

    def __post_init__(self) -> None:
        numbers = all(map(is_number, asdict(self).values()))
        times = (self.warmup_s, self.warmup_limit_s, self.min_sample_s, self.sample_s)
        if not (
            numbers
            and self.warmup_iterations >= 1
            and 1 <= self.min_samples <= self.max_samples
            and min(*times, self.interval) >= 0
        ):
            raise EngineError(
                "expected warmup_iterations >= 1, 1 <= min_samples <= max_samples, times and "
                f"interval >= 0, all finite, got {self!r}"
            )

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Samples:
    """What `sample` saw.

    Parameters
    ----------
    warmup_ms, latency_ms : every call's time, in order; nothing is dropped
    steady : whether the warm-up ended because calls no longer became faster
    interval : relative half width of the median's 95 % confidence interval; None for
        fewer than six samples, which have none, and where the clock stood still
    readings : of each further meter, over all the calls of its window
    calls : how many calls those were, for a meter whose reading grows with them
    disturbance : why a meter's reading should not be trusted
    """

    warmup_ms: Sequence[float]
    latency_ms: Sequence[float]
    steady: bool
    interval: float | None
    readings: Mapping[str, Reading]
    calls: Mapping[str, int]
    disturbance: str | None


def sample(call: Callable[[], Any], sampling: Sampling, meters: Mapping[str, Meter]) -> Samples:
    """Call until steady, then time further calls; garbage collection is off meanwhile.

    Meters that a short window serves read it together with the clock. Each of the others
    then gets a window as long as it needs, in which calls are counted, not timed.
    """
    gc.collect()
    gc.disable()
    try:
        clock = WallClock()
        for meter in (clock, *meters.values()):
            meter.open()
        warmup, steady = _warm_up(call, clock, sampling)
        prompt, patient = {}, {}
        for name, meter in meters.items():
            (patient if meter.window_s > sampling.min_sample_s else prompt)[name] = meter
        for meter in prompt.values():
            meter.begin()
        latency = _timed(call, clock, sampling)
        readings = {name: meter.end() for name, meter in prompt.items()}
        calls = {name: len(latency) for name, meter in prompt.items() if meter.accumulates}
        for name, meter in patient.items():
            readings[name], calls[name] = _long_window(call, meter)
        disturbances = [why for meter in meters.values() if (why := meter.disturbance())]
        return Samples(
            warmup, latency, steady, median_interval(latency), readings, calls,
            "; ".join(disturbances) or None,
        )  # fmt: skip
    finally:
        gc.enable()
        for meter in meters.values():
            meter.close()


def median_interval(samples: Sequence[float]) -> float | None:
    """Relative half width of the 95 % confidence interval of the median.

    By order statistics: the median is between the sample of rank n/2 - 1.96 sqrt(n)/2 + 1/2,
    rounded down, and the one of the same rank from above, with a probability of at least
    95 %, whatever the distribution (Conover, 1999, section 3.2, with a continuity correction).
    """
    return _interval(sorted(samples))


def _interval(ordered: Sequence[float]) -> float | None:
    n = len(ordered)
    rank = math.floor((n - NORMAL_95 * math.sqrt(n) + 1) / 2)
    median = statistics.median(ordered)
    if rank < 1 or median == 0:
        return None
    return (ordered[-rank] - ordered[rank - 1]) / 2 / median


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
    started, times, ordered = time.perf_counter(), [], []
    while len(times) < sampling.max_samples:
        times.append(_time_once(call, clock))
        insort(ordered, times[-1])
        elapsed = time.perf_counter() - started
        if len(times) < sampling.min_samples or elapsed < sampling.min_sample_s:
            continue
        interval = _interval(ordered)
        if elapsed >= sampling.sample_s or (interval is not None and interval <= sampling.interval):
            break
    return times


def _long_window(call: Callable[[], Any], meter: Meter) -> tuple[Reading, int]:
    """The meter's reading over its window, and the number of calls in it."""
    time.sleep(random.uniform(0, PHASE_S))  # noqa: S311
    started, calls = time.perf_counter(), 0
    meter.begin()
    while not calls or time.perf_counter() - started < meter.window_s:
        call()
        calls += 1
    return meter.end(), calls


def _time_once(call: Callable[[], Any], clock: Meter) -> float:
    clock.begin()
    call()
    value = clock.end().value
    assert value is not None  # the wall clock is always there
    return value

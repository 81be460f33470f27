import gc
import itertools
import statistics
import time

import pytest

from bayestl.errors import EngineError
from bayestl.measure.meters.process import CpuTime
from bayestl.measure.sampling import Sampling, sample


class Clock:
    """A clock that only the calls move."""

    def __init__(self, durations_ms, monkeypatch):
        self.now_ns, self.durations = 0, iter(durations_ms)
        monkeypatch.setattr(time, "perf_counter_ns", lambda: self.now_ns)
        monkeypatch.setattr(time, "perf_counter", lambda: self.now_ns / 1e9)

    def call(self):
        self.now_ns += int(next(self.durations) * 1e6)


def test_a_warm_up_lasts_until_calls_no_longer_become_faster(monkeypatch):
    falling = [90, 60, 40, 30, 20, 15, 12, 11]
    clock = Clock([*falling, *itertools.repeat(10, 200)], monkeypatch)
    found = sample(clock.call, Sampling(), {})
    assert list(found.warmup_ms[:8]) == falling
    assert statistics.median(found.warmup_ms[-3:]) <= 12
    assert found.steady
    assert set(found.latency_ms) <= {10, 11}


def test_the_floor_of_a_warm_up_is_kept(monkeypatch):
    clock = Clock(itertools.repeat(1), monkeypatch)
    found = sample(clock.call, Sampling(warmup_iterations=20, warmup_s=0.05), {})
    assert len(found.warmup_ms) == 50


def test_a_warm_up_that_never_ends_is_cut_and_told(monkeypatch):
    clock = Clock((1_000 * 0.7**n for n in range(10_000)), monkeypatch)
    found = sample(clock.call, Sampling(warmup_limit_s=0.5), {})
    assert len(found.warmup_ms) == 3
    assert not found.steady


@pytest.mark.parametrize(
    ("duration_ms", "count"),
    [(1_000, 10), (10, 31), (0.001, 1_000)],  # min_samples, sample_s, max_samples
)
def test_sampling_ends_by_count_and_time(monkeypatch, duration_ms, count):
    clock = Clock(itertools.repeat(duration_ms), monkeypatch)
    found = sample(clock.call, Sampling(warmup_s=0.0), {})
    assert len(found.latency_ms) == count


def test_nothing_is_dropped_and_the_meters_cover_the_samples_alone(monkeypatch):
    class Counting(CpuTime):
        calls = 0

        def begin(self):
            self.began_at = calls

    calls, meter = 0, Counting()
    meter.end = lambda: calls - meter.began_at

    def call():
        nonlocal calls
        calls += 1
        assert not gc.isenabled()

    found = sample(call, Sampling(warmup_s=0.0, max_samples=25), {"calls": meter})
    assert found.readings["calls"] == len(found.latency_ms) == 25
    assert calls == 25 + len(found.warmup_ms)
    assert gc.isenabled()


@pytest.mark.parametrize(
    "settings",
    [{"warmup_iterations": 0}, {"min_samples": 0}, {"min_samples": 9, "max_samples": 8},
     {"sample_s": -1.0}],
)  # fmt: skip
def test_settings_that_cannot_be_kept_are_refused(settings):
    with pytest.raises(EngineError, match="expected warmup_iterations"):
        Sampling(**settings)

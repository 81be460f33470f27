import gc
import itertools
import statistics
import time

import numpy as np
import pytest
from scipy.stats import binom

from bayestl.errors import EngineError
from bayestl.measure.meters.process import CpuTime
from bayestl.measure.sampling import Sampling, median_interval, sample


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
    [(1_000, 10), (10, 30), (0.001, 1_000)],  # min_samples, sample_s, max_samples
    # (the durations alternate, so that the median's interval stays wide)
)
def test_sampling_ends_by_count_and_time(monkeypatch, duration_ms, count):
    clock = Clock(itertools.cycle([0.9 * duration_ms, 1.1 * duration_ms]), monkeypatch)
    found = sample(clock.call, Sampling(warmup_s=0.0), {})
    assert len(found.latency_ms) == count


@pytest.mark.parametrize(
    ("duration_ms", "count"),
    [(10, 10), (1, 50), (1_000, 10)],  # min_samples, min_sample_s, min_samples
)
def test_sampling_ends_when_the_median_is_known(monkeypatch, duration_ms, count):
    clock = Clock(itertools.repeat(duration_ms), monkeypatch)
    found = sample(clock.call, Sampling(warmup_s=0.0), {})
    assert len(found.latency_ms) == count
    assert found.interval == 0.0


def test_the_interval_of_the_median_covers_it():
    rng = np.random.default_rng(0)
    for n in (10, 25, 101):
        draws = rng.lognormal(0.0, 0.3, (2_000, n))
        half = np.array([median_interval(row) for row in draws])
        near = np.abs(np.median(draws, axis=1) - 1.0) <= 2 * half * np.median(draws, axis=1)
        assert near.mean() > 0.95  # an interval twice as wide surely does
        ordered = np.sort(draws, axis=1)
        low = int(binom.ppf(0.025, n, 0.5)) - 1  # no closer pair covers 95 %
        high = n - 1 - low
        covered = (ordered[:, low] <= 1.0) & (ordered[:, high] >= 1.0)
        assert 0.94 < covered.mean() <= 1.0
        assert half == pytest.approx(
            (ordered[:, high] - ordered[:, low]) / 2 / np.median(draws, axis=1)
        )


def test_six_samples_have_an_interval_and_fewer_have_none():
    assert median_interval([1.0, 2.0, 3.0, 3.0, 4.0, 5.0]) == pytest.approx(4 / 2 / 3)
    assert median_interval([1.0, 2.0, 3.0, 4.0, 5.0]) is None


def test_one_slow_call_among_ten_does_not_widen_the_interval():
    assert median_interval([10.0] * 9 + [90.0]) == median_interval([2.0] + [10.0] * 9) == 0.0


def test_a_clock_that_stands_still_has_no_interval():
    assert median_interval([0.0] * 20) is None


def test_a_meter_that_needs_time_gets_a_window_of_its_own(monkeypatch):
    class Patient(CpuTime):
        window_s = 2.0

        def begin(self):
            self.calls_before = calls

        def end(self):
            return calls - self.calls_before

        def disturbance(self):
            return "another process was there"

    calls, clock = 0, Clock(itertools.repeat(10), monkeypatch)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)

    def call():
        nonlocal calls
        calls += 1
        clock.call()

    found = sample(call, Sampling(), {"energy": Patient()})
    assert found.readings["energy"] == found.calls["energy"] == 200
    assert calls == 200 + len(found.latency_ms) + len(found.warmup_ms)
    assert found.disturbance == "another process was there"


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
     {"sample_s": -1.0}, {"warmup_limit_s": float("nan")}, {"interval": float("nan")},
     {"sample_s": float("inf")}, {"warmup_s": "0.1"}],
)  # fmt: skip
def test_settings_that_cannot_be_kept_are_refused(settings):
    with pytest.raises(EngineError, match="expected warmup_iterations"):
        Sampling(**settings)

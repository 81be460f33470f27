import pytest

from bayestl.measure.sentinel import Sentinel


def test_the_first_is_due_and_then_every_so_many():
    sentinel = Sentinel(every=3, limit=0.25)
    assert sentinel.due
    sentinel.note(10.0)
    due = []
    for _ in range(4):
        due.append(sentinel.due)
        sentinel.since += 1
    assert due == [False, False, False, True]


def test_without_a_period_the_first_is_the_only_one():
    sentinel = Sentinel(every=None, limit=0.25)
    assert not sentinel.due  # a bench measures the first for its outputs, whatever is due
    sentinel.note(10.0)
    sentinel.since = 10_000
    assert not sentinel.due


@pytest.mark.parametrize("latency_ms", [13.0, 7.9])
def test_another_level_is_a_new_regime(latency_ms):
    sentinel = Sentinel(every=3, limit=0.25)
    assert not any(sentinel.note(latency) for latency in (10.0, 11.5, 9.5, 10.5))
    assert sentinel.regime == 1
    assert sentinel.drifted(latency_ms)
    assert sentinel.note(latency_ms)
    assert sentinel.regime == 2
    assert sentinel.level_ms == latency_ms
    assert sentinel.to_dict() == {
        "latency_ms": latency_ms, "level_ms": latency_ms, "regime": 2, "measurements_since": 0,
    }  # fmt: skip


def test_the_level_is_a_median_of_the_latest():
    sentinel = Sentinel(every=3, limit=10.0)
    for latency in (100.0, *[10.0] * 9):
        sentinel.note(latency)
    assert sentinel.level_ms == 10.0

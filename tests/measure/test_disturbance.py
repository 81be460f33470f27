import pytest

from bayestl.measure import disturbance as module
from bayestl.measure.disturbance import Disturbance, Use, disturbance, use_of, watched
from bayestl.measure.machine import available_cores
from tests.processes import started

STAT = """cpu  900 0 0 0 0 0 0 0 0 0
cpu0 {} 10 20 500 30 1 2 {} 7 0
cpu1 50 0 0 900 0 0 0 0 0 0
intr 1 2 3
"""


@pytest.fixture
def stat(monkeypatch):
    def put(user, stolen):
        monkeypatch.setattr(module, "read_text", lambda path: STAT.format(user, stolen))
        monkeypatch.setattr(module.os, "sysconf", lambda name: 100)

    return put


def test_idle_and_guest_time_are_not_work(stat):
    stat(100, 8)
    use = use_of([0])
    assert use.busy_s == pytest.approx((100 + 10 + 20 + 1 + 2) / 100)
    assert use.stolen_s == pytest.approx(0.08)
    assert use_of([0, 1]).busy_s == pytest.approx(use.busy_s + 0.5)
    assert use_of([7]) is None


def test_what_is_not_ones_own_is_foreign(monkeypatch):
    monkeypatch.setattr(module.os, "sysconf", lambda name: 100)
    before, after = Use(10.0, 5.0, 1.0, 2), Use(12.0, 8.0, 1.4, 2)
    found = disturbance(before, after, own_s=1.0)
    assert found.foreign == pytest.approx((3.0 - 1.0 - 0.02) / 4.0)  # less a tick a core
    assert found.stolen == pytest.approx(0.1)
    assert found.share == pytest.approx(found.foreign + found.stolen)
    assert str(found) == "others used 50% of the cores, and 10% was stolen"
    assert disturbance(before, after, own_s=9.0) == Disturbance(0.0, pytest.approx(0.1))


@pytest.mark.parametrize(("before", "after"), [(None, Use(1, 1, 1, 1)), (Use(1, 1, 1, 1), None)])
def test_what_the_kernel_does_not_tell_is_unknown(before, after):
    assert disturbance(before, after, 0.0) is None


def test_a_neighbour_is_seen():
    cores = available_cores()[:1]
    if use_of(cores) is None:
        pytest.skip("this kernel does not count a core's time")
    code = f"import os; os.sched_setaffinity(0, {set(cores)}); print(flush=True)\nwhile True: pass"
    with started(code) as neighbour:
        assert neighbour.stdout.readline()
        assert watched(cores, 0.5).share > 0.5

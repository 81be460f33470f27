import pytest

from bayestl.measure.meters.power import PowerTrace, integral


def test_the_integral_is_the_area_under_straight_lines():
    assert integral([0.0, 2.0], [3.0, 3.0]) == 6.0
    assert integral([0.0, 1.0, 4.0], [0.0, 2.0, 8.0]) == 1.0 + 15.0
    assert integral([1.0], [5.0]) == 0.0


def test_a_window_shorter_than_the_interval_has_its_two_edges():
    watts = iter([4.0, 6.0])
    trace = PowerTrace(lambda: next(watts), 60.0)
    trace.start()
    times, found = trace.stop()
    assert list(found) == [4.0, 6.0]
    assert times[0] < times[1]


def test_what_a_thread_could_not_read_comes_out_at_the_end():
    def read():
        calls.append(None)
        if len(calls) > 1:
            raise OSError("the bus is gone")
        return 1.0

    calls = []
    trace = PowerTrace(read, 0.001)
    trace.start()
    trace._thread.join(30)
    with pytest.raises(OSError, match="the bus is gone"):
        trace.stop()
    assert len(calls) == 2

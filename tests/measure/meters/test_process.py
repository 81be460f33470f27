import time

import pytest

from bayestl.errors import EngineError
from bayestl.measure.meter import Kind, Reading
from bayestl.measure.meters.process import CpuTime, PeakMemory, WallClock


def test_a_value_is_missing_exactly_where_it_is_unavailable():
    with pytest.raises(EngineError):
        Reading(0.0, "J", Kind.UNAVAILABLE, "gpu", None, "no permission")
    with pytest.raises(EngineError):
        Reading(None, "J", Kind.COUNTER, "gpu", None, "counter")


def test_sleep_costs_time_and_no_cpu_time():
    wall, cpu = WallClock(), CpuTime()
    for meter in (wall, cpu):
        meter.open()
        meter.begin()
    time.sleep(0.2)
    slept, worked = wall.end(), cpu.end()
    assert 200 <= slept.value < 20_000
    assert worked.value < 150
    assert slept.unit == worked.unit == "ms"


def test_work_costs_cpu_time():
    cpu = CpuTime()
    cpu.open()
    cpu.begin()
    end = time.process_time() + 0.05
    while time.process_time() < end:
        pass
    assert 50 <= cpu.end().value < 5_000


def test_the_peak_stays_when_the_memory_is_gone():
    meter = PeakMemory()
    meter.open()
    meter.begin()
    before = meter.end().value
    block = bytearray(int(before * 2**20))  # more than is resident now, and touched
    del block
    assert meter.end().value >= before * 1.5


def test_what_cannot_be_read_is_unavailable_and_not_zero(tmp_path):
    meter = PeakMemory()
    meter.status = tmp_path / "nothing"
    reading = meter.end()
    assert reading.value is None
    assert reading.kind is Kind.UNAVAILABLE
    assert "No such file" in reading.source
    meter.status = tmp_path / "other"
    meter.status.write_text("Name:\tpython\n")
    assert meter.end().to_dict()["kind"] == "unavailable"

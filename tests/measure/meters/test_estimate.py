import os
import subprocess
import sys
import time

import pytest

from bayestl.errors import EngineError
from bayestl.measure.meter import METERS, Kind, load_meter
from bayestl.measure.meters.estimate import EstimatedEnergy


@pytest.fixture(autouse=True)
def eight_processors(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)


def read(meter, work):
    """A reading, and the elapsed and the CPU time in s, each from within and from around it."""
    meter.open()
    outer_wall, outer_cpu = time.perf_counter(), time.process_time()
    meter.begin()
    inner_wall, inner_cpu = time.perf_counter(), time.process_time()
    work()
    wall = [time.perf_counter() - inner_wall]
    cpu = [time.process_time() - inner_cpu]
    reading = meter.end()
    wall.append(time.perf_counter() - outer_wall)
    cpu.append(time.process_time() - outer_cpu)
    return reading, wall, cpu


def spin():
    end = time.process_time() + 0.1
    while time.process_time() < end:
        pass


def test_an_idle_machine_takes_its_idle_power():
    reading, wall, cpu = read(EstimatedEnergy(10, 10.001, 0.3), lambda: time.sleep(0.1))
    assert 10 * wall[0] <= reading.value <= 10 * wall[1] + 0.001 * cpu[1] / 8


def test_work_adds_the_power_of_the_processors_that_it_keeps_busy():
    reading, wall, cpu = read(EstimatedEnergy(2, 102, 0.3), spin)
    assert 2 * wall[0] + 100 * cpu[0] / 8 <= reading.value <= 2 * wall[1] + 100 * cpu[1] / 8


def test_programs_that_ran_to_their_end_count():
    command = [sys.executable, "-S", "-c", "sum(range(10_000_000))"]
    reading, _, cpu = read(
        EstimatedEnergy(0, 800, 0.3), lambda: subprocess.run(command, check=True)
    )
    assert reading.value > 100 * (cpu[1] + 0.03)


def test_it_says_that_it_is_an_estimate():
    reading, *_ = read(EstimatedEnergy(8, 45.5, 0.25), lambda: None)
    assert reading.kind is Kind.ESTIMATED
    assert reading.unit == "J"
    assert "8 W idle, 45.5 W" in reading.source
    assert "25 %" in reading.source


def test_no_other_meter_writes_its_metric():
    arguments = {"external": {"command": ["meter"]}}
    others = [
        load_meter(METERS[name], arguments.get(name, {})) for name in METERS if name != "estimate"
    ]
    assert EstimatedEnergy.metric not in [meter.metric for meter in others]
    assert EstimatedEnergy.metric.name not in [meter.metric.name for meter in others]


@pytest.mark.parametrize(
    "arguments",
    [
        {"idle_w": -1, "busy_w": 5, "uncertainty": 0.1},
        {"idle_w": 5, "busy_w": 5, "uncertainty": 0.1},
        {"idle_w": 5, "busy_w": "9", "uncertainty": 0.1},
        {"idle_w": 5, "busy_w": float("inf"), "uncertainty": 0.1},
        {"idle_w": 5, "busy_w": 9, "uncertainty": 0},
        {"idle_w": True, "busy_w": 9, "uncertainty": 0.1},
    ],
)
def test_arguments_are_checked(arguments):
    with pytest.raises(EngineError, match="expected estimate: "):
        EstimatedEnergy(**arguments)


def test_watts_are_the_users_own():
    with pytest.raises(EngineError, match=r"missing .*'idle_w'.*; it takes idle_w, busy_w"):
        load_meter(METERS["estimate"], {})

import threading
import time
from pathlib import Path

import pytest

from bayestl.errors import EngineError
from bayestl.measure.meter import Kind
from bayestl.measure.meters.ina3221 import Ina3221Energy

ORIN_NANO = {
    "ina3221/1-0040/hwmon/hwmon1": {
        "name": "ina3221",
        "in1_label": "VDD_IN", "in1_input": 5_000, "curr1_input": 1_200,
        "in2_label": "VDD_CPU_GPU_CV", "in2_input": 5_000, "curr2_input": 400,
        "in3_label": "VDD_SOC", "in3_input": 5_000, "curr3_input": 300,
        "in4_input": 6_000, "curr4_input": 1_900,
        "in7_label": "Sum of shunt voltages", "in7_input": 9_000,
    }
}  # fmt: skip
AGX_ORIN = {
    "ina3221/1-0040/hwmon/hwmon3": {
        "in1_label": "VDD_GPU_SOC", "in1_input": 19_000, "curr1_input": 200,
        "in2_label": "VDD_CPU_CV", "in2_input": 19_000, "curr2_input": 100,
        "in3_label": "VIN_SYS_5V0", "in3_input": 5_000, "curr3_input": 800,
    },
    "ina3221/1-0041/hwmon/hwmon4": {
        "in1_label": "NC", "in1_input": 0, "curr1_input": 0,
        "in2_label": "VDDQ_VDD2_1V8AO", "in2_input": 5_000, "curr2_input": 150,
        "in3_label": "NC", "in3_input": 0, "curr3_input": 0,
    },
}  # fmt: skip
TX2 = {
    "ina3221x/0-0040/iio:device0": {
        "rail_name_0": "VDD_SYS_GPU", "in_power0_input": 152,
        "in_voltage0_input": 19_000, "in_current0_input": 8,
        "rail_name_1": "VDD_SYS_SOC", "in_power1_input": 456,
        "rail_name_2": "VDD_4V0_WIFI", "in_power2_input": 19,
    },
    "ina3221x/0-0041/iio:device1": {
        "rail_name_0": "VDD_IN", "in_power0_input": 3_040,
        "rail_name_1": "VDD_SYS_CPU", "in_power1_input": 304,
        "rail_name_2": "VDD_SYS_DDR", "in_power2_input": 551,
    },
}  # fmt: skip
SECONDS = 0.1


@pytest.fixture
def jetson(tmp_path, monkeypatch):
    """A function that writes the files of a board and returns the folder."""

    def make(board):
        for folder, files in board.items():
            (tmp_path / folder).mkdir(parents=True)
            for name, text in files.items():
                (tmp_path / folder / name).write_text(f"{text}\n")
        monkeypatch.setattr(Ina3221Energy, "drivers", tmp_path)
        return tmp_path

    return make


def read(meter, seconds=SECONDS):
    """A reading, and the window's length in s, from within and from around the meter."""
    meter.open()
    outer = time.perf_counter()
    meter.begin()
    inner = time.perf_counter()
    time.sleep(seconds)
    inner = time.perf_counter() - inner
    reading = meter.end()
    return reading, inner, time.perf_counter() - outer


@pytest.mark.parametrize(
    ("board", "rail", "watts", "domain"),
    [
        (ORIN_NANO, None, 6.0, "VDD_IN"),
        (ORIN_NANO, "VDD_SOC", 1.5, "VDD_SOC"),
        (AGX_ORIN, ["VDD_GPU_SOC", "VIN_SYS_5V0"], 7.8, "VDD_GPU_SOC+VIN_SYS_5V0"),
        (TX2, None, 3.04, "VDD_IN"),
        (TX2, "VDD_SYS_GPU", 0.152, "VDD_SYS_GPU"),
    ],
)
def test_constant_power_is_power_times_time(jetson, board, rail, watts, domain):
    jetson(board)
    meter = Ina3221Energy(rail=rail, interval_s=0.01)
    reading, inner, outer = read(meter)
    assert watts * inner <= reading.value <= watts * outer
    assert (reading.kind, reading.unit, reading.domain) == (Kind.INTEGRATED, "J", domain)
    assert 0 < reading.resolution_s <= outer
    meter.close()


def test_power_that_changes_in_a_window_is_followed(jetson):
    root = jetson(ORIN_NANO)
    current = root / "ina3221/1-0040/hwmon/hwmon1/curr1_input"
    meter = Ina3221Energy(interval_s=0.005)
    meter.open()
    start = time.perf_counter()
    meter.begin()
    for milliamperes, seconds in ((12_000, 0.3), (1_200, 0.02)):
        new = current.with_name("new")
        new.write_text(f"{milliamperes}\n")
        new.rename(current)  # at once: a reader never meets an empty file
        time.sleep(seconds)
    reading = meter.end()
    assert 60 * 0.3 / 2 < reading.value < 60 * (time.perf_counter() - start)


def test_no_thread_is_left_between_windows(jetson):
    jetson(ORIN_NANO)
    threads = threading.active_count()
    meter = Ina3221Energy(interval_s=0.01)
    meter.open()
    assert threading.active_count() == threads
    meter.begin()
    assert threading.active_count() == threads + 1
    meter.begin()  # a window that was given up
    assert threading.active_count() == threads + 1
    meter.end()
    assert threading.active_count() == threads
    meter.begin()
    meter.close()
    assert threading.active_count() == threads


def test_a_board_without_a_total_rail_lists_its_rails(jetson):
    jetson(AGX_ORIN)
    reading, _, _ = read(Ina3221Energy())
    assert reading.kind is Kind.UNAVAILABLE
    assert "VDDQ_VDD2_1V8AO, VDD_CPU_CV, VDD_GPU_SOC, VIN_SYS_5V0" in reading.source
    assert "NC" not in reading.source


def test_the_sum_of_shunts_is_no_rail(jetson):
    jetson(ORIN_NANO)
    reading, _, _ = read(Ina3221Energy(rail=["VDD_IN", "VDD_MUX"]))
    assert "no rail VDD_MUX" in reading.source
    assert "there are: VDD_CPU_GPU_CV, VDD_IN, VDD_SOC" in reading.source


def test_another_machine_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(Ina3221Energy, "drivers", tmp_path)
    reading, _, _ = read(Ina3221Energy())
    assert "not a Jetson" in reading.source


@pytest.mark.parametrize("moment", ["begin", "meanwhile", "end"])
def test_a_monitor_that_is_lost_is_told(jetson, moment):
    file = jetson(TX2) / "ina3221x/0-0041/iio:device1/in_power0_input"
    meter = Ina3221Energy(interval_s=0.005 if moment == "meanwhile" else 10.0)
    meter.open()
    if moment == "begin":
        file.unlink()
    meter.begin()
    if moment != "begin":
        file.unlink()
    if moment == "meanwhile":
        wait_for_the_thread_to_end()
        file.write_text("3040\n")  # back too late
    reading = meter.end()
    assert reading.kind is Kind.UNAVAILABLE
    assert "in_power0_input" in reading.source
    file.write_text("3040\n")
    meter.begin()
    assert meter.end().value > 0


def wait_for_the_thread_to_end():
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and any(t.name == "power" for t in threading.enumerate()):
        time.sleep(0.002)


def test_no_power_at_all_is_not_zero(jetson):
    jetson(AGX_ORIN | {"ina3221/1-0042/hwmon/hwmon5": {
        "in1_label": "VDD_IN", "in1_input": 0, "curr1_input": 0}})  # fmt: skip
    reading, _, _ = read(Ina3221Energy())
    assert reading.kind is Kind.UNAVAILABLE
    assert "0 W" in reading.source


def test_the_window_grows_with_the_interval():
    assert Ina3221Energy(interval_s=0.1).window_s == pytest.approx(4.0)
    assert Ina3221Energy().window_s >= 1.0


@pytest.mark.parametrize(
    "arguments",
    [{"rail": 3}, {"rail": []}, {"rail": [""]}, {"rail": ""}, {"rail": ["A", "A"]},
     {"interval_s": 0}, {"interval_s": "1"}, {"interval_s": float("nan")}, {"interval_s": True}],
)  # fmt: skip
def test_arguments_are_checked(arguments):
    with pytest.raises(EngineError, match="expected ina3221: "):
        Ina3221Energy(**arguments)


@pytest.mark.skipif(
    not any(Path("/sys/bus/i2c/drivers").glob("ina3221*/*/*/*")), reason="no INA3221 here"
)
def test_this_board_spends_energy():
    reading, inner, _ = read(Ina3221Energy(), 2.0)
    assert reading.kind is Kind.INTEGRATED, reading.source
    assert 0.5 * inner < reading.value < 200 * inner

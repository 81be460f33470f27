"""Laws of every Meter, on whatever machine this is."""

import json
import sys
import threading

import pytest

from bayestl.data.measurement import Metric
from bayestl.measure.meter import METERS, Kind, Meter, Reading, load_meter

ANSWERS = (
    "import sys\n"
    "for line in sys.stdin:\n"
    """    print('{"value": 3, "unit": "J", "kind": "counter"}', flush=True)\n"""
)
PROCESS = {
    name: f"bayestl.measure.meters.process:{name}"
    for name in ("WallClock", "CpuTime", "PeakMemory")
}
SUBJECTS = [
    *((reference, {}) for reference in PROCESS.values()),
    (METERS["nvml"], {}),
    (METERS["rapl"], {}),
    (METERS["ina3221"], {}),
    (METERS["ina3221"], {"rail": ["GPU", "CPU"], "interval_s": 0.01}),
    (METERS["external"], {"command": [sys.executable, "-c", ANSWERS]}),
    (METERS["external"], {"command": ["/no/such/program"]}),
    (METERS["external"], {"command": ["/bin/false"], "window_s": 0}),
    (METERS["estimate"], {"idle_w": 5, "busy_w": 60, "uncertainty": 0.3}),
]


@pytest.fixture(params=SUBJECTS, ids=lambda subject: subject[0].partition(":")[2])
def meter(request):
    reference, arguments = request.param
    meter = load_meter(reference, json.loads(json.dumps(arguments)))
    yield meter
    meter.close()


def check(meter: Meter, reading: Reading):
    assert isinstance(reading, Reading)
    assert reading.unit == meter.metric.unit
    assert reading.domain
    assert reading.source
    assert json.loads(json.dumps(reading.to_dict(), allow_nan=False)) == reading.to_dict()
    if reading.kind is Kind.UNAVAILABLE:
        assert reading.value is None
    else:
        assert reading.value > 0
        assert (reading.kind is Kind.ESTIMATED) == (meter.metric.name == "estimated_energy")
    assert meter.disturbance() is None or meter.disturbance()


def spin():
    return sum(range(200_000))


def test_every_registered_meter_is_a_subject():
    assert {reference for reference, _ in SUBJECTS} == {*METERS.values(), *PROCESS.values()}


def test_every_window_has_a_reading(meter):
    meter.open()
    for _ in range(2):
        meter.begin()
        spin()
        check(meter, meter.end())
    meter.close()


def test_a_meter_can_be_opened_again(meter):
    for _ in range(2):
        meter.open()
        meter.begin()
        spin()
        first = meter.end()
        check(meter, first)
        meter.close()
        meter.close()


def test_nothing_is_left_running(meter):
    threads = set(threading.enumerate())
    meter.open()
    meter.begin()
    meter.close()  # in the middle of a window
    assert set(threading.enumerate()) == threads


def test_a_meter_that_was_never_opened_can_be_closed(meter):
    meter.close()


@pytest.mark.parametrize("reference", METERS.values())
def test_energy_without_a_window_is_unavailable(reference):
    arguments = next(arguments for known, arguments in SUBJECTS if known == reference)
    meter = load_meter(reference, arguments)
    for step in ("unopened", "open", "close"):
        if step != "unopened":
            getattr(meter, step)()
        check(meter, reading := meter.end())
        assert reading.kind is Kind.UNAVAILABLE


def test_what_a_meter_is_can_be_asked_before_it_is_opened(meter):
    assert isinstance(meter.metric, Metric)
    assert meter.metric.direction == "minimize"
    assert meter.window_s >= 0
    assert isinstance(meter.accumulates, bool)


def test_no_two_sources_share_a_metric():
    references = [*PROCESS.values(), *METERS.values()]
    made = [load_meter(r, next(a for known, a in SUBJECTS if known == r)) for r in references]
    names = [meter.metric.name for meter in made]
    assert len(set(names)) == len(names)
    assert names[len(PROCESS) :] == [
        *("gpu_energy", "cpu_energy", "board_energy", "external_energy", "estimated_energy")
    ]
    assert {meter.metric.unit for meter in made[len(PROCESS) :]} == {"J"}

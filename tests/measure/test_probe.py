import json
import sys
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest

from bayestl.data.measurement import Measurement, Status
from bayestl.errors import EngineError, NetworkError
from bayestl.measure import probe as probing
from bayestl.measure.engine import ENGINES
from bayestl.measure.machine import available_cores
from bayestl.measure.meter import METERS, Reading
from bayestl.measure.probe import Noise, Part, Placement, Probe, Repeats, probe, summarized
from bayestl.measure.runner import LocalRunner

ENGINE = Part("onnxruntime", True, "1.20")
METER = Part("rapl", True, "cpu_energy in J from powercap")
STEADY = Repeats(
    "onnxruntime 1.20", "squeezenet", 8, 8, 5.0, 1.0, 0.5, 0.9, 8, placements={"near": 8}
)
CALM = Probe(
    processor="A processor",
    flags=(),
    kernel="Linux 6",
    physical_cores=2,
    cores="0-1",
    governor="performance",
    turbo=False,
    frequency_mhz=(800.0, 3000.0),
    smt=False,
    quota=None,
    autogroup=False,
    memory_mib={"total": 8000.0, "available": 7000.0, "limit": None},
    load={"load_average": 0.1, "cpu_pressure_percent": 0.0, "stolen_s": 0.0},
    stolen_percent=0.0,
    engines=(ENGINE,),
    devices=(),
    meters=(METER,),
    networks=(),
    placement=Placement((0, 1), 200.0, "near"),
    noise=Noise(1.0, 0.5, 50),
    repeats=STEADY,
)


def test_a_quiet_machine_needs_no_advice():
    assert CALM.advice == ()
    assert replace(CALM, repeats=None).advice == ()


def test_whom_times_are_enough_needs_no_energy_meter():
    found = replace(CALM, meters=(), engines=())
    assert found.advice == (*found.advice_on_time, found.advice[-1])
    assert "No energy meter" in found.advice[-1]
    (sentence,) = found.advice_on_time
    assert "No engine" in sentence


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"engines": (Part("onnxruntime", False, "not installed"),)}, ["pip install"]),
        (
            {"meters": (replace(METER, works=False), Part("wall clock", True, ""))},
            ["No energy meter", "`external`", "`estimate`"],
        ),
        (
            {"meters": (Part("external", None, "needs arguments"),)},
            ["No energy meter"],
        ),
        (
            {"repeats": replace(STEADY, latency_percent=12.0, cpu_percent=2.0)},
            ["varies by 12 %", "6 times", "cpu_time, which varies by 2 %"],  # (12 / 5)^2 is 5.76
        ),
        (
            {"repeats": replace(STEADY, latency_percent=5.1, cpu_percent=4.0)},
            ["varies by 5 %", "2 times", "standard error of 5 %."],  # CPU time is no better
        ),
        (
            {"repeats": replace(STEADY, attempts=9, disturbances=("stolen",), contaminated=2)},
            ["1 of 9 attempts", "2 of 8 measurements", "(last: stolen)"],
        ),
        (
            {"repeats": replace(STEADY, placements={"near": 5, "far": 3})},
            ["changed their place", "near 5 times, far 3 times"],
        ),
        ({"repeats": replace(STEADY, ok=0, problem="no such file")}, ["no such file"]),
        ({"repeats": None, "noise": Noise(20.0, 2.0, 50)}, ["20 %", "repeat"]),
        ({"placement": Placement((0, 1), 600.0, "far")}, ["600 ns"]),
        ({"turbo": True}, ["Turbo is on", "no_turbo", "boost"]),
        ({"governor": "powersave"}, ["'powersave'", "cpupower"]),
        ({"load": {"load_average": 3.0}}, ["load average is 3"]),
        ({"quota": 1.5}, ["1.5 of 2 cores"]),
        ({"cores": "0"}, ["One core"]),
    ],
)
def test_each_flaw_has_one_sentence_of_advice(changes, words):
    (sentence,) = replace(CALM, **changes).advice
    assert [word for word in words if word not in sentence] == []
    assert sentence.endswith(".")


@pytest.mark.parametrize(
    "changes",
    [
        {"governor": None, "turbo": None, "quota": None},
        {"quota": 2.0},
        {"noise": Noise(20.0, 2.0, 50)},  # the repeats know better
        {"repeats": replace(STEADY, placements={"near": 7, "between": 1})},
    ],
)
def test_what_is_no_flaw_has_no_advice(changes):
    assert replace(CALM, **changes).advice == ()


def test_findings_are_json():
    found = replace(CALM, repeats=replace(STEADY, latency_percent=9.0)).to_dict()
    again = json.loads(json.dumps(found, allow_nan=False))
    assert again["repeats"]["placements"] == {"near": 8}
    assert "9 %" in again["advice"][0]


def test_a_probe_says_what_works_here(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    monkeypatch.setenv("BAYESTL_LOCK", str(tmp_path / "lock"))  # the lock: others may be measuring
    patient = partial(LocalRunner, disturbance_limit=10.0, attempts=9)  # and they go on
    monkeypatch.setattr(probing, "LocalRunner", patient)
    seen = []
    found = probe(repeats=2, observer=lambda measurement, done: seen.append((measurement, done)))
    assert {part.name for part in found.engines} == set(ENGINES)
    assert found.noise.repeats >= 5
    assert found.noise.cpu_percent >= 0
    if len(available_cores()) > 1:
        assert found.placement.bounce_ns > 1
        assert found.placement.regime in ("near", "between", "far")
    json.dumps(found.to_dict(), allow_nan=False)

    repeats = found.repeats
    assert [done for _, done in seen] == [1, 2]
    assert repeats.problem == ""
    assert repeats.engine.startswith("onnxruntime 1.")
    assert (repeats.count, repeats.network) == (2, "squeezenet")
    assert (repeats.ok, repeats.contaminated) == (2, 0)
    assert repeats.attempts >= 2
    assert sum(repeats.placements.values()) == 2
    latencies = [measurement.values["latency"] for measurement, _ in seen]
    assert min(latencies) <= repeats.latency_ms <= max(latencies)
    assert repeats.latency_percent >= 0
    assert repeats.cpu_percent >= 0
    assert repeats.interval_percent >= 0


def _measured(latency, cpu_time=1.0, *, disturbed=(), place="near", status=Status.OK):
    values = {"latency": latency, "cpu_time": cpu_time} if status is Status.OK else {}
    provenance = {"disturbed": list(disturbed), "placement": place, "interval": latency / 1000}
    return Measurement({}, "doctor", status, values, message="why", provenance=provenance)


def test_repeats_are_summarized():
    found = summarized(
        "an engine",
        "a network",
        [
            _measured(9.0, 2.0),
            _measured(11.0, 2.0, disturbed=["stolen"], place="far"),
            _measured(10.0, disturbed=["a", "b", "c"], status=Status.CONTAMINATED),
            _measured(10.0, 2.0),
        ],
    )
    assert found == Repeats(
        engine="an engine",
        network="a network",
        count=4,
        ok=3,
        latency_ms=10.0,
        latency_percent=pytest.approx(10.0),  # a standard deviation of 1 in a mean of 10
        cpu_percent=0.0,
        interval_percent=pytest.approx(1.0),
        attempts=7,  # one, two, three and one
        disturbances=("stolen", "a", "b", "c"),
        contaminated=1,
        placements={"near": 3, "far": 1},
    )


def test_repeats_that_fail_say_why_and_have_no_numbers():
    found = summarized("e", "n", [_measured(1.0, status=Status.CRASH), _measured(2.0)])
    assert found.problem == "crash: why"
    assert (found.latency_ms, found.latency_percent, found.cpu_percent) == (2.0, None, None)
    nothing = summarized("e", "n", [], EngineError("busy"))
    assert nothing == Repeats("e", "n", problem="busy")


class FailingRunner:
    """Knows no network of onnxruntime's; its second measurement of openvino fails."""

    def __init__(self, **settings):
        assert settings["sentinel_every"] is None
        self.count = 0

    def run(self, configuration, environment):
        self.count += 1
        if environment.engine == "onnxruntime":
            raise NetworkError("no squeezenet")
        if self.count == 2:
            raise EngineError("the lock is taken")
        return _measured(3.0)

    def close(self):
        pass


def test_the_first_engine_that_has_its_network_is_repeated(monkeypatch):
    monkeypatch.setattr(probing, "LocalRunner", FailingRunner)
    missing = Part("openvino", False, "not installed")
    found = probing.probe_repeats([missing, ENGINE], 5)
    assert found == Repeats("onnxruntime 1.20", "squeezenet", problem="no squeezenet")
    found = probing.probe_repeats([ENGINE, Part("openvino", True, "2025")], 5)
    assert (found.engine, found.count, found.latency_ms) == ("openvino 2025", 1, 3.0)
    assert found.problem == "the lock is taken"
    assert probing.probe_repeats([missing], 5).problem == "no engine works here"


def test_every_engine_has_a_network_to_repeat():
    formats = {probing.load_engine(reference).format for reference in ENGINES.values()}
    assert formats <= set(probing.REPEATED)
    assert set(probing.REPEATED.values()) <= {part.name for part in probing.probe_networks()}


def test_one_core_has_no_placement():
    assert probing.probe_placement((0,)) == Placement(None, None, "unknown")


def test_a_placement_that_cannot_be_arranged_is_unknown():
    assert probing.probe_placement((0, 60_000)) == Placement((0, 60_000), None, "unknown")


def test_an_engine_that_is_missing_is_reported(monkeypatch):
    monkeypatch.setattr(probing, "ENGINES", {"ghost": "no.such:Engine"})
    (part,) = probing.probe_engines()
    assert part.name == "ghost"
    assert not part.works


def test_an_engine_that_is_installed_and_broken_is_reported(monkeypatch, tmp_path):
    (tmp_path / "broken_engine.py").write_text(
        "class Engine:\n"
        "    def version(self): return '1.0'\n"
        "    def prepare(self): raise ImportError('libfast.so: cannot open shared object file')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(probing, "ENGINES", {"broken": "broken_engine:Engine"})
    assert probing.probe_engines() == (Part("broken", True, "1.0"),)
    (part,) = probing.probe_engines(imported=True)
    assert part.works is False
    assert "cannot be imported: ImportError: libfast.so" in part.detail


def test_every_meter_is_tried_or_says_what_it_needs():
    parts = {part.name: part for part in probing.probe_meters()}
    assert set(parts) == {"wall clock", "CPU time", "peak memory", *METERS}
    for name in ("wall clock", "CPU time", "peak memory"):
        assert parts[name].works
    assert "wall_time in ms" in parts["wall clock"].detail
    for name, argument in (("external", "command"), ("estimate", "idle_w")):
        assert parts[name].works is None
        assert argument in parts[name].detail
    assert all(part.detail for part in parts.values())


class DeadMeter:
    window_s = 3600.0
    closed = False

    def open(self):
        pass

    def begin(self):
        pass

    def end(self):
        return Reading.unavailable("J", "gpu", "the counter stood still")

    def close(self):
        self.closed = True


def test_a_meter_that_reads_nothing_says_why_and_is_closed(monkeypatch):
    meter = DeadMeter()
    monkeypatch.setattr(probing, "load_meter", lambda reference, arguments: meter)
    monkeypatch.setattr(probing, "METERS", {"dead": "a:Meter"})
    assert probing.probe_meters()[-1] == Part("dead", False, "the counter stood still")
    assert meter.closed


class NvmlError(Exception):
    pass


def nvml(count=2, driver=True):
    """A stand-in for pynvml, whose second GPU is lost."""

    def init():
        if not driver:
            raise NvmlError("Driver Not Loaded")

    def name(index):
        if index == 1:
            raise NvmlError("GPU is lost")
        return "NVIDIA H100"

    closed = []
    return SimpleNamespace(
        NVMLError=NvmlError,
        nvmlInit=init,
        nvmlShutdown=lambda: closed.append(True),
        nvmlSystemGetDriverVersion=lambda: "550.1",
        nvmlDeviceGetCount=lambda: count,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetMemoryInfo=lambda handle: SimpleNamespace(total=80 * 1024**3),
        nvmlDeviceGetName=name,
        closed=closed,
    )


def test_devices_are_listed(monkeypatch):
    stub = nvml()
    monkeypatch.setitem(sys.modules, "pynvml", stub)
    assert probing.probe_devices() == (
        Part("GPU 0", True, "NVIDIA H100, 81,920 MiB, driver 550.1"),
        Part("GPU 1", False, "GPU is lost"),
    )
    assert stub.closed


@pytest.mark.parametrize("stub", [None, nvml(driver=False), nvml(count=0)])
def test_without_a_driver_there_are_no_devices(monkeypatch, stub):
    monkeypatch.setitem(sys.modules, "pynvml", stub)
    assert probing.probe_devices() == ()

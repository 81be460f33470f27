"""Python functions as targets: timed in a process of their own, or measuring themselves."""

import sys

import pytest

from bayestl.data.environment import Environment
from bayestl.data.measurement import Metric, Status
from bayestl.data.options import Integer
from bayestl.data.space import ConfigSpace
from bayestl.errors import EngineError, UnknownEnvironment
from bayestl.measure.function import function_runner
from bayestl.measure.sampling import Sampling

SPACE = ConfigSpace({"threads": Integer(1, 8), "width": Integer(1, 64)})
HERE = Environment("here")
QUICK = Sampling(warmup_iterations=1, warmup_s=0.0, warmup_limit_s=0.02, min_samples=3,
                 sample_s=0.0)  # fmt: skip

MODULE = """
import sys, time
import numpy as np
from bayestl.data.measurement import Status
from bayestl.measure.engine import Refusal

def network(configuration):
    if configuration["threads"] == 7:
        raise Refusal(Status.UNSUPPORTED, "7 is no number of threads here")
    if configuration["threads"] == 8:
        raise KeyError("a bug")
    time.sleep(0.05)
    sys.stdout.write('{"latency": -1')
    return lambda: time.sleep(configuration["width"] / 1000)

def itself(configuration):
    return {"energy": np.float32(configuration["width"] / 2), "power": np.array([1.0, 5.0, 3.0])}

def wrong(configuration):
    return 3

def worse(configuration):
    return {"energy": object(), "power": 1}

constant = 3
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    path = tmp_path / "measured_functions.py"
    path.write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "measured_functions"
    sys.modules.pop("measured_functions", None)


def test_an_inference_is_timed_apart_from_its_build(module):
    runner = function_runner(f"{module}:network", SPACE, sampling=QUICK)
    measured = runner.run({"width": 2}, HERE)
    assert measured.ok, measured.message
    assert measured.values["latency"] >= 2
    assert measured.values["build_time"] >= 50
    assert len(measured.samples["latency"]) >= 3
    assert measured.values["wall_time"] > measured.values["build_time"]
    assert {metric.name for metric in runner.metrics} == set(measured.values)


def test_a_function_may_measure_itself(module):
    metrics = [Metric("energy", "J"), Metric("power", "W")]
    measured = function_runner(f"{module}:itself", SPACE, metrics).run({"width": 9}, HERE)
    assert measured.values["energy"] == 4.5
    assert measured.values["power"] == 3.0
    assert measured.samples == {"power": [1.0, 5.0, 3.0]}


def test_the_function_itself_stands_for_its_name(module):
    import measured_functions  # pyright: ignore[reportMissingImports]

    runner = function_runner(measured_functions.network, SPACE, sampling=QUICK, timeout_s=20)
    assert runner.name == "measured_functions:network"
    assert runner.timeout_s == 20
    assert runner.run({}, runner.describe(HERE)).ok


@pytest.mark.parametrize(
    ("threads", "status", "message"),
    [(7, "unsupported", "7 is no number of threads here"), (8, "crash", "KeyError: 'a bug'")],
)
def test_what_it_raises_is_an_outcome(module, threads, status, message):
    runner = function_runner(f"{module}:network", SPACE, sampling=QUICK)
    measured = runner.run({"threads": threads}, HERE)
    assert measured.status is Status(status)
    assert message in measured.message


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing", "expected a function 'missing' in module 'measured_functions', got None"),
        ("constant", "expected a function 'constant'"),
        ("wrong", r"expected wrong\(configuration\) to return a callable"),
        ("worse", "expected numbers, or lists of them, as metrics"),
    ],
)
def test_what_is_wrong_with_the_function_is_an_error(module, name, message):
    runner = function_runner(f"{module}:{name}", SPACE)
    with pytest.raises(EngineError, match=message):
        runner.run({}, HERE)


def test_a_changed_module_is_another_environment(module, tmp_path):
    runner = function_runner(f"{module}:network", SPACE)
    described = runner.describe(HERE)
    assert described.engine.startswith("measured_functions:network ")
    (tmp_path / "measured_functions.py").write_text(MODULE + "# another\n")
    with pytest.raises(UnknownEnvironment, match="restore its files"):
        runner.run({}, described)


def test_what_another_process_cannot_import_is_refused():
    def local(configuration):
        return {}

    for function in (lambda configuration: {}, local, Environment.to_dict):
        with pytest.raises(EngineError, match="cannot be imported by another process"):
            function_runner(function, SPACE)
    for reference in (
        "no_such_module:f",
        "math",
        "math:",
        "no.such:f",
        "__main__:f",
        ":f",
        "",
        "os:system",
        "sys:exit",
    ):
        with pytest.raises(EngineError, match="expected a function as"):
            function_runner(reference, SPACE)

import json
import re
import subprocess
import sys

import pytest

from bayestl.data.environment import Environment
from bayestl.data.measurement import Measurement, Status
from bayestl.errors import EngineError, EngineUnavailable, NetworkError, UnknownEnvironment
from bayestl.measure.lock import device_lock
from bayestl.measure.runner import LocalRunner
from bayestl.measure.sampling import Sampling

SHORT = Sampling(warmup_s=0.0, warmup_limit_s=0.05, min_samples=5, sample_s=0.02)


@pytest.fixture(scope="module")
def runner():
    pytest.importorskip("onnxruntime")
    return LocalRunner(sampling=SHORT, disturbance_limit=None)  # tests run beside each other


@pytest.fixture(scope="module")
def squeezenet():
    pytest.importorskip("onnx")
    return Environment("one", engine="onnxruntime", network="squeezenet", settings={"cores": "0"})


def test_a_measurement_has_values_samples_and_provenance(runner, squeezenet):
    configuration = {"intra_op_num_threads": 1, "graph_optimization_level": "basic"}
    measured = runner.run(configuration, squeezenet)
    assert measured.status is Status.OK, measured.message
    assert measured.configuration == runner.space(squeezenet).configuration(configuration)
    assert set(measured.values) == {metric.name for metric in runner.metrics}
    assert 0.5 < measured.values["latency"] < 5_000
    assert 0.1 < measured.values["cpu_time"] < 5_000
    assert 20 < measured.values["peak_memory"] < 2_000
    assert 0.5 < measured.values["build_time"] < 10_000
    samples = sorted(measured.samples["latency"])
    assert len(samples) >= 5
    assert samples[0] <= measured.values["latency"] <= samples[-1]
    assert measured.values["cpu_time"] * len(samples) <= 1.5 * sum(samples) + 5  # one thread
    assert 0.0 < measured.seconds < 60.0

    found = measured.provenance
    assert found["requested"] == found["effective"] == measured.configuration
    assert found["affinity"] == [0]
    assert found["fingerprint"] == runner.describe(squeezenet).fingerprint
    assert found["session"]["providers"] == ["CPUExecutionProvider"]
    assert found["session"]["threads_started"] == 0
    assert found["inputs"] == ["data_0 float32 1x3x224x224"]
    assert len(found["network"]["sha256"]) == 64
    assert found["readings"]["peak_memory"]["source"] == "VmHWM"
    expected = (
        "bayestl python numpy engine processor flags kernel governor "
        "started before after sampling warmup_ms steady variables limits"
    )
    assert set(expected.split()) <= set(found)
    again = json.loads(json.dumps(measured.to_dict(), allow_nan=False))
    assert Measurement.from_dict(again) == measured


@pytest.mark.parametrize(
    ("configuration", "threads"),
    [
        ({"intra_op_num_threads": 3, "allow_spinning": False, "dynamic_block_base": 4}, 2),
        ({"execution_mode": "parallel", "inter_op_num_threads": 2, "intra_op_num_threads": 2}, 2),
        (
            {"enable_cpu_mem_arena": False, "enable_mem_reuse": False, "disable_prepacking": True,
             "set_denormal_as_zero": True, "graph_optimization_level": "disabled",
             "intra_op_num_threads": 1},
            0,
        ),
    ],
)  # fmt: skip
def test_what_was_asked_takes_effect(runner, squeezenet, configuration, threads):
    measured = runner.run(configuration, squeezenet)
    assert measured.status is Status.OK, measured.message
    assert measured.provenance["effective"] == runner.space(squeezenet).configuration(configuration)
    assert measured.provenance["session"]["threads_started"] == threads


@pytest.mark.parametrize(
    "configuration",
    [
        {"intra_op_num_threads": -1},
        {"intra_op_num_threads": 10_000},
        {"allow_spinning": "banana"},
        {"graph_optimization_level": 99},
        {"session.intra_op.allow_spinning": "1"},
        {"inter_op_num_threads": 2},  # not active in sequential mode
    ],
)
def test_nonsense_never_reaches_the_engine(runner, squeezenet, configuration, monkeypatch):
    monkeypatch.setattr("bayestl.measure.zygote.Zygote.run", None)
    measured = runner.run(configuration, squeezenet)
    assert measured.status is Status.INVALID
    assert next(iter(configuration)) in measured.message
    assert not measured.values


JOULES = (
    "import sys\n"
    "for line in sys.stdin:\n"
    """    print('{"value": 3, "unit": "J", "kind": "counter"}', flush=True)\n"""
)


def test_what_meters_read_is_under_their_metrics(staged, staged_environment, caplog):
    runner = staged(
        meters={
            "external": {"command": [sys.executable, "-c", JOULES], "window_s": 0.0},
            "estimate": {"idle_w": 5, "busy_w": 60, "uncertainty": 0.3},
            "ina3221": {},
        }
    )
    measured = runner.run({}, staged_environment)
    assert measured.ok, measured.message
    assert set(measured.values) == {m.name for m in runner.metrics} - {"board_energy"}
    count = len(measured.samples["latency"])
    assert measured.values["external_energy"] == pytest.approx(3 / count)
    assert measured.values["estimated_energy"] > 0
    readings = measured.provenance["readings"]
    assert readings["estimated_energy"]["kind"] == "estimated"
    assert readings["board_energy"]["value"] is None
    assert "no INA3221" in readings["board_energy"]["source"]
    assert runner.run({}, staged_environment).ok
    (warning,) = caplog.messages  # once, however often it reads nothing
    assert warning.startswith("board_energy is not measured: no INA3221")


def test_a_batch_that_the_file_fixes_is_rewritten(runner, squeezenet):
    batched = Environment(
        "b", engine="onnxruntime", network="shufflenet", settings={"cores": "0", "batch": 3}
    )
    measured = runner.run({}, batched)
    assert measured.status is Status.OK, measured.message
    assert measured.provenance["inputs"] == ["gpu_0/data_0 float32 3x3x224x224"]
    assert "3x3x224x224; batch 3" in runner.describe(batched).workload


def test_a_description_can_be_run_and_names_the_version(runner, squeezenet):
    described = runner.describe(squeezenet)
    assert described.name == squeezenet.name
    assert described.settings == squeezenet.settings
    assert described.engine.startswith("onnxruntime 1.")
    assert "cores 0 of" in described.hardware
    assert "1x3x224x224" in described.workload
    assert runner.describe(described) == described
    other = Environment("old", engine="onnxruntime 0.1", network="squeezenet")
    with pytest.raises(UnknownEnvironment, match=r"described with onnxruntime 0\.1"):
        runner.space(other)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"engine": "tensorflow"}, UnknownEnvironment, "unknown engine 'tensorflow'"),
        ({"engine": ""}, UnknownEnvironment, "expected one of onnxruntime"),
        ({"engine": "os:system"}, UnknownEnvironment, "unknown engine"),
        ({"network": "squeezenot"}, NetworkError, "expected one of alexnet"),
        ({"network": "/nowhere/a.onnx"}, NetworkError, "No such file"),
        ({"settings": {"core": "0"}}, UnknownEnvironment, "unknown setting 'core'"),
        ({"settings": {"cores": "0-4095"}}, UnknownEnvironment, "this process may use"),
        ({"settings": {"cores": "all"}}, UnknownEnvironment, "expected cores such as"),
        ({"settings": {"cores": True}}, UnknownEnvironment, "expected cores such as"),
        ({"settings": {"batch": 0}}, UnknownEnvironment, "expected a batch from 1"),
        ({"settings": {"batch": 2.5}}, UnknownEnvironment, "expected a batch from 1"),
        ({"settings": {"batch": True}}, UnknownEnvironment, "expected a batch from 1"),
    ],
)
def test_a_request_that_is_wrong_in_itself_is_an_error(runner, changes, error, message):
    environment = Environment(
        **{"name": "e", "engine": "onnxruntime", "network": "squeezenet", **changes}
    )
    for ask in (runner.space, runner.describe, lambda e: runner.run({}, e)):
        with pytest.raises(error, match=message):
            ask(environment)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("timeout_s", 0), ("timeout_s", None), ("timeout_s", True), ("memory_limit_mib", -1),
        ("disturbance_limit", "0.2"), ("implausible_speedup", float("nan")), ("attempts", 0),
        ("attempts", 1.5), ("sentinel_every", 0), ("isolation", "thread"), ("drift_limit", -2),
        ("host", "no"), ("allocator", 1), ("lock_timeout_s", -1), ("lock_timeout_s", "9"),
        ("seed", -1), ("seed", 0.5),
    ],
)  # fmt: skip
def test_settings_are_checked(name, value):
    with pytest.raises(EngineError, match=rf"{name}: .*{re.escape(repr(value))}"):
        LocalRunner(**{name: value})


def test_one_tolerance_leaves_the_others_and_a_deadline_may_be_far_away(staged, staged_environment):
    runner = staged(tolerance={"float16": 0.2}, timeout_s=1e9)
    assert runner.run({"act": "chatter"}, staged_environment).ok


def test_meters_come_with_their_arguments():
    with pytest.raises(EngineError, match=r"expected meters with their arguments.*got \['rapl'\]"):
        LocalRunner(meters=["rapl"])


def test_a_missing_engine_says_what_to_install(staged, staged_environment):
    with pytest.raises(EngineUnavailable, match="pip install"):
        staged("Missing").run({}, staged_environment)


def test_a_default_configuration_that_fails_is_an_error(staged, staged_environment):
    with pytest.raises(NetworkError, match=r"cannot run network 'squeezenet'.*no such operator"):
        staged("Broken").run({}, staged_environment)


@pytest.mark.parametrize(
    ("act", "status", "message"),
    [
        ("abort", Status.CRASH, r"signal 6 \(Aborted\): .*terminate called"),
        ("segfault", Status.CRASH, r"signal 11 \(Segmentation fault\)"),
        ("kill", Status.CRASH, r"signal 9 \(Killed\)"),
        ("exit", Status.CRASH, "ended with exit code 3"),
        ("raise", Status.CRASH, "RuntimeError: the kernel was lost"),
        ("oom", Status.OOM, "MemoryError"),
        ("bad_alloc", Status.OOM, "bad_alloc"),
        ("refuse", Status.UNSUPPORTED, "no such precision"),
        ("ignore", Status.UNSUPPORTED, "asked for 'ignore', the engine uses 'work'"),
        ("wrong", Status.BAD_OUTPUT, "output 'y': differs by 0.05"),
        ("nan", Status.BAD_OUTPUT, "1 values are NaN or infinite"),
        ("shape", Status.BAD_OUTPUT, r"shape \[10, 100\] instead of \[1, 1000\]"),
        ("nothing", Status.BAD_OUTPUT, "gave no output"),
        ("fast", Status.IMPLAUSIBLE, "times faster than the default"),
        ("lose", Status.DEVICE_LOST, "unspecified launch failure"),
        ("stop_clock", Status.IMPLAUSIBLE, "the clock stood still"),
        ("kill_server", Status.CRASH, "lost with the process that served it"),
        ("chatter", Status.OK, ""),
    ],
)
def test_every_outcome_has_its_status(staged_runner, staged_environment, act, status, message):
    measured = staged_runner.run({"act": act}, staged_environment)
    assert measured.status is status, measured.message
    assert bool(measured.values) == (status is Status.OK)
    assert re.search(message, measured.message, re.DOTALL), measured.message


def test_what_went_wrong_does_not_last(staged_runner, staged_environment):
    for act in ("abort", "work", "oom", "work", "kill_server", "work", "stop_clock", "work"):
        assert staged_runner.run({"act": act}, staged_environment).ok == (act == "work")


@pytest.mark.parametrize("act", ["hang_build", "hang_run"])
def test_the_deadline_covers_build_and_run(staged, staged_environment, act):
    runner = staged(timeout_s=3.0)
    measured = runner.run({"act": act}, staged_environment)
    assert measured.status is Status.TIMEOUT
    assert "3 s" in measured.message
    assert 2.9 < measured.seconds < 30.0
    assert runner.run({"act": "work"}, staged_environment).ok


def test_a_limit_on_memory_is_kept(runner, squeezenet):
    limited = LocalRunner(sampling=SHORT, memory_limit_mib=64)
    with pytest.raises(EngineError, match="oom"):
        limited.run({}, squeezenet)


def test_one_measurement_at_a_time(staged, staged_environment, monkeypatch, tmp_path):
    monkeypatch.setenv("BAYESTL_LOCK", str(tmp_path / "lock"))
    runner = staged(lock_timeout_s=0.2)
    with device_lock(1.0), pytest.raises(EngineError, match="has been measuring"):
        runner.run({}, staged_environment)
    assert runner.run({}, staged_environment).ok


def test_importing_the_runner_loads_nothing_heavy():
    code = (
        "import sys, bayestl.measure.runner, bayestl.measure.child; "
        "print([m for m in ('torch', 'pandas', 'numpy', 'sklearn', 'onnxruntime', 'onnx') "
        "if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_network_that_the_engine_cannot_run_is_an_error(runner, tmp_path):
    helper = pytest.importorskip("onnx").helper
    x, y = (helper.make_tensor_value_info(name, 1, [1, 4]) for name in "xy")
    graph = helper.make_graph([helper.make_node("NoSuchOp", ["x"], ["y"])], "g", [x], [y])
    path = tmp_path / "odd.onnx"
    path.write_bytes(helper.make_model(graph).SerializeToString())
    with pytest.raises(NetworkError, match=r"cannot run network .*NoSuchOp"):
        runner.run({}, Environment("odd", engine="onnxruntime", network=str(path)))


@pytest.mark.parametrize("shape", [[8, 4], []])
def test_a_network_without_a_batch_of_one_runs_as_it_is(runner, tmp_path, shape):
    helper = pytest.importorskip("onnx").helper
    values = [helper.make_tensor_value_info(name, 1, shape) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "g", *[[v] for v in values])
    path = tmp_path / "n.onnx"
    path.write_bytes(helper.make_model(graph, ir_version=8).SerializeToString())
    assert runner.run({}, Environment("e", engine="onnxruntime", network=str(path))).ok


def test_a_batch_that_the_network_cannot_have_is_an_error(runner, tmp_path):
    helper = pytest.importorskip("onnx").helper
    x, y = (helper.make_tensor_value_info(n, 1, s) for n, s in (("x", [1, 4]), ("y", [])))
    node = helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0)
    opset = [helper.make_opsetid("", 17)]
    path = tmp_path / "sum.onnx"
    model = helper.make_model(helper.make_graph([node], "g", [x], [y]), opset_imports=opset)
    model.ir_version = 8
    path.write_bytes(model.SerializeToString())
    three = Environment("b", engine="onnxruntime", network=str(path), settings={"batch": 3})
    with pytest.raises(NetworkError, match="at batch 3"):
        runner.run({}, three)

import os
import subprocess
import sys

import numpy as np
import pytest

from bayestl.data.environment import Environment
from bayestl.data.measurement import Status
from bayestl.data.options import Integer
from bayestl.data.space import ConfigSpace
from bayestl.errors import EngineError, EngineUnavailable, UnknownEnvironment
from bayestl.measure import machine
from bayestl.measure.engine import Refusal
from bayestl.measure.engines.openvino import ISA_VARIABLE, OpenVINO
from bayestl.measure.networks import find_network
from bayestl.measure.outputs import difference, digest
from bayestl.measure.runner import LocalRunner
from bayestl.measure.sampling import Sampling

SHORT = Sampling(warmup_s=0.0, warmup_limit_s=0.05, min_samples=5, sample_s=0.02)
HERE = Environment("here", engine="openvino", network="squeezenet")
ENGINE = OpenVINO()
AVX512 = ("sse4_2", "avx", "avx2", "avx512f", "avx512bw", "avx512_vnni")
IMAGE = np.random.default_rng(0).random((1, 3, 224, 224)).astype(np.float32)

needs_two_cores = pytest.mark.skipif(len(machine.available_cores()) < 2, reason="needs two cores")
needs_x86 = pytest.mark.skipif("avx2" not in machine.processor_flags(), reason="needs AVX2")


@pytest.fixture
def processor(monkeypatch):
    """A function that gives the processor other flags and the machine other cores."""

    def pretend(flags=("sse4_2", "avx", "avx2"), cores=(0, 1), physical=None):
        monkeypatch.setattr(machine, "processor_flags", lambda: flags)
        monkeypatch.setattr(machine, "available_cores", lambda: cores)
        monkeypatch.setattr(machine, "physical_cores", lambda among: physical or len(among))

    return pretend


@pytest.fixture(scope="module")
def opened():
    """A function that opens a network, feeds it and runs it once."""
    pytest.importorskip("openvino")
    pytest.importorskip("onnx")

    def run(network="squeezenet", values=IMAGE, **changes):
        network = find_network(str(network))
        configuration = {**ENGINE.space(HERE).default, **changes}
        session = ENGINE.open(str(network.path), configuration, {})
        session.feed(dict.fromkeys((tensor.name for tensor in network.tensors), values))
        session.run()
        return session

    return run


@pytest.fixture
def saved(tmp_path):
    """A function that saves a network of one operator from x to y."""
    onnx = pytest.importorskip("onnx")

    def save(operator, shape, constant=None, **attributes):
        helper = onnx.helper
        x, y = (helper.make_tensor_value_info(name, 1, shape) for name in "xy")
        weights = [] if constant is None else [helper.make_tensor("c", 1, [1], [constant])]
        inputs = ["x", *(weight.name for weight in weights)]
        graph = helper.make_graph(
            [helper.make_node(operator, inputs, ["y"], **attributes)], "g", [x], [y], weights
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
        model.ir_version = 8
        path = tmp_path / "network.onnx"
        path.write_bytes(model.SerializeToString())
        return path

    return save


def test_domains_end_at_the_cores_of_the_environment():
    first = machine.available_cores()[0]
    one = ENGINE.space(Environment("one", settings={"cores": str(first)}))
    assert one.default["inference_num_threads"] == 1
    assert not one.contains({"inference_num_threads": 2})
    both = ConfigSpace.union([one, ENGINE.space(HERE)])
    assert both.options["inference_num_threads"].high == len(machine.available_cores())
    with pytest.raises(UnknownEnvironment, match="this process may use"):
        ENGINE.space(Environment("none", settings={"cores": "4095"}))


def test_options_without_effect_are_not_active(processor):
    processor(cores=(0, 1, 2, 3))
    space = ENGINE.space(HERE)
    alone = space.configuration({"inference_num_threads": 1})
    assert alone["enable_cpu_pinning"] is alone["tbb_partitioner"] is None
    apart = space.configuration({"inference_num_threads": 4, "num_streams": 4})
    assert apart["enable_cpu_pinning"] is True
    assert apart["tbb_partitioner"] is None
    assert space.contains({"inference_num_threads": 4, "num_streams": 2})
    assert not space.contains({"inference_num_threads": 3, "num_streams": 2})
    assert not space.contains({"inference_num_threads": 1, "num_streams": 2})


def test_threads_of_one_core_count_only_with_hyper_threading(processor):
    processor(cores=(0, 1, 2, 3), physical=2)
    space = ENGINE.space(HERE)
    assert space.default["inference_num_threads"] == 2
    assert space.contains({"inference_num_threads": 4, "enable_hyper_threading": True})
    assert not space.contains({"inference_num_threads": 4})
    processor(cores=(0, 1, 2, 3))
    without = ENGINE.space(HERE)
    assert not without.contains({"enable_hyper_threading": True})
    assert without.contains({"inference_num_threads": 4})
    assert ConfigSpace.union([space, without]).contains({"enable_hyper_threading": True})


@pytest.mark.parametrize(
    ("flags", "isa", "precisions", "default"),
    [
        (("sse4_2", "avx", "avx2"), None, ("f32",), "f32"),
        (AVX512, None, ("f32", "bf16"), "f32"),
        ((*AVX512, "avx512_bf16"), None, ("f32", "bf16"), "bf16"),
        ((*AVX512, "avx512_bf16", "avx512_fp16"), None, ("f32", "bf16", "f16"), "bf16"),
        ((*AVX512, "avx512_bf16"), "AVX512_CORE", ("f32", "bf16"), "f32"),
        ((*AVX512, "avx512_bf16"), "AVX2", ("f32",), "f32"),
        (("asimd", "asimdhp"), None, ("f32", "f16"), "f16"),
    ],
)
def test_precisions_are_those_of_the_instruction_set(processor, flags, isa, precisions, default):
    processor(flags)
    environment = Environment("e", settings={} if isa is None else {"isa": isa})
    option = ENGINE.space(environment).options["inference_precision"]
    assert (option.levels, option.default) == (precisions, default)


def test_the_precision_is_named_as_the_tolerances_are():
    names = [ENGINE.precision({"inference_precision": text}) for text in ("f32", "bf16", "f16")]
    assert names == ["float32", "bfloat16", "float16"]


@pytest.mark.parametrize("isa", ["AVX512_CORE", "avx2", "banana", 2])
def test_an_instruction_set_that_is_not_here_is_an_error(processor, isa):
    processor(("sse4_2", "avx", "avx2"))
    environment = Environment("old", settings={"isa": isa})
    for ask in (ENGINE.space, lambda e: ENGINE.variables(e, {})):
        with pytest.raises(UnknownEnvironment, match=r"'old'.*\(SSE41, AVX, AVX2\), got"):
            ask(environment)


def test_the_instruction_set_is_always_told(processor):
    processor(("sse4_2", "avx", "avx2"))
    limited = Environment("old", settings={"isa": "AVX"})
    assert ENGINE.variables(limited, {}) == {ISA_VARIABLE: "AVX"}
    assert ENGINE.variables(HERE, {}) == {ISA_VARIABLE: "DEFAULT"}  # what is inherited is not


def test_an_engine_that_is_not_installed_says_what_to_install(monkeypatch):
    monkeypatch.setattr("bayestl.measure.engines.openvino.find_spec", lambda name: None)
    with pytest.raises(EngineUnavailable, match=r'pip install "\.\[openvino\]"'):
        ENGINE.version()


@pytest.mark.parametrize("network", ["squeezenet", "shufflenet", "resnet50"])
def test_a_network_gives_what_the_file_says(opened, network):
    session = opened(network)
    (output,) = session.outputs().items()
    name, values = output
    assert name in ("softmaxout_1", "gpu_0/softmax_1")
    assert values.size == 1000
    assert values.sum() == pytest.approx(1.0, abs=1e-3)
    assert session.effective == ENGINE.space(HERE).default
    assert session.details["devices"] == ["CPU"]
    assert sum(session.details["primitives"].values()) > 20


@pytest.mark.parametrize(
    "changes",
    [
        {"inference_num_threads": 1, "enable_cpu_pinning": None, "tbb_partitioner": None},
        {"denormals_optimization": True},
        pytest.param({"num_streams": 2, "tbb_partitioner": None}, marks=needs_two_cores),
        pytest.param(
            {"tbb_partitioner": "auto", "enable_cpu_pinning": False}, marks=needs_two_cores
        ),
    ],
)
def test_what_was_asked_is_read_back(opened, changes):
    space = ENGINE.space(HERE)
    if len(machine.available_cores()) > 2 and "num_streams" in changes:
        changes = {"inference_num_threads": 2, **changes}
    session = opened(**changes)
    assert session.effective == space.configuration(session.effective)
    assert session.effective == {**space.default, **changes}


@pytest.mark.parametrize(
    ("changes", "clamped"),
    [
        ({"inference_num_threads": 4_096}, "inference_num_threads"),
        ({"num_streams": 4_096}, "num_streams"),
    ],
)
def test_a_clamped_value_shows(opened, changes, clamped):
    effective = opened(**changes).effective
    assert effective[clamped] < 4_096


def test_a_precision_that_the_processor_lacks_shows(opened):
    levels = ENGINE.space(HERE).options["inference_precision"].levels
    lacking = {"bf16", "f16"} - set(levels)
    for precision in lacking:
        assert opened(inference_precision=precision).effective["inference_precision"] != precision


def test_every_precision_computes_the_same_within_its_tolerance(opened):
    exact = digest(opened(inference_precision="f32").outputs())
    for precision in ENGINE.space(HERE).options["inference_precision"].levels:
        session = opened(inference_precision=precision)
        assert session.effective["inference_precision"] == precision
        assert difference(session.outputs(), exact, 5e-2) is None


def test_denormals_are_flushed_where_asked(opened, saved):
    path, tiny = saved("Mul", [1, 4], 1e-20), np.full((1, 4), 1e-20, np.float32)
    assert opened(path, tiny).outputs()["y"].all()
    assert not opened(path, tiny, denormals_optimization=True).outputs()["y"].any()


def test_open_dimensions_are_those_of_the_inputs(opened, saved):
    path = saved("Relu", ["n", "m"])
    session = opened(path, np.array([[-1.0, 2.0, 3.0]], np.float32))
    assert session.outputs()["y"].tolist() == [[0.0, 2.0, 3.0]]
    assert session.details["shapes"] == {"x": "[1,3]"}
    session.feed({"x": np.ones((2, 5), np.float32)})
    session.run()
    assert session.details["shapes"] == {"x": "[2,5]"}
    assert session.outputs()["y"].shape == (2, 5)


def test_inputs_are_read_in_place_and_outputs_are_kept(opened, saved):
    values = np.ones((1, 2), np.float32)
    session = opened(saved("Relu", [1, 2]), values)
    first = session.outputs()
    values[:] = 7.0
    session.run()
    assert first["y"].tolist() == [[1.0, 1.0]]
    assert session.outputs()["y"].tolist() == [[7.0, 7.0]]


@pytest.mark.parametrize(
    ("operator", "values", "status", "message"),
    [
        ("NoSuchOp", np.ones((1, 4), np.float32), Status.UNSUPPORTED, "NoSuchOp"),
        ("Relu", np.ones((1, 5), np.float32), Status.INVALID, "incompatible"),
        ("Relu", np.ones((1, 4)), Status.INVALID, "precision: f64"),
    ],
)
def test_what_openvino_refuses_is_typed(opened, saved, operator, values, status, message):
    with pytest.raises(Refusal, match=message) as refused:
        opened(saved(operator, [1, 4]), values)
    assert refused.value.status is status


FORKED = """
import os, sys
from bayestl.data.environment import Environment
from bayestl.measure.engines.openvino import OpenVINO
import numpy as np
engine = OpenVINO()
engine.prepare()
for cores in ({0, 1}, {0}, {1}, {0, 1}):
    pid = os.fork()
    if pid == 0:
        os.sched_setaffinity(0, cores)
        configuration = {"inference_num_threads": 2, "inference_precision": "f32"}
        session = engine.open(sys.argv[1], configuration, {})
        session.feed({"data_0": np.ones((1, 3, 224, 224), np.float32)})
        session.run()
        print(len(cores) == session.effective["inference_num_threads"], flush=True)
        os._exit(0)
    os.waitpid(pid, 0)
"""


@needs_two_cores
def test_forks_of_a_prepared_process_see_their_own_cores():
    pytest.importorskip("openvino")
    pytest.importorskip("onnx")
    path = str(find_network("squeezenet").path)
    done = subprocess.run(
        [sys.executable, "-c", FORKED, path], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["True"] * 4, done.stderr


LIMITED = """
import sys
from bayestl.measure.engines.openvino import OpenVINO
import numpy as np
session = OpenVINO().open(sys.argv[1], {"inference_precision": "f32"}, {})
session.feed({"data_0": np.ones((1, 3, 224, 224), np.float32)})
print(session.details["isa"], *session.details["primitives"])
"""


@needs_x86
def test_the_limit_changes_the_kernels():
    pytest.importorskip("openvino")
    pytest.importorskip("onnx")
    path, seen = str(find_network("squeezenet").path), {}
    for isa in ("SSE41", "AVX2"):
        limited = Environment("old", settings={"isa": isa})
        done = subprocess.run(
            [sys.executable, "-c", LIMITED, path],
            env={**os.environ, **ENGINE.variables(limited, {})},
            capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        seen[isa] = done.stdout
    assert "sse42_f32" in seen["SSE41"]
    assert "brgconv" not in seen["SSE41"]
    assert "avx2_f32" in seen["AVX2"]
    assert "sse42" not in seen["AVX2"]
    for isa in ("SSE41", "AVX2"):  # one kernel of OpenVINO's own, no convolution, is not limited
        assert {kernel for kernel in seen[isa].split() if "avx512" in kernel} <= {"jit_avx512_f32"}


def test_every_instruction_set_needs_what_weaker_ones_of_its_line_need():
    lines = ("SSE41 AVX AVX2 AVX2_VNNI AVX2_VNNI_2", "AVX512_CORE AVX512_CORE_VNNI")
    assert list(machine.INSTRUCTION_SETS)[:7] == " ".join(lines).split()
    known = {flag for needed in machine.INSTRUCTION_SETS.values() for flag in needed}
    assert known <= set(machine.FLAGS)


@pytest.fixture(scope="module")
def runner():
    pytest.importorskip("openvino")
    pytest.importorskip("onnx")
    return LocalRunner(sampling=SHORT, disturbance_limit=None, sentinel_every=None)


@pytest.fixture(scope="module")
def alone():
    """A function that makes an environment of the first core."""
    pytest.importorskip("onnx")
    core = str(machine.available_cores()[0])

    def make(network="squeezenet", **settings):
        return Environment("one", "", "openvino", network, settings={"cores": core, **settings})

    return make


@pytest.mark.parametrize("network", ["squeezenet", "shufflenet"])
def test_a_measurement_is_what_was_asked_for(runner, alone, network):
    measured = runner.run({"denormals_optimization": True}, alone(network))
    assert measured.status is Status.OK, measured.message
    assert measured.provenance["effective"] == measured.configuration
    assert measured.configuration["denormals_optimization"] is True
    assert measured.provenance["session"]["devices"] == ["CPU"]
    assert 0.1 < measured.values["latency"] < 5_000
    assert 5 < measured.values["build_time"] < 20_000


def test_a_network_that_does_not_fit_into_memory_is_told(alone):
    pytest.importorskip("openvino")
    limited = LocalRunner(sampling=SHORT, disturbance_limit=None, memory_limit_mib=600)
    with pytest.raises(EngineError, match="oom: MemoryError: OpenVINO"):
        limited.run({}, alone("vgg19"))


def test_a_batch_that_the_file_fixes_is_rewritten(runner, alone):
    measured = runner.run({}, alone(batch=4))
    assert measured.status is Status.OK, measured.message
    assert measured.provenance["inputs"] == ["data_0 float32 4x3x224x224"]


def test_a_clamped_value_is_unsupported(runner, alone, monkeypatch):
    space = ENGINE.space(alone())
    wide = {**space.options, "inference_num_threads": Integer(1, 99)}
    unchecked = ConfigSpace(wide, space.constraints, space.conditions)
    monkeypatch.setattr(OpenVINO, "space", lambda self, environment: unchecked)
    measured = runner.run({"inference_num_threads": 99}, alone())
    assert measured.status is Status.UNSUPPORTED
    assert "asked for 99, the engine uses 1" in measured.message


@needs_x86
def test_an_older_processor_is_an_environment(runner, alone):
    measured = runner.run({}, alone(isa="SSE41"))
    assert measured.status is Status.OK, measured.message
    assert any("sse42" in kernel for kernel in measured.provenance["session"]["primitives"])

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from bayestl.data.environment import Environment
from bayestl.data.measurement import Status
from bayestl.data.options import Integer
from bayestl.errors import EngineUnavailable, UnknownEnvironment
from bayestl.measure import machine
from bayestl.measure.architectures import ARCHITECTURES
from bayestl.measure.engine import ENGINES, TOLERANCES, Refusal, Scope, load_engine
from bayestl.measure.engines import pytorch
from bayestl.measure.engines.pytorch import PyTorch
from bayestl.measure.networks import find_network
from bayestl.measure.runner import LocalRunner
from bayestl.measure.sampling import Sampling

ENGINE = PyTorch()
HERE = Environment("here", engine="torch", network="bert_tiny")
GPU = Environment("gpu", engine="torch", network="bert_tiny", settings={"device": "cuda"})
needs_x86 = pytest.mark.skipif("avx2" not in machine.processor_flags(), reason="needs AVX2")

SERVE = """
import json, os, sys
import numpy as np
from bayestl.data.environment import Environment
from bayestl.measure.engine import Refusal
from bayestl.measure.engines.pytorch import PyTorch
from bayestl.measure.networks import find_network

def measure(network, device, batch, size, path, changes):
    os.environ["PATH"] = path
    space = engine.space(Environment("e", settings={"device": device}))
    configuration = space.configuration(changes)
    rng, inputs = np.random.default_rng(0), {}
    for item in find_network(network).inputs(batch, size):
        whole = np.dtype(item.dtype).kind == "i"
        values = rng.integers(item.low, item.below, item.shape) if whole else rng.random(item.shape)
        inputs[item.name] = values.astype(item.dtype)
    try:
        session = engine.open(network, configuration, {"device": device})
        session.feed(inputs)
        session.run()
        session.run()
    except Refusal as refusal:
        return {"status": refusal.status, "message": str(refusal)}
    return {
        "asked": configuration, "effective": dict(session.effective),
        "details": dict(session.details), "cuda_before": initialized,
        "outputs": {name: value.tolist() for name, value in session.outputs().items()},
    }

engine = PyTorch()
engine.prepare()
import torch
initialized = torch.cuda.is_initialized()
for line in sys.stdin:
    pid = os.fork()  # as each measurement is
    if pid == 0:
        print(json.dumps(measure(*json.loads(line))), flush=True)
        os._exit(0)
    if os.waitpid(pid, 0)[1]:
        sys.exit(1)
"""
"""Measurements without their runner: torch's switches are global and die with a process."""


@pytest.fixture(scope="module")
def measure():
    """A function that measures in a fork of a process that has prepared the engine."""
    pytest.importorskip("transformers")
    variables = {**os.environ, **ENGINE.variables(HERE, {})}
    server = subprocess.Popen(
        [sys.executable, "-c", SERVE], env=variables, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip

    def ask(
        network="bert_tiny", device="cpu", batch=2, size=12, path=os.environ["PATH"], **changes
    ):
        print(
            json.dumps([network, device, batch, size, path, changes]), file=server.stdin, flush=True
        )
        found = json.loads(server.stdout.readline())
        if "asked" in found:
            wrong = {k: v for k, v in found["effective"].items() if v != found["asked"][k]}
            assert not wrong
        return found

    yield ask
    server.stdin.close()
    assert server.wait() == 0
    server.stdout.close()


def distance(found, reference):
    """How far outputs are from the reference's, relative to their root mean square."""
    (name,) = reference["outputs"]
    values, wanted = (np.array(result["outputs"][name]) for result in (found, reference))
    return np.abs(values - wanted).max() / np.sqrt(np.mean(wanted**2))


@pytest.fixture(scope="module")
def default(measure):
    return measure()


@pytest.fixture(scope="module")
def image(measure):
    return measure("mobilenet_v2", size=64)


def test_the_engine_is_registered():
    assert isinstance(load_engine(ENGINES["torch"]), PyTorch)


def test_the_engines_parent_half_imports_no_torch():
    code = (
        "import sys; from bayestl.data.environment import Environment;"
        "from bayestl.measure.engines.pytorch import PyTorch;"
        "e = PyTorch(); h = Environment('h', settings={'device': 'cuda'}); e.version();"
        "e.precision(e.space(h).default); e.variables(h, {}); e.scopes;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_spaces_and_scopes_agree():
    options = {*ENGINE.space(HERE).names, *ENGINE.space(GPU).names}
    assert set(ENGINE.scopes) == options
    assert {n for n, s in ENGINE.scopes.items() if s is Scope.PROCESS} == {
        "threads", "flush_denormal"
    }  # fmt: skip
    for environment in (HERE, GPU):
        space = ENGINE.space(environment)
        assert all(option.doc for option in space.options.values())
        assert ENGINE.precision(space.default) in TOLERANCES


def test_only_what_belongs_to_a_device_is_offered_there():
    cpu, gpu = ENGINE.space(HERE), ENGINE.space(GPU)
    assert "threads" in cpu.names
    assert "threads" not in gpu.names
    assert "captured" in gpu.options["execution"].levels
    assert "captured" not in cpu.options["execution"].levels
    threads = cpu.options["threads"]
    assert isinstance(threads, Integer)
    assert threads.default == machine.physical_cores()


def test_rounding_to_bfloat16_is_offered_only_where_onednn_does_it(monkeypatch):
    avx512 = ("sse4_2", "avx", "avx2", "avx512f", "avx512bw", "avx512_vnni")
    for flags, wanted in (
        (avx512, ("highest",)),
        ((*avx512, "avx512_bf16"), ("highest", "medium")),
    ):
        monkeypatch.setattr(machine, "processor_flags", lambda flags=flags: flags)
        assert ENGINE.space(HERE).options["matmul_precision"].levels == wanted


def test_the_precision_is_that_of_what_is_computed():
    cpu, gpu = ENGINE.space(HERE).default, ENGINE.space(GPU).default
    assert ENGINE.precision(cpu) == "float32"
    assert ENGINE.precision({**cpu, "matmul_precision": "medium"}) == "bfloat16"
    assert ENGINE.precision({**cpu, "precision": "float16"}) == "float16"
    assert ENGINE.precision(gpu) == "tf32"  # torch's own default for convolutions
    assert ENGINE.precision({**gpu, "conv_tf32": False}) == "float32"
    assert ENGINE.precision({**gpu, "conv_tf32": False, "matmul_tf32": True}) == "tf32"


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "", 0, True])
def test_an_unknown_device_is_told(device):
    wrong = Environment("wrong", settings={"device": device})
    for ask in (ENGINE.space, lambda e: ENGINE.variables(e, {})):
        with pytest.raises(UnknownEnvironment, match=r"expected the device 'cpu', 'cuda' or"):
            ask(wrong)


def test_an_instruction_set_limits_every_library(monkeypatch):
    monkeypatch.setattr(machine, "processor_flags", lambda: ("sse4_2", "avx", "avx2"))
    limited = Environment("old", settings={"isa": "AVX2"})
    found = ENGINE.variables(limited, {})
    assert found["ONEDNN_MAX_CPU_ISA"] == "AVX2"
    assert found["ATEN_CPU_CAPABILITY"] == "avx2"
    assert found["MKL_ENABLE_INSTRUCTIONS"] == "AVX2"
    assert ENGINE.variables(HERE, {})["ONEDNN_MAX_CPU_ISA"] == "DEFAULT"
    with pytest.raises(UnknownEnvironment, match="expected an isa that this processor has"):
        ENGINE.variables(Environment("new", settings={"isa": "AVX512_CORE"}), {})
    for isa in machine.INSTRUCTION_SETS:
        assert isa.partition("_")[0] in pytorch.ISA_VALUES


@needs_x86
def test_a_limited_instruction_set_takes_effect(default):
    code = "import torch; print(torch.backends.cpu.get_cpu_capability())"
    variables = ENGINE.variables(Environment("old", settings={"isa": "SSE41"}), {})
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True,
        env={**os.environ, **variables},
    )  # fmt: skip
    assert done.stdout.strip() in ("DEFAULT", "NO AVX")
    assert default["details"]["cpu_capability"].startswith("AVX")


def test_the_session_computes_what_the_architecture_computes(default):
    torch = pytest.importorskip("torch")
    from bayestl.measure.architectures import build

    rng = np.random.default_rng(0)
    ids = torch.from_numpy(rng.integers(0, ARCHITECTURES["bert_tiny"].vocabulary, (2, 12)))
    with torch.inference_mode():
        wanted = build("bert_tiny")(ids, torch.ones(2, 12, dtype=torch.int64))
    found = np.array(default["outputs"]["last_hidden_state"])
    np.testing.assert_allclose(found, wanted.numpy(), atol=1e-5)


def test_cuda_is_untouched_before_the_fork(default):
    assert not default["cuda_before"]


def test_every_option_but_how_it_is_executed_is_read_back(default, image):
    unread = {"execution", "compile_mode", "freeze_weights"}
    assert set(image["asked"]) - set(image["effective"]) == unread
    # no weight of a text network is an image's
    assert set(default["asked"]) - set(default["effective"]) == unread | {"channels_last"}


@pytest.mark.parametrize(
    ("changes", "allowed"),
    [
        ({"threads": 1, "flush_denormal": True, "onednn": False}, 1e-4),
        ({"threads": 2, "attention": "math", "execution": "traced"}, 1e-4),
        ({"execution": "frozen", "attention": "flash"}, 1e-4),
        ({"precision": "bfloat16", "execution": "optimized"}, 0.1),
        ({"precision": "float16"}, 0.02),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_options_change_how_and_not_what(measure, default, changes, allowed):
    found = measure(**changes)
    difference = distance(found, default)
    assert difference < allowed
    assert (difference > 1e-4) == ("precision" in changes)  # it does compute in another type
    lowered = found["details"]["compile_s"]
    assert (lowered is not None) == ("execution" in changes)


def test_an_image_may_lie_channels_last(measure, image):
    found = measure("mobilenet_v2", size=64, channels_last=True, execution="frozen")
    assert found["effective"]["channels_last"] is True
    assert image["effective"]["channels_last"] is False
    assert distance(found, image) < 1e-3


def test_a_missing_compiler_is_unsupported(measure, tmp_path):
    found = measure(path=str(tmp_path), execution="compiled")
    assert found["status"] == Status.UNSUPPORTED
    assert "needs a C++ compiler; g++ is not on the path" in found["message"]


@pytest.fixture
def opened():
    """A session in this process, with the switches that torch has as it comes."""
    pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    threads = torch.get_num_threads()
    configuration = ENGINE.space(HERE).configuration({"threads": threads})
    yield lambda network, **changes: ENGINE.open(network, {**configuration, **changes}, {})
    torch.set_num_threads(threads)


def test_an_unknown_architecture_is_refused(opened):
    with pytest.raises(Refusal, match="unknown architecture 'lenet'") as caught:
        opened("lenet")
    assert caught.value.status is Status.INVALID


def test_a_compiled_network_without_a_compiled_graph_is_not_called_compiled(opened):
    session = opened("bert_tiny")
    session._configuration = {**session._configuration, "execution": "compiled"}
    assert session.effective["execution"] == "eager"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RuntimeError("\"addmm_impl_cpu_\" not implemented for 'Half'"), Status.UNSUPPORTED),
        (RuntimeError("No available kernel. Aborting execution."), Status.UNSUPPORTED),
        (AssertionError("Torch not compiled with CUDA enabled"), Status.UNSUPPORTED),
        (NotImplementedError("Could not run 'aten::x'"), Status.UNSUPPORTED),
        (RuntimeError("CUDA out of memory. Tried to allocate 20 GiB"), None),
        (RuntimeError("CUDA error: unspecified launch failure"), None),
    ],
)
def test_errors_say_what_they_mean_for_the_configuration(opened, error, status):
    session = opened("bert_tiny")
    inputs = {item.name: np.ones(item.shape, item.dtype) for item in
              find_network("bert_tiny").inputs(1, 4)}  # fmt: skip
    session.feed(inputs)

    def fail(*inputs):
        raise error

    session._call = fail
    with pytest.raises(Refusal if status else type(error)) as caught:
        session.run()
    if status:
        assert caught.value.status is status
    else:
        assert caught.value is error  # the child types it: out of memory, or a lost device


def test_cuda_without_a_device_is_unsupported(measure):
    torch = pytest.importorskip("torch")
    if torch.backends.cuda.is_built() and machine.read_text("/proc/driver/nvidia/version"):
        pytest.skip("there is one")
    found = measure(device="cuda")
    assert found["status"] == Status.UNSUPPORTED


def test_without_torch_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setattr(pytorch, "find_spec", lambda name: None)
    with pytest.raises(EngineUnavailable, match="pip install torch"):
        ENGINE.version()


def test_a_compiled_network_computes_the_same(measure, default):
    if shutil.which(os.environ.get("CXX", "g++")) is None:
        pytest.skip("needs a C++ compiler")
    found = measure(size=12, execution="compiled")
    assert distance(found, default) < 1e-4
    assert found["details"]["unique_graphs"] == 1
    assert found["details"]["graph_breaks"] == 0
    assert found["details"]["compile_s"] > 0.5  # nothing was in a cache


def fill_the_disk():
    with pytorch._fresh_compiler_cache():
        folder = os.environ["TORCHINDUCTOR_CACHE_DIR"]
        assert os.listdir(folder) == []
        raise OSError(folder)


def test_compiling_leaves_no_cache_behind():
    with pytest.raises(OSError, match="bayestl-inductor-") as caught:
        fill_the_disk()
    assert not os.path.exists(str(caught.value))
    assert "TORCHINDUCTOR_CACHE_DIR" not in os.environ


def test_a_runner_measures_an_architecture():
    pytest.importorskip("transformers")
    short = Sampling(warmup_s=0.0, warmup_limit_s=0.05, min_samples=5, sample_s=0.02)
    runner = LocalRunner(
        sampling=short, disturbance_limit=None, sentinel_every=None,
        implausible_speedup=1e6,  # on a busy machine threads wait for each other, one does not
    )  # fmt: skip
    environment = Environment(
        "small", engine="torch", network="bert_tiny", settings={"batch": 2, "size": 8}
    )
    found = runner.run({"threads": 1, "execution": "frozen"}, environment)
    assert (found.status, found.message) == (Status.OK, "")
    assert found.provenance["session"]["compile_s"] > 0
    assert "input_ids int64 2x8" in runner.describe(environment).workload


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("changes", "allowed"),
    [
        ({}, 1e-2),
        ({"execution": "captured"}, 1e-2),
        ({"execution": "compiled"}, 1e-2),
        ({"execution": "compiled", "compile_mode": "reduce-overhead"}, 1e-2),
        ({"precision": "float16", "attention": "efficient"}, 0.03),
        ({"precision": "bfloat16", "execution": "captured", "channels_last": True}, 0.3),
        ({"matmul_tf32": True, "cudnn_benchmark": True}, 2e-2),
    ],
    ids=str,
)
@pytest.mark.parametrize(("network", "size"), [("bert_tiny", 64), ("mobilenet_v2", 96)])
def test_a_cuda_device_computes_the_same(measure, network, size, changes, allowed):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    found = measure(network, device="cuda", size=size, **changes)
    assert "outputs" in found, found
    assert distance(found, measure(network, size=size)) < allowed
    assert found["details"]["device_name"]
    assert found["details"]["peak_device_mib"] > 0

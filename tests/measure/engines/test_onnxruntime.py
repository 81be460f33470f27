import numpy as np
import pytest

from bayestl.data.environment import Environment
from bayestl.data.measurement import Status
from bayestl.errors import EngineUnavailable, UnknownEnvironment
from bayestl.measure.engine import Refusal
from bayestl.measure.engines import onnxruntime as module
from bayestl.measure.engines.onnxruntime import OnnxRuntime, OnnxRuntimeSession, gpu_of
from bayestl.measure.networks import find_network
from bayestl.measure.runner import LocalRunner

HERE = Environment("here", engine="onnxruntime")
GPU = Environment("gpu", engine="onnxruntime", network="squeezenet", settings={"device": "cuda"})


def test_environments_of_one_machine_share_a_space():
    one = Environment("one", engine="onnxruntime", settings={"cores": "0"})
    assert OnnxRuntime().space(one) == OnnxRuntime().space(HERE)


def test_options_without_effect_are_not_active():
    space = OnnxRuntime().space(HERE)
    alone = space.configuration({"intra_op_num_threads": 1})
    assert alone["allow_spinning"] is alone["dynamic_block_base"] is None
    assert alone["inter_op_num_threads"] is None
    parallel = space.configuration({"execution_mode": "parallel"})
    assert parallel["enable_mem_pattern"] is None
    assert parallel["inter_op_num_threads"] >= 1


def test_an_engine_that_is_not_installed_says_what_to_install(monkeypatch):
    monkeypatch.setattr("bayestl.measure.engines.onnxruntime.find_spec", lambda name: None)
    with pytest.raises(EngineUnavailable, match=r'pip install "\.\[onnxruntime\]"'):
        OnnxRuntime().version()


@pytest.mark.parametrize(
    ("device", "gpu"), [(None, None), ("cpu", None), ("cuda", 0), ("cuda:0", 0), ("cuda:3", 3)]
)
def test_the_device_of_an_environment(device, gpu):
    assert gpu_of({} if device is None else {"device": device}) == gpu


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:-1", "cuda:x", "CUDA", 0])
def test_an_unknown_device_is_told(device):
    with pytest.raises(UnknownEnvironment, match="expected device 'cpu', 'cuda' or 'cuda:1'"):
        OnnxRuntime().space(Environment("e", engine="onnxruntime", settings={"device": device}))


def test_a_gpu_has_options_of_its_own():
    engine = OnnxRuntime()
    more = set(engine.space(GPU).names) - set(engine.space(HERE).names)
    assert more == {
        "cudnn_conv_algo_search", "cudnn_conv_use_max_workspace", "use_tf32", "prefer_nhwc",
        "enable_cuda_graph", "arena_extend_strategy",
    }  # fmt: skip
    assert engine.precision(engine.space(GPU).default) == "tf32"
    exact = engine.space(GPU).configuration({"use_tf32": False})
    assert engine.precision(exact) == engine.precision(engine.space(HERE).default) == "float32"


def test_a_build_without_a_gpu_does_not_fall_back(monkeypatch):
    onnxruntime = pytest.importorskip("onnxruntime")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [module.CPU])
    with pytest.raises(Refusal, match="has no CUDAExecutionProvider") as refused:
        OnnxRuntime().open("unread.onnx", OnnxRuntime().space(GPU).default, {"device": "cuda"})
    assert refused.value.status is Status.UNSUPPORTED


def test_bound_inputs_and_outputs_are_those_of_a_call(monkeypatch):
    """The way to a GPU and back, on the CPU's memory."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    path = str(find_network("squeezenet").path)
    configuration = OnnxRuntime().space(HERE).default
    feed = {"data_0": np.random.default_rng(0).random((1, 3, 224, 224), dtype=np.float32)}
    called = OnnxRuntimeSession(path, configuration, None)
    monkeypatch.setattr(module, "CUDA", module.CPU)
    monkeypatch.setattr(module, "GPU_MEMORY", "cpu")
    monkeypatch.setattr(OnnxRuntimeSession, "_providers", lambda self: [module.CPU])
    bound = OnnxRuntimeSession(path, configuration, 0)
    for session in (called, bound):
        session.feed(feed)
        session.run()
    (name,) = called.outputs()
    np.testing.assert_allclose(bound.outputs()[name], called.outputs()[name], rtol=1e-6)


@pytest.mark.gpu
def test_a_gpu_computes_the_same_under_every_option():
    onnxruntime = pytest.importorskip("onnxruntime")
    if module.CUDA not in onnxruntime.get_available_providers():
        pytest.skip("needs onnxruntime-gpu and a CUDA device")
    runner = LocalRunner(disturbance_limit=None)
    for changes in (
        {}, {"use_tf32": False}, {"prefer_nhwc": True}, {"enable_cuda_graph": True},
        {"cudnn_conv_algo_search": "HEURISTIC", "cudnn_conv_use_max_workspace": False},
        {"arena_extend_strategy": "kSameAsRequested"},
    ):  # fmt: skip
        measured = runner.run(changes, GPU)
        assert measured.ok, (changes, measured.message)
        assert measured.provenance["effective"] == measured.configuration

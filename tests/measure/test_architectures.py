import subprocess
import sys

import numpy as np
import pytest

from bayestl.errors import NetworkError
from bayestl.measure import architectures
from bayestl.measure.architectures import ARCHITECTURES, build, export_onnx
from bayestl.measure.networks import find_network


def fed(name, batch, size, seed=0):
    """Inputs as a measurement feeds them."""
    rng = np.random.default_rng(seed)
    found = {}
    for item in find_network(name).inputs(batch, size):
        whole = np.dtype(item.dtype).kind == "i"
        values = rng.integers(item.low, item.below, item.shape) if whole else rng.random(item.shape)
        found[item.name] = values.astype(item.dtype)
    return found


def run(network, inputs):
    import torch

    with torch.inference_mode():
        return network(*map(torch.from_numpy, inputs.values())).numpy()


def test_what_is_known_needs_no_library():
    code = (
        "import sys; from bayestl.measure.networks import find_network;"
        "print(find_network('mobilenet_v2').inputs(2, 96)[0]);"
        "sys.exit(any(m in sys.modules for m in ('torch', 'transformers', 'onnx', 'numpy')))"
    )
    pytest.importorskip("transformers")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "pixel_values float32 2x3x96x96\n")


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(architectures, "BUILT_WITH", ("torch", "no_such_package"))
    with pytest.raises(NetworkError, match=r'no_such_package, not .* "\.\[architectures\]"'):
        find_network("bert_tiny")
    monkeypatch.setattr(architectures, "EXPORTED_WITH", ("no_such_package",))
    with pytest.raises(NetworkError, match="needs no_such_package"):
        export_onnx("bert_tiny", None, batch=1, size=8)


def test_an_unknown_architecture_is_told():
    with pytest.raises(NetworkError, match="unknown architecture 'lenet'; expected one of mobile"):
        build("lenet")


@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet18", "deit_tiny", "bert_tiny"])
def test_a_network_has_its_published_size_and_an_output_of_unit_scale(name):
    pytest.importorskip("transformers")
    network, architecture = build(name), ARCHITECTURES[name]
    assert sum(weight.numel() for weight in network.parameters()) == architecture.parameters
    assert not network.training
    assert not any(weight.requires_grad for weight in network.parameters())
    smallest = {"image": max(96, architecture.size.low), "text": 16}[architecture.kind]
    outputs = run(network, fed(name, 2, smallest))
    assert 0.1 < np.sqrt(np.mean(outputs**2)) < 10
    assert not np.allclose(outputs[0], outputs[1], rtol=1e-3)  # the output tells inputs apart


def test_the_seed_makes_the_weights_and_leaves_torchs_generator_alone():
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    before = torch.random.get_rng_state()
    inputs = fed("bert_tiny", 1, 8)
    first, again, other = (run(build("bert_tiny", seed), inputs) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other, atol=0.1)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_digest_tells_architectures_and_seeds_apart():
    pytest.importorskip("transformers")
    digests = {a.digest(seed) for a in ARCHITECTURES.values() for seed in (0, 1)}
    assert len(digests) == 2 * len(ARCHITECTURES)
    assert all(len(digest) == 64 for digest in digests)


@pytest.fixture(scope="module", params=[("resnet18", 64), ("bert_tiny", 12)], ids=str)
def exported(request, tmp_path_factory):
    """An exported file, what it is fed and what torch makes of that."""
    for package in ("transformers", "onnxscript"):
        pytest.importorskip(package)
    name, size = request.param
    path = export_onnx(name, tmp_path_factory.mktemp(name) / "n.onnx", batch=2, size=size)
    inputs = fed(name, 2, size)
    return ARCHITECTURES[name], path, inputs, run(build(name), inputs)


def test_onnxruntime_computes_the_same_from_the_exported_file(exported):
    architecture, path, inputs, wanted = exported
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == [architecture.output]
    np.testing.assert_allclose(session.run(None, inputs)[0], wanted, atol=1e-3)


def test_openvino_computes_the_same_from_the_exported_file(exported):
    _, path, inputs, wanted = exported
    openvino = pytest.importorskip("openvino")
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(str(path), "CPU", exact)
    np.testing.assert_allclose(compiled(inputs)[0], wanted, atol=1e-3)


def test_the_exported_file_is_one_network_and_is_kept(exported):
    architecture, path, inputs, _ = exported
    assert [entry.name for entry in path.parent.iterdir()] == ["n.onnx"]
    found = {item.name: (item.dtype, item.shape) for item in find_network(str(path)).inputs(2)}
    assert found == {name: (str(value.dtype), value.shape) for name, value in inputs.items()}
    written = path.stat().st_mtime_ns
    export_onnx(architecture.name, path, batch=2, size=1)  # nothing to do
    assert path.stat().st_mtime_ns == written


def test_a_failed_export_leaves_nothing(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    for package in ("transformers", "onnxscript"):
        pytest.importorskip(package)

    def fail(network, examples, draft, **settings):
        with open(draft, "w") as file:
            file.write("half")
        raise OSError("disk full")

    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(OSError, match="disk full"):
        export_onnx("bert_tiny", tmp_path / "n.onnx", batch=1, size=8)
    assert not list(tmp_path.iterdir())

import numpy as np
import pytest

from bayestl.measure.rebatch import rebatched

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


def network(path, target):
    """A convolution, a reshape to `target` and a product, with random weights."""
    helper, rng = onnx.helper, np.random.default_rng(0)
    weights = {
        "kernel": rng.normal(size=(4, 3, 3, 3)).astype(np.float32),
        "target": np.array(target, np.int64),
        "matrix": rng.normal(size=(4 * 6 * 6, 5)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "kernel"], ["c"]),
        helper.make_node("Reshape", ["c", "target"], ["r"]),
        helper.make_node("MatMul", ["r", "matrix"], ["y"]),
    ]
    inputs = [helper.make_tensor_value_info("x", 1, [1, 3, 8, 8])]
    outputs = [helper.make_tensor_value_info("y", 1, [1, 5])]
    initializers = [onnx.numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, str(path))


def run(path, x):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


@pytest.mark.parametrize("target", [(1, -1), (1, 144), (-1, 144)])
def test_a_rewritten_network_computes_each_row_as_the_original_does(tmp_path, target):
    network(tmp_path / "one.onnx", target)
    x = np.random.default_rng(1).normal(size=(3, 3, 8, 8)).astype(np.float32)
    rows = np.concatenate([run(tmp_path / "one.onnx", row[None]) for row in x])
    three = rebatched(tmp_path / "one.onnx", 3, tmp_path / "three.onnx")
    np.testing.assert_allclose(run(three, x), rows, rtol=1e-5, atol=1e-5)


def test_it_is_rewritten_once(tmp_path):
    network(tmp_path / "one.onnx", (1, -1))
    first = rebatched(tmp_path / "one.onnx", 2, tmp_path / "two.onnx")
    made = first.stat().st_mtime_ns
    assert rebatched(tmp_path / "one.onnx", 2, tmp_path / "two.onnx").stat().st_mtime_ns == made
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.onnx", "two.onnx"]

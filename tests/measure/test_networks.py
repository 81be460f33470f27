import os
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bayestl.errors import NetworkError
from bayestl.measure.architectures import ARCHITECTURES
from bayestl.measure.networks import SHIPPED, find_network
from bayestl.measure.onnx_file import read_inputs

onnx = pytest.importorskip("onnx")
LIGHT = [name for name, (package, _) in SHIPPED.items() if package == "onnx"]


def save(path, inputs, initializers=()):
    """A network that passes its inputs on."""
    helper = onnx.helper
    values = [helper.make_tensor_value_info(*item) for item in inputs]
    nodes = [helper.make_node("Identity", [v.name], [f"{v.name}_out"]) for v in values]
    outputs = [helper.make_tensor_value_info(f"{n}_out", t, s) for n, t, s in inputs]
    weights = [helper.make_tensor(name, 1, [1], [0.5]) for name in initializers]
    graph = helper.make_graph(nodes, "g", values, outputs, weights)
    onnx.save(helper.make_model(graph), str(path))
    return str(path)


@pytest.mark.parametrize("name", LIGHT)
def test_the_light_networks_are_read_as_onnx_reads_them(name):
    network = find_network(name)
    graph = onnx.load(str(network.path)).graph
    given_names = {tensor.name for tensor in graph.initializer}
    wanted = [value.name for value in graph.input if value.name not in given_names]
    assert [tensor.name for tensor in network.tensors] == wanted
    assert [str(item) for item in network.inputs(2)] == [f"{wanted[0]} float32 2x3x224x224"]


def test_types_and_open_dimensions(tmp_path):
    path = save(
        tmp_path / "n.onnx",
        [("ids", 7, ["batch", "length"]), ("image", 1, [None, None, None, 320]),
         ("mask", 9, ["batch", 64]), ("scale", 11, [])],
    )  # fmt: skip
    found = [str(item) for item in find_network(path).inputs(5)]
    assert found == [
        "ids int64 5x128", "image float32 5x3x224x320", "mask bool 5x64", "scale float64 scalar"
    ]  # fmt: skip


def test_the_size_takes_every_open_dimension(tmp_path):
    path = save(
        tmp_path / "n.onnx",
        [("ids", 7, ["batch", "length"]), ("image", 1, [None, None, None, 320]),
         ("mask", 9, ["batch", 64])],
    )  # fmt: skip
    found = [str(item) for item in find_network(path).inputs(1, 48)]
    assert found == ["ids int64 1x48", "image float32 1x3x48x320", "mask bool 1x64"]
    with pytest.raises(NetworkError, match="expected a size of at least 1, got 0"):
        find_network(path).inputs(1, 0)


def test_another_fixed_size_is_told():
    network = find_network("squeezenet")
    assert network.inputs(1, 224) == network.inputs(1)
    with pytest.raises(NetworkError, match=r"a size of \[224\], which the file fixes, got 3"):
        network.inputs(1, 3)  # the channels are no size


def test_masks_are_ones_and_other_whole_numbers_zero_or_one(tmp_path):
    path = save(tmp_path / "n.onnx", [("ids", 7, [1, 4]), ("attention_mask", 7, [1, 4])])
    assert [(item.low, item.below) for item in find_network(path).inputs(1)] == [(0, 2), (1, 2)]


def test_an_architecture_is_a_network_without_a_file():
    pytest.importorskip("transformers")
    network = find_network("bert_tiny")
    assert (network.path, network.formats) == (None, ("onnx", "torch"))
    assert find_network("squeezenet").formats == ("onnx",)
    assert [str(item) for item in network.inputs(2)] == [
        "input_ids int64 2x128", "attention_mask int64 2x128"
    ]  # fmt: skip
    assert [(item.low, item.below) for item in network.inputs(2, 8)] == [(0, 30_522), (1, 2)]
    with pytest.raises(NetworkError, match="expected a size of 1 to 512 tokens, got 513"):
        network.inputs(2, 513)
    with pytest.raises(NetworkError, match="expected a size of 224 pixels a side, got 96"):
        find_network("deit_tiny").inputs(1, 96)


def test_no_name_means_two_networks():
    assert not SHIPPED.keys() & ARCHITECTURES.keys()


def test_weights_among_the_inputs_are_no_inputs(tmp_path):
    path = save(tmp_path / "n.onnx", [("x", 1, [1, 4]), ("w", 1, [1])], initializers=["w"])
    assert [tensor.name for tensor in find_network(path).tensors] == ["x"]


def test_another_fixed_batch_is_told(tmp_path):
    network = find_network(save(tmp_path / "n.onnx", [("x", 1, [8, 4])]))
    assert network.inputs(8)[0].shape == network.inputs(1)[0].shape == (8, 4)
    with pytest.raises(NetworkError, match="cannot run at batch 4"):
        network.inputs(4)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (b"PK\x03\x04 not a network at all", "no ONNX file"),
        (b"import torch\n" * 40, "no ONNX file"),
        (b"\xff" * 100, "no ONNX file"),
        (b"\x08\x08", "no ONNX file"),  # a version, but no graph
    ],
)
def test_a_file_that_is_no_network_is_told(tmp_path, content, message):
    path = tmp_path / "x.onnx"
    path.write_bytes(content)
    with pytest.raises(NetworkError, match=message):
        find_network(str(path))


def test_a_truncated_network_is_told(tmp_path):
    content = find_network("squeezenet").path.read_bytes()
    path = tmp_path / "half.onnx"
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(NetworkError, match="no ONNX file"):
        find_network(str(path))


def test_an_input_that_is_no_tensor_of_numbers_is_told(tmp_path):
    path = save(tmp_path / "n.onnx", [("words", 8, [1])])
    with pytest.raises(NetworkError, match="input 'words' is no tensor of numbers"):
        find_network(path)


def test_files_that_cannot_be_read_are_told(tmp_path):
    with pytest.raises(NetworkError, match="No such file"):
        find_network(str(tmp_path / "missing.onnx"))
    with pytest.raises(NetworkError, match="is no file"):
        find_network(str(tmp_path))
    with pytest.raises(NetworkError, match="unknown network ''"):
        find_network("")
    if os.getuid():
        locked = tmp_path / "locked.onnx"
        locked.write_bytes(b"x")
        locked.chmod(0)
        with pytest.raises(NetworkError, match="Permission denied"):
            find_network(str(locked))


def test_a_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(SHIPPED, "ghost", ("no_such_package", "a.onnx"))
    with pytest.raises(NetworkError, match="package no-such-package, which is not installed"):
        find_network("ghost")


def test_a_changed_file_is_read_again(tmp_path):
    path = tmp_path / "n.onnx"
    first = find_network(save(path, [("x", 1, [1, 4])]))
    second = find_network(save(path, [("longer_name", 1, [1, 4])]))
    assert first.sha256 != second.sha256
    assert second.tensors[0].name == "longer_name"


@given(st.binary(max_size=200))
@example(b"\x08\x03\x3a\x02\x5a\x00")
def test_no_bytes_break_the_reader(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "fuzz.onnx"
    path.write_bytes(content)
    with suppress(NetworkError):
        read_inputs(path)


@given(st.data())
def test_no_damage_breaks_the_reader(tmp_path_factory, data):
    content = bytearray(find_network("squeezenet").path.read_bytes())
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.onnx"
    path.write_bytes(content)
    with suppress(NetworkError):
        read_inputs(path)

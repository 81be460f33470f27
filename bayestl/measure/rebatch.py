"""A network whose file fixes the batch at 1, rewritten for another batch size.

Used in a child process: it imports `onnx`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from bayestl.data.measurement import Status
from bayestl.measure.engine import Refusal


def rebatched(network: Path, batch: int, target: Path) -> Path:
    """The rewritten file, at `target`; made once.

    The first dimension of every input becomes `batch`, declared output and inner shapes
    are left to inference, and a reshape to (1, ...) keeps the first dimension of what
    it is given instead. Whether the result computes the same is for the caller to
    check: its outputs must begin with `batch`.
    """
    if not target.exists():
        try:
            import onnx
        except ImportError:
            raise Refusal(
                Status.UNSUPPORTED,
                "another batch size needs the onnx package; "
                'in the checkout of bayestl: pip install ".[onnxruntime]"',
            ) from None
        model = onnx.load(str(network))
        _rewrite(model.graph, batch)
        draft = target.with_suffix(f".{os.getpid()}")
        onnx.save(model, str(draft))
        draft.rename(target)
    return target


def _rewrite(graph: Any, batch: int) -> None:
    initialized = {tensor.name for tensor in graph.initializer}
    for value in graph.input:
        shape = value.type.tensor_type.shape
        if value.name not in initialized and shape.dim:
            shape.dim[0].dim_value = batch
    for value in graph.output:
        value.type.tensor_type.ClearField("shape")
    del graph.value_info[:]
    for tensor in _reshape_targets(graph):
        _keep_first_dimension(tensor)


def _reshape_targets(graph: Any) -> list[Any]:
    """The constant tensors that reshapes take as their target."""
    names = {node.input[1] for node in graph.node if node.op_type == "Reshape"}
    constants = [tensor for tensor in graph.initializer if tensor.name in names]
    for node in graph.node:
        if node.op_type == "Constant" and node.output[0] in names:
            constants += [item.t for item in node.attribute if item.name == "value"]
    return constants


def _keep_first_dimension(tensor: Any) -> None:
    from onnx import numpy_helper

    target = numpy_helper.to_array(tensor).copy()
    if target.ndim == 1 and target.size and target[0] == 1:
        target[0] = 0  # zero copies the dimension of the input
        tensor.CopyFrom(numpy_helper.from_array(target, tensor.name))

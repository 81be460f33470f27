"""What an ONNX file says about its inputs, read from the wire format without a library.

A measuring parent must know a network's inputs and tell an ONNX file from any other,
and importing a protocol-buffer library for that would cost more than the measurement.
Field numbers are those of onnx.proto3 (ONNX, IR version 3 and later).
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bayestl.errors import NetworkError

ELEMENT_TYPES = {
    1: "float32",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    9: "bool",
    10: "float16",
    11: "float64",
    12: "uint32",
    13: "uint64",
}
"""TensorProto.DataType -> numpy's name, for types that numpy has."""

_MODEL_VERSION, _MODEL_GRAPH = 1, 7
_GRAPH_INITIALIZER, _GRAPH_INPUT, _INITIALIZER_NAME = 5, 11, 8
_VALUE_NAME, _VALUE_TYPE, _TYPE_TENSOR = 1, 2, 1
_TENSOR_ELEMENT, _TENSOR_SHAPE, _SHAPE_DIM, _DIM_VALUE, _DIM_NAME = 1, 2, 1, 1, 2

_Field = tuple[int, int | slice]


@dataclass(frozen=True)
class TensorInfo:
    """An input as the file declares it; a dimension that is not fixed has a name or None."""

    name: str
    dtype: str
    shape: tuple[int | str | None, ...]


def read_inputs(path: Path) -> tuple[TensorInfo, ...]:
    """The inputs that a caller of the network must give.

    Raises
    ------
    NetworkError
        If the file cannot be read, is no ONNX file, or has an input that is no tensor
        of a type in `ELEMENT_TYPES`.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _graph_inputs(data, _graph(data), path)
    except NetworkError:
        raise
    except (IndexError, OverflowError, UnicodeDecodeError, _NotWire):
        raise NetworkError(f"{path} is no ONNX file; export the network to ONNX") from None
    except (OSError, ValueError) as error:  # mmap refuses an empty file with ValueError
        reason = getattr(error, "strerror", None) or "it is empty"
        raise NetworkError(f"cannot read the network {path}: {reason}") from None


class _NotWire(Exception):
    """The bytes are no protocol buffer, or not this one."""


def _graph(data: mmap.mmap) -> slice:
    found = dict(_fields(data, slice(0, len(data))))
    graph = found.get(_MODEL_GRAPH)
    if not isinstance(found.get(_MODEL_VERSION), int) or not isinstance(graph, slice):
        raise _NotWire
    return graph


def _graph_inputs(data: mmap.mmap, graph: slice, path: Path) -> tuple[TensorInfo, ...]:
    inputs, initialized = [], set()
    for number, value in _fields(data, graph):
        if number == _GRAPH_INPUT:
            inputs.append(value)
        elif number == _GRAPH_INITIALIZER:  # older files list their weights among the inputs
            initialized.add(_text(data, _find(data, value, _INITIALIZER_NAME)))
    named = [(_text(data, _find(data, value, _VALUE_NAME)), value) for value in inputs]
    return tuple(
        _tensor(data, name, value, path) for name, value in named if name not in initialized
    )


def _tensor(data: mmap.mmap, name: str, value: int | slice, path: Path) -> TensorInfo:
    tensor = _find(data, _find(data, value, _VALUE_TYPE), _TYPE_TENSOR)
    element, shape = _find(data, tensor, _TENSOR_ELEMENT), _find(data, tensor, _TENSOR_SHAPE)
    if element not in ELEMENT_TYPES or not isinstance(shape, slice):
        raise NetworkError(
            f"{path}: input {name!r} is no tensor of numbers with a known rank; "
            f"expected one of {', '.join(ELEMENT_TYPES.values())}"
        )
    dims = [dim for number, dim in _fields(data, shape) if number == _SHAPE_DIM]
    return TensorInfo(name, ELEMENT_TYPES[element], tuple(_dimension(data, dim) for dim in dims))


def _dimension(data: mmap.mmap, dim: int | slice) -> int | str | None:
    size = _find(data, dim, _DIM_VALUE)
    if isinstance(size, int) and size > 0:
        return size
    return _text(data, _find(data, dim, _DIM_NAME)) or None


def _find(data: mmap.mmap, message: int | slice | None, wanted: int) -> int | slice | None:
    """The last value of a field in a message, as protocol buffers mean it; None without one."""
    found = None
    if isinstance(message, slice):
        for number, value in _fields(data, message):
            if number == wanted:
                found = value
    return found


def _text(data: mmap.mmap, value: int | slice | None) -> str:
    return data[value].decode() if isinstance(value, slice) else ""


def _fields(data: mmap.mmap, message: slice) -> Iterator[_Field]:
    """Field number and value: a number, or where its bytes lie."""
    position, end = message.start, message.stop
    while position < end:
        key, position = _varint(data, position)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, position = _varint(data, position)
            yield number, value
            continue
        if wire == 2:
            size, position = _varint(data, position)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise _NotWire
        if number == 0 or position + size > end:
            raise _NotWire
        yield number, slice(position, position + size)
        position += size


def _varint(data: mmap.mmap, position: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        byte = data[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, position
        shift += 7
        if shift > 63:
            raise _NotWire

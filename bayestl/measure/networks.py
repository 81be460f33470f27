"""Networks to measure: those that ship in packages, and any .onnx file.

The `onnx` package carries nine light models: real architectures whose weights are
constants, so that a few kilobytes stand for a whole network. `rapidocr-onnxruntime`
carries three small ones with trained weights.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from bayestl.errors import NetworkError
from bayestl.measure.onnx_file import TensorInfo, read_inputs

_LIGHT = "backend/test/data/light"
SHIPPED: Mapping[str, tuple[str, str]] = {
    "alexnet": ("onnx", f"{_LIGHT}/light_bvlc_alexnet.onnx"),
    "densenet121": ("onnx", f"{_LIGHT}/light_densenet121.onnx"),
    "inception_v1": ("onnx", f"{_LIGHT}/light_inception_v1.onnx"),
    "inception_v2": ("onnx", f"{_LIGHT}/light_inception_v2.onnx"),
    "resnet50": ("onnx", f"{_LIGHT}/light_resnet50.onnx"),
    "shufflenet": ("onnx", f"{_LIGHT}/light_shufflenet.onnx"),
    "squeezenet": ("onnx", f"{_LIGHT}/light_squeezenet.onnx"),
    "vgg19": ("onnx", f"{_LIGHT}/light_vgg19.onnx"),
    "zfnet512": ("onnx", f"{_LIGHT}/light_zfnet512.onnx"),
    "text_detector": ("rapidocr_onnxruntime", "models/ch_PP-OCRv4_det_infer.onnx"),
    "text_recognizer": ("rapidocr_onnxruntime", "models/ch_PP-OCRv4_rec_infer.onnx"),
    "text_classifier": ("rapidocr_onnxruntime", "models/ch_ppocr_mobile_v2.0_cls_infer.onnx"),
}
"""Network's name -> the package it ships in and its place there."""

IMAGE_CHANNELS, IMAGE_SIZE, SEQUENCE_LENGTH = 3, 224, 128
"""What a dimension that the file leaves open becomes."""


@dataclass(frozen=True)
class Input:
    """An input as it is fed: every dimension is a number."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name} {self.dtype} {'x'.join(map(str, self.shape)) or 'scalar'}"


@dataclass(frozen=True)
class Network:
    """A network file: `sha256` is of its bytes, not of weights kept in further files."""

    name: str
    path: Path
    sha256: str
    tensors: tuple[TensorInfo, ...]

    def inputs(self, batch: int) -> tuple[Input, ...]:
        """The inputs at a batch size.

        An open first dimension is the batch; a first dimension of 1 in a file without
        any open one is, too (see `rebatch`). Of an image (four dimensions) the others
        become 3 channels and 224 x 224; any other open dimension becomes 128.

        Raises
        ------
        NetworkError
            If the file fixes another batch size.
        """
        fixed = {tensor.shape[0] for tensor in self.tensors if tensor.shape}
        if not self.batch_is_open and fixed not in ({1}, {batch}) and batch != 1:
            raise NetworkError(
                f"network {self.name!r} cannot run at batch {batch}: its inputs begin with "
                f"{sorted(map(str, fixed))}; leave the batch out, or export it with an open one"
            )
        return tuple(
            Input(tensor.name, tensor.dtype, self._shape(tensor, batch)) for tensor in self.tensors
        )

    @property
    def batch_is_open(self) -> bool:
        """Whether the file leaves some input's first dimension open."""
        return any(t.shape and not isinstance(t.shape[0], int) for t in self.tensors)

    def _shape(self, tensor: TensorInfo, batch: int) -> tuple[int, ...]:
        image = len(tensor.shape) == 4
        shape = []
        for axis, size in enumerate(tensor.shape):
            if axis == 0 and (size == 1 and not self.batch_is_open):
                shape.append(batch)
            elif isinstance(size, int):
                shape.append(size)
            elif axis == 0:
                shape.append(batch)
            elif image:
                shape.append(IMAGE_CHANNELS if axis == 1 else IMAGE_SIZE)
            else:
                shape.append(SEQUENCE_LENGTH)
        return tuple(shape)


def find_network(name: str) -> Network:
    """The network that ships under a name, or the .onnx file at a path.

    Raises
    ------
    NetworkError
        If there is none, or it is no ONNX file.
    """
    path = _path(name)
    try:
        state = path.stat()
    except OSError as error:
        raise NetworkError(f"cannot read the network {path}: {error.strerror}") from None
    if not path.is_file():
        raise NetworkError(f"cannot read the network {path}: it is no file")
    return _read(name, path, state.st_mtime_ns, state.st_size)


def _path(name: str) -> Path:
    if name in SHIPPED:
        package, place = SHIPPED[name]
        spec = find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise NetworkError(
                f"network {name!r} ships in the package {package.replace('_', '-')}, which is not "
                "installed"
            )
        return Path(spec.submodule_search_locations[0]) / place
    path = Path(name).expanduser()
    if not name or (path.suffix != ".onnx" and not path.exists()):
        known = ", ".join(SHIPPED)
        raise NetworkError(f"unknown network {name!r}; expected one of {known}, or an .onnx file")
    return path.resolve()


@lru_cache(maxsize=64)
def _read(name: str, path: Path, modified_ns: int, size: int) -> Network:
    """One read a version of the file: the time and the size are part of the key."""
    tensors = read_inputs(path)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Network(name, path, digest, tensors)

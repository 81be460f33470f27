"""Networks to measure: those that ship in packages, architectures, and any .onnx file.

The `onnx` package carries nine light models: real architectures whose weights are
constants, so that a few kilobytes stand for a whole network. `rapidocr-onnxruntime`
carries three small ones with trained weights. Those of `architectures.py` are built
where they are measured.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from bayestl.errors import NetworkError
from bayestl.measure.architectures import ARCHITECTURES, Architecture
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
    """An input as it is fed: every dimension is a number.

    Whole numbers are from `low` to below `below`: a mask is all ones, and words are
    within the vocabulary.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    low: int = 0
    below: int = 2

    def __str__(self) -> str:
        return f"{self.name} {self.dtype} {'x'.join(map(str, self.shape)) or 'scalar'}"


@dataclass(frozen=True)
class Network:
    """A network file, or an architecture that has none yet.

    Parameters
    ----------
    name : the name or the path that `find_network` was given
    path : the file; None for an architecture
    sha256 : of the file's bytes, not of weights kept in further files; or of all that an
        architecture is built from
    tensors : the inputs, with their open dimensions
    architecture : what it is built from, if it is
    """

    name: str
    path: Path | None
    sha256: str
    tensors: tuple[TensorInfo, ...]
    architecture: Architecture | None = None

    @property
    def formats(self) -> tuple[str, ...]:
        """What an engine's `format` may be to open it; an architecture is exported to ONNX."""
        return ("onnx",) if self.architecture is None else ("onnx", "torch")

    def inputs(self, batch: int, size: int | None = None) -> tuple[Input, ...]:
        """The inputs at a batch size, and at a size of each item.

        An open first dimension is the batch; a first dimension of 1 in a file without
        any open one is, too (see `rebatch`). Any other open dimension is the size: the
        side of an image (four dimensions, where an open second one is 3 channels), or a
        length. It is the architecture's default unless given, for a file 224 or 128.

        Raises
        ------
        NetworkError
            If the network fixes another batch or another size.
        """
        fixed = {tensor.shape[0] for tensor in self.tensors if tensor.shape}
        if not self.batch_is_open and fixed not in ({1}, {batch}) and batch != 1:
            raise NetworkError(
                f"network {self.name!r} cannot run at batch {batch}: its inputs begin with "
                f"{sorted(map(str, fixed))}; leave the batch out, or export it with an open one"
            )
        if size is not None:
            self._check_size(size)
        return tuple(self._input(tensor, batch, size) for tensor in self.tensors)

    @property
    def batch_is_open(self) -> bool:
        """Whether the network leaves some input's first dimension open."""
        return any(t.shape and not isinstance(t.shape[0], int) for t in self.tensors)

    def _check_size(self, size: int) -> None:
        dimensions = [d for t in self.tensors for d in t.shape[_first_sizable(t) :]]
        fixed = sorted({dimension for dimension in dimensions if isinstance(dimension, int)})
        if self.architecture is not None:
            fits, expected = size in self.architecture.size, str(self.architecture.size)
        elif len(fixed) < len(set(dimensions)):
            fits, expected = size >= 1, "at least 1"
        else:
            fits, expected = size in fixed, f"{fixed}, which the file fixes"
        if not fits:
            raise NetworkError(f"network {self.name!r}: expected a size of {expected}, got {size}")

    def _input(self, tensor: TensorInfo, batch: int, size: int | None) -> Input:
        shape = self._shape(tensor, batch, size)
        if "mask" in tensor.name:
            return Input(tensor.name, tensor.dtype, shape, low=1)
        if self.architecture is not None:
            return Input(tensor.name, tensor.dtype, shape, below=self.architecture.vocabulary)
        return Input(tensor.name, tensor.dtype, shape)

    def _shape(self, tensor: TensorInfo, batch: int, size: int | None) -> tuple[int, ...]:
        image = len(tensor.shape) == 4
        if size is None:
            default = IMAGE_SIZE if image else SEQUENCE_LENGTH
            size = default if self.architecture is None else self.architecture.size.default
        shape = []
        for axis, dimension in enumerate(tensor.shape):
            if axis == 0 and (dimension == 1 and not self.batch_is_open):
                shape.append(batch)
            elif isinstance(dimension, int):
                shape.append(dimension)
            elif axis == 0:
                shape.append(batch)
            elif axis < _first_sizable(tensor):
                shape.append(IMAGE_CHANNELS)
            else:
                shape.append(size)
        return tuple(shape)


def _first_sizable(tensor: TensorInfo) -> int:
    """The first dimension that can be a size: after the batch, and an image's channels."""
    return 2 if len(tensor.shape) == 4 else 1


def find_network(name: str) -> Network:
    """The network that ships under a name, the architecture of a name, or the .onnx file at a path.

    Raises
    ------
    NetworkError
        If there is none, it is no ONNX file, or what builds it is not installed.
    """
    if name in ARCHITECTURES:
        found = ARCHITECTURES[name]
        return Network(name, None, found.digest(), found.inputs, found)
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
                f"installed: pip install {package.replace('_', '-')}"
            )
        return Path(spec.submodule_search_locations[0]) / place
    path = Path(name).expanduser()
    if not name or (path.suffix != ".onnx" and not path.exists()):
        known = ", ".join((*SHIPPED, *ARCHITECTURES))
        raise NetworkError(f"unknown network {name!r}; expected one of {known}, or an .onnx file")
    return path.resolve()


@lru_cache(maxsize=64)
def _read(name: str, path: Path, modified_ns: int, size: int) -> Network:
    """One read a version of the file: the time and the size are part of the key."""
    tensors = read_inputs(path)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Network(name, path, digest, tensors)

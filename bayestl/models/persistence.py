"""Fitted models in files: nothing is pickled, and what is damaged is never used.

A file is one in the safetensors format, which any of its tools can open: the arrays, and as
metadata one JSON text, `bayestl`, with

    sha256      of the whole file, these 64 digits taken as zeros
    format      the version of this layout
    bayestl     the version that wrote it
    model       a tree of `State`s: kind, plain values, layouts of the arrays, members
    probe       configurations and what the model predicted for them

The checksum comes before anything is believed, so that a flipped bit is an error. It says
nothing about intent: a file that was made to deceive has a valid one, so that structure,
types and shapes are checked as well, and no value is ever run. The probe is predicted again
by every `load`, so that a later version that computes something else says so.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors import numpy as safetensors

from bayestl.data.files import read_bounded, unreadable, write_whole
from bayestl.data.sampling import candidates
from bayestl.errors import BayestlError, FileError, SpaceError
from bayestl.models.model import Fitted
from bayestl.models.state import Persistent, State

FORMAT_VERSION = 1
"""Raised whenever an older bayestl could not read what this one writes."""

MAX_BYTES = 8 * 2**30
"""The largest file that is written or read; 40,000 measurements and their factor take 6.4 GB."""

MAX_DEPTH = 4
"""How deep models may consist of models."""

KINDS = {
    "FittedConformal": "bayestl.models.conformalized",
    "FittedGP": "bayestl.models.gp",
    "FittedSequentialGP": "bayestl.models.sequential.sequential_gp",
    "FittedTransferGP": "bayestl.models.transfer_gp",
}
"""The fitted classes that a file may hold, and nothing else."""

PROBES = 8
"""How many configurations are predicted again by every `load`."""

TOLERANCE = 1e-6
"""How far answers may be off, relative to themselves and to the width of the 90 % interval: what
another processor rounds otherwise. The std may be orders of magnitude larger than that."""

_KEY = "bayestl"
_UNSEALED = b"0" * 64
_SEAL = re.compile(rb'\\"sha256\\": ?\\"([0-9a-f]{64})\\"')

_MALFORMED = (
    ArithmeticError,
    AttributeError,
    BayestlError,
    LookupError,
    MemoryError,
    RuntimeError,  # torch's, and a recursion that is too deep
    SafetensorError,
    TypeError,
    ValueError,
)


def save(fitted: Fitted, path: str | Path) -> None:
    """Write a fitted model to one file, whole or not at all; `load` reads it back.

    The same model gives the same bytes. By convention the name ends in .bayestl.

    Raises
    ------
    FileError
        If the model is of a kind that cannot be kept or larger than `load` would read, or the
        file cannot be written.
    """
    arrays: dict[str, np.ndarray] = {}
    try:
        model = _tree(fitted, "", arrays)
        _fits(arrays)
    except FileError as error:
        raise FileError(f"cannot write {path}: {error}") from None
    description = {
        "sha256": _UNSEALED.decode(),
        "format": FORMAT_VERSION,
        "bayestl": version("bayestl"),
        "model": model,
        "probe": _probe(fitted),
    }
    content = safetensors.save(arrays, {_KEY: json.dumps(description)})
    write_whole(path, lambda file: file.write(sealed(content)))


def load(path: str | Path) -> Any:
    """The fitted model in a file of `save`, which predicts what it did to the last bit.

    Raises
    ------
    FileError
        If the file is missing, no model of bayestl, damaged, or written by a version whose
        models this one cannot read or would answer otherwise.
    """
    content = _content(path)
    digest, found = _digest(path, content)
    if digest != found:
        raise FileError(
            f"{path} is damaged: its checksum does not match; restore a copy of it, or fit again"
        )
    try:
        header = json.loads(_header(content))
        description = json.loads(header["__metadata__"][_KEY])
        written, by = description["format"], description["bayestl"]
    except _MALFORMED as error:
        raise FileError(f"{path} holds no model: malformed description: {error}") from error
    if written != FORMAT_VERSION:
        raise FileError(
            f"{path} was written by bayestl {by} in format {written!r}, this one reads format "
            f"{FORMAT_VERSION}; was it written by a newer bayestl?"
        )
    try:
        fitted = _restored(description["model"], "", safetensors.load(content))
        agrees = _agrees(fitted, description["probe"])
    except _MALFORMED as error:
        raise FileError(f"{path} holds no model: {error or type(error).__name__}") from error
    if not agrees:
        raise FileError(
            f"{path} was written by bayestl {by}, whose models answer otherwise than those of this "
            f"one, {version('bayestl')}; load it there, or fit again"
        )
    return fitted


def sealed(content: bytes) -> bytes:
    """The bytes of a file with the checksum that is due."""
    seal = _SEAL.search(_header(content))
    assert seal is not None
    start, end = (8 + position for position in seal.span(1))
    whole = content[:start] + _UNSEALED + content[end:]
    return content[:start] + hashlib.sha256(whole).hexdigest().encode() + content[end:]


def _content(path: str | Path) -> bytes:
    try:
        size = Path(path).stat().st_size
    except OSError as error:
        raise unreadable(path, error) from error
    return read_bounded(path, min(size, MAX_BYTES))


def _header(content: bytes) -> bytes:
    """The JSON that a file of safetensors starts with, after its length in 8 bytes."""
    return content[8 : 8 + int.from_bytes(content[:8], "little")]


def _digest(path: str | Path, content: bytes) -> tuple[str, str]:
    """The checksum that is due, and the one that the file holds."""
    seal = _SEAL.search(_header(content))
    if seal is None:
        raise FileError(f"{path} is no model that bayestl saved, or its start is damaged")
    start, end = (8 + position for position in seal.span(1))
    view = memoryview(content)
    due = hashlib.sha256(view[:start])
    due.update(_UNSEALED)
    due.update(view[end:])
    return due.hexdigest(), seal[1].decode()


def _tree(fitted: Any, place: str, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """The model as plain values; its arrays are added to `arrays`, under its place."""
    kind = type(fitted).__name__
    if kind not in KINDS or not isinstance(fitted, Persistent):
        raise FileError(
            f"a {kind} cannot be kept without a pickle, which runs code when it is read; a process "
            f"of TransferGP and its like can ({', '.join(KINDS)}). Keep the table and fit again"
        )
    state = fitted.to_state()
    layouts = {name: _layout(array) for name, array in state.arrays.items()}
    for name, array in state.arrays.items():
        arrays[place + name] = np.ascontiguousarray(array.transpose(layouts[name]))
    members = {n: _tree(m, f"{place}{n}/", arrays) for n, m in state.members.items()}
    return {"kind": kind, "plain": state.plain, "layouts": layouts, "members": members}


def _fits(arrays: Mapping[str, np.ndarray]) -> None:
    size = sum(array.nbytes for array in arrays.values())
    if size > MAX_BYTES:
        raise FileError(
            f"the model has {size / 1e9:.1f} GB, expected at most {MAX_BYTES / 1e9:.1f} GB; fit it "
            "to fewer rows by most_rows, or keep the table and fit again"
        )


def _layout(array: np.ndarray) -> list[int]:
    """The array's axes from the one with the longest stride: it decides how BLAS rounds."""
    return sorted(range(array.ndim), key=lambda axis: -array.strides[axis])


def _restored(tree: Any, place: str, arrays: Mapping[str, np.ndarray]) -> Any:
    """The model that `_tree` described."""
    kind, plain, members = tree["kind"], tree["plain"], tree["members"]
    if kind not in KINDS:
        raise FileError(f"unknown kind of model {kind!r}; expected one of {', '.join(KINDS)}")
    if not (isinstance(plain, dict) and isinstance(members, dict)) or place.count("/") > MAX_DEPTH:
        raise FileError(f"expected tables of values and of members, got {plain!r}, {members!r}")
    restored = {n: _restored(m, f"{place}{n}/", arrays) for n, m in members.items()}
    own = {
        name: arrays[place + name].transpose(np.argsort(axes))
        for name, axes in tree["layouts"].items()
        if place + name in arrays
    }
    return getattr(import_module(KINDS[kind]), kind).from_state(State(plain, own, restored))


def _probe(fitted: Fitted) -> dict[str, list[Any]]:
    """A few configurations, and what the model predicts for them."""
    try:
        frame = candidates(fitted.space, PROBES)
    except SpaceError:  # valid configurations are too rare to find others
        frame = fitted.space.frame([fitted.space.default])
    predicted = {str(name): column.tolist() for name, column in fitted.predict(frame).items()}
    return {"configurations": fitted.space.records(frame), **predicted}


def _agrees(fitted: Fitted, probe: Mapping[str, Any]) -> bool:
    """Whether the model predicts what it did; older files do not say which quantiles."""
    predicted = fitted.predict(probe["configurations"])
    width = predicted["q95"] - predicted["q05"]
    return all(
        np.isclose(predicted[name], np.array(values, float), TOLERANCE, TOLERANCE * width).all()
        for name, values in probe.items()
        if name != "configurations"
    )

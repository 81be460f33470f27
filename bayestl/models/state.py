"""`State`: a fitted model without its code, which is the only form in which one is kept.

`persistence` writes it to a file and reads it back. A fitted class joins by the two methods
of `Persistent` and by a line in `persistence.KINDS`; what it reads from a state is checked
here, since a file may say anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol, Self, TypeVar, runtime_checkable

import numpy as np

from bayestl.data.measurement import Metric
from bayestl.data.space import ConfigSpace
from bayestl.errors import FileError
from bayestl.models.model import Diagnostics, Fitted

T = TypeVar("T")


@dataclass(frozen=True)
class State:
    """What a fitted model is made of.

    Parameters
    ----------
    plain : JSON values; a float comes back to the last bit, a tuple as a list
    arrays : name -> float64 array, which comes back with its axes in the same order in memory
    members : name -> fitted models that it consists of
    """

    plain: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    members: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls, fitted: Fitted, plain: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
    ) -> State:
        """The state with what every fitted model says, and with what is its own."""
        said = {
            "space": fitted.space.to_dict(),
            "metric": asdict(fitted.metric),
            "target": fitted.target,
            "diagnostics": fitted.diagnostics.to_dict(),
        }
        return cls({**said, **plain}, arrays)

    @property
    def space(self) -> ConfigSpace:
        """The model's union space."""
        return ConfigSpace.from_dict(self.value("space", dict))

    @property
    def metric(self) -> Metric:
        """What the model predicts."""
        return Metric(**self.value("metric", dict))

    @property
    def target(self) -> str:
        """The environment that it predicts unless another is named."""
        return self.value("target", str)

    @property
    def diagnostics(self) -> Diagnostics:
        """What happened in its fit."""
        return Diagnostics.from_dict(self.value("diagnostics", dict))

    def within(self, place: str) -> State:
        """The state with the arrays alone whose names start with `place`, without it."""
        arrays = {n.removeprefix(place): a for n, a in self.arrays.items() if n.startswith(place)}
        return replace(self, arrays=arrays)

    def value(self, name: str, kind: type[T]) -> T:
        """The plain value of that name and of exactly that kind.

        Raises
        ------
        FileError
            If there is none, or one of another kind.
        """
        found = self.plain.get(name)
        if type(found) is not kind:
            raise FileError(f"expected {name} as {kind.__name__}, got {found!r}")
        return found

    def values(self, name: str, kind: type[T]) -> tuple[T, ...]:
        """The plain list of that name, all of whose values are of exactly that kind.

        Raises
        ------
        FileError
            If there is none, or it holds a value of another kind.
        """
        found = self.value(name, list)
        if not all(type(value) is kind for value in found):
            raise FileError(f"expected {name} as a list of {kind.__name__}, got {found!r}")
        return tuple(found)

    def array(self, name: str, *shape: int | None) -> np.ndarray:
        """The finite float64 array of that name; None in `shape` stands for any length.

        Raises
        ------
        FileError
            If there is none, or one of another type or shape, or with values that are not finite.
        """
        if name not in self.arrays:
            raise FileError(f"expected an array {name}, got only {', '.join(self.arrays)}")
        found = self.arrays[name]
        fits = len(found.shape) == len(shape) and all(
            wanted in (None, length) for length, wanted in zip(found.shape, shape, strict=True)
        )
        if found.dtype != np.float64 or not fits:
            raise FileError(
                f"expected {name} of float64 and shape {shape}, got {found.dtype} {found.shape}"
            )
        if not np.isfinite(found).all():
            raise FileError(f"expected finite values in {name}")
        return found


@runtime_checkable
class Persistent(Protocol):
    """A fitted model that can be kept."""

    def to_state(self) -> State:
        """Everything that its answers depend on."""
        ...

    @classmethod
    def from_state(cls, state: State) -> Self:
        """The model that `to_state` described, whose answers are equal to the last bit.

        Raises
        ------
        BayestlError, LookupError, TypeError, ValueError, AttributeError, RuntimeError
            If the state is malformed; `persistence.load` makes one error of them.
        """
        ...

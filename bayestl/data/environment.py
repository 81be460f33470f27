"""`Environment`: where a configuration was, or will be, measured."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from types import MappingProxyType
from typing import Any

from bayestl.data.options import Value
from bayestl.errors import UnknownEnvironment


@dataclass(frozen=True)
class Environment:
    """A named combination of hardware, engine, network and workload: one task of the model.

    Parameters
    ----------
    name : the name that tables, models and stores know it by
    hardware, engine, network, workload : what it is, for people and for the fingerprint
        A runner fills in what it finds, such as the processor and the engine's version.
    settings : what a runner must arrange before it measures
        Such as ``{"cores": "0", "batch": 4}``; each runner documents and checks its own.
    levels : the numbers that a numeric option can be set to here, ascending
        Such as ``{"gpu_mhz": (115, 230, 460, 920, 1300)}``, for options whose tables differ between
        environments. The lowest and the highest are enough for a range.
    """

    name: str
    hardware: str = ""
    engine: str = ""
    network: str = ""
    workload: str = ""
    settings: Mapping[str, Value] = field(default_factory=dict)
    levels: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip():
            raise UnknownEnvironment(f"expected an environment's name, got {self.name!r}")
        if not isinstance(self.settings, Mapping):
            raise UnknownEnvironment(
                f"environment {self.name!r}: expected settings such as {{'cores': '0'}}, got "
                f"{self.settings!r}"
            )
        for key, value in self.settings.items():
            plain = isinstance(value, (bool, int, float, str))
            if not plain or (isinstance(value, float) and not math.isfinite(value)):
                raise UnknownEnvironment(
                    f"environment {self.name!r}: setting {key!r} must be text, a finite number "
                    f"or a boolean, got {value!r}"
                )
        object.__setattr__(self, "settings", MappingProxyType(dict(self.settings)))
        if not isinstance(self.levels, Mapping):
            raise UnknownEnvironment(
                f"environment {self.name!r}: expected levels such as {{'gpu_mhz': (115, 1300)}}, "
                f"got {self.levels!r}"
            )
        for option, levels in self.levels.items():
            if not _ascending(levels):
                raise UnknownEnvironment(
                    f"environment {self.name!r}: levels of {option!r} must be a list of finite "
                    f"numbers in ascending order, got {levels!r}"
                )
        tables = {option: tuple(levels) for option, levels in self.levels.items()}
        object.__setattr__(self, "levels", MappingProxyType(tables))

    def to_dict(self) -> dict[str, Any]:
        """The environment as plain values, for JSON and TOML; without levels where it has none."""
        values = {
            "name": self.name,
            "hardware": self.hardware,
            "engine": self.engine,
            "network": self.network,
            "workload": self.workload,
            "settings": dict(self.settings),
        }
        tables = {option: list(levels) for option, levels in self.levels.items()}
        return {**values, "levels": tables} if tables else values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Environment:
        """The environment that `to_dict` wrote."""
        return cls(**values)

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change with anything but the name."""
        content = {key: value for key, value in self.to_dict().items() if key != "name"}
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def __reduce__(self) -> tuple[Any, ...]:
        return Environment.from_dict, (self.to_dict(),)  # a mapping proxy cannot be copied

    def __hash__(self) -> int:
        return hash((self.name, self.fingerprint))


def _ascending(levels: Any) -> bool:
    if not isinstance(levels, (list, tuple)) or not levels:
        return False
    numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in levels)
    return numbers and all(map(math.isfinite, levels)) and all(a < b for a, b in pairwise(levels))

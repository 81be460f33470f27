"""`Measurement`: what came out of measuring one configuration once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from bayestl.errors import TableError

if TYPE_CHECKING:  # a measuring child process stays free of pandas
    from bayestl.data.space import Configuration


class Status(StrEnum):
    """How a measurement ended. A configuration that fails is data, not an exception."""

    OK = "ok"
    INVALID = "invalid"  # the engine refused the configuration
    UNSUPPORTED = "unsupported"  # this machine or build cannot do what was asked
    CRASH = "crash"
    TIMEOUT = "timeout"
    OOM = "oom"
    BAD_OUTPUT = "bad_output"  # ran, but computed something else
    IMPLAUSIBLE = "implausible"  # faster than the work allows
    CONTAMINATED = "contaminated"  # something else disturbed the machine
    DEVICE_LOST = "device_lost"  # an accelerator went away


TRANSIENT = frozenset({Status.CONTAMINATED, Status.DEVICE_LOST})
"""Says nothing about the configuration, which is worth another measurement."""


@dataclass(frozen=True)
class Metric:
    """A measured quantity: its name, its unit and which direction is better.

    Parameters
    ----------
    name : of the column and in messages
    unit : such as ``"ms"``; for people, values are never converted
    direction : ``"minimize"`` or ``"maximize"``, which decides what is best

    Raises
    ------
    TableError
        If there is no name, or the direction is neither.
    """

    name: str
    unit: str = ""
    direction: str = "minimize"

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise TableError(f"expected a metric's name, got {self.name!r}")
        if self.direction not in ("minimize", "maximize"):
            raise TableError(
                f"metric {self.name!r}: expected direction 'minimize' or 'maximize', "
                f"got {self.direction!r}"
            )

    @property
    def sign(self) -> int:
        """1 for a metric to minimize, -1 for one to maximize: smaller is better once multiplied."""
        return 1 if self.direction == "minimize" else -1

    def __str__(self) -> str:
        return f"{self.name} [{self.unit}]" if self.unit else self.name


@dataclass(frozen=True)
class Measurement:
    """One configuration, measured once in one environment.

    Parameters
    ----------
    configuration : the configuration that was asked for
    environment : the environment's name
    status : how it ended
    values : metric name -> value in the metric's unit; empty unless `ok`
    samples : metric name -> raw samples behind the value, nothing dropped
    message : for a failure, what happened
    provenance : plain JSON values that say how, when and on what
    seconds : what the whole measurement cost, wall clock

    Raises
    ------
    TableError
        If the status is none of `Status`; its text will do.
    """

    configuration: Configuration
    environment: str
    status: Status
    values: Mapping[str, float] = field(default_factory=dict)
    samples: Mapping[str, Sequence[float]] = field(default_factory=dict)
    message: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "status", Status(self.status))
        except ValueError:
            raise TableError(
                f"expected one of {', '.join(Status)} as status, got {self.status!r}"
            ) from None

    @property
    def ok(self) -> bool:
        """Whether the values can be used."""
        return self.status is Status.OK

    def to_dict(self) -> dict[str, Any]:
        """The measurement as plain JSON values."""
        return {
            "configuration": dict(self.configuration),
            "environment": self.environment,
            "status": self.status.value,
            "values": dict(self.values),
            "samples": {name: list(samples) for name, samples in self.samples.items()},
            "message": self.message,
            "provenance": dict(self.provenance),
            "seconds": self.seconds,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Measurement:
        """The measurement that `to_dict` wrote."""
        return cls(**values)

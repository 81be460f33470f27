"""What a running plan tells its observer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bayestl.campaign.budget import Stop
from bayestl.campaign.plan import Belief
from bayestl.campaign.state import State, Trial
from bayestl.data.measurement import Measurement


@dataclass(frozen=True)
class Proposed:
    """A trial is in the store and about to be measured; `total` is how many there may be."""

    trial: Trial
    total: int | None


@dataclass(frozen=True)
class Measured:
    """A measurement is in the store; `settled` trials of at most `total` are done."""

    trial: Trial
    measurement: Measurement
    settled: int
    total: int | None


@dataclass(frozen=True)
class Learnt:
    """The model was refitted."""

    belief: Belief


@dataclass(frozen=True)
class Warned:
    """Something that a person should know, such as that the environment has changed."""

    message: str


@dataclass(frozen=True)
class Stopped:
    """Nothing more will be measured in this session."""

    reason: Stop
    state: State


Event = Proposed | Measured | Learnt | Warned | Stopped
Observer = Callable[[Event], None]
"""Any callable; one that raises is told nothing more, and the plan goes on."""

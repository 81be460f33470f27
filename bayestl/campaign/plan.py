"""`Plan`: what to measure next, as pure functions of what has been measured.

A survey measures a given list, a campaign decides as it learns; one loop, one store and
one set of laws serve both. `ask` and `tell` change nothing but what they return, and the
answer depends on the plan and the state alone: a plan that is resumed from its store goes
on exactly as if it had never been interrupted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

from bayestl.campaign.budget import Stop
from bayestl.campaign.state import State, Trial
from bayestl.data.environment import Environment
from bayestl.data.measurement import Measurement
from bayestl.data.table import MeasurementTable
from bayestl.errors import CampaignError
from bayestl.models.model import Fitted


@dataclass(frozen=True)
class Belief:
    """What a plan has learnt so far.

    Parameters
    ----------
    fitted : the model, or None while there is none
    error_percent : the mean absolute percentage error that the model itself expects
    warnings : one sentence each, such as why a fit failed
    """

    fitted: Fitted | None = None
    error_percent: float | None = None
    warnings: tuple[str, ...] = ()


class Plan(Protocol):
    """What to measure next."""

    @property
    def environments(self) -> tuple[Environment, ...]:
        """The environments that are measured."""
        ...

    @property
    def total(self) -> int | None:
        """How many trials there will be at most, if that is known."""
        ...

    def start(self) -> State:
        """The state before anything is proposed."""
        ...

    def believe(self, state: State, previous: Belief | None = None) -> Belief:
        """What the measurements teach; what `stop` and `ask` look at.

        Depends on the plan and the state alone; an earlier belief makes it faster.
        """
        ...

    def stop(self, state: State, belief: Belief) -> Stop | None:
        """Why nothing more is to be measured, or None."""
        ...

    def turn(self, state: State) -> int:
        """How many trials to propose before the next look at the results."""
        ...

    def ask(
        self, state: State, n: int = 1, belief: Belief | None = None
    ) -> tuple[State, list[Trial]]:
        """The next trials, at most n, and the state that has them; none if none is left."""
        ...

    def tell(self, state: State, number: int, measurement: Measurement) -> State:
        """The state with the measurement of trial `number`."""
        ...

    def table(self, state: State) -> MeasurementTable:
        """Everything measured so far."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain JSON values, equal for equal plans."""
        ...


def check_count(n: int) -> None:
    """Refuse to be asked for anything but one trial or more.

    Raises
    ------
    CampaignError
        If n is no whole number, or below 1.
    """
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise CampaignError(f"expected to be asked for a whole number of trials >= 1, got {n!r}")


def check_measurement(measurement: Measurement, *needed: str) -> None:
    """Refuse what is no measurement, or one that says it is ok and has no finite value.

    Raises
    ------
    CampaignError
        If a needed metric is missing, there is no value at all, or one is no finite number; or
        if the seconds are none, or below zero.
    """
    if not isinstance(measurement, Measurement):
        raise CampaignError(
            "expected a Measurement(configuration, environment, status, values), got "
            f"{measurement!r}"
        )
    if not (_finite(measurement.seconds) and measurement.seconds >= 0):
        raise CampaignError(
            f"expected seconds of zero or more that a measurement took, got {measurement.seconds!r}"
        )
    if not measurement.ok:
        return
    values = measurement.values
    missing = [name for name in needed if name not in values]
    wrong = {name: value for name, value in values.items() if not _finite(value)}
    if missing or wrong or not values:
        readings = measurement.provenance.get("readings", {})
        whys = {name: readings[name]["source"] for name in missing if name in readings}
        if whys:
            reasons = "; ".join(f"{name}: {why}" for name, why in whys.items())
            raise CampaignError(f"a meter that the campaign needs reads nothing: {reasons}")
        raise CampaignError(
            f"expected a finite value of {', '.join(needed) or 'some metric'} from a measurement "
            f"that is ok, got {dict(values)}; a failure needs a status that says so"
        )


def _finite(value: Any) -> bool:
    """Whether it is a number, such as NumPy's or torch's, and a finite one."""
    try:
        return not isinstance(value, bool) and math.isfinite(value)
    except TypeError:
        return False

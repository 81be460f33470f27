"""`State`: what has been proposed and what came of it, as a value.

A state only grows: `propose` and `tell` return the next one. It is the fold of a
store's records, so whoever holds the records holds the state.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bayestl.data.measurement import TRANSIENT, Measurement
from bayestl.data.space import Configuration
from bayestl.errors import CampaignError

MAX_ATTEMPTS = 3
"""A disturbed measurement says nothing about its configuration; it is repeated, not for ever."""


@dataclass(frozen=True)
class Trial:
    """A configuration that is to be measured in an environment; numbers count from 1."""

    number: int
    configuration: Configuration
    environment: str


@dataclass(frozen=True)
class Attempt:
    """One measurement of a trial; `count` is 1 for the first."""

    number: int
    count: int
    measurement: Measurement


@dataclass(frozen=True)
class State:
    """Trials in the order proposed and attempts in the order told.

    A trial is settled by its first attempt that was not disturbed, whether it succeeded
    or failed, or by its third attempt; until then it is pending.
    """

    trials: tuple[Trial, ...] = ()
    attempts: tuple[Attempt, ...] = ()

    @property
    def pending(self) -> tuple[Trial, ...]:
        """The trials that still need a measurement, in order."""
        settled = self._settled
        return tuple(trial for trial in self.trials if trial.number not in settled)

    def trials_in(self, environment: str) -> tuple[Trial, ...]:
        """The trials proposed in the environment of that name."""
        return tuple(trial for trial in self.trials if trial.environment == environment)

    def settled_in(self, environment: str) -> tuple[Trial, ...]:
        """The trials in that environment that need no further measurement."""
        settled = self._settled
        return tuple(t for t in self.trials_in(environment) if t.number in settled)

    def failed_in(self, environment: str) -> tuple[Trial, ...]:
        """The settled trials in that environment of which no attempt was ok."""
        ok = {attempt.number for attempt in self.attempts if attempt.measurement.ok}
        return tuple(t for t in self.settled_in(environment) if t.number not in ok)

    def measurements_in(self, environment: str) -> tuple[Measurement, ...]:
        """Every measurement in that environment, disturbed ones included, in order."""
        everything = (attempt.measurement for attempt in self.attempts)
        return tuple(m for m in everything if m.environment == environment)

    def seconds_in(self, environment: str) -> float:
        """Wall clock spent inside measurements in that environment."""
        return sum(measurement.seconds for measurement in self.measurements_in(environment))

    def propose(self, configurations: Sequence[Configuration], environment: str) -> State:
        """The state with further trials, numbered on."""
        first = len(self.trials) + 1
        new = (Trial(first + i, c, environment) for i, c in enumerate(configurations))
        return replace(self, trials=(*self.trials, *new))

    def tell(self, number: int, measurement: Measurement) -> State:
        """The state with one more measurement, of trial `number`.

        Raises
        ------
        CampaignError
            If the number is none, the trial was never proposed, is settled already, or is
            another configuration or environment than the measurement's.
        """
        if isinstance(number, bool) or not isinstance(number, int):
            raise CampaignError(f"expected the number of a trial, got {number!r}")
        if not 1 <= number <= len(self.trials):
            raise CampaignError(
                f"unknown trial {number}: {len(self.trials)} have been proposed; ask first"
            )
        trial = self.trials[number - 1]
        if number in self._settled:
            raise CampaignError(f"trial {number} has been told already")
        asked = (trial.configuration, trial.environment)
        if (measurement.configuration, measurement.environment) != asked:
            raise CampaignError(
                f"trial {number}: expected a measurement of {trial.configuration} in "
                f"{trial.environment!r}, got one of {measurement.configuration} in "
                f"{measurement.environment!r}"
            )
        count = 1 + sum(attempt.number == number for attempt in self.attempts)
        return replace(self, attempts=(*self.attempts, Attempt(number, count, measurement)))

    @property
    def _settled(self) -> frozenset[int]:
        tries = Counter(attempt.number for attempt in self.attempts)
        return frozenset(
            attempt.number
            for attempt in self.attempts
            if attempt.measurement.status not in TRANSIENT or tries[attempt.number] >= MAX_ATTEMPTS
        )

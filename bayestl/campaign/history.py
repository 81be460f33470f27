"""`History`: a plan's log as records, and the fold that reads it back.

plan          number = revision    what is to be done; a later one may change the budget
session       number = 1, 2, ...   where each run of the loop found itself
trial         number               stored before it is measured
measurement   number, attempt      stored as soon as it is measured
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from bayestl.campaign.state import Attempt, State, Trial
from bayestl.campaign.store import Record
from bayestl.data.environment import Environment
from bayestl.data.measurement import Measurement
from bayestl.errors import BayestlError, StoreError


@dataclass(frozen=True)
class Session:
    """One run of the loop: when it began and the environments as it found them."""

    at: str
    environments: tuple[Environment, ...]
    version: str


@dataclass(frozen=True)
class History:
    """Everything that a log tells.

    Parameters
    ----------
    plans : every revision of the plan, as plain values; the last one holds
    sessions : in order
    state : what was proposed and measured
    """

    plans: tuple[Mapping[str, Any], ...] = ()
    sessions: tuple[Session, ...] = ()
    state: State = field(default_factory=State)


def fold(records: Iterable[Record]) -> History:
    """The history that `records` tell.

    Raises
    ------
    StoreError
        If a record does not follow from the ones before it, or its kind is unknown.
    """
    history = History()
    for record in records:
        try:
            history = _step(history, record)
        except (BayestlError, KeyError, TypeError) as error:
            raise StoreError(
                f"{record.kind} {record.number} does not follow from what is stored before it: "
                f"{error}"
            ) from error
    return history


def plan_record(revision: int, plan: Mapping[str, Any]) -> Record:
    """A revision of the plan."""
    return Record("plan", revision, plan)


def session_record(number: int, environments: Sequence[Environment], version: str) -> Record:
    """The beginning of a session."""
    described = [environment.to_dict() for environment in environments]
    return Record("session", number, {"environments": described, "version": version})


def trial_record(trial: Trial) -> Record:
    """A proposal."""
    content = {"configuration": trial.configuration, "environment": trial.environment}
    return Record("trial", trial.number, content)


def measurement_record(attempt: Attempt) -> Record:
    """A result."""
    return Record("measurement", attempt.number, attempt.measurement.to_dict(), attempt.count)


def _step(history: History, record: Record) -> History:
    content, state = record.payload, history.state
    match record.kind:
        case "plan":
            return replace(history, plans=(*history.plans, content))
        case "session":
            environments = tuple(map(Environment.from_dict, content["environments"]))
            session = Session(record.at, environments, content["version"])
            return replace(history, sessions=(*history.sessions, session))
        case "trial":
            if record.number != len(state.trials) + 1:
                raise StoreError(f"expected trial {len(state.trials) + 1}")
            state = state.propose([content["configuration"]], content["environment"])
        case "measurement":
            state = state.tell(record.number, Measurement.from_dict(content))
        case unknown:
            raise StoreError(f"unknown kind {unknown!r}")
    return replace(history, state=state)

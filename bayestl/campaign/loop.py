"""`run`: the only loop with effects. Propose, store, measure, store, refit.

A trial is in the store before it is measured and its result before anything else
happens, so a process that dies at any moment loses at most the measurement that was
running. Running the same plan again on the same store resumes it: the state is
folded from the records, a trial without a result is measured, and the plan goes on.
Nothing is fitted while a measurement runs.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

from bayestl.campaign.budget import Budget, Stop
from bayestl.campaign.campaign import Campaign, plan_from_dict
from bayestl.campaign.events import Event, Learnt, Measured, Observer, Proposed, Stopped, Warned
from bayestl.campaign.history import (
    History,
    fold,
    measurement_record,
    plan_record,
    session_record,
    trial_record,
)
from bayestl.campaign.plan import Belief, Plan
from bayestl.campaign.state import State, Trial
from bayestl.campaign.store import Store
from bayestl.data.environment import Environment
from bayestl.errors import CampaignError, StoreError
from bayestl.measure.runner import Runner


@dataclass(frozen=True)
class Result:
    """How a session ended: why, with what, and what is believed after all of it.

    Parameters
    ----------
    reason : the limit that was reached, that nothing was left, or that Ctrl-C ended it
    state : every trial with its measurement, which the plan's `table` is made of
    belief : the model of it all; nothing is believed where Ctrl-C ended it
    """

    reason: Stop
    state: State
    belief: Belief


def run(
    plan: Plan, runner: Runner, store: Store, *, name: str, observer: Observer | None = None
) -> Result:
    """Measure what the plan asks for until it stops, or Ctrl-C does; resumes what the store has.

    Parameters
    ----------
    plan : a `Campaign` or a `Survey`
    runner : what measures
    store : where the log is, or will be
    name : of the log
    observer : told every event, such as a progress bar

    Raises
    ------
    StoreError
        If the store is in use, damaged or full, or holds another plan under this name.
        Whatever was reported as measured is in it.
    CampaignError
        If the runner does not measure what the campaign learns, or one of them is of another kind.
    EngineError, NetworkError, UnknownEnvironment
        From the runner, for what is wrong with the environment. The trial stays pending.
    """
    _check_parts(plan, runner, store)
    with store.claim():
        session = _Session(plan, runner, store, name, _Reporter(observer))
        state = session.begin()
        try:
            return session.pursue(state)
        except KeyboardInterrupt:
            state = fold(store.load(name)).state
            session.report(Stopped(Stop.INTERRUPTED, state))
            return Result(Stop.INTERRUPTED, state, Belief())


def resume(
    runner: Runner,
    store: Store,
    *,
    name: str,
    budget: Budget | None = None,
    observer: Observer | None = None,
) -> Result:
    """Go on with the plan that the store has under this name, perhaps with a new budget.

    Raises
    ------
    StoreError
        If there is no such plan; and as `run`.
    SpecificationError
        If the plan has a model or an acquisition that is none of bayestl's recipes.
    """
    plans = fold(store.load(name)).plans
    if not plans:
        known = ", ".join(map(repr, store.names())) or "none"
        raise StoreError(f"the store has no plan named {name!r}; expected one of {known}")
    plan = plan_from_dict(plans[-1])
    if budget is not None:
        if not isinstance(plan, Campaign):
            raise CampaignError(f"{name!r} is a survey, which has no budget")
        plan = replace(plan, budget=budget)
    return run(plan, runner, store, name=name, observer=observer)


@dataclass(frozen=True)
class _Session:
    """One run of the loop over one log."""

    plan: Plan
    runner: Runner
    store: Store
    name: str
    report: _Reporter

    def begin(self) -> State:
        """The stored state, after checking that it belongs to this plan; notes the session."""
        history = fold(self.store.load(self.name))
        wanted = self.plan.to_dict()
        new = []
        if not history.plans or history.plans[-1] != wanted:
            if history.plans:
                _check_same_plan(self.name, history.plans[-1], wanted)
            new = [plan_record(len(history.plans) + 1, wanted)]
        found = [self.runner.describe(e) for e in self.plan.environments]
        self._compare(history, found)
        number = len(history.sessions) + 1
        self.store.append(self.name, *new, session_record(number, found, version("bayestl")))
        return history.state

    def pursue(self, state: State) -> Result:
        """Measure until the plan stops."""
        belief = Belief()
        while True:
            within = bool(state.pending)
            if not within:
                belief = self._learn(state, belief)
            # Within a batch the belief is older than the state, and a resumed session has none.
            reason = self.plan.stop(state, Belief() if within else belief)
            if reason is None and not within:
                state = self._propose(state, belief)
                reason = None if state.pending else Stop.EXHAUSTED
            if reason is not None:
                belief = self._learn(state, belief) if within else belief
                self.report(Stopped(reason, state))
                return Result(reason, state, belief)
            state = self._measure(state, state.pending[0])

    def _learn(self, state: State, previous: Belief) -> Belief:
        belief = self.plan.believe(state, previous)
        for warning in belief.warnings:
            self.report(Warned(warning))
        if belief.fitted is not None:
            self.report(Learnt(belief))
        return belief

    def _propose(self, state: State, belief: Belief) -> State:
        state, trials = self.plan.ask(state, self.plan.turn(state), belief)
        if trials:
            self.store.append(self.name, *map(trial_record, trials))
        for trial in trials:
            self.report(Proposed(trial, self.plan.total))
        return state

    def _measure(self, state: State, trial: Trial) -> State:
        (environment,) = (e for e in self.plan.environments if e.name == trial.environment)
        measurement = self.runner.run(trial.configuration, environment)
        state = self.plan.tell(state, trial.number, measurement)
        self.store.append(self.name, measurement_record(state.attempts[-1]))
        settled = len(state.trials) - len(state.pending)
        self.report(Measured(trial, measurement, settled, self.plan.total))
        return state

    def _compare(self, history: History, found: list[Environment]) -> None:
        """Warn of an environment that is no longer what it was when last measured."""
        before = {e.name: e for session in history.sessions for e in session.environments}
        for now in found:
            then = before.get(now.name, now)
            if then.fingerprint != now.fingerprint:
                old, new = then.to_dict(), now.to_dict()
                changed = [key for key in {**old, **new} if old.get(key) != new.get(key)]
                self.report(
                    Warned(
                        f"environment {now.name!r} has changed since it was last measured: "
                        + "; ".join(f"{k}: {old.get(k)} -> {new.get(k)}" for k in changed)
                    )
                )


class _Reporter:
    """Tells the observer, until it fails: a broken display must not stop a campaign."""

    def __init__(self, observer: Observer | None) -> None:
        self.observer = observer

    def __call__(self, event: Event) -> None:
        if self.observer is None:
            return
        try:
            self.observer(event)
        except Exception as error:  # whatever a display may raise
            self.observer = None
            warnings.warn(
                f"the observer failed and is told nothing more: {error!r}",
                RuntimeWarning,
                stacklevel=2,
            )


def _check_parts(plan: Plan, runner: Runner, store: Store) -> None:
    for name, value, method, example in (
        ("plan", plan, "ask", "a Campaign or a Survey"),
        ("runner", runner, "run", "a runner, such as LocalRunner()"),
        ("store", store, "claim", "a store, such as SQLiteStore('campaign.db')"),
    ):
        if not hasattr(value, method):
            raise CampaignError(f"{name}: expected {example}, got {value!r}")
    known = [metric.name for metric in runner.metrics]
    if isinstance(plan, Campaign) and plan.metric not in known:
        raise CampaignError(
            f"the campaign learns {plan.metric!r}, and its runner measures {', '.join(known)}; "
            "give it the meters, or the specification, that it began with"
        )


def _check_same_plan(name: str, stored: Any, wanted: Any) -> None:
    """Refuse another plan under the same name; only the budget may change, and the machine.

    What has become of the machine is told by `_compare`.
    """
    before, now = _anywhere(stored), _anywhere(wanted)
    keys = sorted(before.keys() | now.keys())
    different = [key for key in keys if before.get(key) != now.get(key)]
    if different not in ([], ["budget"]):
        named = [text for key in different for text in _named(key, before.get(key), now.get(key))]
        raise StoreError(
            f"the store has another plan named {name!r}: {', '.join(named)} differ; "
            "choose another name or another store"
        )


def _anywhere(plan: Mapping[str, Any]) -> dict[str, Any]:
    """The plan without the hardware that its environments were found on."""
    found = dict(plan)
    for key in ("target", "environment"):
        if key in found:
            found[key] = {**found[key], "hardware": ""}
    if isinstance(found.get("source"), Mapping) and found["source"]["kind"] == "survey":
        found["source"] = _anywhere(found["source"])
    return found


def _named(key: str, stored: Any, wanted: Any) -> list[str]:
    """What differs, by the names of the parts where there are any."""
    if not (isinstance(stored, Mapping) and isinstance(wanted, Mapping)):
        return [key]
    parts = sorted(stored.keys() | wanted.keys())
    return [f"{key}.{part}" for part in parts if stored.get(part) != wanted.get(part)]

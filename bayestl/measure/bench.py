"""`Bench`: measures configurations of one environment, each until nothing disturbed it."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bayestl.data.measurement import Status
from bayestl.errors import EngineError, NetworkError
from bayestl.measure import allocator, machine
from bayestl.measure.disturbance import (
    DISTURBABLE,
    Disturbance,
    disturbance,
    use_of,
    watched,
)
from bayestl.measure.engine import Refusal
from bayestl.measure.host import Knob, applied
from bayestl.measure.placement import regime
from bayestl.measure.sentinel import Sentinel
from bayestl.measure.workload import Workload
from bayestl.measure.zygote import Outcome, Zygote, Zygotes, bounced

if TYPE_CHECKING:  # pandas loads with the first space
    from bayestl.data.space import Configuration

CALM_STEP_S = 0.1
CALM_LIMIT_S = 1.0
"""How long a repeated measurement waits for the machine to become quiet."""

_NETWORKS_FAULT = (Status.INVALID, Status.UNSUPPORTED, Status.BAD_OUTPUT)
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trial:
    """A measurement after its last attempt."""

    outcome: Outcome
    provenance: Mapping[str, Any]


@dataclass
class Bench:
    """One environment that is being measured: its network, its reference and its sentinel.

    Parameters
    ----------
    workload : the environment on this machine
    default : its default configuration
    knobs : the host's options among the configuration's
    job : what the requests for all its measurements have in common (see `child`)
    zygotes : the processes that measure
    workspace : the folder in which each measurement has one of its own
    sentinel : says when the default configuration is due
    tolerance, timeout_s, attempts, disturbance_limit : as a runner's
    reference, fastest_ms : the digest of what the default configuration computed, and the
        shortest that it ever took, once it was measured
    calm : whether the latest measurement was undisturbed in the end; else a sentinel waits,
        since it would tell nothing
    """

    workload: Workload
    default: Configuration
    knobs: Mapping[str, Knob]
    job: Mapping[str, Any]
    zygotes: Zygotes
    workspace: Path
    sentinel: Sentinel
    tolerance: Mapping[str, float]
    timeout_s: float
    attempts: int
    disturbance_limit: float | None
    reference: Mapping[str, Any] | None = None
    fastest_ms: float | None = None
    calm: bool = True

    def watch(self) -> None:
        """Measure the default configuration where that is due; the first is the reference.

        Raises
        ------
        EngineError, NetworkError
            If the default configuration cannot be measured the first time.
        """
        if self.reference is not None and not (self.sentinel.due and self.calm):
            return
        outcome = self._default()
        if self.reference is None:
            self.reference = self._digest(outcome)
        if outcome.status is Status.OK:
            self._note(outcome.answer["values"]["latency"])

    def _note(self, latency_ms: float) -> None:
        if self.sentinel.drifted(latency_ms):  # a moment's, or one that stays?
            again = self._default()
            if again.status is Status.OK:
                latency_ms = again.answer["values"]["latency"]
        level = self.sentinel.level_ms
        if self.sentinel.note(latency_ms):
            log.warning(
                "%s: the default configuration takes %.4g ms instead of %.4g ms: the machine has "
                "changed, and measurements before and after differ for that reason",
                self.workload.environment.name, latency_ms, level,
            )  # fmt: skip

    def _default(self) -> Outcome:
        """The default configuration, measured; others only ever slow it down."""
        outcome = self._measured(self.default).outcome
        samples = outcome.answer.get("samples", {}).get("latency", ())
        known = () if self.fastest_ms is None else (self.fastest_ms,)
        self.fastest_ms = min((*known, *(ms for ms in samples if ms > 0)), default=None)
        return outcome

    def _digest(self, outcome: Outcome) -> Mapping[str, Any]:
        """What the default configuration computes, be it disturbed or not."""
        if "digest" not in outcome.answer:
            kind = NetworkError if outcome.status in _NETWORKS_FAULT else EngineError
            raise kind(
                f"the default configuration of {self.workload.engine.name} cannot run network "
                f"{self.workload.network.name!r} at batch {self.workload.batch}: "
                f"{outcome.status}: {outcome.message}"
            )
        return outcome.answer["digest"]

    def measure(self, configuration: Configuration) -> Trial:
        """The configuration, measured on the machine set as it says.

        One that is too fast to be believed is measured again where the default
        configuration turns out to be faster than it ever was.
        """
        trial = self._measured(configuration)
        if trial.outcome.status is Status.IMPLAUSIBLE:
            fastest_ms = self.fastest_ms
            self._default()
            if self.fastest_ms != fastest_ms:
                trial = self._measured(configuration)
        return trial

    def _measured(self, configuration: Configuration) -> Trial:
        self.sentinel.since += 1
        try:
            with applied(self.knobs, configuration):
                trial = self._undisturbed(configuration)
                self.calm = trial.outcome.status is not Status.CONTAMINATED
                return replace(trial, provenance={**trial.provenance, **self._clock()})
        except Refusal as refusal:
            return Trial(Outcome(refusal.status, str(refusal), {}), self._clock())

    def _clock(self) -> dict[str, Any]:
        """What sets the clock just now."""
        return {"governor": machine.governor(self.workload.cores[0]), "turbo": machine.turbo()}

    def _undisturbed(self, configuration: Configuration) -> Trial:
        """The configuration, measured until nothing disturbed it or the attempts are used up."""
        disturbances: list[str] = []
        while True:
            trial, why = self._attempt(configuration)
            if why is None or trial.outcome.status not in DISTURBABLE:
                break
            disturbances.append(why)
            if len(disturbances) == self.attempts:
                outcome = replace(trial.outcome, status=Status.CONTAMINATED, message=why)
                trial = replace(trial, outcome=outcome)
                break
            self._wait_for_calm()
        return replace(trial, provenance={**trial.provenance, "disturbed": disturbances})

    def _attempt(self, configuration: Configuration) -> tuple[Trial, str | None]:
        """One measurement, and what disturbed it."""
        cores, zygote = self.workload.cores, self._zygote(configuration)
        zygote.ready()  # or its import would look like a neighbour
        place = self._place()
        use, own = use_of(cores), time.process_time()
        with tempfile.TemporaryDirectory(dir=self.workspace) as folder:
            # a compiler that is killed leaves much behind
            outcome = zygote.run(self._request(configuration, folder), self.timeout_s)
        own = time.process_time() - own + outcome.cpu_s
        taken = disturbance(use, use_of(cores), own)
        places = (place, self._place())
        provenance = {
            "variables": {**machine.variables(), **zygote.variables},
            "cpu_s": outcome.cpu_s,
            "foreign_share": taken.foreign if taken else None,
            "stolen_share": taken.stolen if taken else None,
            "placement_ns": list(places),
            "placement": regime(places[1]),
        }
        return Trial(outcome, provenance), self._why(outcome, taken, places)

    def _why(
        self,
        outcome: Outcome,
        taken: Disturbance | None,
        places: tuple[float | None, float | None],
    ) -> str | None:
        limit = self.disturbance_limit
        if limit is None:
            return None
        if taken is not None and taken.share > limit:
            return str(taken)
        if {regime(place) for place in places} == {"near", "far"}:
            return f"the cores changed their place: {places[0]:.0f} ns apart, then {places[1]:.0f}"
        return outcome.answer.get("provenance", {}).get("disturbance")

    def _place(self) -> float | None:
        """How far the first two cores are from each other in ns, where there are two."""
        if len(self.workload.cores) < 2 or self.disturbance_limit is None:
            return None
        return bounced(self.zygotes.plain, self.workload.cores[:2])

    def _wait_for_calm(self) -> None:
        limit, deadline = self.disturbance_limit, time.monotonic() + CALM_LIMIT_S
        assert limit is not None  # nothing disturbs where nobody looks
        while time.monotonic() < deadline:
            taken = watched(self.workload.cores, CALM_STEP_S)
            if taken is None or taken.share <= limit:
                return

    def _zygote(self, configuration: Configuration) -> Zygote:
        workload = self.workload
        variables = workload.engine.variables(workload.environment, configuration)
        if allocator.OPTIONS.keys() <= configuration.keys():
            variables |= allocator.variables(configuration)
        return self.zygotes.of(workload.reference, variables, workload.cores)

    def _request(self, configuration: Configuration, folder: str) -> dict[str, Any]:
        engine = self.workload.engine
        precisions = {engine.precision(each) for each in (configuration, self.default)}
        others = {*allocator.OPTIONS, *self.knobs}
        return {
            **self.job,
            "configuration": {k: v for k, v in configuration.items() if k not in others},
            "reference": self.reference,
            "fastest_ms": self.fastest_ms,
            "tolerance": max(self.tolerance[p] for p in precisions),
            "folder": folder,
        }

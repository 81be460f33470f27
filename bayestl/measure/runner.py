"""`Runner`: measures a configuration in an environment; `LocalRunner` does so on this machine."""

from __future__ import annotations

import logging
import os
import platform
import shutil
import tempfile
import time
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Protocol

from bayestl.data.environment import Environment
from bayestl.data.measurement import Measurement, Metric, Status
from bayestl.errors import ConfigurationError, EngineError, NetworkError
from bayestl.measure import allocator, machine
from bayestl.measure.disturbance import Disturbance, disturbance, use_of
from bayestl.measure.engine import ENGINES, TOLERANCES, Refusal
from bayestl.measure.host import Knob, applied, offered
from bayestl.measure.lock import device_lock
from bayestl.measure.meter import METERS, load_meter
from bayestl.measure.placement import regime
from bayestl.measure.sampling import Sampling
from bayestl.measure.sentinel import Sentinel
from bayestl.measure.workload import Workload, arrange
from bayestl.measure.zygote import UNLIMITED, Outcome, Zygote, Zygotes, bounced

if TYPE_CHECKING:  # pandas loads with the first space
    from bayestl.data.space import ConfigSpace, Configuration

METRICS = (
    Metric("latency", "ms"),
    Metric("cpu_time", "ms"),
    Metric("peak_memory", "MiB"),
    Metric("build_time", "ms"),
)
"""Median time and mean CPU time of one inference, peak resident memory, time to load."""

CALM_STEP_S = 0.1
CALM_LIMIT_S = 1.0
"""How long a repeated measurement waits for the machine to become quiet."""

log = logging.getLogger(__name__)


class Runner(Protocol):
    """Measures configurations."""

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """What it can measure."""
        ...

    def space(self, environment: Environment) -> ConfigSpace:
        """The options, with domains valid in that environment."""
        ...

    def describe(self, environment: Environment) -> Environment:
        """The environment under the same name, with what the runner found filled in.

        The description can be run like the environment that it describes, and
        describing it again changes nothing.
        """
        ...

    def run(self, configuration: Configuration, environment: Environment) -> Measurement:
        """The configuration, measured once; what goes wrong with it is the status.

        Raises
        ------
        EngineUnavailable, EngineError, NetworkError, UnknownEnvironment
            For what is wrong with the request itself, whatever the configuration.
        """
        ...


@dataclass(frozen=True, eq=False)
class LocalRunner:
    """Measures on this machine, each configuration in a child process of its own.

    Understands the settings ``cores`` (text such as ``"0"``, ``"0-3"`` or ``"0,2"``;
    all that this process may use unless set), ``batch`` (a whole number, 1 unless set),
    ``size`` (side of an image or length of a sequence, where the network leaves it open)
    and those of the engine. `Environment.engine` is a name in `engines`, and
    `Environment.network` a name that `networks.find_network` knows or the path of an
    .onnx file.

    The default configuration is measured first and then every so often: its outputs are
    what every other configuration's must agree with, and its latency shows a drift.
    A measurement during which others used the cores, or the cores changed their place,
    is repeated; if that does not help it is `contaminated`.

    Parameters
    ----------
    sampling : how long to warm up and to sample
    timeout_s : the deadline of one measurement, over build and run
    memory_limit_mib : a limit on the child's address space; None for no limit
    tolerance : precision -> how far outputs may be from the default configuration's,
        relative to their root mean square
    implausible_speedup : a latency this many times below the default's is not believed
    meters : further meters, by their names in `meter.METERS`, with their arguments
    allocator : whether the options of the memory allocator are part of the space
    host : whether the options of the whole machine that it offers are, such as its clock;
        they are set by root around each measurement, and set back
    isolation : "zygote" forks each child from a process that has imported the engine and
        built nothing; "process" starts a fresh one for each, which takes longer
    attempts : how often a disturbed measurement is made before it is `contaminated`
    disturbance_limit : share of the cores that others may use meanwhile; None does not look
    sentinel_every : measurements of an environment between two of its default; None for never
    drift_limit : a default this far from its level, as a ratio less one, begins a new regime
    lock_timeout_s : how long to wait for another measurement on this machine
    seed : of the random inputs
    engines : engine's name -> ``module:class``; what a child process may load
    """

    sampling: Sampling = field(default_factory=Sampling)
    timeout_s: float = 60.0
    memory_limit_mib: float | None = None
    tolerance: Mapping[str, float] = field(default_factory=lambda: TOLERANCES)
    implausible_speedup: float = 50.0
    meters: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: MappingProxyType({}))
    allocator: bool = False
    host: bool = False
    isolation: Literal["zygote", "process"] = "zygote"
    attempts: int = 3
    disturbance_limit: float | None = 0.15
    sentinel_every: int | None = 20
    drift_limit: float = 0.25
    lock_timeout_s: float = 600.0
    seed: int = 0
    engines: Mapping[str, str] = field(default_factory=lambda: ENGINES)
    _benches: dict[str, _Bench] = field(default_factory=dict, init=False, repr=False)
    _hosts: dict[Any, Mapping[str, Knob]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        unknown = sorted(set(self.meters) - set(METERS))
        if unknown:
            raise EngineError(f"unknown meter {unknown[0]!r}; expected one of {', '.join(METERS)}")
        for name, arguments in self.meters.items():
            load_meter(METERS[name], arguments)
        if self.allocator:
            allocator.check()
        if self.isolation not in ("zygote", "process") or self.attempts < 1:
            raise EngineError(
                "expected isolation 'zygote' or 'process' and attempts >= 1, got "
                f"{self.isolation!r} and {self.attempts!r}"
            )

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return METRICS + tuple(
            load_meter(METERS[name], arguments).metric for name, arguments in self.meters.items()
        )

    def space(self, environment: Environment) -> ConfigSpace:
        """The engine's options, and the allocator's and the host's where they are asked for."""
        workload = self._arrange(environment)
        space = workload.engine.space(environment)
        if not (self.allocator or self.host):
            return space
        knobs = self._knobs(workload)
        options = {
            **space.options,
            **(allocator.OPTIONS if self.allocator else {}),
            **{name: knob.option for name, knob in knobs.items()},
        }
        return type(space)(options, space.constraints, space.conditions)

    def describe(self, environment: Environment) -> Environment:
        workload = self._arrange(environment)
        inputs = ", ".join(map(str, workload.inputs))
        cores = f"cores {machine.format_cores(workload.cores)} of {os.cpu_count()}"
        return replace(
            environment,
            hardware=f"{machine.processor()}, {cores}",
            engine=f"{workload.engine.name} {workload.engine.version()}",
            workload=f"{inputs}; batch {workload.batch}; network {workload.network.sha256[:16]}",
        )

    def run(self, configuration: Configuration, environment: Environment) -> Measurement:
        workload = self._arrange(environment)
        started = datetime.now(UTC)
        clock = time.perf_counter()
        space = self.space(environment)
        try:
            configuration = space.configuration(configuration)
        except ConfigurationError as error:
            seconds = time.perf_counter() - clock
            return Measurement(
                dict(configuration), environment.name, Status.INVALID,
                message=str(error), seconds=seconds,
            )  # fmt: skip
        with device_lock(self.lock_timeout_s):
            bench = self._bench(workload, space.default)
            bench.watch()
            clock = time.perf_counter()
            before = machine.load()
            trial = bench.measure(configuration)
            seconds = time.perf_counter() - clock
        outcome = trial.outcome
        provenance = {
            "requested": configuration,
            "started": started.isoformat(timespec="milliseconds"),
            "before": before,
            "after": machine.load(),
            **self._provenance(workload),
            **trial.provenance,
            "sentinel": bench.sentinel.to_dict(),
            **outcome.answer.get("provenance", {}),
        }
        ok = outcome.status is Status.OK
        return Measurement(
            configuration,
            environment.name,
            outcome.status,
            values=outcome.answer["values"] if ok else {},
            samples=outcome.answer.get("samples", {}),
            message=outcome.message,
            provenance=provenance,
            seconds=seconds,
        )

    def close(self) -> None:
        """End the processes that wait for the next measurement; they end with this one anyway."""
        self._zygotes.close()

    def _arrange(self, environment: Environment) -> Workload:
        return arrange(environment, self.engines)

    def _bench(self, workload: Workload, default: Configuration) -> _Bench:
        if workload.key not in self._benches:
            network = self._network(workload)
            knobs = self._knobs(workload)
            bench = _Bench(self, workload, network, default, knobs, self._zygotes)
            self._benches[workload.key] = bench
        return self._benches[workload.key]

    def _knobs(self, workload: Workload) -> Mapping[str, Knob]:
        """The host's options for a workload, as they were when they were first asked for."""
        if not self.host:
            return {}
        key = workload.cores, str(workload.settings.get("device", "cpu"))
        if key not in self._hosts:
            with device_lock(self.lock_timeout_s):  # another's measurement sets them for a while
                self._hosts[key] = offered(*key)
        return self._hosts[key]

    @cached_property
    def _zygotes(self) -> Zygotes:
        """The processes that wait, as long as the runner lives."""
        zygotes = Zygotes(fork=self.isolation == "zygote")
        weakref.finalize(self, zygotes.close)
        return zygotes

    @cached_property
    def _workspace(self) -> Path:
        """A folder for rewritten networks and for children, which lives as long as the runner."""
        folder = Path(tempfile.mkdtemp(prefix="bayestl-"))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return folder

    def _network(self, workload: Workload) -> str:
        """What the engine shall open; a network that it cannot open as it is, is rewritten once."""
        job, target = workload.preparation
        if job is None:
            return workload.location
        path = self._workspace / target
        if not path.exists():
            request = {
                "job": job,
                "network": workload.location,
                "batch": workload.batch,
                "size": workload.size,
                "target": str(path),
                **UNLIMITED,
            }
            outcome = Zygote(None, fork=False).run(request, PREPARATION_S)
            if outcome.status is not Status.OK:
                raise NetworkError(
                    f"network {workload.network.name!r} cannot be prepared for "
                    f"{workload.engine.name} at batch {workload.batch}: {outcome.message}"
                )
        return str(path)

    def _provenance(self, workload: Workload) -> dict[str, Any]:
        return {
            "bayestl": version("bayestl"),
            "python": platform.python_version(),
            **workload.describe(),
            "governor": machine.governor(workload.cores[0]),
            "turbo": machine.turbo(),
            "sampling": self.sampling.to_dict(),
            "isolation": self.isolation,
            "timeout_s": self.timeout_s,
            "memory_limit_mib": self.memory_limit_mib,
            **machine.hardware(),
        }


PREPARATION_S = 600.0
_NETWORKS_FAULT = (Status.INVALID, Status.UNSUPPORTED, Status.BAD_OUTPUT)


@dataclass(frozen=True)
class _Trial:
    """A measurement after its last attempt."""

    outcome: Outcome
    provenance: Mapping[str, Any]


@dataclass
class _Bench:
    """One environment that is being measured: its network, its reference and its sentinel."""

    runner: LocalRunner
    workload: Workload
    network: str
    default: Configuration
    knobs: Mapping[str, Knob]
    zygotes: Zygotes
    sentinel: Sentinel = field(init=False)
    reference: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        self.sentinel = Sentinel(self.runner.sentinel_every, self.runner.drift_limit)

    def watch(self) -> None:
        """Measure the default configuration where that is due; the first is the reference.

        Raises
        ------
        EngineError, NetworkError
            If the default configuration cannot be measured the first time.
        """
        if not self.sentinel.due:
            return
        outcome = self.measure(self.default).outcome
        if self.reference is None:
            self.reference = self._reference(outcome)
            self.sentinel.note(self.reference["latency_ms"])
        elif outcome.status is Status.OK:
            self._note(outcome.answer["values"]["latency"])

    def _note(self, latency_ms: float) -> None:
        if self.sentinel.drifted(latency_ms):  # a moment's, or one that stays?
            again = self.measure(self.default).outcome
            if again.status is Status.OK:
                latency_ms = again.answer["values"]["latency"]
        level = self.sentinel.level_ms
        if self.sentinel.note(latency_ms):
            log.warning(
                "%s: the default configuration takes %.4g ms instead of %.4g ms: the machine has "
                "changed, and measurements before and after differ for that reason",
                self.workload.environment.name, latency_ms, level,
            )  # fmt: skip

    def _reference(self, outcome: Outcome) -> Mapping[str, Any]:
        """What the default configuration computes, and how long it takes."""
        if "digest" not in outcome.answer:
            kind = NetworkError if outcome.status in _NETWORKS_FAULT else EngineError
            raise kind(
                f"the default configuration of {self.workload.engine.name} cannot run network "
                f"{self.workload.network.name!r} at batch {self.workload.batch}: "
                f"{outcome.status}: {outcome.message}"
            )
        latency_ms = outcome.answer["values"]["latency"]
        return {"digest": outcome.answer["digest"], "latency_ms": latency_ms}

    def measure(self, configuration: Configuration) -> _Trial:
        """The configuration, measured on the machine set as it says."""
        self.sentinel.since += 1
        try:
            with applied(self.knobs, configuration):
                return self._undisturbed(configuration)
        except Refusal as refusal:
            return _Trial(Outcome(refusal.status, str(refusal), {}), {})

    def _undisturbed(self, configuration: Configuration) -> _Trial:
        """The configuration, measured until nothing disturbed it or the attempts are used up."""
        disturbances: list[str] = []
        while True:
            trial, why = self._attempt(configuration)
            if why is None or trial.outcome.status not in _DISTURBABLE:
                break
            disturbances.append(why)
            if len(disturbances) == self.runner.attempts:
                outcome = replace(trial.outcome, status=Status.CONTAMINATED, message=why)
                trial = replace(trial, outcome=outcome)
                break
            self._wait_for_calm()
        return replace(trial, provenance={**trial.provenance, "disturbed": disturbances})

    def _attempt(self, configuration: Configuration) -> tuple[_Trial, str | None]:
        """One measurement, and what disturbed it."""
        cores, zygote = self.workload.cores, self._zygote(configuration)
        zygote.ready()  # or its import would look like a neighbour
        place = self._place()
        use, own = use_of(cores), time.process_time()
        with tempfile.TemporaryDirectory(dir=self.runner._workspace) as folder:
            # a compiler that is killed leaves much behind
            request = {**self._request(configuration), "folder": folder}
            outcome = zygote.run(request, self.runner.timeout_s)
        own = time.process_time() - own + outcome.cpu_s
        taken = disturbance(use, use_of(cores), own)
        places = (place, self._place())
        provenance = {
            "cpu_s": outcome.cpu_s,
            "foreign_share": taken.foreign if taken else None,
            "stolen_share": taken.stolen if taken else None,
            "placement_ns": list(places),
            "placement": regime(places[1]),
        }
        return _Trial(outcome, provenance), self._why(outcome, taken, places)

    def _why(
        self,
        outcome: Outcome,
        taken: Disturbance | None,
        places: tuple[float | None, float | None],
    ) -> str | None:
        limit = self.runner.disturbance_limit
        if limit is None:
            return None
        if taken is not None and taken.share > limit:
            return str(taken)
        if {regime(place) for place in places} == {"near", "far"}:
            return f"the cores changed their place: {places[0]:.0f} ns apart, then {places[1]:.0f}"
        return outcome.answer.get("provenance", {}).get("disturbance")

    def _place(self) -> float | None:
        """How far the first two cores are from each other in ns, where there are two."""
        if len(self.workload.cores) < 2 or self.runner.disturbance_limit is None:
            return None
        return bounced(self.zygotes.plain, self.workload.cores[:2])

    def _wait_for_calm(self) -> None:
        limit, deadline = self.runner.disturbance_limit, time.monotonic() + CALM_LIMIT_S
        assert limit is not None  # nothing disturbs where nobody looks
        while time.monotonic() < deadline:
            before = use_of(self.workload.cores)
            time.sleep(CALM_STEP_S)
            taken = disturbance(before, use_of(self.workload.cores), 0.0)
            if taken is None or taken.share <= limit:
                return

    def _zygote(self, configuration: Configuration) -> Zygote:
        workload = self.workload
        variables = workload.engine.variables(workload.environment, configuration)
        if self.runner.allocator:
            variables |= allocator.variables(configuration)
        return self.zygotes.of(workload.reference, variables)

    def _request(self, configuration: Configuration) -> dict[str, Any]:
        runner, workload = self.runner, self.workload
        precisions = {workload.engine.precision(c) for c in (configuration, self.default)}
        others = {*allocator.OPTIONS, *self.knobs}
        return {
            "job": "measure",
            "network": self.network,
            "rewritten": workload.preparation[0] == "rebatch",
            "batch": workload.batch,
            "inputs": [vars(item) for item in workload.inputs],
            "seed": runner.seed,
            "configuration": {k: v for k, v in configuration.items() if k not in others},
            "settings": workload.settings,
            "cores": list(workload.cores),
            "memory_limit_mib": runner.memory_limit_mib,
            "sampling": runner.sampling.to_dict(),
            "meters": {name: [METERS[name], dict(of)] for name, of in runner.meters.items()},
            "reference": self.reference,
            "tolerance": max(runner.tolerance[p] for p in precisions),
            "implausible_speedup": runner.implausible_speedup,
        }


_DISTURBABLE = (Status.OK, Status.TIMEOUT, Status.IMPLAUSIBLE)
"""What a disturbance may have made of a measurement; other failures have their own reason."""

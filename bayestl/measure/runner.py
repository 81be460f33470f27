"""`Runner`: measures a configuration in an environment; `LocalRunner` does so on this machine."""

from __future__ import annotations

import logging
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
from bayestl.measure.bench import Bench
from bayestl.measure.engine import ENGINES, TOLERANCES
from bayestl.measure.host import Knob, offered
from bayestl.measure.lock import device_lock
from bayestl.measure.meter import METERS, expect, is_number, load_meter
from bayestl.measure.sampling import Sampling
from bayestl.measure.sentinel import Sentinel
from bayestl.measure.workload import Workload, arrange
from bayestl.measure.zygote import UNLIMITED, Zygote, Zygotes

if TYPE_CHECKING:  # pandas loads with the first space
    from bayestl.data.space import ConfigSpace, Configuration

METRICS = (
    Metric("latency", "ms"),
    Metric("cpu_time", "ms"),
    Metric("peak_memory", "MiB"),
    Metric("build_time", "ms"),
)
"""Median time and mean CPU time of one inference, peak resident memory, time to load."""

PREPARATION_S = 600.0
"""How long the rewriting of a network may take."""

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
    sampling : how long to warm up and to sample, a `bayestl.measure.sampling.Sampling`
    timeout_s : the deadline of one measurement, over build and run
    memory_limit_mib : a limit on the child's address space; None for no limit
    tolerance : precision -> how far outputs may be from the default configuration's,
        relative to their root mean square; `TOLERANCES` has the others
    implausible_speedup : a latency this many times below the default's shortest is not believed
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
    _benches: dict[str, Bench] = field(default_factory=dict, init=False, repr=False)
    _hosts: dict[Any, Mapping[str, Knob]] = field(default_factory=dict, init=False, repr=False)
    _silent: set[str] = field(default_factory=set, init=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.meters, Mapping):
            raise EngineError(
                f"expected meters with their arguments, such as {{'rapl': {{}}}}, got "
                f"{self.meters!r}"
            )
        unknown = sorted(set(self.meters) - set(METERS))
        if unknown:
            raise EngineError(f"unknown meter {unknown[0]!r}; expected one of {', '.join(METERS)}")
        for name, arguments in self.meters.items():
            load_meter(METERS[name], arguments)
        if self.isolation not in ("zygote", "process"):
            raise EngineError(f"isolation: expected 'zygote' or 'process', got {self.isolation!r}")
        for name in ("allocator", "host"):
            value = getattr(self, name)
            expect(isinstance(value, bool), f"{name}: true or false", value)
        if self.allocator:
            allocator.check()
        for name in (
            *("timeout_s", "memory_limit_mib", "disturbance_limit", "implausible_speedup"),
            "drift_limit",
        ):
            value = getattr(self, name)
            if value is None and name in ("memory_limit_mib", "disturbance_limit"):
                continue
            positive = value is not None and is_number(value) and value > 0
            expect(positive, f"{name}: a positive number", value)
        waits = is_number(self.lock_timeout_s) and self.lock_timeout_s >= 0
        expect(waits, "lock_timeout_s: seconds, at least 0", self.lock_timeout_s)
        for name, least in (("attempts", 1), ("sentinel_every", 1), ("seed", 0)):
            value = getattr(self, name)
            whole = isinstance(value, int) and not isinstance(value, bool) and value >= least
            if not (value is None and name == "sentinel_every"):
                expect(whole, f"{name}: a whole number of at least {least}", value)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Latency and CPU time [ms] of one inference, and the process's, then the meters'."""
        return METRICS + tuple(
            load_meter(METERS[name], arguments).metric for name, arguments in self.meters.items()
        )

    def space(self, environment: Environment) -> ConfigSpace:
        """The engine's options, and the allocator's and the host's where they are asked for."""
        return self._space(self._arrange(environment))

    def describe(self, environment: Environment) -> Environment:
        """The environment with its hardware, the engine's version and the workload filled in.

        Raises
        ------
        EngineUnavailable, NetworkError, UnknownEnvironment
            If the engine, the network or a setting is not there.
        """
        return self._described(self._arrange(environment))

    def run(self, configuration: Configuration, environment: Environment) -> Measurement:
        """The configuration, measured by a process of its own; options left out are the defaults.

        Raises
        ------
        EngineUnavailable, EngineError, NetworkError, UnknownEnvironment
            For what is wrong whatever the configuration; what goes wrong with it is the status.
        """
        workload = self._arrange(environment)
        started = datetime.now(UTC)
        clock = time.perf_counter()
        space = self._space(workload)
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
        self._tell_silent(provenance.get("readings", {}))
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

    def _tell_silent(self, readings: Mapping[str, Mapping[str, Any]]) -> None:
        """Warn once of each meter that reads nothing, whose metric is then missing."""
        for name, reading in readings.items():
            if reading["value"] is None and name not in self._silent:
                self._silent.add(name)
                log.warning("%s is not measured: %s", name, reading["source"])

    def _arrange(self, environment: Environment) -> Workload:
        return arrange(environment, self.engines)

    def _described(self, workload: Workload) -> Environment:
        inputs = ", ".join(map(str, workload.inputs))
        return replace(
            workload.environment,
            hardware=machine.identity(workload.cores),
            engine=f"{workload.engine.name} {workload.engine.version()}",
            workload=f"{inputs}; batch {workload.batch}; network {workload.network.sha256[:16]}",
        )

    def _space(self, workload: Workload) -> ConfigSpace:
        space = workload.engine.space(workload.environment)
        if not (self.allocator or self.host):
            return space
        knobs = self._knobs(workload)
        options = {
            **space.options,
            **(allocator.OPTIONS if self.allocator else {}),
            **{name: knob.option for name, knob in knobs.items()},
        }
        return type(space)(options, space.constraints, space.conditions)

    def _bench(self, workload: Workload, default: Configuration) -> Bench:
        if workload.key not in self._benches:
            self._benches[workload.key] = Bench(
                workload,
                default,
                self._knobs(workload),
                self._job(workload),
                self._zygotes,
                self._workspace,
                Sentinel(self.sentinel_every, self.drift_limit),
                tolerance={**TOLERANCES, **self.tolerance},
                timeout_s=self.timeout_s,
                attempts=self.attempts,
                disturbance_limit=self.disturbance_limit,
            )
        return self._benches[workload.key]

    def _job(self, workload: Workload) -> dict[str, Any]:
        """What all measurements of a workload ask of the process that measures."""
        return {
            "job": "measure",
            "network": self._network(workload),
            "rewritten": workload.preparation[0] == "rebatch",
            "batch": workload.batch,
            "inputs": [vars(item) for item in workload.inputs],
            "seed": self.seed,
            "settings": workload.settings,
            "cores": list(workload.cores),
            "memory_limit_mib": self.memory_limit_mib,
            "sampling": self.sampling.to_dict(),
            "meters": [[METERS[name], dict(of)] for name, of in self.meters.items()],
            "implausible_speedup": self.implausible_speedup,
        }

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
            "fingerprint": self._described(workload).fingerprint,
            **workload.describe(),
            "sampling": self.sampling.to_dict(),
            "isolation": self.isolation,
            "timeout_s": self.timeout_s,
            "memory_limit_mib": self.memory_limit_mib,
            "limits": machine.limits(),
            **machine.hardware(),
        }

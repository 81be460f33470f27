"""`Runner`: measures a configuration in an environment; `LocalRunner` does so on this machine."""

from __future__ import annotations

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
from typing import TYPE_CHECKING, Any, Protocol

from bayestl.data.environment import Environment
from bayestl.data.measurement import Measurement, Metric, Status
from bayestl.errors import ConfigurationError, EngineError, NetworkError, UnknownEnvironment
from bayestl.measure import machine
from bayestl.measure.engine import ENGINES, Engine, load_engine
from bayestl.measure.isolation import Outcome, measure_in_child
from bayestl.measure.lock import device_lock
from bayestl.measure.networks import Input, Network, find_network
from bayestl.measure.sampling import Sampling

if TYPE_CHECKING:  # pandas loads with the first space
    from bayestl.data.space import ConfigSpace, Configuration

METRICS = (
    Metric("latency", "ms"),
    Metric("cpu_time", "ms"),
    Metric("peak_memory", "MiB"),
    Metric("build_time", "ms"),
)
"""Median time and mean CPU time of one inference, peak resident memory, time to load."""

MAX_BATCH = 65_536


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
    """Measures on this machine, each configuration in a fresh child process.

    Understands the settings ``cores`` (text such as ``"0"``, ``"0-3"`` or ``"0,2"``;
    all that this process may use unless set) and ``batch`` (a whole number, 1 unless
    set). `Environment.engine` is a name in `engines`, and `Environment.network` a name
    in `networks.SHIPPED` or the path of an .onnx file.

    The default configuration is measured first, once an environment: its outputs are
    what every other configuration's must agree with.

    Parameters
    ----------
    sampling : how long to warm up and to sample
    timeout_s : the deadline of one measurement, over start, build and run
    memory_limit_mib : a limit on the child's address space; None for no limit
    tolerance : how far outputs may be from the default configuration's, relative to
        their root mean square
    implausible_speedup : a latency this many times below the default's is not believed
    lock_timeout_s : how long to wait for another measurement on this machine
    seed : of the random inputs
    engines : engine's name -> ``module:class``; what a child process may load
    """

    sampling: Sampling = field(default_factory=Sampling)
    timeout_s: float = 60.0
    memory_limit_mib: float | None = None
    tolerance: float = 1e-2
    implausible_speedup: float = 50.0
    lock_timeout_s: float = 600.0
    seed: int = 0
    engines: Mapping[str, str] = field(default_factory=lambda: ENGINES)
    _references: dict[str, Mapping[str, Any]] = field(default_factory=dict, init=False, repr=False)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return METRICS

    def space(self, environment: Environment) -> ConfigSpace:
        return self._arrange(environment).engine.space(environment)

    def describe(self, environment: Environment) -> Environment:
        plan = self._arrange(environment)
        inputs = ", ".join(map(str, plan.inputs))
        cores = f"cores {machine.format_cores(plan.cores)} of {os.cpu_count()}"
        return replace(
            environment,
            hardware=f"{machine.processor()}, {cores}",
            engine=f"{plan.engine.name} {plan.engine.version()}",
            workload=f"{inputs}; batch {plan.batch}; network {plan.network.sha256[:16]}",
        )

    def run(self, configuration: Configuration, environment: Environment) -> Measurement:
        plan = self._arrange(environment)
        started = datetime.now(UTC)
        clock = time.perf_counter()
        space = plan.engine.space(environment)
        try:
            configuration = space.configuration(configuration)
        except ConfigurationError as error:
            seconds = time.perf_counter() - clock
            return Measurement(
                dict(configuration), environment.name, Status.INVALID,
                message=str(error), seconds=seconds,
            )  # fmt: skip
        with device_lock(self.lock_timeout_s):
            reference = self._reference(plan, space.default)
            clock = time.perf_counter()
            before = machine.load()
            outcome = self._measure(plan, configuration, reference)
            seconds = time.perf_counter() - clock
        provenance = {
            "requested": configuration,
            "started": started.isoformat(timespec="milliseconds"),
            "before": before,
            "after": machine.load(),
            **self._provenance(plan),
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

    @cached_property
    def _workspace(self) -> Path:
        """A folder for rewritten networks, which lives as long as the runner."""
        folder = Path(tempfile.mkdtemp(prefix="bayestl-"))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return folder

    def _arrange(self, environment: Environment) -> _Plan:
        """What the environment asks for, checked against this machine."""
        engine, reference = self._engine(environment)
        cores, batch = _settings(environment)
        network = find_network(environment.network)
        return _Plan(engine, reference, cores, batch, network, network.inputs(batch))

    def _engine(self, environment: Environment) -> tuple[Engine, str]:
        name, _, wanted = environment.engine.partition(" ")
        if name not in self.engines:
            known = ", ".join(self.engines)
            raise UnknownEnvironment(
                f"environment {environment.name!r}: unknown engine {name!r}; "
                f"expected one of {known}"
            )
        engine = load_engine(self.engines[name])
        found = engine.version()
        if wanted and wanted != found:
            raise UnknownEnvironment(
                f"environment {environment.name!r} was described with {environment.engine}, but "
                f"{name} {found} is installed; install that one, or describe it under a new name"
            )
        return engine, self.engines[name]

    def _reference(self, plan: _Plan, default: Configuration) -> Mapping[str, Any]:
        """What the default configuration computes, and how long it takes."""
        if plan.key not in self._references:
            outcome = self._measure(plan, default, None)
            if outcome.status is not Status.OK:
                kind = NetworkError if outcome.status in _NETWORKS_FAULT else EngineError
                raise kind(
                    f"the default configuration of {plan.engine.name} cannot run network "
                    f"{plan.network.name!r} at batch {plan.batch}: {outcome.status}: "
                    f"{outcome.message}"
                )
            self._references[plan.key] = {
                "digest": outcome.answer["digest"],
                "latency_ms": outcome.answer["values"]["latency"],
            }
        return self._references[plan.key]

    def _measure(
        self, plan: _Plan, configuration: Configuration, reference: Mapping[str, Any] | None
    ) -> Outcome:
        request = {
            "parent": os.getpid(),
            "engine": plan.reference,
            "network": str(plan.network.path),
            "batch": plan.batch,
            "rebatched": str(self._workspace / plan.rebatched) if plan.rebatched else None,
            "inputs": [vars(item) for item in plan.inputs],
            "seed": self.seed,
            "configuration": configuration,
            "settings": {},
            "cores": list(plan.cores),
            "memory_limit_mib": self.memory_limit_mib,
            "sampling": self.sampling.to_dict(),
            "reference": reference,
            "tolerance": self.tolerance,
            "implausible_speedup": self.implausible_speedup,
        }
        return measure_in_child(request, self.timeout_s)

    def _provenance(self, plan: _Plan) -> dict[str, Any]:
        return {
            "bayestl": version("bayestl"),
            "python": platform.python_version(),
            "engine": f"{plan.engine.name} {plan.engine.version()}",
            "network": {"name": plan.network.name, "sha256": plan.network.sha256},
            "inputs": [str(item) for item in plan.inputs],
            "batch": plan.batch,
            "cores": machine.format_cores(plan.cores),
            "governor": machine.governor(plan.cores[0]),
            "sampling": self.sampling.to_dict(),
            "timeout_s": self.timeout_s,
            "memory_limit_mib": self.memory_limit_mib,
            **machine.hardware(),
        }


_NETWORKS_FAULT = (Status.INVALID, Status.UNSUPPORTED, Status.BAD_OUTPUT)


@dataclass(frozen=True)
class _Plan:
    """An environment in terms of this machine."""

    engine: Engine
    reference: str
    cores: tuple[int, ...]
    batch: int
    network: Network
    inputs: tuple[Input, ...]

    @property
    def key(self) -> str:
        """Equal where the default configuration computes the same in the same time."""
        return repr((self.reference, self.cores, self.batch, self.network.sha256))

    @property
    def rebatched(self) -> str | None:
        """The name of the file rewritten for the batch; None where the network's own is right."""
        fixed = {tensor.shape[0] for tensor in self.network.tensors if tensor.shape}
        if self.network.batch_is_open or self.batch in fixed:
            return None
        return f"{self.network.sha256[:16]}-batch-{self.batch}.onnx"


def _settings(environment: Environment) -> tuple[tuple[int, ...], int]:
    """The cores and the batch size that an environment's settings ask for."""
    unknown = sorted(set(environment.settings) - {"cores", "batch"})
    if unknown:
        raise UnknownEnvironment(
            f"environment {environment.name!r}: unknown setting {', '.join(map(repr, unknown))}; "
            "expected cores or batch"
        )
    available = machine.available_cores()
    cores = machine.parse_cores(
        str(environment.settings.get("cores", machine.format_cores(available)))
    )
    missing = sorted(set(cores) - set(available))
    if missing:
        raise UnknownEnvironment(
            f"environment {environment.name!r}: asks for cores {machine.format_cores(cores)}, "
            f"this process may use {machine.format_cores(available)}"
        )
    batch = environment.settings.get("batch", 1)
    if isinstance(batch, bool) or not isinstance(batch, int) or not 1 <= batch <= MAX_BATCH:
        raise UnknownEnvironment(
            f"environment {environment.name!r}: expected a batch from 1 to {MAX_BATCH}, "
            f"got {batch!r}"
        )
    return cores, batch

"""`Workload`: what an environment asks for, checked against this machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bayestl.data.environment import Environment
from bayestl.data.options import Value
from bayestl.errors import NetworkError, UnknownEnvironment
from bayestl.measure import machine
from bayestl.measure.architectures import ARCHITECTURES
from bayestl.measure.engine import Engine, load_engine
from bayestl.measure.networks import Input, Network, find_network

MAX_BATCH = 65_536
MAX_SIZE = 1 << 20

SETTINGS = ("cores", "batch", "size")
"""What every engine's environments may set; the engine's own come on top."""


@dataclass(frozen=True)
class Workload:
    """An environment in terms of this machine."""

    environment: Environment
    engine: Engine
    reference: str
    cores: tuple[int, ...]
    batch: int
    size: int | None
    network: Network
    inputs: tuple[Input, ...]

    @property
    def settings(self) -> dict[str, Value]:
        """Those that are the engine's."""
        return {k: v for k, v in self.environment.settings.items() if k in self.engine.settings}

    @property
    def location(self) -> str:
        """Where the network is, or the name of an architecture."""
        return str(self.network.path or self.network.name)

    @property
    def preparation(self) -> tuple[str | None, str]:
        """The job that makes what the engine can open, and the name of the file that it makes.

        None where the network can be opened as it is.
        """
        if self.network.path is None:
            if self.engine.format == "torch":
                return None, ""
            return "export", f"{self.network.sha256[:16]}-batch-{self.batch}-size-{self.size}.onnx"
        if self.network.batch_is_open or self.batch == 1:
            return None, ""
        fixed = {tensor.shape[0] for tensor in self.network.tensors if tensor.shape}
        if fixed != {1}:  # it is the batch that was asked for
            return None, ""
        return "rebatch", f"{self.network.sha256[:16]}-batch-{self.batch}.onnx"

    @property
    def key(self) -> str:
        """Equal where the default configuration computes the same in the same time."""
        return repr(
            (
                self.reference,
                self.cores,
                self.inputs,
                sorted(self.settings.items()),
                self.network.sha256,
            )
        )

    def describe(self) -> dict[str, Any]:
        """What goes into the provenance of each of its measurements, as plain values."""
        return {
            "engine": f"{self.engine.name} {self.engine.version()}",
            "network": {"name": self.network.name, "sha256": self.network.sha256},
            "inputs": [str(item) for item in self.inputs],
            "batch": self.batch,
            "cores": machine.format_cores(self.cores),
            "settings": self.settings,
        }


def arrange(environment: Environment, engines: Mapping[str, str]) -> Workload:
    """The environment's workload on this machine.

    Raises
    ------
    UnknownEnvironment
        If it cannot be arranged: an unknown engine or setting, or cores that are not there.
    EngineUnavailable, NetworkError
        If the engine is not installed, or there is no such network.
    """
    engine, reference = _engine(environment, engines)
    unknown = sorted(set(environment.settings) - {*SETTINGS, *engine.settings})
    if unknown:
        known = ", ".join((*SETTINGS, *engine.settings))
        raise UnknownEnvironment(
            f"environment {environment.name!r}: unknown setting {', '.join(map(repr, unknown))}; "
            f"{engine.name} knows {known}"
        )
    cores = machine.cores_for(environment)
    batch = _whole(environment, "batch", 1, MAX_BATCH)
    size = _whole(environment, "size", None, MAX_SIZE)
    network = find_network(environment.network)
    if engine.format not in network.formats:
        raise NetworkError(
            f"environment {environment.name!r}: {engine.name} opens architectures, such as "
            f"{next(iter(ARCHITECTURES))!r}, and {network.name!r} is a file"
        )
    if size is None and network.architecture is not None:
        size = network.architecture.size.default
    inputs = network.inputs(batch or 1, size)
    return Workload(environment, engine, reference, cores, batch or 1, size, network, inputs)


def _engine(environment: Environment, engines: Mapping[str, str]) -> tuple[Engine, str]:
    name, _, wanted = environment.engine.partition(" ")
    if name not in engines:
        raise UnknownEnvironment(
            f"environment {environment.name!r}: unknown engine {name!r}; "
            f"expected one of {', '.join(engines)}"
        )
    engine = load_engine(engines[name])
    found = engine.version()
    if wanted and wanted != found:
        raise UnknownEnvironment(
            f"environment {environment.name!r} was described with {environment.engine}, but "
            f"{name} {found} is installed; install that one, or describe it under a new name"
        )
    return engine, engines[name]


def _whole(environment: Environment, name: str, default: int | None, most: int) -> int | None:
    value = environment.settings.get(name, default)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise UnknownEnvironment(
            f"environment {environment.name!r}: expected a {name} from 1 to {most}, got {value!r}"
        )
    return value

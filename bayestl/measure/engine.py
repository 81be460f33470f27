"""`Engine`: a library that runs networks, with the options that it lets one set.

An engine has two halves. One lives in the parent and never imports the library:
`space`, `scopes`, `version`, `variables`. The other lives in the child process of a
measurement: `prepare` imports the library, `open` builds a session, the session runs.
Configurations are validated against `space` before the child starts, because engines
accept nonsense silently, and what a session says it does is compared with what was asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from bayestl.data.environment import Environment
from bayestl.data.measurement import Status
from bayestl.data.options import Value
from bayestl.errors import EngineError

if TYPE_CHECKING:  # numpy and pandas load where they are used: this file is in the child
    import numpy as np

    from bayestl.data.space import ConfigSpace, Configuration

ENGINES: Mapping[str, str] = {
    "onnxruntime": "bayestl.measure.engines.onnxruntime:OnnxRuntime",
    "openvino": "bayestl.measure.engines.openvino:OpenVINO",
    "torch": "bayestl.measure.engines.pytorch:PyTorch",
}
"""Engine's name -> ``module:class``. Specification files name a key, never a module."""

TOLERANCES: Mapping[str, float] = MappingProxyType(
    {
        "float64": 1e-2,
        "float32": 1e-2,
        "tf32": 1e-1,
        "float16": 1e-1,
        "bfloat16": 5e-1,
        "int8": 5e-1,
    }
)
"""Precision -> how far an output's element may be from the reference's, in its root mean square.

Deep networks with random weights reached 0.3 in bfloat16 and 0.04 in float16 (MobileNetV2,
ResNet-50); the elements of an output differ among each other by up to 1.
"""


class Scope(StrEnum):
    """How much must be built anew for a changed option to take effect."""

    EXEC = "exec"  # before the process starts, such as an environment variable
    PROCESS = "process"  # once a process
    SESSION = "session"  # when the network is loaded
    CALL = "call"  # at each inference
    HOST = "host"  # on the whole machine, such as a clock; set by root, restored afterwards


class Refusal(Exception):
    """An engine does not do what a configuration asks; `status` says which way."""

    def __init__(self, status: Status, message: str) -> None:
        super().__init__(message)
        self.status = status


class Session(Protocol):
    """A network loaded under one configuration, in a child process."""

    @property
    def effective(self) -> Mapping[str, Value | None]:
        """Option -> value as the engine reports it; an option it cannot report is left out."""
        ...

    @property
    def details(self) -> Mapping[str, Any]:
        """Further plain values about the session, for the provenance."""
        ...

    def feed(self, inputs: Mapping[str, np.ndarray]) -> None:
        """Take the inputs of every following inference, to where the engine wants them."""
        ...

    def run(self) -> None:
        """One inference, finished when this returns; nothing else, since this is timed.

        Raises
        ------
        Refusal
            If the configuration turns out not to be supported.
        """
        ...

    def outputs(self) -> Mapping[str, Any]:
        """What the last inference computed: name -> array, or what numpy makes one of."""
        ...


class Engine(Protocol):
    """A library that runs networks."""

    @property
    def name(self) -> str: ...

    @property
    def format(self) -> str:
        """``"onnx"`` where `open` is given a file's path, ``"torch"`` where an architecture."""
        ...

    @property
    def scopes(self) -> Mapping[str, Scope]:
        """Option -> scope, for every option that `space` may have."""
        ...

    @property
    def settings(self) -> Mapping[str, str]:
        """Settings of an environment that this engine understands -> what they mean.

        Those that every engine shares (cores, batch, size) are the runner's.
        """
        ...

    def version(self) -> str:
        """The installed version, without importing the library.

        Raises
        ------
        EngineUnavailable
            If the library is not installed; the message says what to install.
        """
        ...

    def space(self, environment: Environment) -> ConfigSpace:
        """The options with their domains on this machine, and the engine's own defaults."""
        ...

    def variables(self, environment: Environment, configuration: Configuration) -> dict[str, str]:
        """Environment variables that must be set before the process starts: scope `exec`.

        Raises
        ------
        UnknownEnvironment
            If a setting of the environment has a value that does not exist here.
        """
        ...

    def precision(self, configuration: Configuration) -> str:
        """What is computed in, as in `TOLERANCES`, such as ``"float32"``."""
        ...

    def prepare(self) -> None:
        """Import the library and build nothing: what follows is forked from here."""
        ...

    def open(
        self, network: str, configuration: Configuration, settings: Mapping[str, Value]
    ) -> Session:
        """The network, loaded under a valid configuration; in the child only.

        Parameters
        ----------
        network : what `format` says: the path of a file, or the name of an architecture
        configuration : valid in `space`
        settings : of the environment

        Raises
        ------
        Refusal
            If the engine does not accept the network or the configuration.
        """
        ...


def load_engine(reference: str) -> Engine:
    """The engine at ``module:class``, as the values of `ENGINES` are written."""
    module, _, name = reference.partition(":")
    try:
        return getattr(import_module(module), name)()
    except (ImportError, AttributeError, ValueError) as error:
        raise EngineError(
            f"expected an engine at 'module:class', got {reference!r}: {error}"
        ) from error

"""`Engine`: a library that runs networks, with the options that it lets one set.

An engine has two halves. One lives in the parent and never imports the library:
`space`, `scopes`, `version`. The other lives in the child process of a measurement:
`prepare` imports the library, `open` builds a session, the session runs. Configurations
are validated against `space` before the child starts, because engines accept nonsense
silently, and what a session says it does is compared with what was asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from bayestl.data.environment import Environment
from bayestl.data.measurement import Status
from bayestl.data.options import Value
from bayestl.errors import EngineError

if TYPE_CHECKING:  # numpy and pandas load where they are used: this file is in the child
    import numpy as np

    from bayestl.data.space import ConfigSpace, Configuration

ENGINES: Mapping[str, str] = {
    "onnxruntime": "bayestl.measure.onnxruntime_engine:OnnxRuntime",
}
"""Engine's name -> ``module:class``. Specification files name a key, never a module."""


class Scope(StrEnum):
    """How much must be built anew for a changed option to take effect."""

    EXEC = "exec"  # before the process starts, such as an environment variable
    PROCESS = "process"  # once a process
    SESSION = "session"  # when the network is loaded
    CALL = "call"  # at each inference


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

    def run(self, inputs: Mapping[str, np.ndarray]) -> Mapping[str, Any]:
        """The outputs of one inference: name -> array, or what numpy makes one of.

        Raises
        ------
        Refusal
            If the configuration turns out not to be supported.
        """
        ...


class Engine(Protocol):
    """A library that runs networks."""

    @property
    def name(self) -> str: ...

    @property
    def scopes(self) -> Mapping[str, Scope]:
        """Option -> scope, for every option of `space`."""
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

    def prepare(self) -> None:
        """Import the library; in the child only, before the clock of the build starts."""
        ...

    def open(self, network: Path, configuration: Configuration) -> Session:
        """The network, loaded under a valid configuration; in the child only.

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

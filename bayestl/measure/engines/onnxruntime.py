"""onnxruntime on the CPU.

onnxruntime accepts unknown keys, ``"banana"`` for a switch and -1 threads without a word,
so that nothing reaches it that `space` has not checked.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from bayestl.data.environment import Environment
from bayestl.data.measurement import Status
from bayestl.data.options import Boolean, Categorical, Integer, Ordinal, Value
from bayestl.errors import EngineUnavailable
from bayestl.measure.engine import Refusal, Scope
from bayestl.measure.machine import physical_cores

if TYPE_CHECKING:
    import numpy as np

    from bayestl.data.space import ConfigSpace, Configuration

PROVIDER = "CPUExecutionProvider"
DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino")
LEVELS = {
    "disabled": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "layout": "ORT_ENABLE_LAYOUT",
    "all": "ORT_ENABLE_ALL",
}
MODES = {"sequential": "ORT_SEQUENTIAL", "parallel": "ORT_PARALLEL"}
ENTRIES = {
    "allow_spinning": "session.intra_op.allow_spinning",
    "dynamic_block_base": "session.dynamic_block_base",
    "set_denormal_as_zero": "session.set_denormal_as_zero",
    "disable_prepacking": "session.disable_prepacking",
}


class OnnxRuntime:
    """The onnxruntime engine."""

    name = "onnxruntime"
    format = "onnx"
    settings: Mapping[str, str] = {}

    @property
    def scopes(self) -> Mapping[str, Scope]:
        return dict.fromkeys(_options(), Scope.SESSION)

    def version(self) -> str:
        if find_spec("onnxruntime") is not None:
            for distribution in DISTRIBUTIONS:
                try:
                    return installed_version(distribution)
                except PackageNotFoundError:
                    continue
        raise EngineUnavailable('onnxruntime is not installed; pip install "bayestl[onnxruntime]"')

    def space(self, environment: Environment) -> ConfigSpace:
        """The options of a CPU session.

        The domains depend on the machine, not on the environment's cores: environments
        that differ in their cores alone share one space. The default number of threads
        is what onnxruntime picks, which is the machine's physical cores even where the
        environment grants fewer.
        """
        from bayestl.data.space import ConfigSpace  # pandas, which a child never needs

        return ConfigSpace(
            _options(),
            conditions={
                "inter_op_num_threads": 'execution_mode == "parallel"',
                "enable_mem_pattern": 'execution_mode == "sequential"',
                "allow_spinning": "intra_op_num_threads > 1",
                "dynamic_block_base": "intra_op_num_threads > 1",
            },
        )

    def variables(self, environment: Environment, configuration: Configuration) -> dict[str, str]:
        return {}

    def precision(self, configuration: Configuration) -> str:
        return "float32"

    def prepare(self) -> None:
        try:
            import onnxruntime  # noqa: F401
        except ImportError as error:
            raise EngineUnavailable(f"onnxruntime cannot be imported: {error}") from error

    def open(
        self, network: str, configuration: Configuration, settings: Mapping[str, Value]
    ) -> OnnxRuntimeSession:
        return OnnxRuntimeSession(network, configuration)


class OnnxRuntimeSession:
    """A network in onnxruntime; errors of the library become a `Refusal`."""

    def __init__(self, network: str, configuration: Configuration) -> None:
        import onnxruntime

        self._ort = onnxruntime
        self._configuration = configuration
        threads = _threads()
        try:
            self._session = onnxruntime.InferenceSession(
                network, self._session_options(), providers=[PROVIDER]
            )
        except Exception as error:
            raise _refusal(error) from error
        self._outputs = [output.name for output in self._session.get_outputs()]
        self._threads_started = _threads() - threads
        providers = self._session.get_providers()
        if providers != [PROVIDER]:
            raise Refusal(Status.UNSUPPORTED, f"asked for {PROVIDER}, onnxruntime uses {providers}")

    def _session_options(self) -> Any:
        options = self._ort.SessionOptions()
        options.log_severity_level = 3  # errors: each warning would cost time and says nothing new
        for name, value in self._configuration.items():
            match name, value:
                case _, None:
                    continue
                case "execution_mode", str():
                    options.execution_mode = getattr(self._ort.ExecutionMode, MODES[value])
                case "graph_optimization_level", str():
                    level = getattr(self._ort.GraphOptimizationLevel, LEVELS[value])
                    options.graph_optimization_level = level
                case str(), _ if name in ENTRIES:
                    options.add_session_config_entry(ENTRIES[name], str(int(value)))
                case _:
                    setattr(options, name, value)
        return options

    @property
    def effective(self) -> Mapping[str, Value | None]:
        options = self._session.get_session_options()
        return {
            name: None if value is None else self._read(options, name)
            for name, value in self._configuration.items()
        }

    def _read(self, options: Any, name: str) -> Value:
        if name in ENTRIES:
            number = int(options.get_session_config_entry(ENTRIES[name]))
            return number if name == "dynamic_block_base" else bool(number)
        value = getattr(options, name)
        if name == "execution_mode":
            return next(text for text, known in MODES.items() if known == value.name)
        if name == "graph_optimization_level":
            return next(text for text, known in LEVELS.items() if known == value.name)
        return value

    @property
    def details(self) -> Mapping[str, Any]:
        return {
            "onnxruntime": self._ort.__version__,
            "providers": self._session.get_providers(),
            "threads_started": self._threads_started,
        }

    def feed(self, inputs: Mapping[str, np.ndarray]) -> None:
        self._inputs = dict(inputs)

    def run(self) -> None:
        try:
            self._values = self._session.run(None, self._inputs)
        except Exception as error:
            raise _refusal(error) from error

    def outputs(self) -> Mapping[str, Any]:
        return dict(zip(self._outputs, self._values, strict=True))


def _options() -> dict[str, Integer | Ordinal | Categorical | Boolean]:
    cores = physical_cores()
    most = max(4, os.cpu_count() or 1)
    return {
        "intra_op_num_threads": Integer(
            1, most, log=True, default=cores, doc="threads that share the work of one operator"
        ),
        "execution_mode": Categorical(
            tuple(MODES), doc="operators one after another, or independent ones at once"
        ),
        # with one such thread onnxruntime goes back to sequential execution, without a word
        "inter_op_num_threads": Integer(
            2, most, log=True, default=max(2, cores), doc="operators that may run at once"
        ),
        "graph_optimization_level": Ordinal(
            tuple(LEVELS), default="all", doc="how far the graph is rewritten before it runs"
        ),
        "enable_cpu_mem_arena": Boolean(True, doc="keep memory between calls in an arena"),
        "enable_mem_pattern": Boolean(True, doc="plan all activations as one block"),
        "enable_mem_reuse": Boolean(True, doc="let activations share memory"),
        "allow_spinning": Boolean(True, doc="threads spin for work before they sleep"),
        "dynamic_block_base": Ordinal(
            (0, 2, 4, 8, 16), doc="share work in shrinking blocks; 0 shares it evenly at once"
        ),
        "set_denormal_as_zero": Boolean(False, doc="flush denormal numbers to zero"),
        "disable_prepacking": Boolean(False, doc="leave weights in the layout of the file"),
    }


def _threads() -> int:
    return len(os.listdir("/proc/self/task"))


def _refusal(error: Exception) -> Exception:
    """What an error of the library says about the configuration."""
    kind = type(error).__name__
    if kind == "NotImplemented":
        return Refusal(Status.UNSUPPORTED, f"onnxruntime: {error}")
    if kind in ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoSuchFile"):
        return Refusal(Status.INVALID, f"onnxruntime: {error}")
    return error

"""onnxruntime on the CPU, and on an NVIDIA GPU where its build has the provider.

onnxruntime accepts unknown keys, ``"banana"`` for a switch and -1 threads without a word,
so that nothing reaches it that `space` has not checked; where CUDA is missing it falls back
to the CPU, which is told apart here.
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
from bayestl.errors import EngineUnavailable, UnknownEnvironment
from bayestl.measure.engine import Refusal, Scope
from bayestl.measure.machine import physical_cores

if TYPE_CHECKING:
    import numpy as np

    from bayestl.data.space import ConfigSpace, Configuration

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
GPU_MEMORY = "cuda"
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
    settings: Mapping[str, str] = {"device": "'cpu', or a GPU as 'cuda' or 'cuda:1'"}

    @property
    def scopes(self) -> Mapping[str, Scope]:
        return dict.fromkeys([*_options(), *_cuda_options()], Scope.SESSION)

    def version(self) -> str:
        if find_spec("onnxruntime") is not None:
            for distribution in DISTRIBUTIONS:
                try:
                    return installed_version(distribution)
                except PackageNotFoundError:
                    continue
        raise EngineUnavailable(
            'onnxruntime is not installed; in the checkout of bayestl: pip install ".[onnxruntime]"'
        )

    def space(self, environment: Environment) -> ConfigSpace:
        """The options of a session: of the provider, on a GPU as well.

        The domains depend on the machine, not on the environment's cores: environments
        that differ in their cores alone share one space. The default number of threads
        is what onnxruntime picks, which is the machine's physical cores even where the
        environment grants fewer.
        """
        from bayestl.data.space import ConfigSpace  # pandas, which a child never needs

        on_gpu = gpu_of(environment.settings) is not None
        return ConfigSpace(
            {**_options(), **(_cuda_options() if on_gpu else {})},
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
        return "tf32" if configuration.get("use_tf32") else "float32"

    def prepare(self) -> None:
        try:
            import onnxruntime  # noqa: F401
        except ImportError as error:
            raise EngineUnavailable(f"onnxruntime cannot be imported: {error}") from error

    def open(
        self, network: str, configuration: Configuration, settings: Mapping[str, Value]
    ) -> OnnxRuntimeSession:
        return OnnxRuntimeSession(network, configuration, gpu_of(settings))


def gpu_of(settings: Mapping[str, Value]) -> int | None:
    """The number of the GPU that an environment asks for; None for the CPU.

    Raises
    ------
    UnknownEnvironment
        If the device is none that this engine knows.
    """
    device = str(settings.get("device", "cpu"))
    kind, _, number = device.partition(":")
    if device == "cpu":
        return None
    if kind != "cuda" or not (number.isdecimal() or device == "cuda"):
        raise UnknownEnvironment(f"expected device 'cpu', 'cuda' or 'cuda:1', got {device!r}")
    return int(number or 0)


class OnnxRuntimeSession:
    """A network in onnxruntime; errors of the library become a `Refusal`.

    On a GPU inputs and outputs stay there (I/O binding), and an inference has ended when
    its outputs are complete.
    """

    def __init__(self, network: str, configuration: Configuration, gpu: int | None) -> None:
        import onnxruntime

        self._ort = onnxruntime
        self._configuration, self._gpu = configuration, gpu
        wanted = CPU if gpu is None else CUDA
        if wanted not in onnxruntime.get_available_providers():
            raise Refusal(Status.UNSUPPORTED, f"this build of onnxruntime has no {wanted}")
        threads = _threads()
        try:
            self._session = onnxruntime.InferenceSession(
                network, self._session_options(), providers=self._providers()
            )
        except Exception as error:
            raise _refusal(error) from error
        self._outputs = [output.name for output in self._session.get_outputs()]
        self._threads_started = _threads() - threads
        providers = self._session.get_providers()
        if providers[0] != wanted:
            raise Refusal(Status.UNSUPPORTED, f"asked for {wanted}, onnxruntime uses {providers}")

    def _providers(self) -> list[Any]:
        if self._gpu is None:
            return [CPU]
        asked = {k: v for k, v in self._configuration.items() if k in _cuda_options()}
        plain = {k: str(int(v)) if isinstance(v, bool) else str(v) for k, v in asked.items()}
        return [(CUDA, {"device_id": str(self._gpu), **plain}), CPU]

    def _session_options(self) -> Any:
        options = self._ort.SessionOptions()
        options.log_severity_level = 3  # errors: each warning would cost time and says nothing new
        for name, value in self._configuration.items():
            match name, value:
                case _, None:
                    continue
                case str(), _ if name in _cuda_options():
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
        if name in _cuda_options():
            text = self._session.get_provider_options()[CUDA][name]
            return bool(int(text)) if isinstance(_cuda_options()[name], Boolean) else text
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
        if self._gpu is None:
            return
        self._binding = self._session.io_binding()
        for name, array in inputs.items():
            there = self._ort.OrtValue.ortvalue_from_numpy(array, GPU_MEMORY, self._gpu)
            self._binding.bind_ortvalue_input(name, there)
        for name in self._outputs:
            self._binding.bind_output(name, GPU_MEMORY, self._gpu)

    def run(self) -> None:
        try:
            if self._gpu is None:
                self._values = self._session.run(None, self._inputs)
            else:
                self._session.run_with_iobinding(self._binding)
                self._binding.synchronize_outputs()
        except Exception as error:
            raise _refusal(error) from error

    def outputs(self) -> Mapping[str, Any]:
        values = self._values if self._gpu is None else self._binding.copy_outputs_to_cpu()
        return dict(zip(self._outputs, values, strict=True))


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


def _cuda_options() -> dict[str, Categorical | Boolean]:
    """Those of the CUDA provider that change time; with its own defaults."""
    return {
        "cudnn_conv_algo_search": Categorical(
            ("EXHAUSTIVE", "HEURISTIC", "DEFAULT"), doc="how cuDNN's convolution is chosen"
        ),
        "cudnn_conv_use_max_workspace": Boolean(True, doc="let cuDNN use all the memory it likes"),
        "use_tf32": Boolean(True, doc="round float32 factors of products to TF32"),
        "prefer_nhwc": Boolean(False, doc="images lie in memory with their channels last"),
        "enable_cuda_graph": Boolean(False, doc="capture an inference, and replay it"),
        "arena_extend_strategy": Categorical(
            ("kNextPowerOfTwo", "kSameAsRequested"), doc="how the GPU's memory arena grows"
        ),
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

"""OpenVINO on the CPU.

OpenVINO refuses unknown keys but clamps values in silence: 99 threads become as many as
there are cores, and a precision that the processor has not becomes another. So domains
end at what the environment grants, and every option is read back.

`performance_hint` and `execution_mode` are no options here: they choose `num_streams`,
`inference_num_threads` and `inference_precision`, and do nothing where those are given.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from bayestl.data.environment import Environment
from bayestl.data.measurement import Status
from bayestl.data.options import Boolean, Categorical, Integer, Option, Value
from bayestl.errors import EngineUnavailable
from bayestl.measure import machine
from bayestl.measure.engine import Refusal, Scope

if TYPE_CHECKING:
    import numpy as np

    from bayestl.data.space import ConfigSpace, Configuration

DEVICE = "CPU"
DISTRIBUTIONS = ("openvino", "openvino-nightly")
KEYS = {
    "inference_num_threads": "INFERENCE_NUM_THREADS",
    "num_streams": "NUM_STREAMS",
    "inference_precision": "INFERENCE_PRECISION_HINT",
    "enable_hyper_threading": "ENABLE_HYPER_THREADING",
    "enable_cpu_pinning": "ENABLE_CPU_PINNING",
    "tbb_partitioner": "TBB_PARTITIONER",
    "denormals_optimization": "CPU_DENORMALS_OPTIMIZATION",
}
PRECISIONS = {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}

ISA_VARIABLE = "ONEDNN_MAX_CPU_ISA"

EXHAUSTED = (
    *("bad_alloc", "can't alloc", "Failed to allocate", "Cannot allocate memory"),
    *("failed to map segment", "Resource temporarily unavailable"),
)
"""What messages say where memory ran out: for data, for code, for a library or for a thread."""

UNSUPPORTED = ("No conversion rule found", "not supported", "nsupported", "not implemented")


class OpenVINO:
    """The OpenVINO engine."""

    name = "openvino"
    format = "onnx"
    settings: Mapping[str, str] = {
        "isa": f"the best instruction set that may be used, such as 'AVX2' ({ISA_VARIABLE})"
    }

    @property
    def scopes(self) -> Mapping[str, Scope]:
        return dict.fromkeys(KEYS, Scope.SESSION)

    def version(self) -> str:
        if find_spec("openvino") is not None:
            for distribution in DISTRIBUTIONS:
                try:
                    return installed_version(distribution)
                except PackageNotFoundError:
                    continue
        raise EngineUnavailable(
            'OpenVINO is not installed; in the checkout of bayestl: pip install ".[openvino]"'
        )

    def space(self, environment: Environment) -> ConfigSpace:
        """The options of a CPU session.

        The domains end where OpenVINO would clamp: at the environment's cores and at
        the precisions of its instruction set. The defaults are what OpenVINO picks for
        one inference at a time.
        """
        from bayestl.data.space import ConfigSpace  # pandas, which a child never needs

        cores = machine.cores_for(environment)
        physical = machine.physical_cores(cores)
        constraints = ["inference_num_threads % num_streams == 0"]  # the rest would stay idle
        if physical < len(cores):
            constraints.append(f"enable_hyper_threading or inference_num_threads <= {physical}")
        return ConfigSpace(
            _options(len(cores), physical, machine.instruction_sets(environment)),
            constraints,
            conditions={
                "enable_cpu_pinning": "inference_num_threads > 1",
                "tbb_partitioner": "inference_num_threads > num_streams",
            },
        )

    def variables(self, environment: Environment, configuration: Configuration) -> dict[str, str]:
        """The limit of instruction sets; without one oneDNN's own, whatever this process has."""
        limited = "isa" in environment.settings
        return {ISA_VARIABLE: machine.instruction_sets(environment)[-1] if limited else "DEFAULT"}

    def precision(self, configuration: Configuration) -> str:
        return PRECISIONS[str(configuration["inference_precision"])]

    def prepare(self) -> None:
        # nothing more: the CPU plugin keeps the cores of the process that loads it, so that
        # a fork with fewer cores would start too many threads
        try:
            import openvino  # noqa: F401
        except ImportError as error:
            raise EngineUnavailable(f"OpenVINO cannot be imported: {error}") from error

    def open(
        self, network: str, configuration: Configuration, settings: Mapping[str, Value]
    ) -> OpenVINOSession:
        return OpenVINOSession(network, configuration)


class OpenVINOSession:
    """A network in OpenVINO, compiled by `feed`, which knows the shapes that the file may leave
    open; errors of the library become a `Refusal`.
    """

    def __init__(self, network: str, configuration: Configuration) -> None:
        import openvino

        self._openvino = openvino
        self._configuration = configuration
        self._core = openvino.Core()
        try:
            self._model = self._core.read_model(network)
        except RuntimeError as error:
            raise _refusal(error) from error
        self._shapes_are_open = self._model.is_dynamic()

    def feed(self, inputs: Mapping[str, np.ndarray]) -> None:
        self._inputs = dict(inputs)  # the request reads the arrays where they are
        wanted = {
            KEYS[name]: str(value).upper() if name == "tbb_partitioner" else value
            for name, value in self._configuration.items()
            if value is not None
        }
        try:
            if self._shapes_are_open:
                self._model.reshape({name: list(value.shape) for name, value in inputs.items()})
            self._compiled = self._core.compile_model(self._model, DEVICE, wanted)
            self._request = self._compiled.create_infer_request()
            for name, value in inputs.items():
                self._request.set_tensor(name, self._openvino.Tensor(value, shared_memory=True))
        except RuntimeError as error:
            raise _refusal(error) from error
        devices = self._compiled.get_property("EXECUTION_DEVICES")
        if devices != [DEVICE]:
            raise Refusal(Status.UNSUPPORTED, f"asked for {DEVICE}, OpenVINO uses {devices}")

    @property
    def effective(self) -> Mapping[str, Value | None]:
        return {
            name: None if value is None else self._read(name)
            for name, value in self._configuration.items()
        }

    def _read(self, name: str) -> Value:
        value = self._compiled.get_property(KEYS[name])
        if name == "inference_precision":
            return value.to_string()
        return value.name.lower() if name == "tbb_partitioner" else value

    @property
    def details(self) -> Mapping[str, Any]:
        """`shapes` are those that it was compiled for; `isa` is the instruction set that oneDNN
        dispatches to, None where it is not told; `primitives` counts the operators by the
        kernel that runs them, such as `jit_avx2_f32`.
        """
        return {
            "openvino": self._openvino.get_version(),
            "devices": self._compiled.get_property("EXECUTION_DEVICES"),
            "shapes": {min(i.get_names()): str(i.partial_shape) for i in self._compiled.inputs},
            "isa": self._instruction_set(),
            "primitives": self._primitives(),
        }

    def _instruction_set(self) -> str | None:
        if "RUNTIME_REQUIREMENTS" not in self._compiled.get_property("SUPPORTED_PROPERTIES"):
            return None
        entries = self._compiled.get_property("RUNTIME_REQUIREMENTS").split(";")
        return next((entry[4:] for entry in entries if entry.startswith("isa=")), None)

    def _primitives(self) -> dict[str, int]:
        operators = (op.get_rt_info() for op in self._compiled.get_runtime_model().get_ops())
        counted = Counter(
            operator["primitiveType"].value
            for operator in operators
            if operator["layerType"].value not in ("Const", "Input", "Output")
        )
        return dict(sorted(counted.items()))

    def run(self) -> None:
        try:
            self._request.infer(share_outputs=True)
        except RuntimeError as error:
            raise _refusal(error) from error

    def outputs(self) -> Mapping[str, Any]:
        # a tensor may have further names, in no order
        return {
            min(port.get_names()): self._request.get_tensor(port).data.copy()
            for port in self._compiled.outputs
        }


def _options(cores: int, physical: int, instruction_sets: tuple[str, ...]) -> dict[str, Option]:
    return {
        "inference_num_threads": Integer(
            1, cores, log=True, default=physical, doc="threads, of all streams together"
        ),
        "num_streams": Integer(
            1, cores, log=True, doc="equal parts of the threads; an inference runs in one"
        ),
        "inference_precision": _precisions(instruction_sets),
        "enable_hyper_threading": (
            Boolean(False, doc="use both threads of a core")
            if physical < cores
            else Categorical((False,), doc="use both threads of a core, which none has here")
        ),
        "enable_cpu_pinning": Boolean(True, doc="bind each thread to a core"),
        "tbb_partitioner": Categorical(
            ("static", "auto"), doc="share the work of an operator evenly at once, or by stealing"
        ),
        "denormals_optimization": Boolean(False, doc="flush denormal numbers to zero"),
    }


def _precisions(instruction_sets: tuple[str, ...]) -> Categorical:
    """The types that OpenVINO computes in on such a processor.

    As its CPU plugin decides (utils/precision_support.cpp, config.cpp): bfloat16 needs
    AVX-512, where it is emulated unless the processor has it, and only then is the default.
    """
    has, choices, default = set(instruction_sets), ["f32"], "f32"
    neon = "asimdhp" in machine.processor_flags()
    if has & {"AVX512_CORE", "AVX2_VNNI_2"}:
        choices.append("bf16")
    if has & {"AVX512_CORE_FP16", "AVX2_VNNI_2"} or neon:
        choices.append("f16")
    if "AVX512_CORE_BF16" in has:
        default = "bf16"
    elif neon:
        default = "f16"
    return Categorical(tuple(choices), default=default, doc="what is computed in")


def _refusal(error: RuntimeError) -> Exception:
    """What an error of the library, which knows one kind only, says about the configuration."""
    text = f"OpenVINO: {' '.join(str(error).split())}"
    if any(sign in text for sign in EXHAUSTED):
        return MemoryError(text)
    if any(sign in text for sign in UNSUPPORTED):
        return Refusal(Status.UNSUPPORTED, text)
    return Refusal(Status.INVALID, text)

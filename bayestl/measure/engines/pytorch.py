"""PyTorch on the CPU and on CUDA devices.

It runs architectures (see `architectures.py`), built where they are measured. Nothing
here may touch CUDA before the fork that measures: a forked process cannot use a CUDA
context of its parent.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from bayestl.data.environment import Environment
from bayestl.data.measurement import Status
from bayestl.data.options import Boolean, Categorical, Integer, Option, Value
from bayestl.errors import EngineUnavailable, NetworkError, UnknownEnvironment
from bayestl.measure import machine
from bayestl.measure.architectures import ARCHITECTURES, build
from bayestl.measure.engine import Refusal, Scope

if TYPE_CHECKING:
    import numpy as np
    import torch

    from bayestl.data.space import ConfigSpace, Configuration

DEVICE = re.compile(r"cpu|cuda(:\d{1,3})?")
PROCESS_OPTIONS = ("threads", "flush_denormal")

ISA_VARIABLES = ("ATEN_CPU_CAPABILITY", "MKL_ENABLE_INSTRUCTIONS")
"""What limits torch's own kernels and MKL's, beside ONEDNN_MAX_CPU_ISA for oneDNN's."""

ISA_VALUES: Mapping[str, tuple[str, str]] = {
    "SSE41": ("default", "SSE4_2"),
    "AVX": ("default", "AVX"),
    "AVX2": ("avx2", "AVX2"),
    "AVX512": ("avx512", "AVX512"),
}
"""How a name of `machine.INSTRUCTION_SETS` begins -> the values of `ISA_VARIABLES`."""

ATTENTION = {
    "math": "enable_math_sdp",
    "flash": "enable_flash_sdp",
    "efficient": "enable_mem_efficient_sdp",
    "cudnn": "enable_cudnn_sdp",
}
"""Kernel of scaled dot product attention -> the switch in `torch.backends.cuda`, CPU's too."""

CAPTURE_CALLS = 3
"""Calls before a CUDA graph is captured: the first ones choose kernels and allocate."""

PROFILED_CALLS = 2
"""Calls in which TorchScript observes and then optimizes a graph."""

UNSUPPORTED = (
    *("not implemented for", "No available kernel", "No viable backend", "not supported"),
    *("not compiled with CUDA", "No CUDA GPUs", "Found no NVIDIA driver", "invalid device ordinal"),
    *("when stream is capturing", "could not create a primitive"),
)


class PyTorch:
    """The PyTorch engine."""

    name = "torch"
    format = "torch"
    settings: Mapping[str, str] = {
        "device": "'cpu', which it is unless set, or 'cuda' or 'cuda:1'",
        "isa": "the best instruction set that may be used, such as 'AVX2' (ONEDNN_MAX_CPU_ISA, "
        f"{', '.join(ISA_VARIABLES)})",
    }

    @property
    def scopes(self) -> Mapping[str, Scope]:
        options = {**_cpu_options(1, 1, ()), **_cuda_options()}
        return {
            name: Scope.PROCESS if name in PROCESS_OPTIONS else Scope.SESSION for name in options
        }

    def version(self) -> str:
        if find_spec("torch") is not None:
            with suppress(PackageNotFoundError):
                return installed_version("torch")
        raise EngineUnavailable("PyTorch is not installed; pip install torch")

    def space(self, environment: Environment) -> ConfigSpace:
        """The options on the environment's device.

        On the CPU, environments that differ in their cores alone share one space. The
        default is torch as it comes: eager, float32, and as many threads as the machine
        has physical cores.
        """
        from bayestl.data.space import ConfigSpace  # pandas, which a child never needs

        if _device(environment) != "cpu":
            exact = 'precision == "float32"'
            return ConfigSpace(
                _cuda_options(),
                conditions={
                    "matmul_tf32": exact,
                    "conv_tf32": exact,
                    "compile_mode": 'execution == "compiled"',
                },
            )
        most = max(4, os.cpu_count() or 1)
        isas = machine.instruction_sets(environment)
        return ConfigSpace(
            _cpu_options(machine.physical_cores(), most, isas),
            conditions={
                "matmul_precision": 'precision == "float32"',
                "compile_mode": 'execution == "compiled"',
                "freeze_weights": 'execution == "compiled"',
            },
        )

    def variables(self, environment: Environment, configuration: Configuration) -> dict[str, str]:
        """The limit of instruction sets, and a compiler that starts no further processes.

        CUDA devices are numbered as the driver does, which is how meters number them.
        """
        _device(environment)
        variables = {
            "TORCHINDUCTOR_COMPILE_THREADS": "1",
            "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
            "ONEDNN_MAX_CPU_ISA": "DEFAULT",  # whatever this process has
        }
        if "isa" in environment.settings:
            isa = machine.instruction_sets(environment)[-1]
            variables["ONEDNN_MAX_CPU_ISA"] = isa
            values = ISA_VALUES[isa.partition("_")[0]]
            variables |= dict(zip(ISA_VARIABLES, values, strict=True))
        return variables

    def precision(self, configuration: Configuration) -> str:
        precision = str(configuration["precision"])
        if configuration.get("matmul_precision") == "medium":
            return "bfloat16"
        if configuration.get("matmul_tf32") or configuration.get("conv_tf32"):
            return "tf32"
        return precision

    def prepare(self) -> None:
        try:
            import torch  # noqa: F401

            if find_spec("transformers") is not None:
                import transformers.modeling_utils  # noqa: F401  # seconds, paid for once
        except ImportError as error:
            raise EngineUnavailable(f"PyTorch cannot be imported: {error}") from error

    def open(
        self, network: str, configuration: Configuration, settings: Mapping[str, Value]
    ) -> PyTorchSession:
        return PyTorchSession(network, configuration, str(settings.get("device", "cpu")))


class PyTorchSession:
    """An architecture in PyTorch; `feed` traces, compiles or captures it for its inputs."""

    def __init__(self, network: str, configuration: Configuration, device: str) -> None:
        import torch

        self._torch = torch
        self._configuration = configuration
        self._device = device
        self._compile_s: float | None = None
        execution = configuration["execution"]
        if execution == "compiled":
            _require_compiler(device)
        # what threads inherit comes before the first of them, what changes numbers after
        # the weights
        if "threads" in configuration:
            torch.set_num_threads(_whole(configuration["threads"]))
            torch.set_flush_denormal(bool(configuration["flush_denormal"]))
        try:
            self._architecture = ARCHITECTURES.get(network)
            self._network = build(network)
            self._switch()
            self._network.to(device=device, dtype=self._dtype)
            self._network.to(memory_format=self._layout)  # pyright: ignore[reportCallIssue]  # documented
        except NetworkError as error:
            raise Refusal(Status.INVALID, str(error)) from error
        except Exception as error:
            raise _refusal(error) from error
        self._call: Callable[..., torch.Tensor] = self._network

    @property
    def _dtype(self) -> torch.dtype:
        return getattr(self._torch, str(self._configuration["precision"]))

    @property
    def _layout(self) -> torch.memory_format:
        last = self._configuration["channels_last"]
        return self._torch.channels_last if last else self._torch.contiguous_format

    @property
    def _on_cuda(self) -> bool:
        return self._device != "cpu"

    def _switch(self) -> None:
        """Set torch's global switches; nothing else runs in this process."""
        backends, configuration = self._torch.backends, self._configuration
        wanted = configuration["attention"]
        for kernel, switch in ATTENTION.items():
            getattr(backends.cuda, switch)(wanted in ("auto", kernel))
        # the older switches of float32: with the newer ones, `fp32_precision`, Inductor fails
        if self._on_cuda:
            backends.cudnn.benchmark = bool(configuration["cudnn_benchmark"])
            backends.cuda.matmul.allow_tf32 = bool(configuration["matmul_tf32"])
            backends.cudnn.allow_tf32 = bool(configuration["conv_tf32"])
            return
        backends.mkldnn.enabled = bool(configuration["onednn"])
        self._torch.set_float32_matmul_precision(
            str(configuration["matmul_precision"] or "highest")
        )

    @property
    def effective(self) -> Mapping[str, Value | None]:
        found = {"precision": str(self._weight().dtype).partition(".")[2]} | self._switches()
        layout = self._layout_of_weights()
        if layout is not None:
            found["channels_last"] = layout
        if self._configuration["execution"] == "compiled" and not self._compiled()["unique_graphs"]:
            found["execution"] = "eager"
        return {
            name: None if value is None else found[name]
            for name, value in self._configuration.items()
            if name in found
        }

    def _switches(self) -> dict[str, Value]:
        torch, backends = self._torch, self._torch.backends
        enabled = [
            kernel
            for kernel, switch in ATTENTION.items()
            if getattr(backends.cuda, switch.replace("enable_", "") + "_enabled")()
        ]
        found: dict[str, Value] = {"attention": enabled[0] if len(enabled) == 1 else "auto"}
        if self._on_cuda:
            found["cudnn_benchmark"] = backends.cudnn.benchmark
            found["matmul_tf32"] = backends.cuda.matmul.allow_tf32
            found["conv_tf32"] = backends.cudnn.allow_tf32
            return found
        found["threads"] = torch.get_num_threads()
        found["flush_denormal"] = not (torch.tensor([1e-40]) * 1).item()  # there is no getter
        found["onednn"] = backends.mkldnn.enabled
        found["matmul_precision"] = torch.get_float32_matmul_precision()
        return found

    def _weight(self) -> torch.Tensor:
        return next(iter(self._network.parameters()))

    def _layout_of_weights(self) -> bool | None:
        """Whether a weight of a convolution lies channels last; None where no weight can tell."""
        for weight in self._network.parameters():
            if weight.ndim == 4 and weight.shape[1] > 1 and weight[0, 0].numel() > 1:
                return not weight.is_contiguous()
        return None

    @property
    def details(self) -> Mapping[str, Any]:
        """`compile_s` is the part of the build that tracing, compiling or capturing took; a
        compiled network may still run in parts, each of `graph_breaks` between two of them.
        """
        torch, backends = self._torch, self._torch.backends
        found: dict[str, Any] = {
            "torch": torch.__version__,
            "device": self._device,
            "compile_s": self._compile_s,
            "cpu_capability": backends.cpu.get_cpu_capability(),
        }
        if self._configuration["execution"] == "compiled":
            found |= self._compiled()
        if self._on_cuda:
            found |= {
                "device_name": torch.cuda.get_device_name(self._device),
                "capability": ".".join(map(str, torch.cuda.get_device_capability(self._device))),
                "cuda": torch.version.cuda,
                "cudnn": backends.cudnn.version(),
                "driver": machine.read_text("/sys/module/nvidia/version"),
                "peak_device_mib": torch.cuda.max_memory_allocated(self._device) / machine.MIB,
            }
        return found

    def _compiled(self) -> dict[str, int]:
        from torch._dynamo.utils import counters

        breaks = sum(counters["graph_break"].values())
        return {"unique_graphs": counters["stats"]["unique_graphs"], "graph_breaks": breaks}

    def feed(self, inputs: Mapping[str, np.ndarray]) -> None:
        torch = self._torch
        try:
            tensors = [torch.from_numpy(value) for value in inputs.values()]
            self._inputs = tuple(
                t.to(self._device, self._dtype if t.is_floating_point() else t.dtype)
                .contiguous(memory_format=self._layout if t.ndim == 4 else torch.contiguous_format)
                for t in tensors
            )  # fmt: skip
            with warnings.catch_warnings(), torch.inference_mode(), _fresh_compiler_cache():
                # that tracing is deprecated, and that it fixes what is fixed here anyway
                warnings.simplefilter("ignore")
                self._lower()
        except Exception as error:
            raise _refusal(error) from error

    def _lower(self) -> None:
        """Make `_call` of the network, ready to be timed."""
        execution = str(self._configuration["execution"])
        if execution == "compiled":
            from torch._inductor import config  # imported before the clock starts

            config.freezing = bool(self._configuration.get("freeze_weights"))
            config.cpp_cache_precompile_headers = False  # kept outside the cache, for good
        started = time.perf_counter()
        match execution:
            case "eager":
                return
            case "captured":
                self._call = self._captured()
            case "compiled":
                mode = str(self._configuration["compile_mode"])
                self._call = self._torch.compile(self._network, dynamic=False, mode=mode)
                self._call(*self._inputs)
            case _:
                self._call = self._scripted(execution)
                for _ in range(PROFILED_CALLS):
                    self._call(*self._inputs)
        self._wait()
        self._compile_s = time.perf_counter() - started

    def _scripted(self, execution: str) -> Callable[..., torch.Tensor]:
        jit = self._torch.jit
        graph: Any = jit.trace(self._network, self._inputs, check_trace=False)
        if execution == "traced":
            return graph
        frozen = jit.freeze(graph)
        return frozen if execution == "frozen" else jit.optimize_for_inference(frozen)

    def _captured(self) -> Callable[..., torch.Tensor]:
        """A CUDA graph of one call, on the inputs that are there."""
        cuda = self._torch.cuda
        side = cuda.Stream(self._device)
        side.wait_stream(cuda.current_stream(self._device))
        with cuda.stream(side):
            for _ in range(CAPTURE_CALLS):
                self._network(*self._inputs)
        cuda.current_stream(self._device).wait_stream(side)
        graph = cuda.CUDAGraph()
        with cuda.device(self._device), cuda.graph(graph):
            value = self._network(*self._inputs)

        def replay(*inputs: torch.Tensor) -> torch.Tensor:
            graph.replay()
            return value

        return replay

    def run(self) -> None:
        try:
            with self._torch.inference_mode():
                self._value = self._call(*self._inputs)
            self._wait()
        except Exception as error:
            raise _refusal(error) from error

    def _wait(self) -> None:
        if self._on_cuda:
            self._torch.cuda.synchronize(self._device)

    def outputs(self) -> Mapping[str, Any]:
        assert self._architecture is not None  # else it could not be built
        return {self._architecture.output: self._value.float().cpu().numpy()}


def _device(environment: Environment) -> str:
    device = environment.settings.get("device", "cpu")
    if not isinstance(device, str) or not DEVICE.fullmatch(device):
        raise UnknownEnvironment(
            f"environment {environment.name!r}: expected the device 'cpu', 'cuda' or such as "
            f"'cuda:1', got {device!r}"
        )
    return device


def _shared_options(attention: tuple[str, ...], execution: tuple[str, ...]) -> dict[str, Option]:
    return {
        "precision": Categorical(
            ("float32", "bfloat16", "float16"), doc="type of the weights and the activations"
        ),
        "channels_last": Boolean(False, doc="images lie in memory with their channels last"),
        "attention": Categorical(("auto", *attention), doc="kernel of attention"),
        "execution": Categorical(
            execution,
            doc="eager, or a graph that is traced, then frozen, then optimized for inference "
            "(TorchScript), compiled (Inductor), or captured (CUDA)",
        ),
    }


def _cpu_options(cores: int, most: int, isas: tuple[str, ...]) -> dict[str, Option]:
    # elsewhere oneDNN computes in float32 and says nothing
    rounds = any("BF16" in isa or "AMX" in isa for isa in isas)
    execution = ("eager", "traced", "frozen", "optimized", "compiled")
    return {
        "threads": Integer(1, most, log=True, default=min(cores, most), doc="threads of each op"),
        **_shared_options(("math", "flash"), execution),
        "matmul_precision": Categorical(
            ("highest", "medium") if rounds else ("highest",),
            doc="medium: round float32 factors of products to bfloat16",
        ),
        "onednn": Boolean(True, doc="use oneDNN's kernels where there are any"),
        "flush_denormal": Boolean(False, doc="flush denormal numbers to zero"),
        "compile_mode": Categorical(
            ("default", "max-autotune-no-cudagraphs"), doc="how long Inductor searches for kernels"
        ),
        "freeze_weights": Boolean(False, doc="Inductor takes weights for constants and packs them"),
    }


def _cuda_options() -> dict[str, Option]:
    execution = ("eager", "captured", "traced", "frozen", "compiled")
    return {
        **_shared_options(tuple(ATTENTION), execution),
        "matmul_tf32": Boolean(False, doc="round float32 factors of products to TF32"),
        "conv_tf32": Boolean(True, doc="round float32 factors of convolutions to TF32"),
        "cudnn_benchmark": Boolean(False, doc="try cuDNN's algorithms and keep the fastest"),
        "compile_mode": Categorical(
            ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"),
            doc="how long Inductor searches for kernels, and whether it captures CUDA graphs",
        ),
    }


def _whole(value: Value | None) -> int:
    assert isinstance(value, int)  # the space has checked it
    return value


def _require_compiler(device: str) -> None:
    """Raise unless Inductor finds what it compiles with."""
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        raise Refusal(
            Status.UNSUPPORTED, f"torch.compile needs a C++ compiler; {compiler} is not on the path"
        )
    if device != "cpu" and find_spec("triton") is None:
        raise Refusal(Status.UNSUPPORTED, "torch.compile needs triton on CUDA, not installed here")


@contextmanager
def _fresh_compiler_cache() -> Iterator[None]:
    """An empty cache for Inductor, removed afterwards: else a second measurement compiles less."""
    with tempfile.TemporaryDirectory(prefix="bayestl-inductor-") as folder:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
        try:
            yield
        finally:
            del os.environ["TORCHINDUCTOR_CACHE_DIR"]


def _refusal(error: Exception) -> Exception:
    """What an error of the library says about the configuration."""
    text = f"PyTorch: {' '.join(str(error).split())}"
    if "out of memory" in text:
        return error
    compiling = type(error).__module__.startswith(("torch._dynamo", "torch._inductor"))
    if compiling or isinstance(error, NotImplementedError) or any(t in text for t in UNSUPPORTED):
        return Refusal(Status.UNSUPPORTED, text)
    return error

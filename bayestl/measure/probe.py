"""What can be measured on this machine, and how far it can be trusted."""

from __future__ import annotations

import hashlib
import json
import statistics
import subprocess
import time
from dataclasses import asdict, dataclass
from typing import Any

from bayestl.errors import EngineError, NetworkError
from bayestl.measure import machine
from bayestl.measure.engine import ENGINES, load_engine
from bayestl.measure.isolation import module_command
from bayestl.measure.meter import Meter
from bayestl.measure.meters.process import CpuTime, PeakMemory, WallClock
from bayestl.measure.networks import SHIPPED, find_network

NEAR_NS, FAR_NS = 300.0, 420.0
"""One way of a cache line under this interpreter: below is near, above is far."""

NOISE_S, NOISE_STEP_BYTES = 1.0, 8 * machine.MIB
NOISY_PERCENT = 5.0
PLACEMENT_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Part:
    """An engine, a meter or a network: whether it works here, as which version, or why not."""

    name: str
    works: bool
    detail: str


@dataclass(frozen=True)
class Placement:
    """How near two cores are; `regime` is ``near``, ``far``, ``between`` or ``unknown``."""

    cores: tuple[int, int] | None
    bounce_ns: float | None
    regime: str


@dataclass(frozen=True)
class Noise:
    """How much a fixed piece of work on one thread varies, in % of its mean."""

    wall_percent: float
    cpu_percent: float
    repeats: int


@dataclass(frozen=True)
class Probe:
    """What was found; `advice` has one sentence for each thing that could be better."""

    processor: str
    flags: tuple[str, ...]
    kernel: str
    physical_cores: int
    cores: str
    governor: str | None
    memory_mib: dict[str, float | None]
    load: dict[str, Any]
    engines: tuple[Part, ...]
    meters: tuple[Part, ...]
    networks: tuple[Part, ...]
    placement: Placement
    noise: Noise
    advice: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The findings as plain JSON values."""
        return asdict(self)


def probe() -> Probe:
    """The findings on this machine, in about two seconds."""
    load, cores = machine.load(), machine.available_cores()
    engines, placement, noise = probe_engines(), probe_placement(cores), probe_noise()
    governor, memory = machine.governor(cores[0]), machine.memory_mib()
    return Probe(
        processor=machine.processor(),
        flags=machine.processor_flags(),
        kernel=machine.hardware()["kernel"],
        physical_cores=machine.physical_cores(),
        cores=machine.format_cores(cores),
        governor=governor,
        memory_mib=memory,
        load=load,
        engines=engines,
        meters=probe_meters(),
        networks=probe_networks(),
        placement=placement,
        noise=noise,
        advice=tuple(_advice(load, cores, governor, engines, placement, noise)),
    )


def probe_engines() -> tuple[Part, ...]:
    """Each engine with its version, or what to install."""
    parts = []
    for name, reference in ENGINES.items():
        try:
            parts.append(Part(name, True, load_engine(reference).version()))
        except EngineError as error:
            parts.append(Part(name, False, str(error)))
    return tuple(parts)


def probe_meters() -> tuple[Part, ...]:
    """Each meter, tried once."""
    meters: dict[str, Meter] = {
        "wall clock": WallClock(),
        "CPU time": CpuTime(),
        "peak memory": PeakMemory(),
    }
    parts = []
    for name, meter in meters.items():
        meter.open()
        meter.begin()
        reading = meter.end()
        parts.append(Part(name, reading.value is not None, f"{reading.source} [{reading.unit}]"))
    return tuple(parts)


def probe_networks() -> tuple[Part, ...]:
    """Each network that ships in a package, with its inputs, or what is missing."""
    parts = []
    for name in SHIPPED:
        try:
            parts.append(Part(name, True, ", ".join(map(str, find_network(name).inputs(1)))))
        except NetworkError as error:
            parts.append(Part(name, False, str(error)))
    return tuple(parts)


def probe_placement(cores: tuple[int, ...]) -> Placement:
    """How near the first two cores are to each other now."""
    if len(cores) < 2:
        return Placement(None, None, "unknown")
    pair = cores[0], cores[1]
    command, environment = module_command("bayestl.measure.placement", *map(str, pair))
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=PLACEMENT_TIMEOUT_S, check=True, env=environment
        )
        blocks = sorted(json.loads(done.stdout))
    except (subprocess.SubprocessError, OSError, ValueError):
        return Placement(pair, None, "unknown")
    bounce = blocks[len(blocks) // 4]
    regime = "near" if bounce < NEAR_NS else "far" if bounce > FAR_NS else "between"
    return Placement(pair, bounce, regime)


def probe_noise() -> Noise:
    """How much hashing 8 MiB varies, repeated for a second."""
    data, walls, cpus = bytes(NOISE_STEP_BYTES), [], []
    end = time.perf_counter() + NOISE_S
    while time.perf_counter() < end or len(walls) < 5:
        wall, cpu = time.perf_counter(), time.thread_time()
        hashlib.sha256(data).digest()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.thread_time() - cpu)
    return Noise(_variation(walls), _variation(cpus), len(walls))


def _variation(times: list[float]) -> float:
    """The coefficient of variation in %."""
    return 100 * statistics.stdev(times) / statistics.mean(times)


def _advice(
    load: dict[str, Any],
    cores: tuple[int, ...],
    governor: str | None,
    engines: tuple[Part, ...],
    placement: Placement,
    noise: Noise,
) -> list[str]:
    advice = []
    if not any(engine.works for engine in engines):
        advice.append('No engine works here: pip install "bayestl[onnxruntime]".')
    if load["load_average"] > 0.5:
        advice.append(
            f"The load average is {load['load_average']:g}: other programs run here; stop them, or "
            "expect noise."
        )
    if noise.wall_percent > NOISY_PERCENT:
        advice.append(
            f"Fixed work varies by {noise.wall_percent:.0f} % (its CPU time by "
            f"{noise.cpu_percent:.0f} %): repeat measurements, and consider cpu_time as the metric."
        )
    if governor not in (None, "performance"):
        advice.append(
            f"The frequency governor is {governor!r}: 'performance' makes latencies repeatable "
            "(cpupower frequency-set -g performance, as root)."
        )
    if placement.regime in ("far", "between"):
        advice.append(
            f"A cache line takes {placement.bounce_ns:.0f} ns between cores {placement.cores}: "
            "configurations with several threads may be slower now than at other times."
        )
    if len(cores) < 2:
        advice.append("One core is available: an environment cannot be restricted to fewer.")
    return advice

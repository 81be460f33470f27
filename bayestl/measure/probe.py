"""What can be measured on this machine, and how far it can be trusted."""

from __future__ import annotations

import hashlib
import math
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bayestl.data.environment import Environment
from bayestl.data.measurement import Measurement, Status
from bayestl.errors import BayestlError, EngineError, NetworkError
from bayestl.measure import machine
from bayestl.measure.architectures import ARCHITECTURES
from bayestl.measure.disturbance import use_of
from bayestl.measure.engine import ENGINES, load_engine
from bayestl.measure.meter import METERS, Meter, load_meter
from bayestl.measure.meters.process import CpuTime, PeakMemory, WallClock
from bayestl.measure.networks import SHIPPED, find_network
from bayestl.measure.placement import regime
from bayestl.measure.runner import LocalRunner
from bayestl.measure.zygote import Zygote, bounced

NOISE_S, NOISE_STEP_BYTES = 1.0, 8 * machine.MIB
NOISY_PERCENT = 5.0
BUSY = 0.5
"""A load average above this is other programs' work."""

TRY_S = 0.3
"""The longest window over which a meter is tried."""

LOCK_S = 10.0
"""How long the repeats wait for another measurement on this machine."""

REPEATED: Mapping[str, str] = {"onnx": "squeezenet", "torch": "mobilenet_v2"}
"""Engine's format -> the network whose repeats show the noise."""


@dataclass(frozen=True)
class Part:
    """An engine, a device, a meter or a network: as which version it works here, or why not.

    `works` is None where it takes arguments of the user's to tell.
    """

    name: str
    works: bool | None
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
class Repeats:
    """An engine's default configuration, measured again and again, each time in a new process.

    Parameters
    ----------
    engine, network : what ran
    count, ok : measurements, and those that have values
    latency_ms : median of those
    latency_percent, cpu_percent : how much latency and CPU time vary between processes, as
        standard deviation in % of the mean; None for fewer than two values
    interval_percent : how well one process knows its median, as half width of the 95 %
        confidence interval in %, median over the processes; None where none has one
    attempts : how often it ran, the repetitions of disturbed attempts included
    disturbances : what disturbed an attempt, for each that was
    contaminated : measurements that were disturbed in every attempt
    placements : regime of the first two cores -> measurements
    problem : why there are fewer values than wanted; empty if nothing went wrong
    """

    engine: str
    network: str
    count: int = 0
    ok: int = 0
    latency_ms: float | None = None
    latency_percent: float | None = None
    cpu_percent: float | None = None
    interval_percent: float | None = None
    attempts: int = 0
    disturbances: tuple[str, ...] = ()
    contaminated: int = 0
    placements: Mapping[str, int] = field(default_factory=dict)
    problem: str = ""


@dataclass(frozen=True)
class Probe:
    """What was found on this machine; None is what the kernel does not show.

    Parameters
    ----------
    governor, turbo, frequency_mhz : of the first core: who sets its clock, whether that
        may exceed the base, and the lowest and highest that are allowed
    smt : whether a physical core runs two threads
    quota : how many cores' CPU time the control groups grant; None for no limit
    autogroup : whether the kernel shares CPU time among sessions, so that `nice` does
        nothing between them
    load : see `machine.load`
    stolen_percent : of the CPU time that this machine wanted since it started, what the
        hypervisor gave to others
    repeats : None if none were asked for
    """

    processor: str
    flags: tuple[str, ...]
    kernel: str
    physical_cores: int
    cores: str
    governor: str | None
    turbo: bool | None
    frequency_mhz: tuple[float, float] | None
    smt: bool | None
    quota: float | None
    autogroup: bool | None
    memory_mib: dict[str, float | None]
    load: dict[str, Any]
    stolen_percent: float | None
    engines: tuple[Part, ...]
    devices: tuple[Part, ...]
    meters: tuple[Part, ...]
    networks: tuple[Part, ...]
    placement: Placement
    noise: Noise
    repeats: Repeats | None

    @property
    def advice(self) -> tuple[str, ...]:
        """One sentence for each thing that could be better."""
        return (*self.advice_on_time, *_on_meters(self.meters))

    @property
    def advice_on_time(self) -> tuple[str, ...]:
        """The advice to whom times are enough."""
        engines, repeats = _on_engines(self.engines), _on_repeats(self.repeats)
        return (*engines, *repeats, *_on_noise(self), *_on_machine(self))

    def to_dict(self) -> dict[str, Any]:
        """The findings and the advice as plain JSON values."""
        return {**asdict(self), "advice": list(self.advice)}


Observer = Callable[[Measurement, int], None]
"""Told of each repeat, and how many there are now."""


def probe(repeats: int = 0, observer: Observer | None = None) -> Probe:
    """The findings on this machine, in about two seconds and half a second a repeat.

    Parameters
    ----------
    repeats : how often the default configuration of the first engine that works is measured;
        where it is not 0 every engine is imported, which takes some seconds
    observer : told of each of those
    """
    load, cores = machine.load(), machine.available_cores()
    engines, placement, noise = probe_engines(repeats > 0), probe_placement(cores), probe_noise()
    return Probe(
        processor=machine.processor(),
        flags=machine.processor_flags(),
        kernel=machine.hardware()["kernel"],
        physical_cores=machine.physical_cores(),
        cores=machine.format_cores(cores),
        governor=machine.governor(cores[0]),
        turbo=machine.turbo(),
        frequency_mhz=frequency_mhz(cores[0]),
        smt=_switch("/sys/devices/system/cpu/smt/active"),
        quota=machine.cpu_quota(),
        autogroup=_switch("/proc/sys/kernel/sched_autogroup_enabled"),
        memory_mib=machine.memory_mib(),
        load=load,
        stolen_percent=_stolen_percent(cores),
        engines=engines,
        devices=probe_devices(),
        meters=probe_meters(),
        networks=probe_networks(),
        placement=placement,
        noise=noise,
        repeats=probe_repeats(engines, repeats, observer) if repeats else None,
    )


def probe_engines(imported: bool = False) -> tuple[Part, ...]:
    """Each engine with its version, or what to install; `imported` in a process of its own, too."""
    parts = []
    for name, reference in ENGINES.items():
        try:
            version = load_engine(reference).version()
            if imported:
                with closing(Zygote(reference)) as zygote:
                    zygote.ready()
            parts.append(Part(name, True, version))
        except EngineError as error:
            parts.append(Part(name, False, str(error)))
    return tuple(parts)


def probe_devices() -> tuple[Part, ...]:
    """Each NVIDIA GPU of this machine, asked through NVML, which starts no CUDA.

    None where there is no driver or nvidia-ml-py is not installed: the meter `nvml` says so.
    """
    try:
        import pynvml
    except ImportError:
        return ()
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    try:
        return tuple(_device(pynvml, index) for index in range(pynvml.nvmlDeviceGetCount()))
    finally:
        pynvml.nvmlShutdown()


def _device(nvml: Any, index: int) -> Part:
    name = f"GPU {index}"
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        memory_mib = nvml.nvmlDeviceGetMemoryInfo(handle).total / machine.MIB
        detail = (
            f"{nvml.nvmlDeviceGetName(handle)}, {memory_mib:,.0f} MiB, "
            f"driver {nvml.nvmlSystemGetDriverVersion()}"
        )
    except nvml.NVMLError as error:
        return Part(name, False, str(error))
    return Part(name, True, detail)


def probe_meters() -> tuple[Part, ...]:
    """Each meter, tried over a short window; those that need the user's arguments cannot be."""
    kernel: dict[str, Meter] = {
        "wall clock": WallClock(),
        "CPU time": CpuTime(),
        "peak memory": PeakMemory(),
    }
    parts = [_tried(name, meter) for name, meter in kernel.items()]
    for name, reference in METERS.items():
        try:
            parts.append(_tried(name, load_meter(reference, {})))
        except EngineError as error:
            parts.append(Part(name, None, f"needs arguments of yours: {error}"))
    return tuple(parts)


def _tried(name: str, meter: Meter) -> Part:
    meter.open()
    try:
        meter.begin()
        time.sleep(min(meter.window_s, TRY_S))
        reading = meter.end()
    finally:
        meter.close()
    if reading.value is None:
        return Part(name, False, reading.source)
    return Part(name, True, f"{meter.metric.name} in {reading.unit} from {reading.source}")


def probe_networks() -> tuple[Part, ...]:
    """Each network that has a name, with its inputs, or what is missing."""
    parts = []
    for name in (*SHIPPED, *ARCHITECTURES):
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
    bounce = bounced(Zygote(None, fork=False), pair)
    return Placement(pair, bounce, regime(bounce))


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


def probe_repeats(engines: Sequence[Part], count: int, observer: Observer | None = None) -> Repeats:
    """How the default configuration of the first engine that works varies over processes.

    An engine whose network is not installed is passed over.
    """
    found = Repeats("", "", problem="no engine works here")
    for part in engines:
        if not part.works:
            continue
        network = REPEATED[load_engine(ENGINES[part.name]).format]
        environment = Environment("doctor", engine=part.name, network=network)
        measured, problem = [], None
        try:
            with closing(LocalRunner(sentinel_every=None, lock_timeout_s=LOCK_S)) as runner:
                for _ in range(count):
                    measured.append(runner.run({}, environment))
                    if observer is not None:
                        observer(measured[-1], len(measured))
        except BayestlError as error:
            problem = error
        found = summarized(f"{part.name} {part.detail}", network, measured, problem)
        if not isinstance(problem, NetworkError):
            break
    return found


def summarized(
    engine: str, network: str, measured: Sequence[Measurement], problem: Exception | None = None
) -> Repeats:
    """What repeats of one configuration show; `problem` is what ended them early."""
    good = [measurement for measurement in measured if measurement.ok]
    found = [measurement.provenance for measurement in measured]
    contaminated = [m for m in measured if m.status is Status.CONTAMINATED]
    failed = [m for m in measured if not m.ok and m.status is not Status.CONTAMINATED]
    problems = [f"{m.status}: {m.message}" for m in failed]
    disturbances = tuple(reason for one in found for reason in one.get("disturbed", ()))
    latencies = [m.values["latency"] for m in good]
    cpu_times = [m.values["cpu_time"] for m in good if m.values.get("cpu_time")]
    intervals = [m.provenance.get("interval") for m in good]
    intervals = [interval for interval in intervals if interval is not None]
    return Repeats(
        engine=engine,
        network=network,
        count=len(measured),
        ok=len(good),
        latency_ms=statistics.median(latencies) if latencies else None,
        latency_percent=_variation(latencies) if len(latencies) > 1 else None,
        cpu_percent=_variation(cpu_times) if len(cpu_times) > 1 else None,
        interval_percent=100 * statistics.median(intervals) if intervals else None,
        attempts=len(measured) - len(contaminated) + len(disturbances),
        disturbances=disturbances,
        contaminated=len(contaminated),
        placements=dict(Counter(one["placement"] for one in found if "placement" in one)),
        problem=str(problem or next(iter(problems), "")),
    )


def _variation(values: Sequence[float]) -> float:
    """The coefficient of variation in %."""
    return 100 * statistics.stdev(values) / statistics.mean(values)


def frequency_mhz(core: int) -> tuple[float, float] | None:
    """The lowest and the highest clock that a core's governor may choose."""
    folder = Path(f"/sys/devices/system/cpu/cpu{core}/cpufreq")
    lowest, highest = (machine.read_text(folder / f"scaling_{end}_freq") for end in ("min", "max"))
    if lowest is None or highest is None:
        return None
    return int(lowest) / 1e3, int(highest) / 1e3


def _switch(path: str) -> bool | None:
    """What a kernel file says that is 1 or 0."""
    return {"1": True, "0": False}.get(machine.read_text(path) or "")


def _stolen_percent(cores: Sequence[int]) -> float | None:
    use = use_of(cores)
    wanted_s = use.busy_s + use.stolen_s if use is not None else 0.0
    return 100 * use.stolen_s / wanted_s if use is not None and wanted_s else None


def _on_engines(engines: Sequence[Part]) -> Iterator[str]:
    if not any(engine.works for engine in engines):
        yield 'No engine works here; in the checkout of bayestl: pip install ".[onnxruntime]".'


def _on_meters(meters: Sequence[Part]) -> Iterator[str]:
    if not any(meter.works for meter in meters if meter.name in METERS):
        yield (
            "No energy meter works here: the list of meters says why; `external` reads one of "
            "your own, and `estimate` computes with watts that you give."
        )


def _on_repeats(repeats: Repeats | None) -> Iterator[str]:
    if repeats is None:
        return
    if repeats.problem:
        yield f"The default configuration was not measured as often as asked: {repeats.problem}."
    if repeats.latency_percent is not None and repeats.latency_percent > NOISY_PERCENT:
        times = math.ceil((repeats.latency_percent / NOISY_PERCENT) ** 2)
        cpu = repeats.cpu_percent
        steadier = cpu is not None and cpu < repeats.latency_percent / 2
        instead = f", or consider cpu_time, which varies by {cpu:.0f} %" if steadier else ""
        yield (
            f"Latency varies by {repeats.latency_percent:.0f} % from process to process: measure a "
            f"configuration {times} times to know its mean with a standard error of "
            f"{NOISY_PERCENT:g} %{instead}."
        )
    if repeats.disturbances:
        yield (
            f"{len(repeats.disturbances)} of {repeats.attempts} attempts were disturbed, and "
            f"{repeats.contaminated} of {repeats.count} measurements in every attempt (last: "
            f"{repeats.disturbances[-1]}): stop other programs, or measure on cores that they "
            "leave alone."
        )
    if {"near", "far"} <= set(repeats.placements):
        seen = ", ".join(f"{regime} {times} times" for regime, times in repeats.placements.items())
        yield (
            f"The first two cores changed their place meanwhile ({seen}): compare configurations "
            "with several threads within one regime, or measure on one core."
        )


def _on_noise(found: Probe) -> Iterator[str]:
    noise, placement, repeats = found.noise, found.placement, found.repeats
    known = repeats is not None and repeats.latency_percent is not None
    if not known and noise.wall_percent > NOISY_PERCENT:
        yield (
            f"Fixed work varies by {noise.wall_percent:.0f} % (its CPU time by "
            f"{noise.cpu_percent:.0f} %): repeat measurements, and consider cpu_time as the metric."
        )
    if placement.regime in ("far", "between"):
        yield (
            f"A cache line takes {placement.bounce_ns:.0f} ns between cores {placement.cores}: "
            "configurations with several threads may be slower now than at other times."
        )


def _on_machine(found: Probe) -> Iterator[str]:
    cores = len(machine.parse_cores(found.cores))
    if found.turbo:
        yield (
            "Turbo is on, so that the clock depends on heat and on other cores: for repeatable "
            "latencies root can switch it off (write 1 to "
            "/sys/devices/system/cpu/intel_pstate/no_turbo, or 0 to "
            "/sys/devices/system/cpu/cpufreq/boost)."
        )
    if found.governor not in (None, "performance"):
        yield (
            f"The frequency governor is {found.governor!r}: 'performance' makes latencies "
            "repeatable (cpupower frequency-set -g performance, as root)."
        )
    if found.load["load_average"] > BUSY:
        yield (
            f"The load average is {found.load['load_average']:g}: other programs run here; stop "
            "them, or expect noise."
        )
    if found.quota is not None and found.quota < cores:
        yield (
            f"A control group grants the time of {found.quota:g} of {cores} cores, and stops all "
            "threads once that is used up: restrict environments to as many cores, or lift the "
            "limit."
        )
    if cores < 2:
        yield "One core is available: an environment cannot be restricted to fewer."

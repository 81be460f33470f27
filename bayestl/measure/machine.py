"""Facts about this machine, read from the kernel; what cannot be read is None."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from bayestl.data.environment import Environment
from bayestl.errors import UnknownEnvironment

FLAGS = (
    *("sse4_2", "avx", "f16c", "fma", "avx2", "avx_vnni", "avx_vnni_int8", "avx_ne_convert"),
    *("avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_tile", "amx_int8", "amx_bf16", "hypervisor"),
    *("asimd", "asimddp", "asimdhp", "i8mm", "bf16", "sve", "sve2"),
)
"""Instruction sets that change how fast a network runs."""

VARIABLES = re.compile(
    "(OMP|GOMP|KMP|MKL|OPENBLAS|ONEDNN|DNNL|ORT|OV|TBB|MALLOC|CUDA|CUDNN|CUBLAS|NVIDIA|TORCH|PYTORCH"
    "|TORCHINDUCTOR|ATEN)_.+|GLIBC_TUNABLES|LD_PRELOAD|LD_LIBRARY_PATH"
)
"""Environment variables that change how engines, their libraries or the allocator work."""

_AVX512 = ("avx2", "avx512f", "avx512bw")
INSTRUCTION_SETS: Mapping[str, tuple[str, ...]] = {
    "SSE41": ("sse4_2",),
    "AVX": ("avx",),
    "AVX2": ("avx2",),
    "AVX2_VNNI": ("avx2", "avx_vnni"),
    "AVX2_VNNI_2": ("avx2", "avx_vnni", "avx_vnni_int8", "avx_ne_convert"),
    "AVX512_CORE": _AVX512,
    "AVX512_CORE_VNNI": (*_AVX512, "avx512_vnni"),
    "AVX512_CORE_BF16": (*_AVX512, "avx512_vnni", "avx512_bf16"),
    "AVX512_CORE_FP16": (*_AVX512, "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    "AVX512_CORE_AMX": (*_AVX512, "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16"),
}
"""Instruction set, as oneDNN names it, weakest first -> the processor's flags it needs."""

MIB = 1024 * 1024

GROUPS, OWN_GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
"""Where control groups are, and which this process is in."""


def read_text(path: str | Path) -> str | None:
    """A kernel file's text, stripped; None where it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def available_cores() -> tuple[int, ...]:
    """The logical cores that this process may use."""
    return tuple(sorted(os.sched_getaffinity(0)))


def parse_cores(text: str) -> tuple[int, ...]:
    """The cores in text such as ``"0"``, ``"0-3"`` or ``"0,2"``, sorted.

    Raises
    ------
    UnknownEnvironment
        If the text is no list of cores.
    """
    cores: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,5})(?:-(\d{1,5}))?\s*", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first > last:
            raise UnknownEnvironment(f"expected cores such as '0', '0-3' or '0,2', got {text!r}")
        cores.update(range(first, last + 1))
    return tuple(sorted(cores))


def format_cores(cores: tuple[int, ...]) -> str:
    """The text that `parse_cores` reads, ranges shortened."""
    parts: list[list[int]] = []
    for core in sorted(cores):
        if parts and core == parts[-1][-1] + 1:
            parts[-1].append(core)
        else:
            parts.append([core])
    return ",".join(str(p[0]) if len(p) == 1 else f"{p[0]}-{p[-1]}" for p in parts)


def cores_for(environment: Environment) -> tuple[int, ...]:
    """The cores that an environment's setting `cores` asks for; all available ones unless set.

    Raises
    ------
    UnknownEnvironment
        If it is no list of cores, or names one that this process may not use.
    """
    available = available_cores()
    cores = parse_cores(str(environment.settings.get("cores", format_cores(available))))
    if not set(cores) <= set(available):
        raise UnknownEnvironment(
            f"environment {environment.name!r}: asks for cores {format_cores(cores)}, "
            f"this process may use {format_cores(available)}"
        )
    return cores


@cache
def physical_cores(among: tuple[int, ...] | None = None) -> int:
    """How many cores the machine has, or those logical ones are of; threads of one count once."""
    logical = ["[0-9]*"] if among is None else among
    siblings = {
        read_text(path)
        for core in logical
        for path in Path("/sys/devices/system/cpu").glob(f"cpu{core}/topology/thread_siblings_list")
    }
    return len(siblings - {None}) or len(among or ()) or os.cpu_count() or 1


@cache
def processor() -> str:
    """The processor's name."""
    for line in (read_text("/proc/cpuinfo") or "").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model", "Hardware") and value.strip():
            return value.strip()
    board = read_text("/proc/device-tree/model")
    return (board or "").strip("\0") or platform.machine()


@cache
def processor_flags() -> tuple[str, ...]:
    """Those of `FLAGS` that the processor has."""
    for line in (read_text("/proc/cpuinfo") or "").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            present = set(value.split())
            return tuple(flag for flag in FLAGS if flag in present)
    return ()


def instruction_sets(environment: Environment) -> tuple[str, ...]:
    """Those that the processor has and the environment allows, weakest first.

    Raises
    ------
    UnknownEnvironment
        If the setting `isa` names none that the processor has.
    """
    flags = set(processor_flags())
    found = tuple(name for name, needed in INSTRUCTION_SETS.items() if flags.issuperset(needed))
    limit = environment.settings.get("isa")
    if limit is None:
        return found
    if limit not in found:
        raise UnknownEnvironment(
            f"environment {environment.name!r}: expected an isa that this processor has "
            f"({', '.join(found) or 'none that oneDNN can be limited to'}), got {limit!r}"
        )
    return found[: found.index(str(limit)) + 1]


def governor(core: int = 0) -> str | None:
    """The frequency governor of a core, such as ``"performance"``."""
    return read_text(f"/sys/devices/system/cpu/cpu{core}/cpufreq/scaling_governor")


def turbo() -> bool | None:
    """Whether the processor may exceed its base clock."""
    for path, on in (("intel_pstate/no_turbo", "0"), ("cpufreq/boost", "1")):
        text = read_text(f"/sys/devices/system/cpu/{path}")
        if text is not None:
            return text == on
    return None


def memory_mib() -> dict[str, float | None]:
    """Total and available memory, and the control group's limit, in MiB."""
    text = read_text("/proc/meminfo") or ""
    lines = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)

    def kib(name: str) -> float | None:
        return int(lines[name].split()[0]) / 1024 if name in lines else None

    return {"total": kib("MemTotal"), "available": kib("MemAvailable"), "limit": memory_limit()}


def _groups(controller: str, root: Path, groups: Path) -> Iterator[Path]:
    """The control groups of this process that a controller limits, inner ones first.

    Both versions of control groups; a group is limited by those that it is in
    (Documentation/admin-guide/cgroup-v2.rst of the Linux kernel).
    """
    for line in (read_text(groups) or "").splitlines():
        _, controllers, place = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        mount = root / controller if controllers else root
        group = mount / place.lstrip("/")
        yield from (one for one in (group, *group.parents) if one.is_relative_to(mount))


def memory_limit(root: Path = GROUPS, groups: Path = OWN_GROUPS) -> float | None:
    """How much memory in MiB the control groups of this process grant; None for no limit."""
    limits = []
    for group in _groups("memory", root, groups):
        for name in ("memory.max", "memory.limit_in_bytes"):
            text = read_text(group / name) or ""
            if text.isdecimal() and int(text) < 1 << 60:  # version 1 writes "no limit" as 2^63
                limits.append(int(text) / MIB)
    return min(limits, default=None)


def cpu_quota(root: Path = GROUPS, groups: Path = OWN_GROUPS) -> float | None:
    """How many cores' CPU time the control groups of this process grant; None for no limit."""
    quotas = map(_quota, _groups("cpu", root, groups))
    return min((quota for quota in quotas if quota is not None), default=None)


def _quota(group: Path) -> float | None:
    names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
    text = read_text(group / "cpu.max")
    if text is None:  # version 1
        text = " ".join(read_text(group / name) or "" for name in names)
    quota, _, period = text.partition(" ")
    limited = quota.isdecimal() and period.isdecimal()  # else "max", or -1
    return int(quota) / int(period) if limited else None


def kernel_kills() -> int | None:
    """How many processes the kernel has killed for want of memory since it started."""
    for line in (read_text("/proc/vmstat") or "").splitlines():
        name, _, count = line.partition(" ")
        if name == "oom_kill":
            return int(count)
    return None


def variables() -> dict[str, str]:
    """Those of `VARIABLES` that this process has, and what it starts inherits."""
    return {k: v for k, v in sorted(os.environ.items()) if VARIABLES.fullmatch(k)}


def limits() -> dict[str, float | None]:
    """What the control groups grant: the CPU time of so many cores, and memory in MiB."""
    return {"cpu_quota": cpu_quota(), "memory_mib": memory_limit()}


def identity(cores: tuple[int, ...]) -> str:
    """What this machine is today, as text that changes when its times are no longer comparable.

    A processor's name is not enough: virtual machines give one name to several processors.
    """
    flags = [flag for flag in processor_flags() if flag != "hypervisor"]
    quota, switch, chosen = cpu_quota(), turbo(), governor(cores[0])
    parts = [
        processor() + (f" ({' '.join(flags)})" if flags else ""),
        f"cores {format_cores(cores)} of {os.cpu_count()}",
        hardware()["kernel"],
        None if chosen is None else f"governor {chosen}",
        None if switch is None else f"turbo {'on' if switch else 'off'}",
        None if quota is None else f"CPU time of {quota:g} cores",
    ]
    return ", ".join(part for part in parts if part is not None)


@cache
def hardware() -> dict[str, Any]:
    """What does not change while the machine runs."""
    return {
        "processor": processor(),
        "flags": list(processor_flags()),
        "physical_cores": physical_cores(),
        "kernel": f"{platform.system()} {platform.release()}",
    }


def load() -> dict[str, Any]:
    """How busy the machine is: load average, CPU pressure in %, and stolen time in s."""
    pressure = (read_text("/proc/pressure/cpu") or "").partition("\n")[0].split()
    average = next((part[6:] for part in pressure if part.startswith("avg10=")), None)
    times = (read_text("/proc/stat") or "").partition("\n")[0].split()
    return {
        "load_average": round(os.getloadavg()[0], 2),
        "cpu_pressure_percent": float(average) if average else None,
        "stolen_s": int(times[8]) / os.sysconf("SC_CLK_TCK") if len(times) > 8 else None,
    }

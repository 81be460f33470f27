"""Where a process lives: the CPU or a GPU, and whether what it needs fits there.

Memory is looked at before it is taken. A process that dies half-way, or a machine that swaps,
tells nobody what to do; an error before the first allocation does.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch

from bayestl.errors import DeviceUnavailable, FitError

CPU = torch.device("cpu")

_GROUP = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")


def device_of(name: str) -> torch.device:
    """The device of that name: `cpu`, `cuda`, `cuda:1`, or `auto` for a GPU where there is one.

    Raises
    ------
    DeviceUnavailable
        If the name is none of these, or no such device can be used here.
    """
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return CPU
    kind, _, index = "cuda:0".partition(":") if name == "auto" else str(name).partition(":")
    if kind != "cuda" or not (index.isdecimal() or name == "cuda"):
        raise DeviceUnavailable(f"expected device 'cpu', 'cuda', 'cuda:1' or 'auto', got {name!r}")
    remedy = "or take device='cpu', or device='auto' for a GPU where there is one"
    if torch.version.cuda is None and torch.version.hip is None:
        raise DeviceUnavailable(
            f"device={name!r} needs a torch that was built for GPUs, got {torch.__version__}; "
            f"install one (https://pytorch.org/get-started/locally), {remedy}"
        )
    count = torch.cuda.device_count()
    if not count:
        raise DeviceUnavailable(
            f"device={name!r}: torch {torch.__version__} sees no GPU; look at the driver "
            f"(nvidia-smi) and at CUDA_VISIBLE_DEVICES, {remedy}"
        )
    if int(index or 0) >= count:
        raise DeviceUnavailable(
            f"device={name!r}: expected one of cuda:0 to cuda:{count - 1}; name one of these, "
            f"{remedy}"
        )
    return torch.device("cuda", int(index or 0))


def name_of(device: torch.device) -> str:
    """The device's name for people, such as `cuda:0 (NVIDIA H100)`."""
    if device.type != "cuda":
        return device.type
    return f"{device} ({torch.cuda.get_device_name(device)})"


def free_bytes(device: torch.device) -> int | None:
    """How much memory can be taken there now, None where nobody tells."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + kept
    found = [free for free in (_free_of_machine(), _free_of_group()) if free is not None]
    return min(found, default=None)


def afford(needed: float, device: torch.device, what: str) -> None:
    """See that so many bytes for `what` can be had.

    Raises
    ------
    FitError
        If not; the message says how many there are, and what to do.
    """
    free = free_bytes(device)
    if free is not None and needed > free:
        elsewhere = "a device with more memory" if device.type == "cuda" else "a larger machine"
        raise FitError(
            f"{what} takes about {needed / 1e9:.1f} GB, got {free / 1e9:.1f} GB free on "
            f"{name_of(device)}; condition on fewer rows by most_rows, or take {elsewhere}"
        )


def _free_of_machine() -> int | None:
    try:
        lines = _MEMINFO.read_text().splitlines()
        found = next(line for line in lines if line.startswith("MemAvailable:"))
        return 1024 * int(found.split()[1])
    except (OSError, StopIteration, ValueError, IndexError):
        names = os.sysconf_names if hasattr(os, "sysconf_names") else {}
        if "SC_PHYS_PAGES" not in names:
            return None
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _free_of_group() -> int | None:
    """What the limit of a container leaves, files that may be dropped from memory not counted."""
    try:
        limit = int((_GROUP / "memory.max").read_text())
        used = int((_GROUP / "memory.current").read_text())
        lines = (_GROUP / "memory.stat").read_text().splitlines()
        return limit - used + int(dict(line.split() for line in lines)["inactive_file"])
    except (OSError, ValueError, KeyError):
        return None

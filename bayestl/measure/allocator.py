"""Options of the memory allocator, which every engine on the CPU shares.

A network's activations are allocated and freed at every inference unless the engine keeps
them: whether glibc maps them anew each time, and in pages of which size, then costs as much
as a wrong number of threads. They take effect when a process starts (scope `exec`), by
GLIBC_TUNABLES (The GNU C Library manual, "Memory Allocation Tunables"; hugetlb since 2.35).
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from typing import TYPE_CHECKING

from bayestl.data.options import Boolean, Categorical, Option
from bayestl.errors import EngineUnavailable
from bayestl.measure.engine import Scope

if TYPE_CHECKING:
    from bayestl.data.space import Configuration

VARIABLE = "GLIBC_TUNABLES"
NEEDED = (2, 35)
KIB = 1024
THRESHOLDS: Mapping[str, int | None] = {"dynamic": None, "64KiB": 64 * KIB, "32MiB": 32 * KIB**2}
TRIM_FACTOR = 8
"""Freed memory is kept up to this many times the threshold: else it would be given back at once."""

OPTIONS: Mapping[str, Option] = {
    "malloc_mmap_threshold": Categorical(
        tuple(THRESHOLDS), doc="allocations from this size on are mapped, and unmapped when freed"
    ),
    "malloc_hugetlb": Boolean(False, doc="ask for huge pages for large allocations"),
}
SCOPES: Mapping[str, Scope] = dict.fromkeys(OPTIONS, Scope.EXEC)


def check() -> None:
    """Raise `EngineUnavailable` unless this machine's C library has these options."""
    library, found = platform.libc_ver()
    if library != "glibc" or tuple(map(int, found.split(".")[:2])) < NEEDED:
        raise EngineUnavailable(
            f"the allocator's options need glibc {'.'.join(map(str, NEEDED))} or later, found "
            f"{library or 'another C library'} {found}"
        )


def variables(configuration: Configuration) -> dict[str, str]:
    """The environment variables of a process with these options, beside what is set already."""
    tunables = [text for text in os.environ.get(VARIABLE, "").split(":") if text]
    threshold = THRESHOLDS[str(configuration["malloc_mmap_threshold"])]
    if threshold is not None:
        tunables += [
            f"glibc.malloc.mmap_threshold={threshold}",
            f"glibc.malloc.trim_threshold={TRIM_FACTOR * threshold}",
        ]
    if configuration["malloc_hugetlb"]:
        tunables.append("glibc.malloc.hugetlb=1")
    return {VARIABLE: ":".join(tunables)} if tunables else {}

"""How near two cores are: a cache line bounced between two pinned processes.

Virtual cores may be near (they share a core or a cache) or far (another socket) and
change place while nobody looks; no counter of the system shows it, and a network on
two threads runs up to twice as long. To be called in a process without threads: it forks.
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Sequence

BOUNCES, BLOCK, PARTNER = 4_000, 100, 64
"""Round trips, round trips a block, and the partner's byte: on a cache line of its own."""

NEAR_NS, FAR_NS = 300.0, 420.0
"""One way of a cache line under this interpreter: below is near, above is far."""


def bounce_ns(first: int, second: int) -> list[float]:
    """Time of one way between the cores in ns, the interpreter's own share included, by block.

    Both ends spin, so that a block during which one end was off its core is long;
    low quantiles of the blocks are what counts.
    """
    line = mmap.mmap(-1, mmap.PAGESIZE)
    parent = os.getpid()
    os.sched_setaffinity(0, {second})  # before the fork: a core that is not there is told now
    partner = os.fork()
    if partner == 0:
        _partner(line, parent)
        os._exit(0)
    os.sched_setaffinity(0, {first})
    blocks, value, last = [], 1, time.perf_counter_ns()
    for bounce in range(1, BOUNCES + 1):
        line[0] = value
        while line[PARTNER] != value:
            pass
        value ^= 1
        if bounce % BLOCK == 0:
            now = time.perf_counter_ns()
            blocks.append((now - last) / BLOCK / 2)
            last = now
    os.waitpid(partner, 0)
    return blocks


def _partner(line: mmap.mmap, parent: int) -> None:
    value, spins = 1, 0
    for _ in range(BOUNCES):
        while line[0] != value:
            spins += 1
            if spins % 1_000_000 == 0 and os.getppid() != parent:
                return  # nobody bounces back any more
        line[PARTNER] = value
        value ^= 1


def typical_ns(blocks: Sequence[float]) -> float:
    """The lower quartile of what `bounce_ns` returned."""
    return sorted(blocks)[len(blocks) // 4]


def regime(bounce_ns: float | None) -> str:
    """``near``, ``far``, ``between`` or, for None, ``unknown``."""
    if bounce_ns is None:
        return "unknown"
    return "near" if bounce_ns < NEAR_NS else "far" if bounce_ns > FAR_NS else "between"

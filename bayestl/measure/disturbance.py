"""Whether something else used the cores while a measurement ran.

The kernel accounts for the time of each core, stolen time of a virtual machine included.
What was busy and not the measurement's own is the share that others took.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

from bayestl.data.measurement import Status
from bayestl.measure.machine import read_text

IDLE_FIELDS = (3, 4)
STOLEN_FIELD = 7
"""Columns of a core's line in /proc/stat: idle and iowait; stolen (proc(5))."""

GUEST_FIELD = 8
"""From here on time is counted that is in the first columns already."""

DISTURBABLE = (Status.OK, Status.TIMEOUT, Status.IMPLAUSIBLE)
"""What a disturbance may have made of a measurement; other failures have their own reason."""


@dataclass(frozen=True)
class Use:
    """CPU time of some cores since the machine started, in s."""

    at_s: float
    busy_s: float
    stolen_s: float
    cores: int


@dataclass(frozen=True)
class Disturbance:
    """What others took of the cores, each a share of the cores' time.

    Parameters
    ----------
    foreign : used by other processes, or by the kernel for them
    stolen : given by a hypervisor to other machines
    """

    foreign: float
    stolen: float

    @property
    def share(self) -> float:
        """Both together."""
        return self.foreign + self.stolen

    def __str__(self) -> str:
        return f"others used {self.foreign:.0%} of the cores, and {self.stolen:.0%} was stolen"


def use_of(cores: Sequence[int]) -> Use | None:
    """What the cores have done until now; None where the kernel does not tell."""
    lines = {
        line.partition(" ")[0]: line.split()[1:]
        for line in (read_text("/proc/stat") or "").splitlines()
        if line.startswith("cpu")
    }
    wanted = [lines.get(f"cpu{core}") for core in cores]
    tick_s = 1.0 / os.sysconf("SC_CLK_TCK")
    busy = stolen = 0
    for fields in wanted:
        if fields is None or len(fields) <= STOLEN_FIELD:
            return None
        ticks = [int(field) for field in fields[:GUEST_FIELD]]
        stolen += ticks[STOLEN_FIELD]
        busy += sum(ticks) - ticks[STOLEN_FIELD] - sum(ticks[field] for field in IDLE_FIELDS)
    return Use(time.monotonic(), busy * tick_s, stolen * tick_s, len(cores))


def disturbance(before: Use | None, after: Use | None, own_s: float) -> Disturbance | None:
    """What others took between two moments in which the measurement itself used `own_s`.

    None where it cannot be told. The kernel counts in ticks of some 10 ms, so that a
    share below one tick a core is none.
    """
    if before is None or after is None or after.at_s <= before.at_s:
        return None
    capacity_s = (after.at_s - before.at_s) * before.cores
    grain_s = before.cores / os.sysconf("SC_CLK_TCK")
    foreign_s = after.busy_s - before.busy_s - own_s
    stolen_s = after.stolen_s - before.stolen_s
    return Disturbance(max(0.0, foreign_s - grain_s) / capacity_s, max(0.0, stolen_s) / capacity_s)


def watched(cores: Sequence[int], seconds: float) -> Disturbance | None:
    """What others take of the cores while this process sleeps; None where it cannot be told."""
    before = use_of(cores)
    time.sleep(seconds)
    return disturbance(before, use_of(cores), 0.0)

"""Measuring a piece of work in a process of its own, at so many threads, and what it was."""

from __future__ import annotations

import multiprocessing
import os
import platform
import resource
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from experiments.commit import commit_of

MIB = 1024


class Cost(NamedTuple):
    """What a piece of work took.

    Parameters
    ----------
    cpu, wall : seconds, of all threads and of the clock
    """

    cpu: float
    wall: float


def timed(work: Callable[[], Any]) -> tuple[Any, Cost]:
    """What `work` returns, and what it took."""
    cpu, wall = time.process_time(), time.perf_counter()
    result = work()
    return result, Cost(time.process_time() - cpu, time.perf_counter() - wall)


def peak_mib() -> float:
    """The largest resident set of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MIB


def apart(work: Callable[..., Any], *arguments: Any, threads: int = 1) -> Any:
    """`work(*arguments)` in a fresh process, so that its peak memory is its own."""
    with ProcessPoolExecutor(
        1, multiprocessing.get_context("spawn"), initializer=_limit, initargs=(threads,)
    ) as pool:
        return pool.submit(work, *arguments).result()


def setting(command: str) -> dict[str, str]:
    """How a result came about: the command, the commit and the machine."""
    top = Path(__file__).parents[1]
    return {"command": command, "commit": commit_of(top), "machine": machine()}


def machine() -> str:
    """The processor and what shares it, without a name."""
    with open("/proc/cpuinfo") as lines:
        names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.machine()
    load = os.getloadavg()[1]
    return f"{name}, {len(os.sched_getaffinity(0))} cores, load {load:.1f} over the last 5 minutes"


def _limit(threads: int) -> None:
    import torch  # only here: the parent needs none

    torch.set_num_threads(threads)

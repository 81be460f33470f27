"""What the death of a process means, by its exit code and its last words.

Imports stay light: the process that measures reads the words of its own exceptions here.
"""

from __future__ import annotations

import signal

from bayestl.data.measurement import Status

OUT_OF_MEMORY = ("bad_alloc", "allocate memory", "failed to map segment", "out of memory")
LOST_DEVICE = (
    *("device-side assert", "unspecified launch failure", "GPU is lost", "fallen off the bus"),
    *("device is lost", "cudaErrorDevicesUnavailable", "CUDA driver shutting down"),
    *("uncorrectable ECC", "illegal memory access", "illegal instruction was encountered"),
    *("misaligned address", "hardware stack error", "CUDA error: unknown error"),
    "busy or unavailable",
)


def status_of(message: str, exhausted: bool = False) -> Status:
    """What an engine's last words mean."""
    if exhausted or any(text in message for text in (*OUT_OF_MEMORY, "MemoryError")):
        return Status.OOM
    if any(text in message for text in LOST_DEVICE):
        return Status.DEVICE_LOST
    return Status.CRASH


def cause_of_death(code: int | None, errors: str, starved: bool) -> tuple[Status, str]:
    """The status and the message for a process that ended otherwise than it should.

    Parameters
    ----------
    code : its exit code; minus the signal that killed it; None where nobody saw it end
    errors : the end of its standard error
    starved : whether the kernel killed a process for want of memory meanwhile
    """
    tail = f": {errors}" if errors else ""
    status = status_of(errors)
    if status is Status.OOM:
        return status, f"out of memory{tail}"
    if code == -signal.SIGKILL and starved:
        return Status.OOM, "killed by the kernel, which was out of memory"
    if code is None:
        return status, f"lost with the process that served it{tail}"
    if code < 0:
        name = signal.strsignal(-code) or "an unknown signal"
        return status, f"killed by signal {-code} ({name}){tail}"
    how = f"with exit code {code}" if code else "without an answer"
    return status, f"ended {how}{tail}"

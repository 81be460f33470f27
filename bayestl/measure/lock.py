"""One measurement at a time on a machine: two at once would time each other."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bayestl.errors import EngineError

PAUSE_S = 0.05
PATIENCE_S = 5.0
"""A wait longer than this is told: two that take turns wait for one measurement each."""

LOCK = "/tmp/bayestl.lock"  # noqa: S108  (every user must find the same; see `_opened`)
LOCK_VARIABLE = "BAYESTL_LOCK"
log = logging.getLogger(__name__)


def lock_path() -> Path:
    """The file whose lock is the right to measure, one for all users of the machine.

    The variable BAYESTL_LOCK names another, such as one that containers share.
    """
    return Path(os.environ.get(LOCK_VARIABLE) or LOCK)


@contextmanager
def device_lock(timeout_s: float, path: Path | None = None) -> Iterator[None]:
    """Hold the right to measure; the kernel gives it back if this process dies.

    Raises
    ------
    EngineError
        If another process still holds it after `timeout_s` seconds, or the file
        cannot be opened.
    """
    path = path or lock_path()
    deadline = time.monotonic() + timeout_s
    with _opened(path) as descriptor:
        # whoever waits holds the queue, so that a campaign which releases the lock for a
        # moment between two measurements cannot take it again before them
        with _opened(path.with_name(f"{path.name}.queue")) as queue:
            _acquire(queue, deadline, timeout_s, path)
            _acquire(descriptor, deadline, timeout_s, path)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    try:
        descriptor = _open(path)
    except OSError as error:
        raise EngineError(
            f"cannot open the lock {path}: {error.strerror}; name another file by {LOCK_VARIABLE}, "
            "the same for all that measure on this machine"
        ) from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    """The file, made so that every user can open it, and never one that stands for another."""
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
    while True:
        with suppress(FileNotFoundError):  # without O_CREAT, which the kernel forbids in a folder
            descriptor = os.open(path, flags)  # of all for the file of another user
            break
        with suppress(FileExistsError):  # another process was faster
            descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666)
            os.fchmod(descriptor, 0o666)  # whatever the umask
            break
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a plain file of its own")
    return descriptor


def _acquire(descriptor: int, deadline: float, timeout_s: float, path: Path) -> None:
    told, started = False, time.monotonic()
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            holder = _holder(path)
        if time.monotonic() >= deadline:
            raise EngineError(
                f"process {holder} has been measuring on this machine for {timeout_s:g} s "
                f"({path}); wait until it ends, or stop it"
            )
        if not told and time.monotonic() - started > PATIENCE_S:
            log.warning("waiting for process %s, which is measuring on this machine", holder)
            told = True
        time.sleep(PAUSE_S)


def _holder(path: Path) -> str:
    """The process that holds the lock, or held it last."""
    with _opened(path) as descriptor:
        return os.pread(descriptor, 32, 0).decode(errors="replace") or "unknown"

"""One measurement at a time on a machine: two at once would time each other."""

from __future__ import annotations

import fcntl
import logging
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bayestl.errors import EngineError

PAUSE_S = 0.05
log = logging.getLogger(__name__)


def lock_path() -> Path:
    """The file whose lock is the right to measure, one a user."""
    folder = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
    return Path(folder) / f"bayestl-{os.getuid()}.lock"


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
        with _opened(path.with_suffix(".queue")) as queue:
            _acquire(queue, deadline, timeout_s, path)
            _acquire(descriptor, deadline, timeout_s, path)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise EngineError(f"cannot open the lock {path}: {error.strerror}") from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, deadline: float, timeout_s: float, path: Path) -> None:
    told = False
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
        if not told:
            log.info("waiting for process %s, which is measuring on this machine", holder)
            told = True
        time.sleep(PAUSE_S)


def _holder(path: Path) -> str:
    """The process that holds the lock, or held it last."""
    with _opened(path) as descriptor:
        return os.pread(descriptor, 32, 0).decode(errors="replace") or "unknown"

"""One child process a measurement: started, awaited until its deadline, never left behind."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from bayestl.data.measurement import Status
from bayestl.measure.child import OUT_OF_MEMORY
from bayestl.measure.machine import kernel_kills

KEPT_TEXT = 4_000
"""Characters of a child's standard error that a message may quote."""

KEPT_ANSWER = 16 * 1024 * 1024
CHUNK = 65_536


@dataclass(frozen=True)
class Outcome:
    """How a child ended: its answer, or a status and a message where it gave none."""

    status: Status
    message: str
    answer: Mapping[str, Any]


def measure_in_child(request: Mapping[str, Any], timeout_s: float) -> Outcome:
    """The outcome of `request`, measured in a fresh process within `timeout_s` seconds.

    The deadline covers start, build and run. Whatever happens here, an interrupt
    included, the child's whole process group is killed and the child is reaped.
    """
    kills = kernel_kills()
    answer_end, child_end = os.pipe()
    try:
        child = _start(child_end)
    finally:
        os.close(child_end)
    try:
        streams = _converse(child, answer_end, json.dumps(request).encode(), timeout_s)
    finally:
        # The child is not reaped yet, so that its number cannot belong to another group.
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        for stream in (child.stdin, child.stdout, child.stderr):
            assert stream is not None
            with suppress(OSError):
                stream.close()
        os.close(answer_end)
    errors = streams.errors.decode(errors="replace").strip()
    if streams.timed_out:
        return Outcome(Status.TIMEOUT, f"not finished after {timeout_s:g} s", {})
    try:
        answer = json.loads(streams.answer)
        status = Status(answer["status"])
    except (ValueError, KeyError, TypeError):
        return _death(child.returncode, errors, kills)
    return Outcome(status, answer.get("message", ""), answer)


@dataclass
class _Streams:
    """What came from a child, bounded whatever it prints."""

    answer: bytes = b""
    errors: bytes = b""
    timed_out: bool = False


def _start(answer_descriptor: int) -> subprocess.Popen[bytes]:
    """A child in a session of its own, with the module path of this process.

    -P keeps the working directory off the path, where a stray numpy.py could lie.
    """
    path = os.pathsep.join(entry for entry in sys.path if entry)
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "bayestl.measure.child", str(answer_descriptor)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=(answer_descriptor,),
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": path},
    )


def _converse(
    child: subprocess.Popen[bytes], answer_end: int, request: bytes, timeout_s: float
) -> _Streams:
    """Send the request and read until the answer's end closes, which is when the child ends."""
    deadline = time.monotonic() + timeout_s
    assert child.stdin and child.stdout and child.stderr
    streams, answer_open = _Streams(), True
    with selectors.DefaultSelector() as selector:
        os.set_blocking(child.stdin.fileno(), False)
        selector.register(child.stdin, selectors.EVENT_WRITE)
        for source in (child.stdout, child.stderr, answer_end):
            selector.register(source, selectors.EVENT_READ)
        while answer_open:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                streams.timed_out = True
                break
            for key, _ in selector.select(remaining):
                if key.fileobj is child.stdin:
                    request = _send(key.fd, request)
                    if not request:
                        selector.unregister(child.stdin)
                        child.stdin.close()
                    continue
                chunk = os.read(key.fd, CHUNK)
                if not chunk:
                    selector.unregister(key.fileobj)
                if key.fileobj is answer_end:
                    streams.answer = (streams.answer + chunk)[:KEPT_ANSWER]
                    answer_open = bool(chunk)
                elif key.fileobj is child.stderr:
                    streams.errors = (streams.errors + chunk)[-KEPT_TEXT:]
    return streams


def _send(descriptor: int, request: bytes) -> bytes:
    """What is left to send; nothing when the child no longer listens."""
    try:
        return request[os.write(descriptor, request) :]
    except BlockingIOError:
        return request
    except BrokenPipeError:
        return b""


def _death(code: int, errors: str, kills_before: int | None) -> Outcome:
    """What it means that a child ended without an answer."""
    tail = f": {errors}" if errors else ""
    if any(text in errors for text in (*OUT_OF_MEMORY, "MemoryError")):
        return Outcome(Status.OOM, f"out of memory{tail}", {})
    if code == -signal.SIGKILL and kernel_kills() != kills_before:
        return Outcome(Status.OOM, "killed by the kernel, which was out of memory", {})
    if code < 0:
        name = signal.strsignal(-code) or "an unknown signal"
        return Outcome(Status.CRASH, f"killed by signal {-code} ({name}){tail}", {})
    return Outcome(Status.CRASH, f"ended with exit code {code} and no answer{tail}", {})

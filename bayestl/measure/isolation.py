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
from typing import IO, Any

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
    read_end, write_end = os.pipe()
    with open(read_end, "rb", buffering=0) as answers:
        try:
            child = _start(write_end)
        finally:
            os.close(write_end)
        with child:
            try:
                streams = _converse(child, answers, json.dumps(request).encode(), timeout_s)
            finally:  # not reaped yet, so that its number cannot belong to another group
                with suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                child.wait()
    if streams.timed_out:
        return Outcome(Status.TIMEOUT, f"not finished after {timeout_s:g} s", {})
    try:
        answer = json.loads(streams.answer)
        status = Status(answer["status"])
    except (ValueError, KeyError, TypeError):
        return _death(child.returncode, streams.errors.decode(errors="replace").strip(), kills)
    return Outcome(status, answer.get("message", "")[:KEPT_TEXT], answer)


@dataclass
class _Streams:
    """What goes to a child and comes from it, bounded whatever it prints.

    Each method serves one descriptor and returns whether it is to be served again.
    """

    request: bytes
    answer: bytes = b""
    errors: bytes = b""
    answered: bool = False
    timed_out: bool = False

    def send(self, descriptor: int) -> bool:
        try:
            self.request = self.request[os.write(descriptor, self.request) :]
        except BrokenPipeError:  # it no longer listens; how it ended says why
            return False
        return bool(self.request)

    def read_output(self, descriptor: int) -> bool:
        return bool(os.read(descriptor, CHUNK))

    def read_errors(self, descriptor: int) -> bool:
        chunk = os.read(descriptor, CHUNK)
        self.errors = (self.errors + chunk)[-KEPT_TEXT:]
        return bool(chunk)

    def read_answer(self, descriptor: int) -> bool:
        chunk = os.read(descriptor, CHUNK)
        self.answer = (self.answer + chunk)[:KEPT_ANSWER]
        self.answered = not chunk
        return bool(chunk)


def module_command(module: str, *arguments: str) -> tuple[list[str], dict[str, str]]:
    """The arguments and the environment that run a module with this process's module path.

    -P keeps the working directory off the path, where a stray numpy.py could lie.
    """
    path = os.pathsep.join(entry for entry in sys.path if entry)
    return [sys.executable, "-P", "-m", module, *arguments], {**os.environ, "PYTHONPATH": path}


def _start(descriptor: int) -> subprocess.Popen[bytes]:
    """A child in a session of its own that answers at the descriptor."""
    command, environment = module_command("bayestl.measure.child", str(descriptor))
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=(descriptor,),
        start_new_session=True,
        env=environment,
    )


def _converse(
    child: subprocess.Popen[bytes], answers: IO[bytes], request: bytes, timeout_s: float
) -> _Streams:
    """Send the request and read until the answers end, which is when the child ends."""
    deadline, streams = time.monotonic() + timeout_s, _Streams(request)
    assert child.stdin is not None and child.stdout is not None and child.stderr is not None  # noqa: PT018
    os.set_blocking(child.stdin.fileno(), False)
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdin, selectors.EVENT_WRITE, streams.send)
        selector.register(child.stdout, selectors.EVENT_READ, streams.read_output)
        selector.register(child.stderr, selectors.EVENT_READ, streams.read_errors)
        selector.register(answers, selectors.EVENT_READ, streams.read_answer)
        while not streams.answered:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                streams.timed_out = True
                break
            for key, _ in selector.select(remaining):
                if not key.data(key.fd):
                    selector.unregister(key.fileobj)
                    if key.fileobj is child.stdin:  # the child reads to the end
                        child.stdin.close()
    return streams


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

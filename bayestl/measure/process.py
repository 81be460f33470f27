"""`run_process`: any program under a deadline and limits, its output bounded, nothing left behind.

    caller  --- what to start, then: the end --->  supervisor  --- fork, limits, exec --->  program
            <-- how it ended, what it used ------              <-- wait ------------------

The supervisor is a small process of its own (`supervisor.py`): the caller may be full of
threads, in which a fork can run nothing safely, and may die at any moment.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from bayestl.data.measurement import Status
from bayestl.errors import EngineError
from bayestl.measure.death import cause_of_death
from bayestl.measure.machine import MIB, kernel_kills

KEPT_OUTPUT = 16 * 1024 * 1024
"""The last bytes of standard output that are kept."""

KEPT_ERRORS = 4_000
"""The last bytes of standard error that are kept."""

GRACE_S = 10.0
"""How long the supervisor may take to end what it supervises."""

LONGEST_WAIT_S = 86_400.0
"""Waits for a later deadline are made of several: the kernel takes 24 days at most."""

CHUNK = 65_536
_SUPERVISOR = Path(__file__).with_name("supervisor.py")


@dataclass(frozen=True)
class Ended:
    """How a program ended.

    Parameters
    ----------
    code : its exit code; minus the signal that killed it
    timed_out : whether it was killed at its deadline
    output : the end of its standard output
    errors : the end of its standard error
    seconds : from its start to its end, wall clock
    cpu_s : CPU time of it and of every process that it started and waited for
    own_s : CPU time of all that ran for its sake, what was killed at its end included
    peak_mib : the most memory that one of them held resident; the interpreter that starts
        it, of about 10 MiB, counts
    starved : whether the kernel killed a process for want of memory meanwhile
    """

    code: int
    timed_out: bool
    output: bytes
    errors: str
    seconds: float
    cpu_s: float
    own_s: float
    peak_mib: float
    starved: bool

    def failure(self) -> tuple[Status, str] | None:
        """What a program's death means, in words; None where it ended well."""
        if self.timed_out:
            return Status.TIMEOUT, f"killed at its deadline, after {self.seconds:.3g} s{self.tail}"
        if self.code == 0:
            return None
        return cause_of_death(self.code, self.errors, self.starved)

    @property
    def tail(self) -> str:
        """The end of standard error as the end of a message."""
        return f": {self.errors}" if self.errors else ""


def run_process(
    command: Sequence[str],
    *,
    timeout_s: float,
    stdin: bytes = b"",
    folder: str | Path = ".",
    variables: Mapping[str, str] | None = None,
    cores: Iterable[int] | None = None,
    memory_limit_mib: float | None = None,
) -> Ended:
    """Run a program to its end, or to its deadline.

    When this returns, or raises, be it by an interrupt, neither the program nor any
    process that descends from it is alive.

    Parameters
    ----------
    command : the path of the program's file, and its arguments; there is no shell
    timeout_s : the deadline, from the start
    stdin : what it can read on standard input
    folder : its working directory
    variables : its whole environment; this process's unless given
    cores : the logical cores that it may use; those of this process unless given
    memory_limit_mib : a limit on the address space of each of its processes

    Raises
    ------
    EngineError
        If it cannot be started.
    """
    instructions = {
        "command": list(command),
        "folder": str(folder),
        "variables": dict(os.environ if variables is None else variables),
        "cores": None if cores is None else list(cores),
        "memory_limit": None if memory_limit_mib is None else int(memory_limit_mib * MIB),
    }
    kills = kernel_kills()
    streams = _converse(instructions, stdin, timeout_s)
    errors = streams.errors.decode(errors="replace").strip()
    try:
        report = json.loads(streams.report)
    except ValueError:
        raise EngineError(f"{command[0]}: nothing says how it ended: {errors}") from None
    failure = report.pop("failure")
    if failure:
        raise EngineError(f"cannot start {command[0]}: {failure}")
    starved = kernel_kills() != kills
    return Ended(
        timed_out=streams.timed_out,
        output=bytes(streams.output),
        errors=errors,
        starved=starved,
        **report,
    )


@dataclass
class _Streams:
    """What goes to a program and comes from it, bounded whatever it prints.

    Each method serves one descriptor and returns whether it is to be served again.
    """

    stdin: bytes
    output: bytearray = field(default_factory=bytearray)
    errors: bytearray = field(default_factory=bytearray)
    report: bytes = b""
    timed_out: bool = False

    def send(self, descriptor: int) -> bool:
        try:
            self.stdin = self.stdin[os.write(descriptor, self.stdin) :]
        except BrokenPipeError:  # it no longer listens
            return False
        return bool(self.stdin)

    def read_output(self, descriptor: int) -> bool:
        return _keep(self.output, os.read(descriptor, CHUNK), KEPT_OUTPUT)

    def read_errors(self, descriptor: int) -> bool:
        return _keep(self.errors, os.read(descriptor, CHUNK), KEPT_ERRORS)

    def read_report(self, descriptor: int) -> bool:
        chunk = os.read(descriptor, CHUNK)
        self.report += chunk
        return bool(chunk)


def _keep(kept: bytearray, chunk: bytes, limit: int) -> bool:
    kept += chunk
    del kept[:-limit]
    return bool(chunk)


def _converse(instructions: Mapping[str, Any], stdin: bytes, timeout_s: float) -> _Streams:
    """Start a supervisor, serve the program's streams until it reports, and see it end."""
    given, giving = os.pipe()
    reported, reporting = os.pipe()
    with open(giving, "wb", buffering=0) as control, open(reported, "rb", buffering=0) as report:
        try:
            supervisor = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_SUPERVISOR), str(given), str(reporting)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=(given, reporting),
                start_new_session=True,
            )
        finally:
            os.close(given)
            os.close(reporting)
        with supervisor:
            try:
                with suppress(BrokenPipeError):  # it is dead; that it reports nothing says so
                    control.write(json.dumps(instructions).encode() + b"\n")
                return _serve(supervisor, control, report, _Streams(stdin), timeout_s)
            finally:
                control.close()  # ends the program, where it still runs
                _see_end(supervisor)


def _serve(
    supervisor: subprocess.Popen[bytes],
    control: IO[bytes],
    report: IO[bytes],
    streams: _Streams,
    timeout_s: float,
) -> _Streams:
    deadline = time.monotonic() + timeout_s
    assert supervisor.stdin and supervisor.stdout and supervisor.stderr  # noqa: PT018
    for stream in (supervisor.stdin, supervisor.stdout, supervisor.stderr):
        os.set_blocking(stream.fileno(), False)
    with selectors.DefaultSelector() as selector:
        selector.register(supervisor.stdin, selectors.EVENT_WRITE, streams.send)
        selector.register(supervisor.stdout, selectors.EVENT_READ, streams.read_output)
        selector.register(supervisor.stderr, selectors.EVENT_READ, streams.read_errors)
        selector.register(report, selectors.EVENT_READ, streams.read_report)
        while report in selector.get_map():
            remaining = deadline - time.monotonic()
            events = selector.select(min(max(remaining, 0.0), LONGEST_WAIT_S))
            # this process may have been suspended, and the program have ended in time
            if remaining <= 0 and not any(key.fileobj is report for key, _ in events):
                if streams.timed_out:
                    break  # the supervisor is stuck itself
                streams.timed_out = True
                control.close()  # ends the program; the report comes all the same
                deadline = time.monotonic() + GRACE_S
            for key, _ in events:
                if not key.data(key.fd):
                    selector.unregister(key.fileobj)
                    if key.fileobj is supervisor.stdin:
                        supervisor.stdin.close()  # the program reads to the end
    for descriptor, read in (
        (supervisor.stdout.fileno(), streams.read_output),
        (supervisor.stderr.fileno(), streams.read_errors),
    ):
        with suppress(BlockingIOError):
            while read(descriptor):
                pass
    return streams


def _see_end(supervisor: subprocess.Popen[bytes]) -> None:
    try:
        supervisor.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        supervisor.kill()

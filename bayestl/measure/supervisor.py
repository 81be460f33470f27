"""Stands beside one program: starts it under its limits, and leaves nothing of it behind.

Run as a file by an interpreter that loads nothing else, so that it forks from a small
process without threads. It reads what to start from one descriptor, reports how the
program ended on another, and sleeps in between. When the first descriptor closes, which
the kernel does for a caller that dies, the program is killed. Whatever the program
started is killed with it: its group, and those that left the group, since orphans
become children of this process.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import select
import signal
import sys
import time
from contextlib import suppress

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
_HANDLED = (signal.SIGCHLD, signal.SIGTERM)
UNKILLABLE_S = 5.0
"""How long to wait for a killed process, which may be stuck in a driver."""


def main(control: int, report: int) -> None:
    """Run the program that `control` describes, and write to `report` how it ended."""
    for descriptor in (control, report):
        os.set_inheritable(descriptor, False)  # the program shall not hold them
    libc = ctypes.CDLL(None)  # before the fork
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken)
    for number in _HANDLED:
        signal.signal(number, lambda *_: None)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)  # should another process hold `control` open
    with open(control, "rb", buffering=0) as line:
        instructions = json.loads(_line(line.fileno()))
        started = time.perf_counter_ns()
        program, failures = _start(instructions, libc)
        ended = _await(program, line.fileno(), wake)
    elapsed_ns = time.perf_counter_ns() - started
    with suppress(ProcessLookupError):  # not reaped yet where it still runs
        os.killpg(program, signal.SIGKILL)
    if ended is None:
        ended = os.wait4(program, 0)
    end_offspring()
    usage = ended[2]
    answer = {
        "code": os.waitstatus_to_exitcode(ended[1]),
        "failure": os.read(failures, 4096).decode(errors="replace"),
        "seconds": elapsed_ns / 1e9,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "own_s": time.process_time() + children_s(),
        "peak_mib": usage.ru_maxrss / 1024,
    }
    with open(report, "w", encoding="utf-8") as file, suppress(BrokenPipeError):
        json.dump(answer, file)


def _line(descriptor: int) -> bytes:
    """The first line; what follows is the end of it, whenever it comes."""
    text = b""
    while not text.endswith(b"\n"):
        chunk = os.read(descriptor, 65_536)
        if not chunk:
            os._exit(1)
        text += chunk
    return text


def _start(instructions: dict, libc: ctypes.CDLL) -> tuple[int, int]:
    """The program's number, and where the reason comes if it cannot be started."""
    failures, failed = os.pipe()
    supervisor = os.getpid()
    program = os.fork()
    if program == 0:
        try:
            _become(instructions, libc, supervisor)
        except Exception as error:
            os.write(failed, str(error).encode()[:4096])
        os._exit(127)
    os.close(failed)
    return program, failures


def _become(instructions: dict, libc: ctypes.CDLL, supervisor: int) -> None:
    """Be the program, in a session of its own, under its limits."""
    os.setsid()
    signal.set_wakeup_fd(-1)
    for number in (*_HANDLED, signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ):  # as Python sets them
        signal.signal(number, signal.SIG_DFL)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != supervisor:
        return
    os.chdir(instructions["folder"])
    if instructions["cores"] is not None:
        os.sched_setaffinity(0, instructions["cores"])
    if instructions["memory_limit"] is not None:
        resource.setrlimit(resource.RLIMIT_AS, (instructions["memory_limit"],) * 2)
    command = instructions["command"]
    os.execve(command[0], command, instructions["variables"])  # noqa: S606 (no shell is wanted)


def _await(program: int, control: int, wake: int) -> tuple | None:
    """What `wait4` says of the program; None where it shall end before it does."""
    poll = select.poll()
    poll.register(control, select.POLLIN)
    poll.register(wake, select.POLLIN)
    while True:
        ready = dict(poll.poll())
        told_to_end = control in ready
        if wake in ready:
            told_to_end |= signal.SIGTERM in os.read(wake, 512)
        ended = os.wait4(program, os.WNOHANG)
        if ended[0]:
            return ended
        if told_to_end:
            return None


def end_offspring() -> None:
    """Kill and reap every child of this process, and what becomes its child as they die."""
    deadline = time.monotonic() + UNKILLABLE_S
    while time.monotonic() < deadline:
        try:
            reaped, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not reaped:
            for child in _children():
                with suppress(OSError):
                    os.kill(child, signal.SIGKILL)
            time.sleep(0.001)


def children_s() -> float:
    """CPU time of every process that this one has reaped, and of those that they had."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _children() -> list[int]:
    mine, children = os.getpid(), []
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            with suppress(OSError), open(f"/proc/{entry}/stat", "rb") as file:
                if int(file.read().rpartition(b")")[2].split()[1]) == mine:
                    children.append(int(entry))
    return children


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))

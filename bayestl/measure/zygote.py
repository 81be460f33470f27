"""`Zygote`: the measuring process, seen from its parent. Every job has a deadline.

A zygote has imported an engine and built nothing; each job is done by a fork of it (see
`child`). The parent waits in `select`, never spins, and whatever happens, an interrupt
included, the job's whole process group is killed and reaped.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from bayestl.data.measurement import Status
from bayestl.errors import EngineUnavailable
from bayestl.measure.child import receive, send
from bayestl.measure.death import cause_of_death
from bayestl.measure.machine import kernel_kills
from bayestl.measure.process import LONGEST_WAIT_S

KEPT_TEXT = 4_000
"""Characters of a child's standard error that a message may quote."""

KEPT_ANSWER = 16 * 1024 * 1024
CHUNK = 65_536

PREPARE_S, END_S = 120.0, 10.0
"""How long an engine's import may take, and the death of a killed child."""

PLACEMENT_S = 10.0
MOST_WAITING = 8

UNLIMITED: Mapping[str, Any] = {"cores": None, "memory_limit_mib": None, "folder": None}
"""What a job's request says where it may use all that this process may."""


@dataclass(frozen=True)
class Outcome:
    """How a job ended: its answer, or a status and a message where it gave none.

    `cpu_s` is the CPU time of the process that did it, start to end, and of all that it started.
    """

    status: Status
    message: str
    answer: Mapping[str, Any]
    cpu_s: float = 0.0


class Zygote:
    """A process with an engine imported, from which jobs are forked one at a time.

    Parameters
    ----------
    engine : ``module:class``; None for jobs that need none
    variables : environment variables that it has beside this process's
    cores : those on which it imports; all that this process may use unless given
    fork : False imports the engine with each job instead, and serves one job only: a fork
        of a bare interpreter, as good as a fresh process
    """

    def __init__(
        self,
        engine: str | None,
        variables: Mapping[str, str] | None = None,
        cores: Sequence[int] | None = None,
        *,
        fork: bool = True,
    ) -> None:
        self.engine, self.variables, self.fork = engine, dict(variables or {}), fork
        self.cores = None if cores is None else list(cores)
        self._process: subprocess.Popen[bytes] | None = None
        self._job: int | None = None

    def ready(self) -> None:
        """Start now rather than with the first job, and import the engine where jobs share it.

        Raises
        ------
        EngineUnavailable
            If the engine cannot be imported.
        """
        if self._process is None:
            self._launch()

    def run(self, request: Mapping[str, Any], timeout_s: float) -> Outcome:
        """The outcome of a job, which has `timeout_s` seconds.

        Raises
        ------
        EngineUnavailable
            If the engine cannot be imported.
        """
        kills = kernel_kills()
        streams, end = _Streams(), _Death(None, 0.0)
        with _pipe() as answers, _pipe() as output, _pipe() as errors:
            message = {**request, "do": "start", "engine": self.engine}
            sinks = {answers: streams.read_answer, output: streams.read_output}
            try:
                self._start(message, [answers.write, output.write, errors.write])
                for pipe in (answers, output, errors):
                    pipe.close_write()
                self._job = self._started()
                streams.follow({**sinks, errors: streams.read_errors}, timeout_s)
            except BaseException:
                self.close()  # with all that it has forked
                raise
            end = self._end()
        if not streams.answered:
            return Outcome(Status.TIMEOUT, f"not finished after {timeout_s:g} s", {}, end.cpu_s)
        try:
            answer = json.loads(streams.answer)
            status = Status(answer["status"])
        except (ValueError, KeyError, TypeError):
            text = streams.errors.decode(errors="replace").strip()
            starved = kernel_kills() != kills
            return Outcome(*cause_of_death(end.code, text, starved), {}, end.cpu_s)
        return Outcome(status, answer.get("message", "")[:KEPT_TEXT], answer, end.cpu_s)

    def close(self) -> None:
        """End the process, and with it whatever it has forked."""
        process, self._process = self._process, None
        if process is None:
            return
        self._channel.close()  # it kills its child's group, and ends
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
        process.wait()
        job, self._job = self._job, None
        if job is not None and process.returncode < 0:  # killed, so that it did not end its job
            with suppress(ProcessLookupError):
                os.killpg(job, signal.SIGKILL)

    def _start(self, message: Mapping[str, Any], descriptors: list[int]) -> None:
        for last in (False, True):
            if self._process is None:
                self._launch()
            try:
                send(self._channel, message, descriptors)
                return
            except OSError:  # it was killed while nobody looked
                self.close()
                if last:
                    raise

    def _launch(self) -> None:
        ours, theirs = socket.socketpair()
        command, environment = module_command("bayestl.measure.child", str(theirs.fileno()))
        with theirs:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                env={**environment, **self.variables},
            )
        self._channel = ours
        engine = self.engine if self.fork else None  # else the job pays for the import
        try:
            prepare = {"do": "prepare", "engine": engine, "cores": self.cores}
            prepared = self._ask(prepare, PREPARE_S)
        except BaseException:
            self.close()
            raise
        if prepared is None or "error" in prepared:
            self.close()
            reason = prepared["error"] if prepared else "the process ended"
            raise EngineUnavailable(f"the engine {self.engine} cannot be imported: {reason}")

    def _started(self) -> int | None:
        """The number of the job's process; None where the one that forks it has ended."""
        answer = self._answer(END_S)
        return answer["pid"] if answer else None

    def _ask(self, message: Mapping[str, Any], timeout_s: float) -> dict[str, Any] | None:
        """What the process answers; None where it ended or has no answer in time."""
        try:
            send(self._channel, message)
        except OSError:
            return None
        return self._answer(timeout_s)

    def _answer(self, timeout_s: float) -> dict[str, Any] | None:
        self._channel.settimeout(timeout_s)
        try:
            received = receive(self._channel)
        except OSError:
            return None
        finally:
            self._channel.settimeout(None)
        return received[0] if received else None

    def _end(self) -> _Death:
        """Have the job's process killed and reaped; how it ended."""
        ended = self._ask({"do": "end"}, END_S)
        if ended is None or "code" not in ended:  # it hangs, or answers too late
            self.close()
            return _Death(None, 0.0)
        self._job = None
        if not self.fork:
            self.close()
        return _Death(ended["code"], ended["cpu_s"])


class Zygotes:
    """The zygotes of a runner, one for each engine, its environment variables and its cores.

    A library may count the cores when it is imported: OpenMP's threads spin where it
    found one for each of them, and two that spin on one core take a hundred times as long.

    Parameters
    ----------
    fork : False for a fresh process for each job; see `Zygote`
    """

    def __init__(self, *, fork: bool = True) -> None:
        self._fork = fork
        self._waiting: dict[tuple[str, tuple[tuple[str, str], ...], tuple[int, ...]], Zygote] = {}
        self.plain = Zygote(None)

    def of(self, engine: str, variables: Mapping[str, str], cores: Sequence[int]) -> Zygote:
        """The one with this engine imported; of many, those used last are kept."""
        key = engine, tuple(sorted(variables.items())), tuple(cores)
        zygote = self._waiting.pop(key, None) or Zygote(engine, variables, cores, fork=self._fork)
        self._waiting[key] = zygote
        while len(self._waiting) > MOST_WAITING:
            self._waiting.pop(next(iter(self._waiting))).close()
        return zygote

    def close(self) -> None:
        """End them all."""
        for zygote in (self.plain, *self._waiting.values()):
            zygote.close()
        self._waiting.clear()


def bounced(zygote: Zygote, cores: Sequence[int]) -> float | None:
    """How far two cores are from each other in ns (see `placement`); None if it cannot be told."""
    request = {"job": "place", "pair": list(cores), **UNLIMITED}
    return zygote.run(request, PLACEMENT_S).answer.get("bounce_ns")


def module_command(module: str, *arguments: str) -> tuple[list[str], dict[str, str]]:
    """The arguments and the environment that run a module with this process's module path.

    -P keeps the working directory off the path, where a stray numpy.py could lie.
    """
    path = os.pathsep.join(entry for entry in sys.path if entry)
    return [sys.executable, "-P", "-m", module, *arguments], {**os.environ, "PYTHONPATH": path}


@dataclass(frozen=True)
class _Death:
    """The exit code of a job's process, negative for a signal, and its CPU time."""

    code: int | None
    cpu_s: float


class _Pipe:
    """A pipe whose writing end is given away."""

    def __init__(self) -> None:
        self.read, self.write = os.pipe()
        self._writable = True

    def close_write(self) -> None:
        if self._writable:
            self._writable = False
            os.close(self.write)


@contextmanager
def _pipe() -> Iterator[_Pipe]:
    pipe = _Pipe()
    try:
        yield pipe
    finally:
        pipe.close_write()
        os.close(pipe.read)


@dataclass
class _Streams:
    """What comes from a job's process, bounded whatever it prints."""

    answer: bytes = b""
    errors: bytes = b""
    answered: bool = False

    def follow(self, sinks: Mapping[_Pipe, Any], timeout_s: float) -> None:
        """Read until the answer ends, which is when the process ends, or the deadline."""
        deadline = time.monotonic() + timeout_s
        with selectors.DefaultSelector() as selector:
            for pipe, sink in sinks.items():
                selector.register(pipe.read, selectors.EVENT_READ, sink)
            while not self.answered:
                remaining = deadline - time.monotonic()
                events = selector.select(min(max(remaining, 0.0), LONGEST_WAIT_S))
                # this process may have been suspended, and the answer have come in time
                if remaining <= 0 and not any(key.data == self.read_answer for key, _ in events):
                    break
                for key, _ in events:
                    chunk = os.read(key.fd, CHUNK)
                    key.data(chunk)
                    if not chunk:
                        selector.unregister(key.fd)
            for key in list(selector.get_map().values()):  # last words, already in the pipe
                os.set_blocking(key.fd, False)
                with suppress(BlockingIOError):
                    key.data(os.read(key.fd, CHUNK))

    def read_output(self, chunk: bytes) -> None:
        """What an engine prints is of no use, and must not block it."""

    def read_errors(self, chunk: bytes) -> None:
        self.errors = (self.errors + chunk)[-KEPT_TEXT:]

    def read_answer(self, chunk: bytes) -> None:
        self.answer = (self.answer + chunk)[:KEPT_ANSWER]
        self.answered = self.answered or not chunk

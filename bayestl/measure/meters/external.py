"""Energy from a meter outside, such as a power analyser or a smart plug, by a user's program.

The protocol, which docs/meters.md tells with an example: the program reads one word a line
on its standard input and answers each with one JSON object a line on its standard output.
To ``begin`` it answers with any object, such as ``{}``, once its window has begun; to
``end`` with a reading. When its input ends, it ends.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from bayestl.data.measurement import Metric
from bayestl.errors import EngineError
from bayestl.measure.meter import Kind, Reading, expect, is_number
from bayestl.measure.process import LONGEST_WAIT_S

MAX_LINE = 65_536
"""Bytes that an answer may have."""

KEPT_TEXT = 500
"""Characters of what a program says that a reading may quote."""

FAREWELL_S = 2.0
"""How long a program may take to end once its input has ended; then it is killed."""

KINDS = (Kind.COUNTER, Kind.INTEGRATED, Kind.UNAVAILABLE)
"""What a program may claim. An estimate has a meter, and a metric, of its own."""


class ExternalEnergy:
    """Energy that a program reads from a meter of its own.

    Whatever the program does, a reading results: a program that dies, hangs, floods or
    talks nonsense is killed, and every further reading is `unavailable` with the reason.

    Parameters
    ----------
    command : the program and its arguments; no shell reads them
    timeout_s : how long each answer may take
    window_s : the shortest window over which the outside meter can be trusted
    """

    metric = Metric("external_energy", "J")
    accumulates = True

    def __init__(
        self, command: Sequence[str], timeout_s: float = 10.0, window_s: float = 2.0
    ) -> None:
        texts = isinstance(command, list | tuple) and all(isinstance(t, str) for t in command)
        runs = texts and any(command[:1]) and "\0" not in "".join(command)
        expect(runs, "external: command as a list of texts", command)
        expect(is_number(timeout_s) and timeout_s > 0, "external: timeout_s above 0", timeout_s)
        expect(is_number(window_s) and window_s >= 0, "external: window_s of at least 0", window_s)
        self._command, self._timeout_s, self.window_s = list(command), timeout_s, window_s
        self._program: _Program | None = None
        self._why = "the meter is not open"

    def open(self) -> None:
        self.close()
        try:
            self._program = _Program(self._command)
            self._why = "no window was begun"
        except OSError as error:
            self._why = f"{self._command[0]} cannot be started: {error}"

    def begin(self) -> None:
        if self._program is None:
            return
        try:
            self._program.ask("begin", self._timeout_s)
            self._why = ""
        except EngineError as error:
            self._fail(str(error))

    def end(self) -> Reading:
        why, self._why = self._why, self._why or "no window was begun"
        if why or self._program is None:
            return self._unavailable(why)
        try:
            return self._reading(self._program.ask("end", self._timeout_s))
        except EngineError as error:
            self._fail(str(error))
            return self._unavailable(self._why)

    def disturbance(self) -> str | None:
        """Never known: a meter outside cannot tell who computes."""
        return None

    def close(self) -> None:
        if self._program is not None:
            self._program.stop()
        self._program, self._why = None, "the meter is not open"

    def _reading(self, answer: dict[str, Any]) -> Reading:
        """The reading in an answer, or why the answer holds none."""
        domain, source = (
            str(answer.get(name) or "external")[:KEPT_TEXT] for name in ("domain", "source")
        )
        value, resolution_s = answer.get("value"), answer.get("resolution_s")
        if answer.get("kind") not in KINDS:
            raise EngineError(f"expected a kind of {', '.join(KINDS)}, got {_quote(answer)}")
        kind = Kind(answer["kind"])
        if kind is Kind.UNAVAILABLE:
            return Reading.unavailable(self.metric.unit, domain, source)
        if answer.get("unit") != self.metric.unit:
            raise EngineError(f"expected the unit {self.metric.unit!r}, got {_quote(answer)}")
        if value is None or not is_number(value) or value < 0:
            raise EngineError(f"expected a value of at least 0, got {_quote(answer)}")
        if resolution_s is not None and not (is_number(resolution_s) and resolution_s >= 0):
            raise EngineError(f"expected resolution_s of at least 0 or null, got {_quote(answer)}")
        if value == 0:
            return Reading.unavailable(self.metric.unit, domain, f"{source}: the meter stood still")
        return Reading(float(value), self.metric.unit, kind, domain, resolution_s, source)

    def _fail(self, why: str) -> None:
        """Be done with a program that broke the protocol: what it says next is worth nothing."""
        self.close()
        self._why = f"{self._command[0]}: {why}"

    def _unavailable(self, why: str) -> Reading:
        return Reading.unavailable(self.metric.unit, "external", why)


class _Program:
    """A running program, asked and answered line by line; `EngineError` where it does not answer.

    It stays in this process's group, so that a deadline that kills the measurement ends it, too.
    """

    def __init__(self, command: Sequence[str]) -> None:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0)
        self._line, self._complaints = b"", b""
        self._selector = selectors.DefaultSelector()
        for stream in (self._process.stdout, self._process.stderr):
            assert stream is not None
            self._selector.register(stream, selectors.EVENT_READ)
        with suppress(OSError):  # off the cores that are measured, where there are others
            os.sched_setaffinity(self._process.pid, range(os.cpu_count() or 1))

    def ask(self, word: str, timeout_s: float) -> dict[str, Any]:
        """The object that answers a word."""
        deadline = time.monotonic() + timeout_s
        self._listen(0.0)
        if self._line:
            raise EngineError(f"expected silence before {word!r}, got {_quote(self._line)}")
        assert self._process.stdin is not None
        with suppress(OSError):  # it no longer listens; how it ended says why
            self._process.stdin.write(f"{word}\n".encode())
        while b"\n" not in self._line:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise EngineError(f"no answer to {word!r} after {timeout_s:g} s")
            if len(self._line) > MAX_LINE:
                raise EngineError(f"a line longer than {MAX_LINE} bytes: {_quote(self._line)}")
            if not self._listen(min(remaining, LONGEST_WAIT_S)):
                raise EngineError(f"ended {self._how()} and gave no answer to {word!r}")
        line, _, self._line = self._line.partition(b"\n")
        try:
            answer = json.loads(line)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise EngineError(f"expected one JSON object a line, got {_quote(line)}")
        return answer

    def stop(self) -> None:
        """End its input, wait, then kill it."""
        self._selector.close()
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(FAREWELL_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
        with self._process:  # reaps it and closes the pipes
            pass

    def _listen(self, seconds: float) -> bool:
        """Take what it says within some time; whether it may still answer."""
        answers = self._process.stdout in self._selector.get_map()
        for key, _ in self._selector.select(seconds if answers else 0.0):
            chunk = os.read(key.fd, MAX_LINE)
            if not chunk:
                self._selector.unregister(key.fileobj)
            if key.fileobj is self._process.stdout:
                self._line += chunk
            else:
                self._complaints = (self._complaints + chunk)[-KEPT_TEXT:]
        return self._process.stdout in self._selector.get_map()

    def _how(self) -> str:
        """How it ended, and its last words."""
        try:
            self._process.wait(FAREWELL_S)
        except subprocess.TimeoutExpired:
            return "its output"
        self._listen(0.0)
        words = self._complaints.decode(errors="replace").strip()
        return f"with exit code {self._process.returncode}" + (f" ({words})" if words else "")


def _quote(what: bytes | dict[str, Any]) -> str:
    text = what.decode(errors="replace") if isinstance(what, bytes) else json.dumps(what)
    return repr(text if len(text) <= KEPT_TEXT else text[:KEPT_TEXT] + "...")

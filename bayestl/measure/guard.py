"""Sets values on the whole machine, and sets them back whatever happens to who asked for them.

A clock or a power limit outlives the process that set it, so a small process of its own,
which loads nothing but the standard library (and NVML for a GPU), sets it. It reads what
to set from its standard input, answers on its standard output, and waits for the input to
end, which the kernel sees to where the caller is killed. Then it sets back what was before.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

PR_SET_PDEATHSIG = 1
HELD_BACK = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
SETTLE_S, STEP_S = 1.0, 0.02
"""How long a GPU's clock may take to come down to a new limit, and the step between looks."""


class Control(Protocol):
    """Something of the machine that can be set; its values are texts."""

    kind: ClassVar[str]

    @property
    def arguments(self) -> tuple[Any, ...]:
        """What makes the same control again in another process."""
        ...

    def read(self) -> list[str]:
        """The values now.

        Raises
        ------
        OSError
            If they cannot be read; likewise below.
        """
        ...

    def write(self, texts: Sequence[str]) -> None:
        """Set them."""
        ...


class Files:
    """Files of the kernel, each with a value of its own."""

    kind: ClassVar[str] = "files"

    def __init__(self, *paths: str) -> None:
        self.arguments = paths

    def read(self) -> list[str]:
        return [Path(path).read_text(encoding="utf-8").strip() for path in self.arguments]

    def write(self, texts: Sequence[str]) -> None:
        for path, now, text in zip(self.arguments, self.read(), texts, strict=True):
            if now != text:
                Path(path).write_text(text, encoding="utf-8")


class _Gpu:
    """An NVIDIA GPU; NVML stays open, since a driver that nobody uses forgets what was set."""

    def __init__(self, uuid: str) -> None:
        try:
            import pynvml
        except ImportError as error:
            raise OSError(f"nvidia-ml-py is not installed: {error}") from error
        self._nvml = pynvml
        self._call("nvmlInit")
        self.handle = self._call("nvmlDeviceGetHandleByUUID", uuid)

    def _call(self, function: str, *arguments: Any) -> Any:
        try:
            return getattr(self._nvml, function)(*arguments)
        except self._nvml.NVMLError as error:
            raise OSError(f"{function}: {error}") from error


class PowerLimit(_Gpu):
    """The power that a GPU may take, in mW."""

    kind: ClassVar[str] = "power"

    def __init__(self, uuid: str) -> None:
        super().__init__(uuid)
        self.arguments = (uuid,)

    def read(self) -> list[str]:
        return [str(self._call("nvmlDeviceGetPowerManagementLimit", self.handle))]

    def write(self, texts: Sequence[str]) -> None:
        self._call("nvmlDeviceSetPowerManagementLimit", self.handle, int(texts[0]))

    def range(self) -> tuple[int, int]:
        """The least and the most that can be set, in mW."""
        least, most = self._call("nvmlDeviceGetPowerManagementLimitConstraints", self.handle)
        return least, most


class ClockLimit(_Gpu):
    """The highest graphics clock of a GPU in MHz; at the highest that it has, it is free.

    NVML tells no limit that was set: what is read is what was written here, unless the
    GPU runs faster than that.
    """

    kind: ClassVar[str] = "clock"

    def __init__(self, uuid: str) -> None:
        super().__init__(uuid)
        self.arguments = (uuid,)
        self._limit = max(self.range())

    def read(self) -> list[str]:
        deadline = time.monotonic() + SETTLE_S
        while (now := self._now()) > self._limit and time.monotonic() < deadline:
            time.sleep(STEP_S)
        return [str(max(now, self._limit))]

    def write(self, texts: Sequence[str]) -> None:
        clocks, limit = self.range(), int(texts[0])
        if limit == max(clocks):
            self._call("nvmlDeviceResetGpuLockedClocks", self.handle)
        else:
            self._call("nvmlDeviceSetGpuLockedClocks", self.handle, min(clocks), limit)
        self._limit = limit

    def range(self) -> list[int]:
        """The clocks that can be set."""
        memory = self._call("nvmlDeviceGetSupportedMemoryClocks", self.handle)
        return self._call("nvmlDeviceGetSupportedGraphicsClocks", self.handle, max(memory))

    def _now(self) -> int:
        return self._call("nvmlDeviceGetClockInfo", self.handle, self._nvml.NVML_CLOCK_GRAPHICS)


CONTROLS: Mapping[str, type[Control]] = {
    control.kind: control for control in (Files, PowerLimit, ClockLimit)
}


@dataclass(frozen=True)
class Change:
    """What an option's control is before, and what it shall be; the same where nothing changes."""

    name: str
    control: Control
    before: list[str]
    after: list[str]

    def to_dict(self) -> dict[str, Any]:
        """The change as plain values."""
        control = [self.control.kind, *self.control.arguments]
        return {"name": self.name, "control": control, "before": self.before, "after": self.after}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Change:
        """The change that `to_dict` wrote."""
        kind, *arguments = values["control"]
        return cls(**{**values, "control": CONTROLS[kind](*arguments)})


def make(changes: Sequence[Change]) -> str | None:
    """Make them in their order; why one cannot be had, such as a value the kernel clamped."""
    wanted = [change for change in changes if change.after != change.before]
    for change in wanted:
        try:
            change.control.write(change.after)
        except OSError as error:
            return f"{change.name} cannot be set to {_shown(change.after)}: {error}"
    for change in wanted:  # at the end, since one may limit another
        found = change.control.read()
        if found != change.after:
            asked = _shown(change.after)
            return f"{change.name}: asked for {asked}, the machine took {_shown(found)}"
    return None


def restore(changes: Sequence[Change]) -> list[str]:
    """Set everything to what was before, in the same order; what could not be."""
    left = []
    for change in changes:
        found, why = None, ""
        try:
            if change.after != change.before or change.control.read() != change.before:
                change.control.write(change.before)
        except OSError as error:  # no harm where it could not be changed either
            why = f" ({error})"
        with suppress(OSError):
            found = change.control.read()
        if found != change.before:
            now = "unknown" if found is None else _shown(found)
            left.append(f"{change.name} was {_shown(change.before)} and is now {now}{why}")
    return left


def _shown(texts: Sequence[str]) -> str:
    """The values, those of equal cores once."""
    return " ".join(dict.fromkeys(texts))


def main() -> None:
    """Make the changes that a line of standard input names, until the input ends."""
    signal.pthread_sigmask(signal.SIG_BLOCK, HELD_BACK)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    # should another process hold the input open
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    changes = [Change.from_dict(values) for values in json.loads(sys.stdin.readline())]
    try:
        _answer({"refused": make(changes)})
        _wait()
    finally:
        _answer({"left": restore(changes)})


def _wait() -> None:
    """Until the input ends, or this process is told to."""
    with suppress(SystemExit):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD_BACK[:1])
        while os.read(sys.stdin.fileno(), 4096):
            pass
    signal.pthread_sigmask(signal.SIG_BLOCK, HELD_BACK)


def _answer(message: Mapping[str, Any]) -> None:
    with suppress(BrokenPipeError):  # nobody listens any more
        os.write(sys.stdout.fileno(), json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    main()

"""Options of the whole machine (scope `host`), such as a clock: set by root, and set back.

They are set under the device lock, around one measurement, and read back: a value that
the machine takes differently is unsupported. Who sets them and sets them back is a small
process of its own (`guard`), which outlives a measuring process that is killed.

Sources: The Linux kernel's "CPU Performance Scaling" (cpufreq) and "Device Frequency
Scaling" (devfreq); the NVML API Reference Manual.
"""

from __future__ import annotations

import json
import logging
import os
import select
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bayestl.data.measurement import Status
from bayestl.data.options import Boolean, Categorical, Integer, Option, Ordinal
from bayestl.errors import EngineError, EngineUnavailable
from bayestl.measure import guard
from bayestl.measure.engine import Refusal, Scope
from bayestl.measure.machine import read_text
from bayestl.measure.meters.nvml import NvmlEnergy
from bayestl.measure.zygote import module_command

if TYPE_CHECKING:
    from bayestl.data.space import Configuration

SYS = Path("/sys")
JETSON_GPUS = ("*gpu*", "*.gp10b", "*.gv11b", "*.ga10b")
"""Names of a Jetson's GPU among the devices whose frequency is scaled."""

GUARD_S = 20.0
"""How long the guard may take to set values, and to set them back."""

SCOPES: Mapping[str, Scope] = dict.fromkeys(
    (
        *("cpu_boost", "cpu_governor", "cpu_max_khz"),
        *("gpu_power_w", "gpu_clock_mhz", "gpu_max_hz"),
    ),
    Scope.HOST,
)
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Knob:
    """An option with what sets it on this machine; `text` is how a value is written there."""

    option: Option
    control: guard.Control
    text: Callable[[Any], str] = str


def offered(cores: Sequence[int], device: str = "cpu") -> dict[str, Knob]:
    """The options that this machine lets this process set, today's values as their defaults.

    Parameters
    ----------
    cores : those whose clock is set
    device : what an engine computes on; a GPU's options are offered on ``"cuda"``, ``"cuda:1"``

    Raises
    ------
    EngineError
        If there are none; the message says why not.
    """
    # in the order of setting: whether the clock may be boosted limits the highest clock
    makers: dict[str, Callable[[], Knob]] = {
        "cpu_boost": _boost,
        "cpu_governor": partial(_governor, cores),
        "cpu_max_khz": partial(_max_khz, cores),
    }
    if device.startswith("cuda"):
        index = int(device.partition(":")[2] or 0)
        makers["gpu_power_w"] = partial(_power, index)
        makers["gpu_clock_mhz"] = partial(_clock, index)
        makers["gpu_max_hz"] = _jetson
    knobs, missing = {}, {}
    for name, make in makers.items():
        try:
            knobs[name] = make()
        except (EngineUnavailable, OSError, ValueError) as error:
            missing[name] = str(error)
    if not knobs:
        whys = "; ".join(
            f"{', '.join(name for name in missing if missing[name] == why)}: {why}"
            for why in dict.fromkeys(missing.values())
        )
        raise EngineError(f"this machine offers no options of the host: {whys}")
    for name, why in missing.items():
        log.info("the host's option %s is not offered: %s", name, why)
    return knobs


@contextmanager
def applied(knobs: Mapping[str, Knob], configuration: Configuration) -> Iterator[None]:
    """The machine with the configuration's values of these options, and afterwards as before.

    Raises
    ------
    Refusal
        With `Status.UNSUPPORTED` if the machine does not take a value.
    EngineError
        If the machine cannot be set at all, or not set back.
    """
    changes = [_change(name, knob, configuration[name]) for name, knob in knobs.items()]
    if all(change.after == change.before for change in changes):
        yield
        return
    command, variables = module_command("bayestl.measure.guard")
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # an interrupt shall not end it
        env=variables,
    )
    try:
        why = _ask(process, changes)
        if why is not None:
            raise Refusal(Status.UNSUPPORTED, why)
        yield
    finally:
        left = _end(process)
        if left is None:  # it was killed
            left = guard.restore(changes)
        if left:
            raise EngineError(f"the machine is not as it was, set it by hand: {'; '.join(left)}")


def _change(name: str, knob: Knob, value: Any) -> guard.Change:
    try:
        before = knob.control.read()
    except OSError as error:
        raise EngineError(f"the host's option {name} cannot be read: {error}") from error
    return guard.Change(name, knob.control, before, [knob.text(value)] * len(before))


def _ask(process: subprocess.Popen[bytes], changes: Sequence[guard.Change]) -> str | None:
    """Have the guard make the changes; why it cannot."""
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(BrokenPipeError):
        process.stdin.write(json.dumps([change.to_dict() for change in changes]).encode() + b"\n")
        process.stdin.flush()
        if select.select([process.stdout], [], [], GUARD_S)[0]:
            line = process.stdout.readline()
            if line:
                return json.loads(line)["refused"]
    raise EngineError("the process that sets the host's options ended, or hangs, without an answer")


def _end(process: subprocess.Popen[bytes]) -> list[str] | None:
    """Have the guard set everything back; what it could not, None where it did not answer."""
    try:
        output, _ = process.communicate(timeout=GUARD_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return None
    lines = output.splitlines()
    return json.loads(lines[-1]).get("left") if lines else None


def _boost() -> Knob:
    doc = "whether the cores may exceed their base clock"
    for path, texts in (("intel_pstate/no_turbo", "10"), ("cpufreq/boost", "01")):
        file = SYS / "devices/system/cpu" / path
        if file.exists():
            today = texts.index(_today([file]))
            return Knob(Boolean(bool(today), doc=doc), guard.Files(str(file)), partial(_on, texts))
    raise EngineUnavailable("no switch of the boost here, as on most virtual machines")


def _on(texts: str, value: bool) -> str:
    """The text of a switch, of which the first is off."""
    return texts[value]


def _governor(cores: Sequence[int]) -> Knob:
    policies = _policies(cores)
    files = [policy / "scaling_governor" for policy in policies]
    today = _today(files)
    common = _common(policies, "scaling_available_governors")
    option = Categorical(_several(common | {today}), today, doc="how the cores' clock is chosen")
    return Knob(option, guard.Files(*map(str, files)))


def _max_khz(cores: Sequence[int]) -> Knob:
    policies = _policies(cores)
    files = [policy / "scaling_max_freq" for policy in policies]
    today, doc = int(_today(files)), "highest clock of the cores"
    tables = ("scaling_available_frequencies", "scaling_boost_frequencies")
    option: Option
    if any((policy / tables[0]).exists() for policy in policies):
        levels = _several({int(text) for text in _common(policies, *tables)} | {today})
        option = Ordinal(levels, today, unit="kHz", doc=doc)
    else:
        low = max(int(read_text(policy / "cpuinfo_min_freq") or "") for policy in policies)
        high = min(int(read_text(policy / "cpuinfo_max_freq") or "") for policy in policies)
        option = Integer(low, high, default=today, unit="kHz", doc=doc)
    return Knob(option, guard.Files(*map(str, files)))


def _power(index: int) -> Knob:
    control = guard.PowerLimit(_uuid(index))
    least_mw, most_mw = control.range()
    option = Integer(
        -(-least_mw // 1000), most_mw // 1000, default=round(int(control.read()[0]) / 1000),
        unit="W", doc="power that the GPU may take",
    )  # fmt: skip
    return Knob(option, control, lambda watts: str(1000 * watts))


def _clock(index: int) -> Knob:
    control = guard.ClockLimit(_uuid(index))
    levels = _several(set(control.range()))
    return Knob(Ordinal(levels, levels[-1], unit="MHz", doc="highest clock of the GPU"), control)


def _jetson() -> Knob:
    devices = {p for name in JETSON_GPUS for p in (SYS / "class/devfreq").glob(name)}
    if len(devices) != 1:
        raise EngineUnavailable(f"{len(devices)} GPUs whose frequency the kernel scales")
    (device,) = devices
    today = int(_today([device / "max_freq"]))
    levels = _several({int(text) for text in _common([device], "available_frequencies")} | {today})
    option = Ordinal(levels, today, unit="Hz", doc="highest clock of the GPU")
    return Knob(option, guard.Files(str(device / "max_freq")))


def _uuid(index: int) -> str:
    """The GPU that CUDA programs in this process count so, if this process may set it."""
    if os.geteuid():
        raise EngineUnavailable("not root, and only root may set a GPU")
    meter = NvmlEnergy(index)
    meter.open()
    reading = meter.end()  # of no window: it tells the GPU, or why there is none
    meter.close()
    if reading.domain == "gpu":
        raise EngineUnavailable(reading.source)
    return reading.domain


def _policies(cores: Sequence[int]) -> list[Path]:
    """The folders that scale these cores' clocks; cores may share one."""
    folders = (SYS / f"devices/system/cpu/cpu{core}/cpufreq" for core in cores)
    return sorted({folder.resolve() for folder in folders})


def _today(files: Sequence[Path]) -> str:
    """The one value of these files, all of which can be written."""
    texts = set()
    for file in files:
        text = read_text(file)
        if text is None:
            raise EngineUnavailable(
                "no frequency scaling by the kernel here, as on most virtual machines"
            )
        # root may open any file to write, also those that the kernel has without a way to
        if not (file.stat().st_mode & 0o222 and os.access(file, os.W_OK)):
            raise EngineUnavailable(
                f"{file} is not writable"
                + (", as in a container" if os.geteuid() == 0 else ": you are not root")
            )
        texts.add(text)
    if len(texts) > 1:
        raise EngineUnavailable(f"the cores are set differently today: {', '.join(sorted(texts))}")
    return texts.pop()


def _common(folders: Sequence[Path], *names: str) -> set[str]:
    """The words that the files of these names list in every folder."""
    listed = (" ".join(read_text(folder / name) or "" for name in names) for folder in folders)
    return set.intersection(*(set(text.split()) for text in listed))


def _several(values: set[Any]) -> tuple[Any, ...]:
    if len(values) < 2:
        raise EngineUnavailable(f"nothing to choose from beside {', '.join(map(str, values))}")
    return tuple(sorted(values))

"""The energy counter of an NVIDIA GPU, read through NVML.

The driver counts millijoules since it was loaded (Volta and later) and moves the
counter about every 100 ms, from a sensor that on some GPUs looks at a quarter of the
time only (Yang, Adamek, Armour, 2023, "Part-time power measurements", arXiv:2312.02741).
So a window must be long, and begin at a random phase. GPUs without the counter are
`unavailable`: their power readings are averages of up to a second, and no substitute.
"""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from typing import Any

from bayestl.data.measurement import Metric
from bayestl.errors import EngineUnavailable
from bayestl.measure.meter import Kind, Reading, expect

STEP_S = 0.1
"""How often the counter moves, about."""

FIRST_PID_NAMESPACE = "pid:[4026531836]"
"""PROC_PID_INIT_INO of the kernel: in any other namespace NVML's process numbers are foreign."""


VISIBLE = re.compile(r"\d+|(GPU|MIG)-.+")


class NvmlEnergy:
    """Energy of one GPU, whole board, whoever uses it.

    Parameters
    ----------
    device : the index as CUDA programs in this process count, that is, among those that
        CUDA_VISIBLE_DEVICES leaves; or a UUID such as ``"GPU-8f2a..."``, also shortened
    """

    metric = Metric("gpu_energy", "J")
    accumulates = True
    window_s = 20 * STEP_S  # an edge is off by one step at most: 5 % at each end
    pid_namespace = Path("/proc/self/ns/pid")

    def __init__(self, device: int | str = 0) -> None:
        index = isinstance(device, int) and not isinstance(device, bool) and device >= 0
        uuid = isinstance(device, str) and device.startswith("GPU-")
        expect(index or uuid, "nvml: device as an index from 0 or a UUID 'GPU-...'", device)
        self._device = device
        self._nvml: Any = None
        self._why = "the meter is not open"
        self._domain = "gpu"
        self._others: str | None = None

    def open(self) -> None:
        self.close()
        try:
            import pynvml
        except ImportError:
            self._why = (
                'nvidia-ml-py is not installed; in the checkout of bayestl: pip install ".[nvidia]"'
            )
            return
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            self._why = f"no NVIDIA driver answers: {error}"
            return
        self._nvml = pynvml
        try:
            self._handle, self._domain = self._find()
            self._energy_mj()
        except EngineUnavailable as error:
            self.close()
            self._why = str(error)
        else:
            self._why = "no window was begun"

    def begin(self) -> None:
        self._others = None
        if self._nvml is None:
            return
        try:
            self._processes_before, _ = self._processes()
            self._start_s, self._start_mj = time.perf_counter(), self._energy_mj()
            self._why = ""
        except EngineUnavailable as error:
            self._why = str(error)

    def end(self) -> Reading:
        why, self._why = self._why, self._why or "no window was begun"
        if why:
            return self._unavailable(why)
        try:
            spent_mj = self._energy_mj() - self._start_mj
        except EngineUnavailable as error:
            return self._unavailable(str(error))
        elapsed_s = time.perf_counter() - self._start_s
        if spent_mj == 0:
            return self._unavailable(f"the counter stood still for {elapsed_s:.3f} s")
        if spent_mj < 0:
            return self._unavailable("the counter went back: the driver was loaded again")
        processes, unseen = self._processes()
        self._others = self._tell_others(self._processes_before | processes)
        source = "nvmlDeviceGetTotalEnergyConsumption" + (f"; {unseen}" if unseen else "")
        return Reading(spent_mj / 1e3, self.metric.unit, Kind.COUNTER, self._domain, STEP_S, source)

    def disturbance(self) -> str | None:
        return self._others

    def close(self) -> None:
        nvml, self._nvml, self._why = self._nvml, None, "the meter is not open"
        if nvml is not None:
            with suppress(nvml.NVMLError):  # a driver that is gone is closed enough
                nvml.nvmlShutdown()

    def _find(self) -> tuple[Any, str]:
        """The handle and the UUID of the device."""
        handles = [
            self._call("nvmlDeviceGetHandleByIndex", index)
            for index in range(self._call("nvmlDeviceGetCount"))
        ]
        uuids = [self._call("nvmlDeviceGetUUID", handle) for handle in handles]
        wanted = self._device if isinstance(self._device, str) else self._visible(self._device)
        if isinstance(wanted, str):
            found = [n for n, uuid in enumerate(uuids) if uuid.startswith(wanted)]
            if len(found) != 1:
                raise EngineUnavailable(f"{len(found)} GPUs have a UUID {wanted!r}: {uuids}")
            return handles[found[0]], uuids[found[0]]
        if wanted >= len(handles):
            raise EngineUnavailable(f"no GPU {wanted}: there are {len(handles)} here")
        names = {self._call("nvmlDeviceGetName", handle) for handle in handles}
        if len(names) > 1 and os.environ.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID":
            raise EngineUnavailable(
                f"CUDA counts GPUs of different models ({', '.join(sorted(names))}) in an order of "
                f"its own: set CUDA_DEVICE_ORDER=PCI_BUS_ID, or give a UUID of {uuids}"
            )
        return handles[wanted], uuids[wanted]

    def _visible(self, index: int) -> int | str:
        """What CUDA's device `index` is among all: an index or (the start of) a UUID."""
        setting = os.environ.get("CUDA_VISIBLE_DEVICES")
        if setting is None:
            return index
        # CUDA, too, takes no entry after the first that it cannot read, such as -1
        entries = list(takewhile(VISIBLE.fullmatch, map(str.strip, setting.split(","))))
        if index >= len(entries):
            raise EngineUnavailable(f"no GPU {index} under CUDA_VISIBLE_DEVICES={setting}")
        entry = entries[index]
        if entry.startswith("MIG-"):
            raise EngineUnavailable(
                f"{entry} is a part of a GPU, which has no counter of its own: to read the whole "
                "board give its UUID as the device"
            )
        return int(entry) if entry.isdecimal() else entry

    def _energy_mj(self) -> int:
        try:
            return self._call("nvmlDeviceGetTotalEnergyConsumption", self._handle)
        except EngineUnavailable as error:
            if isinstance(error.__cause__, self._nvml.NVMLError_NotSupported):
                raise EngineUnavailable(
                    "this GPU has no energy counter; Volta and later ones have"
                ) from error
            raise

    def _processes(self) -> tuple[set[int], str]:
        """Who computes on the device, and what of it cannot be seen."""
        try:
            running = self._call("nvmlDeviceGetComputeRunningProcesses", self._handle)
        except EngineUnavailable as error:
            return set(), f"other processes cannot be seen ({error})"
        numbers = {process.pid for process in running}
        if os.getpid() not in numbers and not self._knows_numbers():
            return numbers, "other processes cannot be told from this one (PID namespace)"
        return numbers, ""

    def _tell_others(self, numbers: set[int]) -> str | None:
        others = sorted(numbers - {os.getpid()})
        if not others:
            return None
        if len(others) == len(numbers) and not self._knows_numbers():
            if len(others) == 1:  # under a number of another namespace, it may be this one
                return None
            return f"{len(others)} processes compute on {self._domain}, and one is this one at most"
        return f"other processes compute on {self._domain}: {', '.join(map(str, others))}"

    def _knows_numbers(self) -> bool:
        try:
            return os.readlink(self.pid_namespace) == FIRST_PID_NAMESPACE
        except OSError:
            return False

    def _call(self, function: str, *arguments: Any) -> Any:
        try:
            return getattr(self._nvml, function)(*arguments)
        except self._nvml.NVMLError as error:
            raise EngineUnavailable(f"{function}: {error}") from error

    def _unavailable(self, why: str) -> Reading:
        return Reading.unavailable(self.metric.unit, self._domain, why)

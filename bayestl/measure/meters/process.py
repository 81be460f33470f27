"""What the kernel knows about this process: elapsed time, CPU time and memory."""

from __future__ import annotations

import time
from pathlib import Path

from bayestl.data.measurement import Metric
from bayestl.measure.meter import Kind, Reading


class _KernelMeter:
    """What the kernel keeps anyway: right over any window, undisturbed, with nothing to release."""

    window_s = 0.0
    accumulates = True

    def disturbance(self) -> str | None:
        return None

    def close(self) -> None:
        """Nothing to release."""


class WallClock(_KernelMeter):
    """Elapsed time by the monotonic clock."""

    metric = Metric("wall_time", "ms")

    def open(self) -> None:
        self._resolution_s = time.get_clock_info("perf_counter").resolution
        self.begin()

    def begin(self) -> None:
        self._start_ns = time.perf_counter_ns()

    def end(self) -> Reading:
        elapsed_ns = time.perf_counter_ns() - self._start_ns
        return Reading(
            elapsed_ns / 1e6,
            self.metric.unit,
            Kind.COUNTER,
            "wall",
            self._resolution_s,
            "perf_counter",
        )


class CpuTime(_KernelMeter):
    """CPU time of every thread of this process, in user space and in the kernel."""

    metric = Metric("cpu_time", "ms")

    def open(self) -> None:
        self._resolution_s = time.get_clock_info("process_time").resolution
        self.begin()

    def begin(self) -> None:
        self._start_ns = time.process_time_ns()

    def end(self) -> Reading:
        spent_ns = time.process_time_ns() - self._start_ns
        return Reading(
            spent_ns / 1e6,
            self.metric.unit,
            Kind.COUNTER,
            "process",
            self._resolution_s,
            "process_time",
        )


class PeakMemory(_KernelMeter):
    """The most memory this process ever held resident: interpreter, engine, network and all.

    VmHWM rather than ru_maxrss, which a process inherits from the one that started it.
    """

    accumulates = False
    metric = Metric("peak_memory", "MiB")
    status = Path("/proc/self/status")

    def open(self) -> None:
        """Nothing to find: the kernel keeps the file."""

    def begin(self) -> None:
        """Nothing to start: the peak is the process's."""

    def end(self) -> Reading:
        try:
            text = self.status.read_text(encoding="ascii", errors="replace")
        except OSError as error:
            return self._unavailable(str(error))
        for line in text.splitlines():
            if line.startswith("VmHWM:"):
                value = int(line.split()[1]) / 1024
                return Reading(value, self.metric.unit, Kind.COUNTER, "process", None, "VmHWM")
        return self._unavailable(f"no VmHWM in {self.status}")

    def _unavailable(self, why: str) -> Reading:
        return Reading.unavailable(self.metric.unit, "process", why)

"""Energy estimated from the power that a user has measured or looked up, and CPU time."""

from __future__ import annotations

import os
import resource
import time

from bayestl.data.measurement import Metric
from bayestl.measure.meter import Kind, Reading, expect, is_number


class EstimatedEnergy:
    r"""Energy of the machine if power is linear in how busy its processors are.

    .. math:: E = P_{idle}\, t + (P_{busy} - P_{idle})\, c / n

    with :math:`t` the elapsed time, :math:`c` the CPU time of this process and of the
    programs that it ran to their end, and :math:`n` the machine's logical processors: the
    linear model of Fan, Weber and Barroso ("Power provisioning for a warehouse-sized
    computer", ISCA 2007), integrated. It knows nothing of a GPU, of clocks, or of which
    instructions run, so that it cannot rank configurations that differ in those. Its metric
    is its own: it never meets measured joules.

    Parameters
    ----------
    idle_w : the machine's power in W when it does nothing
    busy_w : its power in W when every processor computes
    uncertainty : how far the estimate may be off, relative: 0.3 for 30 %
    """

    metric = Metric("estimated_energy", "J")
    accumulates = True
    window_s = 0.0

    def __init__(self, idle_w: float, busy_w: float, uncertainty: float) -> None:
        expect(is_number(idle_w) and idle_w >= 0, "estimate: idle_w in W, at least 0", idle_w)
        expect(
            is_number(busy_w) and busy_w > idle_w, f"estimate: busy_w in W over {idle_w}", busy_w
        )
        expect(
            is_number(uncertainty) and uncertainty > 0,
            "estimate: uncertainty above 0, such as 0.3 for 30 %",
            uncertainty,
        )
        self._idle_w, self._busy_w, self._uncertainty = idle_w, busy_w, uncertainty
        self._start: tuple[float, float] | None = None

    def open(self) -> None:
        """Nothing to find."""

    def begin(self) -> None:
        self._start = time.perf_counter(), _cpu_s()

    def end(self) -> Reading:
        if self._start is None:
            return Reading.unavailable(self.metric.unit, "machine", "no window was begun")
        (wall, cpu), self._start = self._start, None
        elapsed_s, cpu_s = time.perf_counter() - wall, _cpu_s() - cpu
        processors = os.cpu_count() or 1
        return Reading(
            self._idle_w * elapsed_s + (self._busy_w - self._idle_w) * cpu_s / processors,
            self.metric.unit,
            Kind.ESTIMATED,
            "machine",
            time.get_clock_info("process_time").resolution,
            f"{self._idle_w:g} W idle, {self._busy_w:g} W with {processors} processors busy, "
            f"off by {100 * self._uncertainty:g} % perhaps",
        )

    def disturbance(self) -> str | None:
        return None

    def close(self) -> None:
        self._start = None


def _cpu_s() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime

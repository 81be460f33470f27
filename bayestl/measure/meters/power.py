"""Energy from power that has to be sampled, since nobody counts it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from itertools import pairwise


class PowerTrace:
    """Power in W, read every `interval_s` by a thread between `start` and `stop`.

    A first and a last sample are taken by `start` and `stop` themselves, so that the
    trace covers the window to its edges. What `read_w` raises comes out of `stop`.
    """

    def __init__(self, read_w: Callable[[], float], interval_s: float) -> None:
        self._read_w, self._interval_s = read_w, interval_s
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self.abandon()
        self._times: list[float] = []
        self._watts: list[float] = []
        self._error: OSError | ValueError | None = None
        self._ended = threading.Event()
        self._sample()
        self._thread = threading.Thread(target=self._follow, name="power", daemon=True)
        self._thread.start()

    def stop(self) -> tuple[Sequence[float], Sequence[float]]:
        """Times in s and power in W, at least two of each."""
        self.abandon()
        if self._error is not None:
            raise self._error
        self._sample()
        return self._times, self._watts

    def abandon(self) -> None:
        """End the thread, if there is one."""
        if self._thread is not None:
            self._ended.set()
            self._thread.join()
            self._thread = None

    def _follow(self) -> None:
        while not self._ended.wait(self._interval_s):
            try:
                self._sample()
            except (OSError, ValueError) as error:
                self._error = error
                return

    def _sample(self) -> None:
        before = time.perf_counter()
        watts = self._read_w()
        self._times.append((before + time.perf_counter()) / 2)  # a bus takes its time
        self._watts.append(watts)


def integral(times_s: Sequence[float], watts: Sequence[float]) -> float:
    """Energy in J under straight lines between the samples (trapezoidal rule)."""
    return sum(
        (t1 - t0) * (w0 + w1) / 2
        for (t0, t1), (w0, w1) in zip(pairwise(times_s), pairwise(watts), strict=True)
    )

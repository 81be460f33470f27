"""Power of a Jetson board from its INA3221 monitors, read in sysfs and integrated.

Two drivers: the kernel's own (Documentation/hwmon/ina3221.rst; JetPack 5 and later) gives
volts and amperes, the one of older releases (JetPack 4, ``iio``) gives power.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

from bayestl.data.measurement import Metric
from bayestl.measure.meter import Kind, Reading, expect, is_number
from bayestl.measure.meters.power import PowerTrace, integral

TOTALS = ("VDD_IN", "5V_IN", "POM_5V_IN")
"""The rail that feeds the whole module, as boards name it; AGX boards have none."""


class Ina3221Energy:
    """Energy of a Jetson module, or of some of its rails, whoever uses it.

    Parameters
    ----------
    rail : the rail's label, or a list of them, whose power is added; without one the
        rail that feeds the whole module
    interval_s : time between two samples, of which each is a conversation on a slow bus
    """

    metric = Metric("board_energy", "J")
    accumulates = True
    drivers = Path("/sys/bus/i2c/drivers")

    def __init__(self, rail: str | Sequence[str] | None = None, interval_s: float = 0.05) -> None:
        rails = (rail,) if isinstance(rail, str) else rail if rail is not None else ()
        named = isinstance(rails, list | tuple) and all(isinstance(r, str) and r for r in rails)
        expect(named, "ina3221: rail as a label such as 'VDD_IN', or a list of labels", rail)
        expect(rail is None or len(set(rails)) == len(rails) > 0, "ina3221: distinct rails", rail)
        expect(
            is_number(interval_s) and 0.001 <= interval_s <= 10,
            "ina3221: interval_s from 0.001 to 10",
            interval_s,
        )
        self._asked, self._interval_s = tuple(rails), interval_s
        self._trace: PowerTrace | None = None
        self._domain = "board"
        self._why = "the meter is not open"

    @property
    def window_s(self) -> float:
        """Forty samples."""
        return 40 * self._interval_s

    def open(self) -> None:
        self.close()
        try:
            found = _rails(self.drivers)
        except OSError as error:
            self._why = str(error)
            return
        asked = self._asked or tuple(name for name in TOTALS if name in found)[:1]
        missing = [name for name in asked if name not in found]
        if not found:
            self._why = f"no INA3221 in {self.drivers}: not a Jetson with power monitors"
        elif missing or not asked:
            lack = f"no rail {', '.join(missing)}" if missing else "no rail feeds the whole module"
            self._why = f"{lack}; give some as `rail`, there are: {', '.join(sorted(found))}"
        else:
            reads = [found[name] for name in asked]
            self._trace = PowerTrace(lambda: sum(read() for read in reads), self._interval_s)
            self._domain = "+".join(asked)
            self._why = "no window was begun"

    def begin(self) -> None:
        if self._trace is None:
            return
        try:
            self._trace.start()
            self._why = ""
        except (OSError, ValueError) as error:
            self._why = str(error)

    def end(self) -> Reading:
        why, self._why = self._why, self._why or "no window was begun"
        if why or self._trace is None:
            return self._unavailable(why)
        try:
            times, watts = self._trace.stop()
        except (OSError, ValueError) as error:
            return self._unavailable(str(error))
        if not any(watts):
            return self._unavailable("the monitor showed 0 W throughout")
        return Reading(
            integral(times, watts),
            self.metric.unit,
            Kind.INTEGRATED,
            self._domain,
            max(t1 - t0 for t0, t1 in pairwise(times)),
            f"INA3221, {len(times)} samples",
        )

    def disturbance(self) -> str | None:
        """Never known: a rail cannot tell who computes."""
        return None

    def close(self) -> None:
        if self._trace is not None:
            self._trace.abandon()
        self._trace, self._why = None, "the meter is not open"

    def _unavailable(self, why: str) -> Reading:
        return Reading.unavailable(self.metric.unit, self._domain, why)


def _rails(drivers: Path) -> dict[str, Callable[[], float]]:
    """Label -> a function that reads the rail's power in W."""
    rails = {}
    for path in sorted(drivers.glob("ina3221/*/hwmon/hwmon*/in*_label")):
        channel = re.sub(r"\D", "", path.name)
        files = path.with_name(f"in{channel}_input"), path.with_name(f"curr{channel}_input")
        if all(file.exists() for file in files):  # the sum of all shunts has a label, too
            rails[_label(path)] = lambda files=files: _number(files[0]) * _number(files[1]) / 1e6
    for path in sorted(drivers.glob("ina3221x/*/iio:device*/rail_name_*")):
        channel = re.sub(r"\D", "", path.name)
        file = path.with_name(f"in_power{channel}_input")
        if file.exists():
            rails[_label(path)] = lambda file=file: _number(file) / 1e3
    rails.pop("NC", None)  # not connected
    return rails


def _label(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace").strip()


def _number(path: Path) -> float:
    """A value as the driver writes it: mV, mA or mW."""
    return int(path.read_text(encoding="ascii"))

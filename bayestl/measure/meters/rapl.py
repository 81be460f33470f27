"""The energy counters of the processor (RAPL), read from the kernel's powercap files.

Documentation/power/powercap/powercap.rst of the Linux kernel. AMD's processors have them,
too, under the same name.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bayestl.data.measurement import Metric
from bayestl.measure.meter import Kind, Reading, expect

STEP_S = 0.001
"""How often the counters move, about (Intel SDM, volume 3B, "Package RAPL domain")."""


@dataclass(frozen=True)
class _Zone:
    name: str  # "package-0", or "package-0/dram"
    counter: Path
    range_uj: int

    def energy_uj(self) -> int:
        return int(self.counter.read_text(encoding="ascii"))


class RaplEnergy:
    """Energy of every processor package of the machine, whoever uses it.

    A counter wraps after its `max_energy_range_uj`, a few minutes to an hour under
    load. One wrap in a window is seen and made good; nothing tells two from one, so that
    windows must stay shorter than that. A zone that cannot be read, or stands still,
    makes the sum `unavailable`: a part of it would look like a saving.

    Parameters
    ----------
    dram : whether memory is counted too, where the processor has a zone for it
    """

    metric = Metric("cpu_energy", "J")
    accumulates = True
    window_s = 100 * STEP_S
    root = Path("/sys/class/powercap")

    def __init__(self, dram: bool = True) -> None:
        expect(isinstance(dram, bool), "rapl: dram as true or false", dram)
        self._dram = dram
        self.close()

    def open(self) -> None:
        self.close()
        try:
            self._zones = _zones(self.root, self._dram)
            self._read_uj()
        except (OSError, ValueError) as error:
            self._zones, self._why = (), _reason(error)
        else:
            self._why = "no window was begun"

    def begin(self) -> None:
        if not self._zones:
            return
        try:
            self._start_s, self._start_uj = time.perf_counter(), self._read_uj()
            self._why = ""
        except (OSError, ValueError) as error:
            self._why = _reason(error)

    def end(self) -> Reading:
        domain = "+".join(zone.name for zone in self._zones) or "package"
        why, self._why = self._why, self._why or "no window was begun"
        if why:
            return Reading.unavailable(self.metric.unit, domain, why)
        try:
            end_uj = self._read_uj()
        except (OSError, ValueError) as error:
            return Reading.unavailable(self.metric.unit, domain, _reason(error))
        elapsed_s = time.perf_counter() - self._start_s
        spent_uj = 0
        for zone in self._zones:
            difference = end_uj[zone.name] - self._start_uj[zone.name]
            if difference < 0:  # it wrapped
                difference += zone.range_uj
            if difference <= 0:
                why = f"the counter of {zone.name} stood still for {elapsed_s:.3f} s"
                return Reading.unavailable(self.metric.unit, domain, why)
            spent_uj += difference
        return Reading(
            spent_uj / 1e6, self.metric.unit, Kind.COUNTER, domain, STEP_S, f"{self.root} energy_uj"
        )

    def disturbance(self) -> str | None:
        """Never known: the counters cannot tell who computes."""
        return None

    def close(self) -> None:
        self._zones: tuple[_Zone, ...] = ()
        self._why = "the meter is not open"

    def _read_uj(self) -> Mapping[str, int]:
        return {zone.name: zone.energy_uj() for zone in self._zones}


def _zones(root: Path, dram: bool) -> tuple[_Zone, ...]:
    """Packages and their memory; neither `psys` nor `core`, which count the same joules again.

    Nor ``intel-rapl-mmio:*``, another road to the same packages.
    """
    names = {}
    for path in sorted(root.glob("intel-rapl:*")):
        try:
            names[path.name] = (path / "name").read_text(encoding="ascii").strip()
        except OSError:  # a link whose target is masked, as in containers
            continue
    zones = []
    for place, name in names.items():
        parent = names.get(place.rpartition(":")[0])
        if name.startswith("package"):
            label = name
        elif dram and name == "dram" and parent is not None:
            label = f"{parent}/dram"
        else:
            continue
        limit = int((root / place / "max_energy_range_uj").read_text(encoding="ascii"))
        zones.append(_Zone(label, root / place / "energy_uj", limit))
    if not any("/" not in zone.name for zone in zones):
        raise FileNotFoundError(
            f"no package zone in {root} (found: {', '.join(names.values()) or 'nothing'}); virtual "
            "machines and containers hide it, elsewhere try: modprobe intel_rapl_msr"
        )
    return tuple(zones)


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, PermissionError):
        return (
            f"{error.filename}: permission denied; since Linux 5.10 root alone may read it, until "
            "root allows it: chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj (until the next "
            "start; a udev rule keeps it)"
        )
    return str(error)

import os
from pathlib import Path

import pytest

from bayestl.errors import EngineError
from bayestl.measure.meter import Kind
from bayestl.measure.meters.rapl import RaplEnergy

RANGE = 262_143_328_850
SERVER = {
    "intel-rapl:0": "package-0",
    "intel-rapl:0:0": "dram",
    "intel-rapl:1": "package-1",
    "intel-rapl:1:0": "dram",
}
LAPTOP = {
    "intel-rapl:0": "package-0",
    "intel-rapl:0:0": "core",
    "intel-rapl:0:1": "uncore",
    "intel-rapl:0:2": "dram",
    "intel-rapl:1": "psys",
    "intel-rapl-mmio:0": "package-0",
}
AMD = {"intel-rapl:0": "package-0", "intel-rapl:0:0": "core"}


class Tree:
    """/sys/class/powercap as the kernel lays it out: zones in zones, all linked from one folder."""

    def __init__(self, root, zones, range_uj=RANGE):
        self.root = root / "class"
        self.root.mkdir()
        self.zones = {}
        for place, name in zones.items():
            control, _, rest = place.partition(":")
            parts = [f"{control}:{rest[: i + 1]}" for i, c in enumerate(rest + ":") if i % 2 == 0]
            zone = root.joinpath("devices", control, *parts)
            zone.mkdir(parents=True)
            (zone / "name").write_text(f"{name}\n")
            (zone / "max_energy_range_uj").write_text(f"{range_uj}\n")
            (zone / "energy_uj").write_text("1000000\n")
            (self.root / place).symlink_to(zone)
            self.zones[place] = zone / "energy_uj"
        (self.root / "intel-rapl").mkdir()  # the control type, which counts nothing

    def spend(self, **joules):
        for place, counter in self.zones.items():
            spent = int(joules.get(place.replace("-", "_").replace(":", "_"), 0) * 1e6)
            value = int(counter.read_text()) + spent
            counter.write_text(f"{value % RANGE}\n")

    def spend_all(self, joules):
        self.spend(**{place.replace("-", "_").replace(":", "_"): joules for place in self.zones})


@pytest.fixture
def rapl(tmp_path, monkeypatch):
    """A function that lays out zones and returns them with an open meter over them."""

    def make(zones, **arguments):
        tree = Tree(tmp_path, zones)
        monkeypatch.setattr(RaplEnergy, "root", tree.root)
        meter = RaplEnergy(**arguments)
        meter.open()
        return tree, meter

    return make


def test_packages_and_their_memory_are_added(rapl):
    tree, meter = rapl(SERVER)
    meter.begin()
    tree.spend(intel_rapl_0=30, intel_rapl_0_0=4, intel_rapl_1=20, intel_rapl_1_0=3)
    reading = meter.end()
    assert reading.value == pytest.approx(57)
    assert (reading.kind, reading.unit, reading.resolution_s) == (Kind.COUNTER, "J", 0.001)
    assert reading.domain == "package-0+package-0/dram+package-1+package-1/dram"


@pytest.mark.parametrize(
    ("dram", "joules", "domain"),
    [(True, 13, "package-0+package-0/dram"), (False, 12, "package-0")],
)
def test_no_joule_is_counted_twice(rapl, dram, joules, domain):
    tree, meter = rapl(LAPTOP, dram=dram)
    meter.begin()
    tree.spend(
        intel_rapl_0=12, intel_rapl_0_0=7, intel_rapl_0_1=2, intel_rapl_0_2=1, intel_rapl_1=25,
        intel_rapl_mmio_0=12,
    )  # fmt: skip
    reading = meter.end()
    assert reading.value == pytest.approx(joules)
    assert reading.domain == domain


def test_a_counter_that_wraps_once_is_made_good(rapl):
    tree, meter = rapl(AMD)
    tree.zones["intel-rapl:0"].write_text(str(RANGE - 2_000_000))
    meter.begin()
    tree.spend(intel_rapl_0=5)
    assert int(tree.zones["intel-rapl:0"].read_text()) == 3_000_000
    assert meter.end().value == pytest.approx(5)


def test_windows_follow_one_another(rapl):
    tree, meter = rapl(AMD)
    for joules in (3, 8):
        tree.spend_all(100)  # between the windows
        meter.begin()
        tree.spend_all(joules)
        assert meter.end().value == pytest.approx(joules)


@pytest.mark.parametrize("still", ["intel_rapl_0", "intel_rapl_0_0"])
def test_a_counter_that_stands_still_is_not_zero(rapl, still):
    tree, meter = rapl(SERVER)
    places = ("intel_rapl_0", "intel_rapl_0_0", "intel_rapl_1", "intel_rapl_1_0")
    meter.begin()
    tree.spend(**{place: 5 for place in places if place != still})
    reading = meter.end()
    assert reading.kind is Kind.UNAVAILABLE
    assert "stood still" in reading.source


def test_no_zone_says_where_it_was_looked_for(rapl):
    tree, meter = rapl({"intel-rapl:0": "psys"})
    meter.begin()
    reading = meter.end()
    assert reading.value is None
    assert str(tree.root) in reading.source
    assert "found: psys" in reading.source


def test_links_that_lead_nowhere_are_no_zones(rapl):
    tree, meter = rapl(AMD)
    for counter in tree.zones.values():
        (counter.parent / "name").unlink()  # as containers mask them
    meter.open()
    meter.begin()
    assert "found: nothing" in meter.end().source


@pytest.mark.parametrize("moment", ["open", "begin", "end"])
def test_a_counter_that_root_alone_may_read_says_what_to_do(rapl, moment, monkeypatch):
    tree, meter = rapl(AMD)
    read_text = Path.read_text

    def refused(path, *args, **kwargs):  # tests may run as root, whom no mode keeps out
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied", str(path))
        return read_text(path, *args, **kwargs)

    for step in ("open", "begin", "end"):
        if step == moment:
            monkeypatch.setattr(Path, "read_text", refused)
        reading = getattr(meter, step)()
    assert reading.kind is Kind.UNAVAILABLE
    assert "chmod a+r" in reading.source
    assert str(tree.root / "intel-rapl:0" / "energy_uj") in reading.source
    monkeypatch.setattr(Path, "read_text", read_text)
    meter.open()
    meter.begin()
    tree.spend_all(2)
    assert meter.end().value == pytest.approx(2)


def test_a_counter_that_holds_no_number_is_told(rapl):
    tree, meter = rapl(AMD)
    meter.begin()
    tree.zones["intel-rapl:0"].write_text("none\n")
    assert "none" in meter.end().source


@pytest.mark.parametrize("dram", [1, None, "yes"])
def test_arguments_are_checked(dram):
    with pytest.raises(EngineError, match="rapl: dram as true or false"):
        RaplEnergy(dram=dram)


@pytest.mark.skipif(
    not os.access("/sys/class/powercap/intel-rapl:0/energy_uj", os.R_OK), reason="no RAPL here"
)
def test_this_processor_spends_energy():
    import time

    meter = RaplEnergy(dram=False)
    meter.open()
    meter.begin()
    time.sleep(meter.window_s)
    reading = meter.end()
    assert reading.kind is Kind.COUNTER, reading.source
    assert 0.01 < reading.value < 1_000

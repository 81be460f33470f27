"""A bench repeats what was disturbed, tells what stays so, and notices another level."""

import pytest

from bayestl.data.measurement import Status
from bayestl.measure import bench
from bayestl.measure.disturbance import Disturbance
from bayestl.measure.placement import FAR_NS, NEAR_NS

CALM, BUSY = Disturbance(0.0, 0.0), Disturbance(0.4, 0.2)


@pytest.fixture
def disturbed(monkeypatch):
    """A function that stages what is seen in the next attempts; calm after those."""

    def stage(*seen):
        rest = iter(seen)
        monkeypatch.setattr(bench, "disturbance", lambda *_: next(rest, CALM))
        monkeypatch.setattr(bench, "watched", lambda *_: CALM)
        monkeypatch.setattr(bench.Bench, "_place", lambda self: NEAR_NS - 1)

    return stage


def test_a_disturbed_measurement_is_repeated(staged, staged_environment, disturbed):
    runner = staged(disturbance_limit=0.15)
    disturbed(CALM, BUSY, BUSY)
    measured = runner.run({"act": "chatter"}, staged_environment)
    assert measured.status is Status.OK
    assert measured.provenance["disturbed"] == [str(BUSY), str(BUSY)]
    assert measured.provenance["foreign_share"] == 0.0


def test_what_is_disturbed_each_time_is_contaminated(staged, staged_environment, disturbed):
    runner = staged(disturbance_limit=0.15, attempts=2)
    disturbed(CALM, BUSY, BUSY)
    measured = runner.run({"act": "chatter"}, staged_environment)
    assert measured.status is Status.CONTAMINATED
    assert measured.message == "others used 40% of the cores, and 20% was stolen"
    assert not measured.values
    assert measured.samples["latency"]
    assert runner.run({"act": "chatter"}, staged_environment).ok


def test_a_failure_of_its_own_is_no_disturbance(staged, staged_environment, disturbed):
    runner = staged(disturbance_limit=0.15)
    disturbed(CALM, BUSY)
    measured = runner.run({"act": "refuse"}, staged_environment)
    assert measured.status is Status.UNSUPPORTED
    assert measured.provenance["disturbed"] == []


def test_cores_that_change_their_place_are_a_disturbance(
    staged, staged_environment, disturbed, monkeypatch
):
    runner = staged(disturbance_limit=0.15)
    disturbed()
    places = iter([NEAR_NS - 1, NEAR_NS - 1, NEAR_NS - 1, FAR_NS + 1])
    monkeypatch.setattr(bench.Bench, "_place", lambda self: next(places, FAR_NS + 1))
    measured = runner.run({"act": "chatter"}, staged_environment)
    assert measured.ok
    (why,) = measured.provenance["disturbed"]
    assert "changed their place" in why
    assert measured.provenance["placement"] == "far"


def test_a_disturbed_default_is_no_level(staged, staged_environment, disturbed):
    """What it computed counts, how long it took does not; it is measured again."""
    runner = staged(disturbance_limit=0.15, attempts=1)
    disturbed(BUSY, CALM, BUSY, CALM)
    levels = []
    for act in ("wrong", "chatter", "chatter"):
        measured = runner.run({"act": act}, staged_environment)
        assert measured.status is (Status.BAD_OUTPUT if act == "wrong" else Status.OK)
        levels.append(measured.provenance["sentinel"]["level_ms"])
    assert levels[:2] == [None, None]
    assert levels[2] > 0


def test_a_sentinel_waits_until_the_machine_is_calm(
    staged, staged_environment, disturbed, monkeypatch
):
    runner = staged(disturbance_limit=0.15, attempts=1)
    disturbed(*[BUSY] * 3, CALM, CALM)
    asked = []
    measured_at = bench.Bench._measured

    def counted(self, configuration):
        asked.append(configuration["act"])
        return measured_at(self, configuration)

    monkeypatch.setattr(bench.Bench, "_measured", counted)
    for _ in range(4):
        runner.run({"act": "chatter"}, staged_environment)
    assert asked == ["work", "chatter", "chatter", "chatter", "work", "chatter"]


def test_a_default_that_was_slow_makes_nothing_implausible(staged, staged_environment, monkeypatch):
    runner = staged(implausible_speedup=20.0, sentinel_every=None)
    slow = [1_000.0]

    def measured_at(self, request, timeout_s, run=bench.Zygote.run):
        outcome = run(self, request, timeout_s)
        samples = outcome.answer["samples"]
        samples["latency"] = [ms * (slow.pop() if slow else 1.0) for ms in samples["latency"]][:1]
        return outcome

    monkeypatch.setattr(bench.Zygote, "run", measured_at)
    measured = runner.run({"act": "chatter"}, staged_environment)
    assert not slow
    assert measured.status is Status.OK, measured.message
    measured = runner.run({"act": "fast"}, staged_environment)
    assert measured.status is Status.IMPLAUSIBLE


def test_another_level_is_told_and_counted(staged, staged_environment, caplog, monkeypatch):
    runner = staged(sentinel_every=2)
    level = [2.0]

    def measured_at(self, request, timeout_s, run=bench.Zygote.run):
        outcome = run(self, request, timeout_s)
        if outcome.answer.get("values"):
            outcome.answer["values"]["latency"] = level[0]
        return outcome

    monkeypatch.setattr(bench.Zygote, "run", measured_at)
    regimes = []
    for number in range(6):
        level[0] = 2.0 if number < 3 else 4.0
        measured = runner.run({"act": "chatter"}, staged_environment)
        regimes.append(measured.provenance["sentinel"]["regime"])
    assert regimes[0] == 1
    assert regimes[-1] == 2
    (told,) = caplog.messages
    assert "takes 4 ms instead of 2 ms: the machine has changed" in told

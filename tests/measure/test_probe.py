import json

from bayestl.measure import probe as probing
from bayestl.measure.machine import available_cores
from bayestl.measure.probe import Noise, Part, Placement, probe


def test_a_probe_says_what_works_here():
    found = probe()
    assert [meter.works for meter in found.meters] == [True, True, True]
    assert {part.name for part in found.engines} == {"onnxruntime"}
    assert found.noise.repeats >= 5
    assert found.noise.cpu_percent >= 0
    if len(available_cores()) > 1:
        assert found.placement.bounce_ns > 1
        assert found.placement.regime in ("near", "between", "far")
    json.dumps(found.to_dict(), allow_nan=False)


def test_one_core_has_no_placement():
    assert probing.probe_placement((0,)) == Placement(None, None, "unknown")


def test_a_placement_that_cannot_be_arranged_is_unknown():
    assert probing.probe_placement((0, 60_000)) == Placement((0, 60_000), None, "unknown")


def test_advice_names_what_is_wrong():
    busy = {"load_average": 3.0}
    missing = (Part("onnxruntime", False, "not installed"),)
    far, noise = Placement((0, 1), 600.0, "far"), Noise(20.0, 2.0, 50)
    advice = probing._advice(busy, (0,), "powersave", missing, far, noise)
    for word in ("pip install", "load average is 3", "20 %", "powersave", "600 ns", "One core"):
        assert any(word in sentence for sentence in advice), word


def test_a_quiet_machine_needs_no_advice():
    calm = {"load_average": 0.1}
    works = (Part("onnxruntime", True, "1.20"),)
    near, noise = Placement((0, 1), 200.0, "near"), Noise(1.0, 0.5, 50)
    assert probing._advice(calm, (0, 1), "performance", works, near, noise) == []


def test_an_engine_that_is_missing_is_reported(monkeypatch):
    monkeypatch.setattr(probing, "ENGINES", {"ghost": "no.such:Engine"})
    (part,) = probing.probe_engines()
    assert part.name == "ghost"
    assert not part.works

import pytest

from bayestl.data.measurement import Measurement, Status
from bayestl.measure import probe as probing
from bayestl.measure.meter import METERS
from bayestl.measure.probe import Repeats


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    """Nothing is looked at for long."""
    monkeypatch.setattr(probing, "NOISE_S", 0.0)
    monkeypatch.setattr(probing, "TRY_S", 0.0)


@pytest.fixture
def repeated(monkeypatch):
    """Repeats that need no engine, and a list of how many were asked for."""
    asked = []

    def repeats(engines, count, observer):
        asked.append(count)
        observer(Measurement({}, "doctor", Status.OK, {"latency": 5.25}), 1)
        observer(Measurement({}, "doctor", Status.CONTAMINATED), 2)
        return Repeats(
            "onnxruntime 1.20", "squeezenet", count, count - 1, 5.25, float(count), 1.5, 0.8,
            count + 2, ("stolen",) * 3, 1, {"near": count - 1, "far": 1},
        )  # fmt: skip

    monkeypatch.setattr(probing, "probe_repeats", repeats)
    return asked


def test_doctor_shows_engines_meters_and_advice(bayestl, repeated):
    result = bayestl("doctor", "--json")
    assert result.err == ""  # no terminal, no progress
    found = result.json
    expected = "processor cores governor turbo smt quota autogroup load noise placement advice"
    assert set(expected.split()) <= found.keys()
    assert "onnxruntime" in [engine["name"] for engine in found["engines"]]
    works = {meter["name"]: meter["works"] for meter in found["meters"]}
    assert set(METERS) <= works.keys()
    assert works["wall clock"] is True
    assert works["external"] is None
    assert repeated == [8]
    assert found["repeats"]["latency_percent"] == 8.0
    assert any("near 7 times, far 1 times" in sentence for sentence in found["advice"])


def test_doctor_is_readable(bayestl, repeated):
    text = bayestl("doctor", "--repeats", 9).out
    for words in (
        "processor",
        "squeezenet",
        "mobilenet_v2",
        "8 of 9: squeezenet on onnxruntime 1.20, 5.25 ms",
        "latency varies by 9.0 %, CPU time by 1.5 %",
        "known within 0.8 %",
        "3 of 11 attempts",
        "near 8, far 1",
        "- 3 of 11 attempts were disturbed",
    ):
        assert words in text, words


def test_repeats_can_be_left_out(bayestl, repeated):
    assert bayestl("doctor", "--repeats", 0, "--json").json["repeats"] is None
    assert "between processes" not in bayestl("doctor", "--repeats", 0).out
    assert repeated == []


def test_repeats_that_failed_say_why(bayestl, monkeypatch):
    failed = Repeats("", "", problem="no engine works here")
    monkeypatch.setattr(probing, "probe_repeats", lambda *_: failed)
    assert "none: no engine works here" in bayestl("doctor").out


def test_repeats_are_counted(refused):
    assert "--repeats" in refused("doctor", "--repeats", "-1", code=2)

def test_doctor_shows_engines_meters_and_advice(bayestl):
    found = bayestl("doctor", "--json").json
    assert {"processor", "cores", "governor", "noise", "placement", "advice"} <= found.keys()
    assert "onnxruntime" in [engine["name"] for engine in found["engines"]]
    assert all(meter["works"] for meter in found["meters"])


def test_doctor_is_readable(bayestl):
    text = bayestl("doctor").out
    assert "processor" in text
    assert "squeezenet" in text

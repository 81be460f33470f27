import pytest

from bayestl.errors import EngineError
from bayestl.measure.meter import METERS, Kind, Reading, is_number, load_meter
from bayestl.measure.meters.nvml import NvmlEnergy


def test_a_meter_is_made_of_plain_values():
    meter = load_meter(METERS["nvml"], {"device": 1})
    assert isinstance(meter, NvmlEnergy)


@pytest.mark.parametrize("reference", ["", "no.such.module:Meter", "bayestl.errors:Nothing"])
def test_a_reference_that_leads_nowhere_is_told(reference):
    with pytest.raises(EngineError, match="expected a meter at 'module:class'"):
        load_meter(reference, {})


def test_an_unknown_argument_is_told_with_those_that_exist():
    with pytest.raises(EngineError, match=r"NvmlEnergy: .*'gpu'; it takes device"):
        load_meter(METERS["nvml"], {"gpu": 1})


@pytest.mark.parametrize("arguments", [None, [0], "device"])
def test_arguments_are_a_mapping(arguments):
    with pytest.raises(EngineError, match="expected NvmlEnergy: a mapping of arguments"):
        load_meter(METERS["nvml"], arguments)


def test_what_a_meter_refuses_is_its_own_error():
    with pytest.raises(EngineError, match="expected nvml: device"):
        load_meter(METERS["nvml"], {"device": -1})


def test_an_unavailable_reading_has_a_reason_and_no_value():
    reading = Reading.unavailable("J", "gpu", "no driver")
    assert reading == Reading(None, "J", Kind.UNAVAILABLE, "gpu", None, "no driver")
    assert reading.to_dict()["kind"] == "unavailable"


@pytest.mark.parametrize(
    ("value", "known"),
    [(0, True), (-2.5, True), (True, False), (None, False), ("1", False), (float("nan"), False),
     (float("inf"), False), (10**400, False)],
)  # fmt: skip
def test_numbers_are_finite_and_no_truth_values(value, known):
    assert is_number(value) is known

import json

import numpy as np
import pytest

from bayestl.measure.outputs import MAX_ELEMENTS, difference, digest

RNG = np.random.default_rng(1)
OUTPUTS = {"logits": RNG.normal(size=(2, 500)), "labels": np.arange(7), "flag": np.array(True)}
REFERENCE = json.loads(json.dumps(digest(OUTPUTS)))


def test_equal_outputs_agree_through_json():
    assert difference(OUTPUTS, REFERENCE, 0.0) is None
    assert len(REFERENCE["logits"]["elements"]) == MAX_ELEMENTS


def test_rounding_is_no_difference():
    rounded = {**OUTPUTS, "logits": OUTPUTS["logits"].astype(np.float16)}
    assert difference(rounded, REFERENCE, 1e-2) is None
    assert difference(rounded, REFERENCE, 1e-6) is not None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"logits": OUTPUTS["logits"] * 1.1}, "differs by"),
        ({"logits": OUTPUTS["logits"][:, ::-1]}, "differs by"),
        ({"logits": np.zeros((2, 500))}, "differs by"),
        ({"logits": np.full((2, 500), np.nan)}, "1000 values are NaN"),
        ({"logits": OUTPUTS["logits"].T}, "shape"),
        ({"labels": np.array(["a"] * 7)}, "other values"),
        ({"flag": np.array(False)}, "output 'flag'"),
    ],
)
def test_differences_are_told(change, message):
    assert message in difference({**OUTPUTS, **change}, REFERENCE, 1e-2)


def test_missing_outputs_are_told():
    assert "instead of" in difference({"logits": OUTPUTS["logits"]}, REFERENCE, 1e-2)


def test_a_single_changed_unsampled_element_shows_in_the_norm():
    changed = OUTPUTS["logits"].copy()
    changed[1, 3] = 1e4  # between two sampled positions
    assert difference({**OUTPUTS, "logits": changed}, REFERENCE, 1e-2) is not None


def test_outputs_that_are_not_finite_by_default_are_compared_as_they_are():
    outputs = {"y": np.array([1.0, np.nan, np.inf])}
    reference = digest(outputs)
    assert difference(outputs, reference, 1e-2) is None
    assert difference({"y": np.array([1.0, 2.0, np.inf])}, reference, 1e-2) is not None


def test_empty_outputs_agree():
    outputs = {"boxes": np.zeros((0, 4))}
    assert difference(outputs, digest(outputs), 1e-2) is None

import pytest

from bayestl.data.measurement import Measurement, Metric, Status
from bayestl.errors import TableError


@pytest.mark.parametrize(("direction", "better"), [("minimize", 1.0), ("maximize", 3.0)])
def test_the_sign_of_a_metric_makes_smaller_better(direction, better):
    metric = Metric("m", direction=direction)
    assert min((1.0, 2.0, 3.0), key=lambda value: metric.sign * value) == better


def test_another_direction_is_refused():
    with pytest.raises(TableError, match="expected direction 'minimize' or 'maximize'"):
        Metric("m", direction="down")


def test_a_status_may_be_given_as_its_text():
    measured = Measurement({"threads": 1}, "board", "ok", {"latency": 2.0})
    assert measured.ok
    assert measured.status is Status.OK
    assert Measurement.from_dict(measured.to_dict()) == measured
    with pytest.raises(TableError, match=r"expected one of ok, invalid, .* as status, got 'fine'"):
        Measurement({"threads": 1}, "board", "fine")

import pytest

from bayestl.data.measurement import Metric
from bayestl.errors import TableError


@pytest.mark.parametrize(("direction", "better"), [("minimize", 1.0), ("maximize", 3.0)])
def test_the_sign_of_a_metric_makes_smaller_better(direction, better):
    metric = Metric("m", direction=direction)
    assert min((1.0, 2.0, 3.0), key=lambda value: metric.sign * value) == better


def test_another_direction_is_refused():
    with pytest.raises(TableError, match="expected direction 'minimize' or 'maximize'"):
        Metric("m", direction="down")

import math

import pandas as pd
import pytest

from bayestl.data.measurement import Metric
from bayestl.errors import TableError
from bayestl.report.content import Improvement, Report


@pytest.mark.parametrize(("direction", "gain"), [("minimize", 2.0), ("maximize", 0.5)])
def test_a_gain_above_one_is_an_improvement_in_either_direction(direction, gain):
    improvement = Improvement({"a": 1}, {"a": 2}, default_value=10.0, best_value=5.0)
    assert improvement.gain(Metric("m", direction=direction)) == gain


@pytest.mark.parametrize("values", [(5.0, 0.0), (0.0, 5.0), (-5.0, 5.0), (math.nan, 5.0)])
def test_values_without_a_ratio_have_no_gain(values):
    assert math.isnan(Improvement({"a": 1}, {"a": 2}, *values).gain(Metric("m")))


def test_changed_names_the_options_that_differ():
    improvement = Improvement({"a": 1, "b": None}, {"a": 1, "b": "x"}, 1.0, 1.0)
    assert improvement.changed == ("b",)


def test_a_frame_without_a_needed_column_is_refused_by_name():
    with pytest.raises(TableError, match=r"effects lacks the column 'low', 'high'"):
        Report("t", Metric("m"), effects=pd.DataFrame({"option": ["a"], "effect": [1.0]}))


def test_a_correlation_must_be_of_the_same_environments_both_ways():
    with pytest.raises(TableError, match="rows and columns"):
        Report("t", Metric("m"), correlation=pd.DataFrame([[1.0]], ["a"], ["b"]))

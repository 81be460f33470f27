import math

import pandas as pd
import pytest

from bayestl.data.measurement import Metric
from bayestl.errors import TableError
from bayestl.report.content import Improvement, Report
from bayestl.report.page import write
from bayestl.report.text import number


@pytest.mark.parametrize(("direction", "gain"), [("minimize", 2.0), ("maximize", 0.5)])
def test_a_gain_above_one_is_an_improvement_in_either_direction(direction, gain):
    improvement = Improvement({"a": 1}, {"a": 2}, default_value=10.0, best_value=5.0)
    assert improvement.gain(Metric("m", direction=direction)) == gain


@pytest.mark.parametrize(
    "values", [(0.0, 0.0), (1.0, 0.0), (0.0, 2.0), (3.0, -1.0), (-2.0, -1.0), (math.nan, 5.0)]
)
@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_values_that_are_not_positive_have_no_ratio(tmp_path, direction, values):
    metric = Metric("profit", direction=direction)
    improvement = Improvement({"a": 1}, {"a": 2}, *values)
    assert improvement.gain(metric) is None
    text = write(Report("t", metric, improvement=improvement), tmp_path).read_text()
    assert f"profit {number(values[0])}" in " ".join(text.split())
    assert "×" not in text


def test_changed_names_the_options_that_differ():
    improvement = Improvement({"a": 1, "b": None}, {"a": 1, "b": "x"}, 1.0, 1.0)
    assert improvement.changed == ("b",)


def test_a_frame_without_a_needed_column_is_refused_by_name():
    with pytest.raises(TableError, match=r"effects lacks the column 'low', 'high'"):
        Report("t", Metric("m"), effects=pd.DataFrame({"option": ["a"], "effect": [1.0]}))


def test_a_correlation_must_be_of_the_same_environments_both_ways():
    with pytest.raises(TableError, match="rows and columns"):
        Report("t", Metric("m"), correlation=pd.DataFrame([[1.0]], ["a"], ["b"]))

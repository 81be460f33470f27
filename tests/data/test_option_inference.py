"""The kind of an option follows from its values."""

import numpy as np
import pandas as pd
import pytest

from bayestl.data.option_inference import infer_option
from bayestl.data.options import Boolean, Categorical, Integer, Ordinal, Real
from bayestl.errors import TableError


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([True, False, None], Boolean()),
        (["b", "a", "b"], Categorical(("a", "b"))),
        ([2, "auto", 1], Categorical((1, 2, "auto"))),
        ([3, 1, 2, 1], Ordinal((1, 2, 3))),
        ([1.0, np.nan, 0.5], Ordinal((0.5, 1.0))),
        (range(33), Integer(0, 32)),
        (range(1, 201), Integer(1, 200, log=True)),
        (np.arange(40) / 8, Real(0, 39 / 8)),
        (np.geomspace(0.01, 2, 50), Real(0.01, 2, log=True)),
        (pd.Categorical(["x", "y"]), Categorical(("x", "y"))),
        (pd.array([1, None, 2], dtype="Int64"), Ordinal((1, 2))),
    ],
)
def test_narrowest_kind(values, expected):
    assert infer_option("x", pd.Series(values)) == expected


@pytest.mark.parametrize("number", [np.inf, 10**400])
def test_a_number_that_is_not_finite_is_no_value_of_an_option(number):
    with pytest.raises(TableError, match="'x': expected finite numbers, got an infinite one, or"):
        infer_option("x", pd.Series([1, number], dtype=object))


def test_values_that_a_file_could_not_tell_apart_are_refused_by_name():
    with pytest.raises(TableError, match="option 'x': expected distinct levels, got 1 and '1'"):
        infer_option("x", pd.Series([1, "1"], dtype=object))

"""Laws of the five kinds of option."""

import copy
import pickle

import numpy as np
import pytest
import strategies
from hypothesis import given
from hypothesis import strategies as st

from bayestl.data.options import (
    Boolean,
    Categorical,
    Integer,
    Ordinal,
    Real,
    option_from_dict,
    option_to_dict,
    same_value,
)
from bayestl.errors import ConfigurationError, SpaceError


@given(strategies.options, st.data())
def test_canonical_is_idempotent_and_keeps_the_value(option, data):
    value = data.draw(strategies.levels_of(option))
    canonical = option.canonical(value)
    assert same_value(canonical, value)
    again = option.canonical(canonical)
    assert again == canonical
    assert type(again) is type(canonical)


@given(strategies.options, st.floats(0, 1, exclude_max=True))
def test_every_quantile_is_in_the_domain(option, u):
    value = option.at(u)
    assert option.contains(value)
    assert type(option.canonical(value)) is type(value)


@given(strategies.options)
def test_the_default_is_in_the_domain(option):
    assert option.contains(option.default)


@given(strategies.options, st.data())
def test_text_names_the_value_it_came_from(option, data):
    value = option.canonical(data.draw(strategies.levels_of(option)))
    read = option.parse(str(value))
    assert read == value
    assert type(read) is type(value)


@given(strategies.options)
def test_round_trip_of_plain_values(option):
    assert option_from_dict(option_to_dict(option)) == option
    assert pickle.loads(pickle.dumps(option)) == copy.deepcopy(option) == option


@given(strategies.finite_options)
def test_quantiles_reach_every_level(option):
    if not getattr(option, "log", False):
        n = len(option.levels)
        assert [option.at((i + 0.5) / n) for i in range(n)] == list(option.levels)


@given(st.integers(1, 20), st.integers(0, 30))
def test_a_log_integer_gives_each_value_the_mass_of_its_cell(low, width):
    option = Integer(low, low + width, log=True)
    drawn = np.array([option.at(u) for u in (np.arange(4000) + 0.5) / 4000])
    for value in option.levels:
        mass = np.log((value + 1) / value) / np.log((low + width + 1) / low)
        assert abs(np.mean(drawn == value) - mass) < 2e-3


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        (Integer(1, 4), np.int64(2), 2),
        (Integer(1, 4), 2.0, 2),
        (Real(0, 4), 2, 2.0),
        (Categorical((1, 2)), 1.0, 1),
        (Categorical((1, 2)), np.float32(2), 2),
        (Ordinal((0.5, 1)), np.int8(1), 1),
        (Boolean(), np.bool_(True), True),
        (Boolean(), 0.0, False),
        (Categorical((True, "x")), np.bool_(True), True),
    ],
)
def test_numpy_and_csv_values_are_unwrapped(option, value, expected):
    found = option.canonical(value)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        (Integer(0, 4), True),
        (Integer(0, 4), "1"),
        (Integer(0, 4), 1.5),
        (Integer(0, 4), 5),
        (Real(0, 4), float("nan")),
        (Real(0, 4), float("inf")),
        (Real(0, 4), 10**400),
        (Real(0, 4), True),
        (Real(0, 4), None),
        (Categorical((1, 2)), True),
        (Categorical((1, 2)), "1"),
        (Categorical((1, 2)), [1]),
        (Categorical(("1", "2")), 1),
        (Categorical((True, "x")), 1),
        (Ordinal((1, 2)), 1.5),
        (Boolean(), 2),
        (Boolean(), "true"),
        (Boolean(), None),
    ],
)
def test_what_only_looks_like_a_value_is_refused(option, value):
    with pytest.raises(ConfigurationError, match="expected"):
        option.canonical(value)
    assert not option.contains(value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Integer(3, 1), "finite low <= high"),
        (lambda: Real(0, float("inf")), "finite low <= high"),
        (lambda: Real(0, 1, log=True), "log scale needs low > 0"),
        (lambda: Real(1, 2, log="no"), "log must be true or false, got 'no'"),
        (lambda: Integer(1.5, 3), "whole numbers"),
        (lambda: Integer(1, 3, default=4), "default is outside the domain"),
        (lambda: Categorical(()), "non-empty list"),
        (lambda: Categorical("abc"), "non-empty list"),
        (lambda: Categorical({"a", "b"}), "non-empty list"),
        (lambda: Categorical(c for c in "ab"), "non-empty list"),
        (lambda: Ordinal(3), "non-empty list of levels, got 3"),
        (lambda: Categorical(("a", "a")), "distinct levels, got 'a' and 'a'"),
        (lambda: Categorical((1, True)), "distinct levels, got 1 and True"),
        (lambda: Categorical((1, "1")), "distinct levels, got 1 and '1'"),
        (lambda: Categorical((1, 1.0)), "distinct levels"),
        (lambda: Categorical((None,)), "text, numbers or booleans"),
        (lambda: Ordinal((float("nan"),)), "text, numbers or booleans"),
        (lambda: Ordinal((2, 1)), "ascending"),
        (lambda: option_from_dict({"kind": "reel"}), "a kind out of real, integer"),
        (lambda: option_from_dict({"kind": "real", "low": 1}), "needs the key 'high'"),
        (lambda: option_from_dict({"kind": "boolean", "low": 1}), "unknown key 'low'"),
        (lambda: option_from_dict({"kind": "boolean", "unit": 1}), "unit: expected a str"),
    ],
)
def test_malformed_options_are_refused(make, message):
    with pytest.raises(SpaceError, match=message):
        make()


def test_a_large_integer_keeps_every_digit():
    option = Integer(0, 2**60 + 1)
    assert option.canonical(2**60 + 1) == option.parse(str(2**60 + 1)) == 2**60 + 1

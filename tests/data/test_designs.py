"""Classical designs keep their balance, and refuse spaces that have no place for them."""

import numpy as np
import pytest

from bayestl.data.designs import design
from bayestl.data.options import Boolean, Categorical, Integer, Ordinal, Real
from bayestl.data.space import ConfigSpace
from bayestl.errors import SpaceError

NUMBERS = {
    "threads": Ordinal((1, 2, 4, 8, 16)),
    "batch": Integer(1, 9),
    "share": Real(0.01, 1.0, log=True),
    "fixed": Ordinal((7,)),
}
SWITCHES = {
    "layout": Categorical(("nchw", "nhwc")),
    "spin": Boolean(),
    "threads": Ordinal((1, 2, 4)),
}


def test_plackett_burman_is_balanced_and_orthogonal_between_lowest_and_highest():
    space = ConfigSpace({**SWITCHES, "batch": Integer(1, 8), "on": Boolean()})
    found = design(space, "plackett_burman")
    assert (len(found), found.dropped) == (8, 0)
    frame = found.configurations
    assert set(frame["threads"]) == {1, 4}
    assert set(frame["batch"]) == {1, 8}
    signs = np.column_stack([np.where(frame[n] == frame[n].max(), 1, -1) for n in space.names])
    np.testing.assert_array_equal(signs.T @ signs, 8 * np.eye(5))
    np.testing.assert_array_equal(signs.sum(axis=0), 0)


def test_box_behnken_varies_two_options_at_a_time_around_the_middle():
    found = design(ConfigSpace(NUMBERS), "box_behnken")
    frame = found.configurations
    assert len(found) == 13
    at_middle = (frame["threads"] == 4).astype(int) + (frame["batch"] == 5)
    at_middle += np.isclose(frame["share"].astype(float), 0.1)
    assert sorted(at_middle) == [1] * 12 + [3]
    assert set(frame["threads"]) == {1, 4, 16}
    assert set(frame["fixed"]) == {7}


def test_central_composite_is_corners_faces_and_centre():
    frame = design(ConfigSpace(NUMBERS), "central_composite").configurations
    assert len(frame) == 8 + 6 + 1
    outer = frame["threads"].isin([1, 16]).astype(int) + frame["batch"].isin([1, 9])
    outer += ~np.isclose(frame["share"].astype(float), 0.1)
    assert sorted(outer) == [0] + [1] * 6 + [3] * 8


def test_every_run_is_valid_and_what_is_dropped_is_counted():
    space = ConfigSpace(NUMBERS, ["not (threads == 16 and batch == 9)"])
    found = design(space, "central_composite")
    assert (len(found), found.dropped) == (13, 2)
    assert all(space.contains(record) for record in space.records(found.configurations))


def test_options_that_are_not_active_are_empty_and_runs_distinct():
    space = ConfigSpace(
        {"mode": Categorical(("a", "b")), "spin": Boolean()}, conditions={"spin": "mode == 'a'"}
    )
    found = design(space, "plackett_burman")
    assert len(found) == 3
    assert found.dropped == 0
    assert found.configurations["spin"].isna().sum() == 1
    assert all(space.contains(record) for record in space.records(found.configurations))


def test_the_seed_orders_the_runs():
    space = ConfigSpace(NUMBERS)
    first, again, other = (design(space, "box_behnken", seed=s).configurations for s in (1, 1, 2))
    assert first.equals(again)
    assert not first.equals(other)
    assert sorted(map(tuple, first.to_numpy())) == sorted(map(tuple, other.to_numpy()))


@pytest.mark.parametrize(
    ("options", "method", "message"),
    [
        (NUMBERS, "taguchi", "expected a design of plackett_burman"),
        ({"a": Categorical(("x", "y", "z"))}, "plackett_burman", "3 unordered choices; fix it"),
        ({**NUMBERS, "spin": Boolean()}, "box_behnken", r"two levels; fix it.*spin=False"),
        ({"a": Real(0, 1), "b": Real(0, 1)}, "box_behnken", "at least 3 options that vary, got 2"),
        ({"a": Ordinal((1,))}, "plackett_burman", "at least 1 options that vary, got 0"),
        (
            {f"x{i}": Real(0, 1) for i in range(20)},
            "central_composite",
            "of 20 options has more than",
        ),
    ],
)
def test_a_space_without_a_place_for_the_design_is_refused(options, method, message):
    with pytest.raises(SpaceError, match=message):
        design(ConfigSpace(options), method)


def test_constraints_that_refuse_every_run_are_an_error():
    space = ConfigSpace({"a": Integer(0, 10, default=5), "b": Integer(0, 10)}, ["a == 5"])
    with pytest.raises(SpaceError, match="none of the 4 runs"):
        design(space, "plackett_burman")

"""Laws of configuration spaces."""

import copy
import itertools
import json
import pickle

import numpy as np
import pandas as pd
import pytest
import strategies
from hypothesis import given
from hypothesis import strategies as st

from bayestl.data.options import Boolean, Categorical, Integer, Ordinal, Real
from bayestl.data.space import ConfigSpace
from bayestl.errors import ConfigurationError, SpaceError

SPACE = ConfigSpace(
    {
        "spin": Integer(0, 9),
        "mode": Categorical(("sequential", "parallel")),
        "threads": Integer(1, 8),
        "level": Categorical((1, 2, "all")),
    },
    constraints=["mode == 'sequential' or threads >= 2"],
    conditions={"spin": "mode == 'parallel'"},
)
VALID = {"spin": 3, "mode": "parallel", "threads": 2, "level": 1}


@given(strategies.spaces().flatmap(lambda s: st.tuples(st.just(s), strategies.configurations(s))))
def test_configuration_is_idempotent(given_):
    space, configuration = given_
    assert space.contains(configuration)
    assert space.configuration(configuration) == configuration
    assert tuple(configuration) == space.names


@given(
    strategies.spaces().flatmap(
        lambda s: st.lists(strategies.configurations(s)).map(lambda c: (s, c))
    )
)
def test_frame_is_configuration_row_by_row(given_):
    space, configurations = given_
    frame = space.frame(configurations)
    assert space.records(frame) == configurations
    pd.testing.assert_frame_equal(space.frame(frame), frame)
    assert space.satisfied(frame).all()
    assert (space.active(frame).to_numpy() == frame.notna().to_numpy()).all()


@given(strategies.spaces(), st.data())
def test_frame_refuses_what_configuration_refuses(space, data):
    anything = st.one_of(strategies.numbers, strategies.words, st.booleans())
    rows = st.fixed_dictionaries(dict.fromkeys(space.names, anything))
    records = data.draw(st.lists(st.one_of(rows, strategies.configurations(space)), min_size=1))
    invalid = [row for row, record in enumerate(records) if not space.contains(record)]
    frame = pd.DataFrame(records, columns=list(space.names), dtype=object)
    if not invalid:
        assert len(space.frame(frame)) == len(records)
        return
    with pytest.raises(ConfigurationError, match=rf"^row {invalid[0]}: "):
        space.frame(frame)


@given(strategies.spaces())
def test_round_trips(space):
    twin = ConfigSpace.from_dict(json.loads(json.dumps(space.to_dict())))
    for other in (twin, pickle.loads(pickle.dumps(space)), copy.deepcopy(space)):
        assert other == space
        assert other.names == space.names
        assert hash(other) == hash(space)


@given(st.data())
def test_union_contains_both(data):
    left = data.draw(strategies.spaces(finite=True))
    chosen = data.draw(st.lists(strategies.configurations(left), min_size=1, max_size=4))
    others = data.draw(st.lists(strategies.configurations(left), min_size=1, max_size=4))
    parts = [left.restricted(left.frame(rows)) for rows in (chosen, others)]
    kinds = [[type(option) for option in part.options.values()] for part in parts]
    if kinds[0] != kinds[1]:  # a boolean with one value left is a categorical
        return
    union = ConfigSpace.union(parts)
    for configuration in (*chosen, *others):
        assert union.contains(configuration)


@given(strategies.spaces(), st.data())
def test_restricted_holds_its_rows_and_nothing_outside_the_space(space, data):
    rows = data.draw(st.lists(strategies.configurations(space), max_size=4))
    restricted = space.restricted(space.frame(rows))
    assert all(restricted.contains(row) for row in rows)
    assert space.contains(restricted.default)


def test_numpy_pandas_and_csv_values_mean_what_they_are():
    frame = pd.DataFrame(
        {
            "spin": [np.float64(3), np.nan],
            "mode": pd.Categorical(["parallel", "sequential"]),
            "threads": np.array([2.0, 1.0]),
            "level": [1.0, "all"],
        },
        index=["a", "b"],
    )
    found = SPACE.frame(frame)
    assert SPACE.records(found) == [
        VALID,
        {"spin": None, "mode": "sequential", "threads": 1, "level": "all"},
    ]
    assert list(found.index) == ["a", "b"]
    assert [type(value) for value in found.iloc[0]] == [int, str, int, int]


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA, pd.NaT])
def test_every_kind_of_missing_is_not_active(missing):
    record = {"spin": missing, "mode": "sequential", "threads": 1, "level": 2}
    assert SPACE.frame(pd.DataFrame([record], dtype=object))["spin"].tolist() == [None]
    assert SPACE.configuration(record)["spin"] is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"level": True}, r"row 'b': option 'level': expected one of 1, 2, 'all', got True"),
        ({"level": "1"}, r"row 'b': option 'level': .* got '1'"),
        ({"level": [1]}, r"row 'b': option 'level': .* got \[1\]"),
        ({"threads": 9}, r"row 'b': option 'threads': expected a whole number in \[1, 8\], got 9"),
        ({"threads": 1}, r"row 'b': .* violates the constraint \"mode == 'sequential' or"),
        ({"mode": "sequential"}, r"row 'b': option 'spin' is active only where .* leave it out"),
        (
            {"spin": None},
            r"row 'b': no value of 'spin'; .* fill it in, or say in a ConfigSpace",
        ),
        ({"threads": np.nan}, r"row 'b': no value of 'threads'"),
    ],
)
def test_frame_names_the_row(change, message):
    frame = pd.DataFrame([VALID, VALID | change], index=["a", "b"], dtype=object)
    with pytest.raises(ConfigurationError, match=f"^{message}"):
        SPACE.frame(frame)


def test_one_and_true_in_one_column_are_told_apart():
    space = ConfigSpace({"x": Integer(0, 3)})
    with pytest.raises(ConfigurationError, match=r"row 1: .* got True"):
        space.frame(pd.DataFrame({"x": [1, True]}, dtype=object))


def test_frame_needs_every_column_once():
    with pytest.raises(ConfigurationError, match=r"missing \['level'\]"):
        SPACE.frame(pd.DataFrame([VALID]).drop(columns="level"))
    with pytest.raises(ConfigurationError, match="distinct columns"):
        SPACE.frame(pd.concat([pd.DataFrame([VALID])] * 2, axis=1))
    with pytest.raises(ConfigurationError, match="distinct columns of one name each"):
        SPACE.frame(pd.concat([pd.DataFrame([VALID])], keys=["x"], axis=1).swaplevel(axis=1))


def test_a_list_names_its_row_and_fills_in_defaults():
    assert SPACE.records(SPACE.frame([{"threads": 3}])) == [SPACE.default | {"threads": 3}]
    with pytest.raises(ConfigurationError, match=r"^row 1: unknown option 'thread'; expected one"):
        SPACE.frame([VALID, {"thread": 3}])


@pytest.mark.parametrize(
    ("configs", "message"),
    [
        (VALID, r"expected a frame or a list of configurations, such as .*, got one dict"),
        (3, "expected a frame or a list of configurations"),
        (pd.Series(VALID), "row 0: expected option -> value, such as"),
        (np.ones((1, 4)), "row 0: expected option -> value, such as"),
    ],
)
def test_what_is_no_list_of_configurations(configs, message):
    with pytest.raises(ConfigurationError, match=f"^{message}"):
        SPACE.frame(configs)


def test_empty_frames_stay_empty():
    assert SPACE.frame([]).shape == SPACE.frame(pd.DataFrame(columns=SPACE.names)).shape == (0, 4)


def test_an_option_below_an_inactive_one_is_not_active():
    space = ConfigSpace(
        {"c": Boolean(), "b": Boolean(), "a": Boolean()}, conditions={"c": "not b", "b": "a"}
    )
    assert space.default == {"c": None, "b": None, "a": False}
    assert space.configuration({"a": True}) == {"c": False, "b": False, "a": True}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (({},), "at least one option"),
        ((["a"],), r"expected options by their names, such as .*, got \['a'\]"),
        (({"": Boolean()},), "names that are text"),
        (({"a": 3},), "expected a kind such as Integer"),
        (({"a": Boolean()}, ["b"]), "'b' names the unknown option 'b'; expected one of a"),
        (({"a": Boolean()}, "a"), "expected a list of constraints"),
        (({"a": Boolean()}, ["a"]), "the default configuration violates 'a'"),
        (({"a": Boolean()}, [], {"b": "a"}), "condition names the unknown option 'b'"),
        (({"a": Boolean()}, [], {"a": "a"}), "conditions form a circle: a -> a"),
    ],
)
def test_malformed_spaces_are_refused(arguments, message):
    with pytest.raises(SpaceError, match=message):
        ConfigSpace(*arguments)


def test_union_merges_levels_in_an_order_that_agrees():
    def union(*options):
        return ConfigSpace.union([ConfigSpace({"x": option}) for option in options]).options["x"]

    assert union(Ordinal((1, 3)), Ordinal((2, 3))).levels == (1, 2, 3)
    merged = union(Ordinal(("low", "high")), Ordinal(("low", "mid", "high")))
    assert merged.levels == ("low", "mid", "high")
    assert union(Categorical(("a", "b")), Categorical(("c", "b"))).choices == ("a", "b", "c")
    assert union(Integer(2, 4), Integer(1, 3)) == Integer(1, 4, default=2)
    assert union(Boolean(), Boolean(True)) == Boolean()
    with pytest.raises(SpaceError, match="ordered in different ways"):
        union(Ordinal(("a", "b")), Ordinal(("b", "a")))
    with pytest.raises(SpaceError, match="one kind and unit"):
        union(Ordinal((1, 2), unit="MHz"), Ordinal((1, 2), unit="GHz"))
    with pytest.raises(SpaceError, match="distinct levels, got 1 and True"):
        union(Categorical((1, "a")), Categorical((True, "b")))


def test_union_of_nothing_is_no_space():
    with pytest.raises(SpaceError, match="expected at least one space"):
        ConfigSpace.union([])


def test_union_keeps_only_what_holds_everywhere():
    options = {"a": Integer(0, 3), "b": Integer(0, 3)}
    union = ConfigSpace.union(
        [ConfigSpace(options, ["a <= b", "b < 3"]), ConfigSpace(options, ["a <= b"])]
    )
    assert [constraint.text for constraint in union.constraints] == ["a <= b"]
    with pytest.raises(SpaceError, match="same conditions"):
        ConfigSpace.union([ConfigSpace(options, [], {"a": "b > 1"}), ConfigSpace(options)])
    with pytest.raises(SpaceError, match=r"\['c'\] differ"):
        ConfigSpace.union([ConfigSpace(options), ConfigSpace({**options, "c": Boolean()})])


def test_subspace_fixes_options():
    space = SPACE.subspace(threads=4.0)
    assert space.options["threads"] == Integer(4, 4)
    assert space.cardinality == SPACE.cardinality / 8
    with pytest.raises(ConfigurationError, match="option 'threads': expected a whole number"):
        SPACE.subspace(threads=9)
    with pytest.raises(ConfigurationError, match="unknown option 'thread'"):
        SPACE.subspace(thread=1)


def test_keys_are_equal_for_equal_configurations():
    keys = {SPACE.key(SPACE.configuration(v)) for v in (VALID, VALID | {"threads": np.float32(2)})}
    assert len(keys) == 1


def test_cardinality():
    assert SPACE.cardinality == len(
        list(itertools.product(range(10), range(2), range(8), range(3)))
    )
    assert ConfigSpace({"x": Real(0, 1)}).cardinality == float("inf")


def test_union_of_a_fixed_boolean_with_the_whole_one() -> None:
    whole = ConfigSpace({"arena": Boolean(True), "threads": Integer(1, 4)})
    assert ConfigSpace.union([whole.subspace(arena=False), whole]).options == whole.options

"""A measurement table is checked once, and stays canonical."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import strategies
from hypothesis import given
from hypothesis import strategies as st

from bayestl.data.environment import Environment
from bayestl.data.measurement import Measurement, Metric, Status
from bayestl.data.options import Boolean, Categorical, Integer, Ordinal, Real
from bayestl.data.space import ConfigSpace
from bayestl.data.table import ENVIRONMENT, STATUS, MeasurementTable, Schema
from bayestl.errors import ConfigurationError, SpaceError, TableError, UnknownEnvironment


def frame_of(**columns) -> pd.DataFrame:
    base = {"cpu_mhz": [345, 960, 345], "board": ["tx2", "tx2", "xavier"], "y": [3.0, 2.0, 1.0]}
    return pd.DataFrame(base | columns)


def table_of(frame=None, **roles) -> MeasurementTable:
    base = {"options": ["cpu_mhz"], "environment": "board", "metrics": {"y": "ms"}}
    return MeasurementTable.from_frame(frame_of() if frame is None else frame, **(base | roles))


@given(strategies.tables())
def test_the_frame_is_canonical(table):
    assert table.space.frame(table.frame).equals(table.configurations())
    assert list(table.frame.columns) == [*table.space.names, ENVIRONMENT, STATUS, "latency", "rate"]
    assert set(table.frame[ENVIRONMENT]) <= set(table.environment_names)
    failed = table.failures()
    assert failed.frame[["latency", "rate"]].isna().all(axis=None)
    assert len(failed) + (table.frame[STATUS] == "ok").sum() == len(table)


@given(strategies.spaces(), st.data())
def test_concat_holds_every_row(space, data):
    tables = data.draw(st.lists(strategies.tables(space), min_size=1, max_size=3))
    known: dict[str, Environment] = {}
    tables = [t.knowing(*(known.setdefault(e.name, e) for e in t.environments)) for t in tables]
    joined = MeasurementTable.concat(tables)
    assert joined.space == space
    assert joined.frame.equals(pd.concat([t.frame for t in tables], ignore_index=True))
    assert set(joined.environment_names) == set(known)


@given(strategies.tables(), st.data())
def test_the_space_of_an_environment_holds_its_rows_and_no_more(table, data):
    name = data.draw(st.sampled_from(table.environment_names))
    space = table.space_of(name)
    rows = table.of(name)
    kept = ~rows.frame[STATUS].isin(("invalid", "unsupported")).to_numpy()
    configurations = rows.space.records(rows.frame[kept])
    assert all(space.contains(configuration) for configuration in configurations)
    assert table.space.contains(space.default)
    if not configurations:
        assert space == table.space


def test_boards_with_different_frequency_tables():
    tables = [
        MeasurementTable.from_frame(
            pd.DataFrame({"cpu_mhz": levels, "mode": "a", "y": 1.0}),
            options={"cpu_mhz": Ordinal(tuple(levels), unit="MHz"), "mode": None},
            metrics={"y": "ms"},
            environment=Environment(board),
        )
        for board, levels in {"tx2": [345, 960], "xavier": [115, 345, 2265]}.items()
    ]
    joined = MeasurementTable.concat(tables)
    assert joined.space.options["cpu_mhz"].levels == (115, 345, 960, 2265)
    assert joined.space_of("tx2") == tables[0].space
    assert joined.space_of("xavier").options["cpu_mhz"].levels == (115, 345, 2265)
    assert joined.knowing(Environment("nano")).space_of("nano") == joined.space
    with pytest.raises(UnknownEnvironment, match="unknown environment 'orin'; expected one of tx2"):
        joined.space_of("orin")


def clocked(status: str = "ok", declared: tuple = (), **rows: list[float]) -> MeasurementTable:
    """Measurements of boards at clocks, each row another configuration."""
    frame = pd.concat([pd.DataFrame({"mhz": mhz, "board": board}) for board, mhz in rows.items()])
    return MeasurementTable.from_frame(
        frame.assign(other=np.arange(len(frame)), fast=True, y=1.0, how=status),
        options={"mhz": Real(100, 3000), "other": Integer(0, 10_000), "fast": None},
        environment="board",
        environments=declared,
        metrics={"y": "ms"},
        status="how",
    )


def test_rows_show_the_levels_of_an_environment_once_there_are_enough():
    """Of n levels seen in m rows: (n / (n + 1)) ** m is at most a thousandth."""
    enough = clocked(a=[345.0, 960.0, 1200.0] * 9)
    assert enough.levels_of("a") == {"mhz": (345.0, 960.0, 1200.0)}
    assert clocked("crash", a=[345.0, 960.0, 1200.0] * 9).levels_of("a") == enough.levels_of("a")
    assert clocked(a=[345.0, 960.0, 1200.0] * 8).levels_of("a") == {}
    assert clocked("unsupported", a=[345.0, 960.0, 1200.0] * 9).levels_of("a") == {}
    repeated = MeasurementTable.concat([enough.select(range(8))] * 6)
    assert repeated.levels_of("a") == {}  # more of the same shows nothing


def test_whether_levels_may_differ_is_told_from_counts_of_rows():
    one, other = [345.0, 960.0, 1200.0], [345.0, 960.0, 1400.0]
    assert not clocked(a=one * 9).levels_may_differ()
    assert not clocked(a=one * 9, b=one * 12).levels_may_differ()
    assert clocked(a=one * 9, b=other * 9).levels_may_differ()
    assert not clocked(a=one * 9, b=other * 8).levels_may_differ()  # of b they are not known
    assert not clocked("unsupported", a=one * 9, b=other * 9).levels_may_differ()
    assert clocked("crash", a=one * 9, b=other * 9).levels_may_differ()
    declared = Environment("b", levels={"mhz": [345, 1400]})
    assert clocked(declared=(declared,), a=one, b=other).levels_may_differ()


def test_an_environment_may_declare_its_levels():
    table = clocked(declared=(Environment("a", levels={"mhz": [200, 1300]}),), a=[345.0, 960.0])
    assert table.levels_of("a") == {"mhz": (200, 1300)}
    known = table.knowing(Environment("b", levels={"other": (1, 2)}))
    assert known.levels_of("b") == {"other": (1, 2)}
    with pytest.raises(TableError, match=r"'a' declares levels of 'mhz' from 0.2 to 1.3 and was "):
        table.knowing(Environment("a", levels={"mhz": (0.2, 1.3)})).levels_of("a")


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        ({"gpu": (1, 2)}, "'gpu': expected a numeric option, one of mhz, other"),
        ({"fast": (0, 1)}, "'fast': expected a numeric option, one of mhz, other"),
        ({"mhz": (0, 1300)}, "'mhz': got 0, but the option starts at 100"),
    ],
)
def test_levels_are_of_the_options_that_there_are(levels, message):
    board = Environment("a", levels=levels)
    for make in (
        lambda: clocked(declared=(board,), a=[345]),
        lambda: clocked(a=[345]).knowing(board),
    ):
        with pytest.raises(UnknownEnvironment, match=f"environment 'a': levels of {message}"):
            make()


def test_the_space_of_an_environment_starts_at_a_valid_default():
    space = ConfigSpace({"a": Integer(1, 9), "b": Integer(1, 9)}, ["a * b <= 9"])
    frame = pd.DataFrame({"a": [3, 9], "b": [3, 1], "y": 1.0})
    table = table_of(frame, options=space, environment=Environment("e"))
    assert table.space_of("e").default == {"a": 3, "b": 3}


def test_kinds_may_be_given_for_some_options():
    frame = frame_of(x=[0.5, 1, 2])
    table = table_of(frame, options={"cpu_mhz": Ordinal((345, 960, 1200)), "x": None})
    assert table.space.options == {
        "cpu_mhz": Ordinal((345, 960, 1200)),
        "x": Ordinal((0.5, 1.0, 2.0)),
    }


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: table_of(options=["mhz"]), TableError, "missing column 'mhz'; the table has"),
        (lambda: table_of(metrics={"z": "s"}), TableError, "missing column 'z'"),
        (lambda: table_of(environment="where"), TableError, "missing column 'where'"),
        (lambda: table_of(options=["y"]), TableError, "duplicate column 'y'.*in one role"),
        (
            lambda: table_of(pd.concat([frame_of(), frame_of()[["y"]]], axis=1)),
            TableError,
            "duplicate column 'y': each may appear once",
        ),
        (lambda: table_of(frame_of().iloc[:0]), TableError, "got an empty table"),
        (lambda: table_of(frame_of(y=[1, np.nan, 2])), TableError, "row 1 is NaN in 'y'; drop it"),
        (lambda: table_of(frame_of(y=[1, 2, -np.inf])), TableError, "infinite value in row 2"),
        (
            lambda: table_of(frame_of(y=["1", "2 ms", None])),
            TableError,
            "'y': expected numbers, got '2 ms' in row 1",
        ),
        (
            lambda: table_of(frame_of(y=pd.to_timedelta([1, 2, 3], "s"))),
            TableError,
            r"'y': expected numbers, got a column of timedelta64.*in the metric's unit",
        ),
        (
            lambda: table_of(frame_of(y=pd.to_datetime(["2024-01-01"] * 3))),
            TableError,
            r"'y': expected numbers, got a column of datetime64",
        ),
        (lambda: table_of(frame_of(y=[1j, 2, 3])), TableError, "got a column of complex128"),
        (
            lambda: table_of(frame_of(y=[1, 10**400, 2])),
            TableError,
            r"'y': expected numbers up to 1.8e\+308, got a larger one; convert",
        ),
        (
            lambda: table_of(environments=["a"]),
            TableError,
            r"expected a list of environments, such as .*, got \['a'\]",
        ),
        (
            lambda: table_of(environments=Environment("u")),
            TableError,
            r"expected a list of environments, such as .*, got Environment\(name='u'",
        ),
        (
            lambda: table_of(environments=[Environment("a", "TX2"), Environment("a", "Xavier")]),
            TableError,
            "environment 'a' is described in two ways",
        ),
        (
            lambda: table_of(
                environment=Environment("a", "TX2"), environments=[Environment("a", "Xavier")]
            ),
            TableError,
            "environment 'a' is described in two ways",
        ),
        (
            lambda: table_of(pd.concat({"run": frame_of()}, axis=1)),
            TableError,
            "expected columns with one name each, got 2 lines of names",
        ),
        (lambda: table_of().knowing("u"), TableError, "expected a list of environments"),
        (lambda: table_of([{"y": 1}]), TableError, "expected a pandas DataFrame, got a list"),
        (lambda: table_of(environment=None), TableError, "names the environment.*got None"),
        (
            lambda: table_of(environment="environment"),
            TableError,
            "missing column 'environment'.*; say which column names the environment",
        ),
        (
            lambda: table_of(frame_of(cpu_mhz=[[1], [2], None])),
            TableError,
            "option 'cpu_mhz': expected text, booleans or numbers, got list",
        ),
        (
            lambda: table_of(frame_of(y=[1, 2, np.nan]).iloc[1:]),  # labels that NumPy made
            TableError,
            r"^row 2 is NaN",
        ),
        (lambda: table_of(frame_of(board=["a", None, "b"])), TableError, "row 1 names no envir"),
        (lambda: table_of(frame_of(s="lost"), status="s"), TableError, "'s': 'lost'.*one of ok"),
        (lambda: table_of(options="cpu_mhz"), TableError, "expected a list of columns"),
        (lambda: table_of(metrics={}), TableError, "expected at least one metric"),
        (lambda: table_of(frame_of(status=1), options=["status"]), TableError, "'status' is a col"),
        (
            lambda: table_of(frame_of(environment=1.0), metrics={"environment": "ms"}),
            TableError,
            "'environment' is a column of every table",
        ),
        (
            lambda: table_of(options={"cpu_mhz": Ordinal((345, 1200))}),
            ConfigurationError,
            "row 1: option 'cpu_mhz': expected one of 345, 1200, got 960",
        ),
        (
            lambda: table_of(options=ConfigSpace({"cpu_mhz": Integer(1, 999)}, ["cpu_mhz < 900"])),
            ConfigurationError,
            r"row 1: \{'cpu_mhz': 960\} violates the constraint 'cpu_mhz < 900'",
        ),
        (
            lambda: table_of(frame_of(cpu_mhz=[1, None, 2])),
            ConfigurationError,
            "row 1: no value of 'cpu_mhz'",
        ),
        (
            lambda: table_of(frame_of(cpu_mhz=[None] * 3)),
            TableError,
            "option 'cpu_mhz': no value in any row",
        ),
        (
            lambda: table_of(frame_of(cpu_mhz=[1, np.inf, 2])),
            TableError,
            "option 'cpu_mhz': expected finite numbers",
        ),
        (
            lambda: table_of(frame_of(cpu_mhz=pd.to_datetime(["2020", "2021", "2022"]))),
            TableError,
            "option 'cpu_mhz': expected text, booleans or numbers, got Timestamp",
        ),
        (
            lambda: MeasurementTable.concat([table_of(), table_of(metrics={"y": "s"})]),
            TableError,
            r"mixed units: 'y' is y \[ms\] in one table and y \[s\] in another",
        ),
        (
            lambda: MeasurementTable.concat(
                [table_of(), table_of(metrics=[Metric("y", "ms", "maximize")])]
            ),
            TableError,
            "mixed directions: 'y' is to minimize in one table and to maximize in another",
        ),
        (lambda: MeasurementTable.concat([]), TableError, "at least one table"),
        (
            lambda: MeasurementTable.concat(
                [table_of(), table_of(environments=[Environment("tx2", "Jetson")])]
            ),
            TableError,
            "environment 'tx2' is described in two ways",
        ),
        (
            lambda: MeasurementTable.concat(
                [table_of(), table_of(frame_of(cpu_mhz=["a", "b", "c"]))]
            ),
            SpaceError,
            "'cpu_mhz': expected one kind and unit .*, got ordinal, categorical; name the kind",
        ),
        (lambda: table_of().metric("z"), TableError, "unknown metric 'z'; expected one of y"),
        (lambda: table_of().of("z"), UnknownEnvironment, "unknown environment 'z'"),
        (lambda: table_of().without("z"), UnknownEnvironment, "unknown environment 'z'"),
    ],
)
def test_what_is_no_table(make, error, message):
    with pytest.raises(error, match=f"(?s){message}"):
        make()


def test_failures_are_rows():
    frame = frame_of(y=["out of memory", 2, np.inf], s=["oom", "ok", "timeout"])
    table = table_of(frame, status="s")
    assert table.usable("y").frame["y"].tolist() == [2.0]
    assert table.usable("y").environment_names == ("tx2", "xavier")
    assert table.failures().frame[STATUS].tolist() == ["oom", "timeout"]
    assert table.failures().frame["y"].isna().all()


def test_rows_are_chosen():
    table = table_of()
    assert len(table.select([])) == 0
    assert table.select([2, 0]).frame["y"].tolist() == [1.0, 3.0]
    assert table.select(np.array([False, True, False])).frame["y"].tolist() == [2.0]
    assert table.of("xavier", "xavier").environment_names == ("xavier",)
    assert table.of("xavier").environment_names == table.without("tx2").environment_names


@pytest.mark.parametrize(
    ("option", "metric", "message"),
    [
        ("y", "y", "duplicate column 'y'.*in one role"),
        ("environment", "y", "'environment' is a column of every table"),
        ("status", "y", "'status' is a column of every table"),
        ("a", "status", "'status' is a column of every table"),
    ],
)
def test_no_option_of_measurements_is_lost_to_another_column(option, metric, message):
    measured = Measurement({option: True}, "e", Status.OK, {metric: 2.0})
    with pytest.raises(TableError, match=message):
        MeasurementTable.from_measurements(
            [measured], space=ConfigSpace({option: Boolean()}), metrics={metric: "s"}
        )


def test_a_measurement_is_finite():
    space, measured = ConfigSpace({"a": Boolean()}), Measurement({"a": True}, "e", Status.OK)
    with pytest.raises(TableError, match="'y': infinite value in row 1; mark it"):
        MeasurementTable.from_measurements(
            [measured, replace(measured, values={"y": np.inf})], space=space, metrics={"y": "s"}
        )


def test_from_measurements():
    space = ConfigSpace({"a": Boolean()})
    measurements = [
        Measurement({"a": True}, "e", Status.OK, {"y": 2.0}),
        Measurement({"a": False}, "e", Status.OOM),
    ]
    table = MeasurementTable.from_measurements(
        measurements,
        space=space,
        metrics=[Metric("y"), Metric("z")],
        environments=[Environment("f")],
    )
    assert table.environment_names == ("e", "f")
    assert table.frame["y"].tolist()[0] == 2.0
    assert table.frame[["y", "z"]].isna().sum().tolist() == [1, 2]


def test_repeats_are_found_by_configuration_and_failures_left_out():
    space = ConfigSpace({"a": Boolean(), "b": Real(0, 1)}, conditions={"b": "a"})
    rows = [
        (True, 0.5, 1.0, "ok"),
        (False, None, 5.0, "ok"),
        (True, 0.5, 2.0, "ok"),
        (True, 0.25, 0, "crash"),
    ]
    frame = pd.DataFrame(rows, columns=["a", "b", "y", "how"])
    table = table_of(frame, options=space, environment=Environment("e"), status="how")
    assert table.repeats("y") == {(True, 0.5): [1.0, 2.0], (False, None): [5.0]}


def test_replicates():
    space = ConfigSpace({"a": Boolean(), "b": Real(0, 1)}, conditions={"b": "a"})
    rows = [(True, 0.5, 1.0), (False, None, 5.0), (True, 0.5, np.e**2), (True, 0.25, 3.0)]
    frame = pd.DataFrame(rows, columns=["a", "b", "y"])
    table = table_of(frame, options=space, environment=Environment("e"))
    found = table.replicates("y", log=True)
    assert found["count"].tolist() == [2, 1, 1]
    assert space.records(found) == [
        {"a": True, "b": 0.5},
        {"a": False, "b": None},
        {"a": True, "b": 0.25},
    ]
    np.testing.assert_allclose(found["mean"], [1.0, np.log(5), np.log(3)])
    np.testing.assert_allclose(found["std"], [np.sqrt(2), np.nan, np.nan])
    assert table.replicates("y")["mean"].tolist()[1:] == [5.0, 3.0]
    with pytest.raises(TableError, match="expected positive values for a logarithm, got -1"):
        table_of(frame.assign(y=-1.0), options=space, environment=Environment("e")).replicates(
            "y", log=True
        )


def test_a_category_of_numbers_matches_floats():
    table = table_of(frame_of(cpu_mhz=[1.0, 2.0, 1.0]), options={"cpu_mhz": Categorical((1, 2))})
    assert [type(value) for value in table.frame["cpu_mhz"]] == [int] * 3


@given(strategies.tables())
def test_a_schema_is_plain_json_and_back(table):
    plain = json.loads(json.dumps(table.schema.to_dict(), allow_nan=False))
    assert Schema.from_dict(plain) == table.schema
    assert Schema.from_dict(plain).space.names == table.space.names

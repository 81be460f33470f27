"""Tables survive their files, and bad files are told apart."""

import gzip
import json
import os

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import strategies
from hypothesis import given

from bayestl.data.environment import Environment
from bayestl.data.measurement import Metric
from bayestl.data.options import Boolean, Categorical, Integer, Ordinal
from bayestl.data.readers import METADATA_KEY, read_table, write_table
from bayestl.data.table import MeasurementTable
from bayestl.errors import ConfigurationError, FileError, TableError, UnknownEnvironment

ROLES = {"options": ["a"], "metrics": {"y": "s"}}


def assert_same(found: MeasurementTable, table: MeasurementTable) -> None:
    pd.testing.assert_frame_equal(found.frame, table.frame)
    for name in table.space.names:  # 1, 1.0 and True are equal to pandas
        kinds = [[type(value) for value in t.frame[name]] for t in (found, table)]
        assert kinds[0] == kinds[1]
    assert found.space == table.space
    assert found.space.names == table.space.names
    assert found.metrics == table.metrics
    assert found.environments == table.environments


@given(strategies.tables())
def test_parquet_describes_itself(tmp_path_factory, table):
    path = tmp_path_factory.mktemp("parquet") / "table.parquet"
    write_table(table, path)
    assert_same(read_table(path), table)
    assert os.listdir(path.parent) == ["table.parquet"]


def test_parquet_keeps_the_order_of_the_environments(tmp_path):
    frame = pd.DataFrame({"a": [1, 2], "environment": ["e", "f"], "y": 1.0})
    table = MeasurementTable.from_frame(frame, **ROLES).select([1, 0])
    write_table(table, tmp_path / "t.parquet")
    assert_same(read_table(tmp_path / "t.parquet"), table)


@pytest.mark.parametrize("suffix", ["csv", "csv.gz"])
@given(table=strategies.tables())
def test_csv_needs_to_be_told(tmp_path_factory, suffix, table):
    path = tmp_path_factory.mktemp("csv") / f"table.{suffix}"
    write_table(table, path)
    found = read_table(
        path,
        options=table.space,
        metrics=table.metrics,
        environments=table.environments,
        status="status",
    )
    assert_same(found, table)


def test_large_integers_survive(tmp_path):
    frame = pd.DataFrame({"n": [2**70, 1], "environment": "e", "y": 1.0}, dtype=object)
    frame["y"] = 1.0
    table = MeasurementTable.from_frame(frame, options={"n": Integer(0, 2**70)}, metrics={"y": "s"})
    write_table(table, tmp_path / "t.parquet")
    assert_same(read_table(tmp_path / "t.parquet"), table)


def write(path, text):
    path.write_text(text)
    return path


def test_cells_are_read_as_what_the_option_has(tmp_path):
    text = "a,b,c,d,environment,y\n1,None,true,0,007,2\n2.0,NA,False,all,008,null\n"
    write(tmp_path / "t.csv", text)
    with pytest.raises(TableError, match="row 1 is NaN in 'y'"):
        read_table(tmp_path / "t.csv", options=["a"], metrics={"y": "s"})
    write(tmp_path / "t.csv", text.replace("null", "3"))
    found = read_table(
        tmp_path / "t.csv",
        options={
            "a": Categorical((1, 2)),
            "b": Categorical(("None", "NA")),
            "c": Boolean(),
            "d": Ordinal(("0", "all")),
        },
        metrics={"y": "s"},
        environments=[Environment("007", "Xavier")],
    )
    assert found.space.records(found.frame) == [
        {"a": 1, "b": "None", "c": True, "d": "0"},
        {"a": 2, "b": "NA", "c": False, "d": "all"},
    ]
    assert found.environments == (Environment("007", "Xavier"), Environment("008"))


def test_kinds_are_inferred_where_they_are_not_given(tmp_path):
    path = write(tmp_path / "t.csv", "a,b,c,board,y\n1,x,True,1,2\n2,null,False,2,3\n")
    found = read_table(path, options=["a", "b", "c"], metrics={"y": "s"}, environment="board")
    assert dict(found.space.options) == {
        "a": Ordinal((1, 2)),
        "b": Categorical(("null", "x")),
        "c": Boolean(),
    }
    assert found.environment_names == ("1", "2")


def test_the_kind_of_a_column_does_not_depend_on_how_long_the_file_is(tmp_path):
    rows = 300_000  # pandas reads so many in several parts, each of a kind of its own
    path = write(tmp_path / "t.csv", "a,y\n" + "1,2\n" * rows + "auto,3\n")
    found = read_table(path, options=["a"], metrics={"y": "s"}, environment=Environment("e"))
    assert found.space.options["a"] == Categorical(("1", "auto"))


def test_a_foreign_parquet_file_needs_to_be_told(tmp_path):
    pd.DataFrame({"a": [1, 2], "y": [1.0, 2.0]}).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(TableError, match=r"to be told options=.*columns are \['a', 'y'\]"):
        read_table(tmp_path / "t.parquet")
    found = read_table(tmp_path / "t.parquet", **ROLES, environment=Environment("here"))
    assert len(found.of("here")) == 2


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("", TableError, "got an empty file"),
        ("a,environment,y\n", TableError, "at least one measurement, got an empty table"),
        ("a,a,environment,y\n1,2,e,3\n", TableError, "duplicate column 'a'"),
        ("a,environment,y\n1,e,3,4\n", TableError, "malformed: Length of header"),
        ("a,environment,y\n1,e,3\n1,e,3,4\n", TableError, "malformed: .* line 3, saw 4"),
        ('a,environment,y\n"1,e,3\n', TableError, "malformed: .* EOF inside string"),
        ("a,environment,y\n1,e\n", TableError, "row 0 is NaN in 'y'"),
        ("a,environment,y\n1,e,x\n", TableError, "metric 'y': expected numbers"),
        ("a,environment,y\n1,e,1\n1,e,inf\n", TableError, "metric 'y': infinite value in row 1"),
        ("a,environment,y\n1,,3\n", TableError, "row 0 names no environment"),
        ("a,environment,y\n1,e,3\n,e,3\n", ConfigurationError, "row 1: no value of 'a'"),
        ("a,y\n1,3\n", TableError, "missing column 'environment'; the table has"),
        ("a;environment;y\n1;e;2,5\n", TableError, "separated by commas, got the line 'a;env"),
        ("a\tenvironment\ty\n1\te\t3\n", TableError, "separated by commas"),
        ("a,environment,y\n1, ,3\n", UnknownEnvironment, "expected an environment's name"),
    ],
)
def test_malformed_csv(tmp_path, text, error, message):
    path = write(tmp_path / "t.csv", text)
    with pytest.raises(error, match=rf"t\.csv: .*{message}"):
        read_table(path, **ROLES)


def test_a_cell_outside_the_domain(tmp_path):
    path = write(tmp_path / "t.csv", "a,environment,y\n1,e,3\n2.5,e,3\n")
    with pytest.raises(ConfigurationError, match=r"row 1: option 'a': .* \[1, 4\], got '2\.5'"):
        read_table(path, options={"a": Integer(1, 4)}, metrics={"y": "s"})


def test_files_that_cannot_be_read(tmp_path):
    for name in ("none.csv", "none.csv.gz", "none.parquet"):
        with pytest.raises(FileError, match=rf"cannot read .*{name}: No such file"):
            read_table(tmp_path / name, **ROLES)
    with pytest.raises(FileError, match="Is a directory"):
        read_table(tmp_path, **ROLES)


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("t.parquet", b"", TableError),
        ("t.parquet", b"hello, I am no Parquet file", TableError),
        ("t.csv.gz", b"hello", FileError),
        ("t.csv.gz", gzip.compress(b"a,environment,y\n1,e,3\n" * 99, mtime=0)[:-20], TableError),
        ("t.csv", b"a,environment,y\n\xff,e,3\n", TableError),
    ],
)
def test_corrupted_files(tmp_path, name, content, error):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=name):
        read_table(tmp_path / name, **ROLES)


@pytest.fixture
def table() -> MeasurementTable:
    frame = pd.DataFrame({"a": [1, 2], "environment": "e", "y": [1.0, np.nan], "s": ["ok", "oom"]})
    return MeasurementTable.from_frame(
        frame, options=["a"], metrics=[Metric("y", "s", "maximize")], status="s"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "expected format version 1, got 2"),
        ({"space": {}}, "malformed description .* at least one option"),
        ({"metrics": [{"name": 3}]}, "malformed description"),
        ({"environments": [{"nam": "x"}]}, "malformed description"),
        ({"as_text": ["z"]}, "malformed description"),
    ],
)
def test_a_description_that_is_wrong(tmp_path, table, change, message):
    write_table(table, tmp_path / "t.parquet")
    content = pq.read_table(tmp_path / "t.parquet")
    description = json.loads(content.schema.metadata[METADATA_KEY]) | change
    changed = content.replace_schema_metadata({METADATA_KEY: json.dumps(description)})
    pq.write_table(changed, tmp_path / "t.parquet")
    with pytest.raises(TableError, match=message):
        read_table(tmp_path / "t.parquet")


def test_a_described_file_is_not_told_half(tmp_path, table):
    write_table(table, tmp_path / "t.parquet")
    with pytest.raises(TableError, match="the file says this itself"):
        read_table(tmp_path / "t.parquet", status="status")


def test_duplicate_columns_in_parquet(tmp_path):
    pq.write_table(pa.table([[1], [2]], names=["a", "a"]), tmp_path / "t.parquet")
    with pytest.raises(TableError, match="duplicate column 'a'"):
        read_table(tmp_path / "t.parquet", **ROLES)


def test_a_table_cannot_be_written_where_there_is_no_folder(tmp_path, table):
    with pytest.raises(FileError, match="cannot write"):
        write_table(table, tmp_path / "none" / "t.csv")

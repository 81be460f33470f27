import pandas as pd
import pytest

from bayestl.data.options import Boolean, Categorical, Integer
from bayestl.data.readers import read_configurations
from bayestl.data.space import ConfigSpace
from bayestl.errors import ConfigurationError, FileError, TableError

SPACE = ConfigSpace(
    {"threads": Integer(1, 8), "mode": Categorical(("1", "None", "x")), "spin": Boolean()},
    constraints=["threads < 8 or mode == 'x'"],
    conditions={"spin": "threads > 1"},
)


def test_cells_are_read_as_the_levels_that_they_name(tmp_path):
    path = tmp_path / "c.csv"
    path.write_text("note,mode,threads,spin\na,1,1,\nb,None,2,true\n")
    frame = read_configurations(path, SPACE)
    assert SPACE.records(frame) == [
        {"threads": 1, "mode": "1", "spin": None},
        {"threads": 2, "mode": "None", "spin": True},
    ]


def test_parquet(tmp_path):
    frame = pd.DataFrame({"threads": [2], "mode": ["x"], "spin": [False]})
    frame.to_parquet(tmp_path / "c.parquet")
    (configuration,) = SPACE.records(read_configurations(tmp_path / "c.parquet", SPACE))
    assert configuration == {"threads": 2, "mode": "x", "spin": False}


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("threads,mode,spin\n9,x,true\n", ConfigurationError, "row 0"),
        ("threads,mode,spin\n8,1,true\n", ConfigurationError, "violates the constraint"),
        ("threads,mode\n8,x\n", ConfigurationError, r"missing \['spin'\]"),
        ("threads,mode,spin\n", TableError, "empty table"),
        ("threads,threads,mode,spin\n", TableError, "duplicate column"),
    ],
)
def test_what_is_wrong_is_said_with_the_file(tmp_path, text, error, message):
    (tmp_path / "c.csv").write_text(text)
    with pytest.raises(error, match=message) as caught:
        read_configurations(tmp_path / "c.csv", SPACE)
    assert "c.csv" in str(caught.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(FileError, match="No such file"):
        read_configurations(tmp_path / "c.csv", SPACE)

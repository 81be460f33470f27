"""Shipped tables are found by name."""

import pandas as pd
import pytest

from bayestl.data.readers import write_table
from bayestl.data.table import MeasurementTable
from bayestl.datasets.catalogue import card, load, names
from bayestl.errors import TableError


@pytest.fixture
def folder(tmp_path):
    frame = pd.DataFrame({"a": [1, 2], "environment": "e", "y": [1.0, 2.0]})
    table = MeasurementTable.from_frame(frame, options=["a"], metrics={"y": "s"})
    for name in ("two", "one"):
        write_table(table, tmp_path / f"{name}.parquet")
    (tmp_path / "README.md").write_text("no table")
    return tmp_path


def test_finds_what_is_there(folder):
    assert names(folder) == ("one", "two")
    assert load("one", folder).environment_names == ("e",)


@pytest.mark.parametrize("name", ["three", "../one", "", "README.md"])
def test_unknown_names(folder, name):
    with pytest.raises(TableError, match=r"unknown data set '.*'; expected one of one, two"):
        load(name, folder)


def test_an_empty_folder(tmp_path):
    with pytest.raises(TableError, match="none is installed"):
        load("one", tmp_path)


@pytest.mark.parametrize("name", names())
def test_every_shipped_table_can_be_read_and_has_a_card(name):
    assert len(load(name))
    assert card(name).startswith("# ")


def test_the_demos_card_tells_how_much_the_default_varies():
    found = load("demo").of("2-cores").replicates("latency")
    (repeated,) = found[found["count"] == 6].to_dict("records")
    assert f"vary by {100 * repeated['std'] / repeated['mean']:.0f} %" in card("demo")


def test_an_unknown_table_has_no_card(folder):
    with pytest.raises(TableError, match="expected one of one, two"):
        card("three", folder)

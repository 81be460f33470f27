"""Clones are found where they are said to be, and where not the message says what to clone."""

import pytest

from bayestl.data.environment import Environment
from bayestl.datasets.repository import Repository, read_columns, select_environments
from bayestl.errors import FileError, TableError, UnknownEnvironment

REPOSITORY = Repository("https://example.org/owner/name", places=("new/place", "old"))
KNOWN = [Environment(f"{h}/{w}", hardware=h, workload=w) for h, w in ("ax", "ay", "bx")]


def test_the_first_place_that_exists_counts(tmp_path):
    (tmp_path / "old").mkdir()
    assert REPOSITORY.files(tmp_path) == tmp_path / "old"
    (tmp_path / "new" / "place").mkdir(parents=True)
    assert REPOSITORY.files(str(tmp_path)) == tmp_path / "new" / "place"


def test_the_environment_variable_names_the_folder_of_all_clones(tmp_path, monkeypatch):
    (tmp_path / "name" / "old").mkdir(parents=True)
    monkeypatch.setenv("BAYESTL_DATA", str(tmp_path))
    assert REPOSITORY.files() == tmp_path / "name" / "old"


def test_a_missing_clone_is_an_error_that_says_what_to_clone_and_where(tmp_path, monkeypatch):
    monkeypatch.delenv("BAYESTL_DATA", raising=False)
    with pytest.raises(FileError, match=r"BAYESTL_DATA.*git clone https://example.org/owner/name"):
        REPOSITORY.files()
    monkeypatch.setenv("BAYESTL_DATA", str(tmp_path))
    with pytest.raises(FileError, match=rf"git clone https://\S+ {tmp_path}/name$"):
        REPOSITORY.files()


def test_columns(tmp_path):
    path = tmp_path / "a.csv"
    with pytest.raises(FileError, match="No such file"):
        read_columns(path)
    path.write_text("")
    with pytest.raises(TableError, match=r"a\.csv"):
        read_columns(path)
    path.write_text("x y\n1 2\n")
    assert read_columns(path, " ", needed=["y"])["y"].tolist() == [2]
    assert len(read_columns(path, " ", header=False)) == 2
    with pytest.raises(TableError, match="expected the columns z as well"):
        read_columns(path, " ", needed=["x", "z"])


def test_restrictions_must_all_hold():
    def names(*arguments):
        return [environment.name for environment in select_environments(KNOWN, *arguments)]

    assert names(None) == ["a/x", "a/y", "b/x"]
    assert names(None, "a") == ["a/x", "a/y"]
    assert names(None, ["a", "b"], "x") == ["a/x", "b/x"]
    assert names(["b/x", "a/y"]) == ["a/y", "b/x"]
    assert names("b/x") == ["b/x"]
    with pytest.raises(UnknownEnvironment, match="no environment fits; the clone has a/x, a/y"):
        names(["b/x"], "a")
    with pytest.raises(UnknownEnvironment, match="unknown environment c/x; the clone has"):
        names(["b/x", "c/x"])

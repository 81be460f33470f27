"""What can happen to the file of a `SQLiteStore`."""

import os
import random
import sqlite3
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from bayestl.campaign.store import SCHEMA_VERSION, Record, SQLiteStore
from bayestl.errors import StoreError


def record(number: int) -> Record:
    return Record("trial", number, {"configuration": {"threads": number, "mode": "fast"}})


def filled(path: Path, count: int = 60) -> SQLiteStore:
    store = SQLiteStore(path)
    with store.claim():
        store.append("a", Record("plan", 1, {"seed": 0, "name": "a"}))
        for number in range(1, count + 1):
            store.append("a" if number % 3 else "b", record(number))
    return store


def read(store: SQLiteStore) -> list:
    return [(name, *[(r, r.at) for r in store.load(name)]) for name in store.names()]


def test_a_closed_store_is_one_file_and_its_lock(tmp_path):
    filled(tmp_path / "store.sqlite")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["store.sqlite", "store.sqlite.lock"]


def test_every_flipped_byte_is_detected_or_harmless(tmp_path):
    """300 flips over header, schema, index, values and free space."""
    path = tmp_path / "store.sqlite"
    expected = read(filled(path))
    original = path.read_bytes()
    chooser, detected = random.Random(0), 0
    for _ in range(300):
        content = bytearray(original)
        content[chooser.randrange(len(content))] ^= 1 << chooser.randrange(8)
        path.write_bytes(content)
        try:
            found = read(SQLiteStore(path))
        except StoreError:
            detected += 1
        else:
            assert found == expected
    assert detected > 100


def test_a_flipped_value_names_its_row(tmp_path):
    path = tmp_path / "store.sqlite"
    filled(path)
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"threads": 41', b'"threads": 43'))
    with pytest.raises(StoreError, match=r"row 42 \(trial 41 of 'a'\) does not match its checksum"):
        SQLiteStore(path).load("a")


def tampered(path: Path, *statements: str) -> SQLiteStore:
    connection = sqlite3.connect(path)
    connection.executescript("DROP TRIGGER IF EXISTS records_are_never_deleted;")
    connection.executescript("DROP TRIGGER IF EXISTS records_are_never_changed;")
    for statement in statements:
        connection.executescript(statement)
    connection.close()
    return SQLiteStore(path)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM records WHERE sequence = 17",
        "DELETE FROM records WHERE sequence = 61",
        "DELETE FROM records",
        "UPDATE records SET payload = '{}' WHERE sequence = 5",
        "UPDATE records SET at = '' WHERE sequence = 5",
        "UPDATE records SET log = 'b' WHERE sequence = 2",
        "UPDATE records SET number = 99 WHERE sequence = 9",
        "UPDATE records SET payload = CAST(payload AS BLOB) WHERE sequence = 9",
        "UPDATE records SET sequence = 70 WHERE sequence = 61",
    ],
)
def test_whatever_was_changed_behind_its_back_is_detected(tmp_path, statement):
    filled(tmp_path / "store.sqlite")
    with pytest.raises(StoreError, match="is corrupted"):
        tampered(tmp_path / "store.sqlite", statement).load("a")


@pytest.mark.parametrize("statement", ["DELETE FROM records", "UPDATE records SET payload = '{}'"])
def test_the_file_itself_refuses_changes(tmp_path, statement):
    filled(tmp_path / "store.sqlite", count=3)
    connection = sqlite3.connect(tmp_path / "store.sqlite")
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        connection.execute(statement)
    connection.close()


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        (3, {}),
        ("", {}),
        (None, {}),
        ("a", {"kind": 3}),
        ("a", {"number": 4.0}),
        ("a", {"number": True}),
        ("a", {"attempt": "2"}),
    ],
)
def test_what_would_be_stored_as_something_else_is_refused(tmp_path, name, changes):
    """SQLite keeps the name 3 as the text '3', which would break the chain for good."""
    store = filled(tmp_path / "store.sqlite", count=3)
    expected = read(store)
    with pytest.raises(StoreError, match=r"expected a (log|record)'s \w+ as"):
        store.append(name, replace(record(4), **changes))
    assert read(store) == expected


def test_a_store_cut_short_is_refused(tmp_path):
    path = tmp_path / "store.sqlite"
    filled(path)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(StoreError, match="corrupted"):
        SQLiteStore(path).load("a")


@pytest.mark.parametrize("content", [b"not a database, but long enough to look at" * 50, b"x"])
def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path, content):
    path = tmp_path / "store.sqlite"
    path.write_bytes(content)
    for use in (lambda: SQLiteStore(path).load("a"), SQLiteStore(path).claim().__enter__):
        with pytest.raises(StoreError, match="is no bayestl store"):
            use()
    assert path.read_bytes() == content


def test_another_programs_database_is_refused(tmp_path):
    path = tmp_path / "store.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE theirs (a)")
    connection.close()
    with pytest.raises(StoreError, match="is no bayestl store"), SQLiteStore(path).claim():
        pass


def test_a_newer_schema_is_refused(tmp_path):
    filled(tmp_path / "store.sqlite")
    store = tampered(tmp_path / "store.sqlite", f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    with pytest.raises(StoreError, match="written by a newer bayestl"):
        store.load("a")
    with pytest.raises(StoreError, match="written by a newer bayestl"), store.claim():
        pass


def test_a_store_whose_making_was_interrupted_is_made_again(tmp_path):
    path = tmp_path / "store.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.close()
    filled(path, count=3)
    assert len(SQLiteStore(path).load("a")) == 3


def test_a_missing_folder_is_named(tmp_path):
    store = SQLiteStore(tmp_path / "missing" / "store.sqlite")
    with pytest.raises(StoreError, match="missing"), store.claim():
        pass


def test_a_folder_is_no_store(tmp_path):
    with pytest.raises(StoreError, match="cannot be opened"):
        SQLiteStore(tmp_path).load("a")


WITHOUT_PERMISSION = """
import os, sys
from bayestl.campaign.store import Record, SQLiteStore
from bayestl.errors import StoreError
if os.getuid() == 0:
    os.setuid(65534)
store = SQLiteStore(sys.argv[1])
for use in (store.claim().__enter__, lambda: store.append("a", Record("trial", 99, {}))):
    try:
        use()
    except StoreError as error:
        print(error)
"""


@pytest.mark.parametrize("what", ["folder", "file"])
def test_no_permission_is_one_clear_error(what):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "store.sqlite"
        expected = read(filled(path, count=3))
        (folder / "store.sqlite.lock").chmod(0o666)
        path.chmod(0o444)
        folder.chmod(0o555 if what == "folder" else 0o777)
        script = [sys.executable, "-c", WITHOUT_PERMISSION, str(path)]
        shown = subprocess.run(script, capture_output=True, text=True, check=True).stdout
        folder.chmod(0o755)
        path.chmod(0o644)
        assert len(shown.splitlines()) == 2
        assert all("no permission" in line for line in shown.splitlines())
        assert read(SQLiteStore(path)) == expected


UNTIL_FULL = """
import resource, sys
from bayestl.campaign.store import Record, SQLiteStore
from bayestl.errors import StoreError
store = SQLiteStore(sys.argv[1])
with store.claim():
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    for number in range(1, 10_000):
        try:
            store.append("a", Record("trial", number, {"text": "x" * 500}))
        except StoreError as error:
            print("refused", error)
            break
        print("stored", number)
"""


def test_a_full_disk_loses_nothing_that_was_acknowledged(tmp_path):
    """A limit on the file's size stands for the disk: the write fails in the same place."""
    path = tmp_path / "store.sqlite"
    script = [sys.executable, "-c", UNTIL_FULL, str(path)]
    shown = subprocess.run(script, capture_output=True, text=True, check=True).stdout.splitlines()
    assert "the disk" in shown[-1]
    assert shown[-1].startswith("refused")
    stored = [int(line.split()[1]) for line in shown[:-1]]
    assert len(stored) > 20
    store = SQLiteStore(path)
    assert [r.number for r in store.load("a")] == stored
    with store.claim():  # and with space again it goes on
        store.append("a", Record("trial", len(stored) + 1, {}))
    assert len(store.load("a")) == len(stored) + 1


HOLD = """
import sys, time
from bayestl.campaign.store import SQLiteStore
with SQLiteStore(sys.argv[1]).claim():
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_claim_dies_with_its_process(tmp_path):
    store = SQLiteStore(tmp_path / "store.sqlite")
    script = [sys.executable, "-c", HOLD, str(store.path)]
    with subprocess.Popen(script, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(StoreError, match=f"in use by process {other.pid}"), store.claim():
            pass
        other.kill()
        other.wait()
    with store.claim():
        store.append("a", record(1))

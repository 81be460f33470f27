"""Laws that every `Store` obeys."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bayestl.campaign.store import Record, SQLiteStore, Store
from bayestl.errors import StoreError

STORES = {"sqlite": lambda folder: SQLiteStore(folder / "store.sqlite")}


@pytest.fixture(params=STORES)
def store(request, tmp_path) -> Store:
    return STORES[request.param](tmp_path)


def trial(number: int, value: object = 1, attempt: int = 1) -> Record:
    return Record("trial", number, {"value": value}, attempt)


def test_what_was_appended_is_loaded_in_order(store):
    with store.claim():
        store.append("a", trial(1), trial(2))
        store.append("b", trial(1, "other"))
        store.append("a", trial(3), Record("measurement", 1, {}))
    assert [(r.kind, r.number) for r in store.load("a")] == [
        ("trial", 1),
        ("trial", 2),
        ("trial", 3),
        ("measurement", 1),
    ]
    assert store.load("b") == (trial(1, "other"),)
    assert store.names() == ("a", "b")


def test_a_log_that_is_not_there_is_empty(store):
    with store.claim():
        assert store.load("a") == ()
    assert store.names() == ()


def test_a_missing_store_is_an_error_until_it_is_claimed(store):
    for use in (lambda: store.load("a"), store.names, lambda: store.append("a", trial(1))):
        with pytest.raises(StoreError, match="no store at"):
            use()


def test_a_record_is_stored_once(store):
    with store.claim():
        store.append("a", trial(1))
        with pytest.raises(StoreError, match="already"):
            store.append("a", trial(1, "again"))
        store.append("a", trial(1, attempt=2))
    assert store.load("a") == (trial(1), trial(1, attempt=2))


def test_all_records_of_an_append_are_stored_or_none(store):
    with store.claim():
        store.append("a", trial(1))
        with pytest.raises(StoreError):
            store.append("a", trial(2), trial(1))
        assert store.load("a") == (trial(1),)
        store.append("a", trial(2))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), {1, 2}])
def test_what_is_not_plain_is_refused(store, value):
    with store.claim():
        with pytest.raises(StoreError, match="trial 1 of 'a' is not plain JSON"):
            store.append("a", trial(1, value))
        assert store.load("a") == ()


def test_records_carry_the_time_at_which_they_were_stored(store):
    with store.claim():
        store.append("a", trial(1))
    assert store.load("a")[0].at.endswith("+00:00")


def test_one_claim_at_a_time(store):
    with store.claim(), pytest.raises(StoreError, match="in use by process"), store.claim():
        pass
    with store.claim():
        pass


def test_readers_need_no_claim(store):
    with store.claim():
        store.append("a", trial(1))
        assert store.load("a") == (trial(1),)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(values=st.lists(plain, min_size=1, max_size=4), name=st.text(min_size=1))
def test_payloads_come_back_exactly(tmp_path_factory, values, name):
    for kind in STORES:
        store = STORES[kind](tmp_path_factory.mktemp("store"))
        records = tuple(trial(number, value) for number, value in enumerate(values, start=1))
        with store.claim():
            store.append(name, *records)
        assert store.load(name) == records

"""What a scenario gives to learn from and to judge on."""

from dataclasses import replace

import pandas as pd
import pytest

from bayestl.errors import StudyError
from tests.staged_study import scenario, table


def rows(part):
    return set(part.frame.drop(columns="status").itertuples(index=False, name=None))


def test_pool_and_test_share_the_target():
    split = scenario().split(0)
    assert (len(split.sources), len(split.pool), len(split.test)) == (30, 12, 18)
    assert not rows(split.pool) & rows(split.test)
    assert rows(split.pool) | rows(split.test) == rows(table().of("new"))
    assert rows(split.sources) == rows(table().of("known"))
    assert split.sources.environment_names == ("known",)
    assert split.pool.environment_names == ("new",)


def test_the_seed_and_the_name_draw_the_order():
    first, again = scenario().split(0), scenario().split(0)
    pd.testing.assert_frame_equal(first.pool.frame, again.pool.frame)
    for other in (scenario().split(1), scenario("label").split(0)):
        assert not other.pool.frame.equals(first.pool.frame)


def test_limits_on_rows():
    limited = replace(scenario(), source_rows=7, test_rows=5).split(0)
    assert (len(limited.sources), len(limited.test)) == (7, 5)
    assert rows(limited.test) <= rows(scenario().split(0).test)
    with pytest.raises(StudyError, match="got 30; lower pool_rows"):
        replace(scenario(), pool_rows=30).split(0)


def test_a_table_is_no_function_of_a_seed():
    with pytest.raises(StudyError, match="staged/new: expected a function from a seed to a table"):
        replace(scenario(), table=scenario().table(0))


def test_a_target_is_no_source_of_itself():
    with pytest.raises(StudyError, match="staged/new: expected sources other than the target"):
        replace(scenario(), sources=("known", "new"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sources": "known"}, r"a list of sources, such as \('known',\), got a text"),
        ({"sources": ("known", "known")}, "each source once"),
        ({"source_rows": -1}, "source_rows of at least 0, got -1"),
        ({"pool_rows": -1}, "pool_rows of at least 0, got -1"),
        ({"test_rows": 0}, "test_rows of at least 1, got 0"),
    ],
)
def test_what_is_no_scenario_is_refused(change, message):
    with pytest.raises(StudyError, match=f"staged/new: expected {message}"):
        replace(scenario(), **change)


def test_what_is_learnt_from():
    split = scenario().split(0)
    train = split.train([4, 2])
    assert train.environment_names == ("known", "new")
    assert len(train.of("known")) == 30
    expected = split.pool.frame.iloc[[4, 2]].reset_index(drop=True)
    pd.testing.assert_frame_equal(train.of("new").frame, expected)
    assert not len(split.train([]).of("new"))


def test_the_digest_depends_on_every_value():
    split = scenario().split(0)
    assert split.digest == scenario().split(0).digest
    assert len(split.digest) == 64
    frame = split.test.frame.copy()
    frame.loc[3, "latency"] += 1e-12
    changed = replace(split, test=replace(split.test, frame=frame))
    assert changed.digest != split.digest
    assert replace(split, metric="energy").digest != split.digest
    assert replace(split, sources=split.test).digest != split.digest

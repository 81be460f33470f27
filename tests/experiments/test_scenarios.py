"""What a scenario draws: nested budgets, test rows that nobody is given, the same every time."""

import os

import numpy as np
import pandas as pd
import pytest

from bayestl.data.table import MeasurementTable
from bayestl.datasets.tx2 import tx2
from experiments.scenarios import BUDGETS, Scenario, scenarios, staged
from experiments.staged_sources import STAGES, flawed_tx2, invented

REAL = pytest.mark.skipif("BAYESTL_DATA" not in os.environ, reason="needs BAYESTL_DATA")
NAMES = [scenario.name for scenario in [*scenarios(), *staged()]]


def recorded(seed):
    """120 configurations in each of three environments; the latency tells row and environment."""
    rows = range(120)
    frames = [
        pd.DataFrame({"a": rows, "environment": name, "latency": [offset + i for i in rows]})
        for name, offset in (("old", 1000), ("new", 2000), ("other", 3000))
    ]
    return MeasurementTable.from_frame(pd.concat(frames), options=["a"], metrics={"latency": "s"})


SCENARIO = Scenario("test", "new", ("old", "other"), "latency", 30, recorded)


def values(table, environment):
    return table.of(environment).frame["latency"].tolist()


def test_a_smaller_budget_is_part_of_a_larger_one_and_all_else_is_the_same():
    splits = [SCENARIO.split(1, budget) for budget in BUDGETS]
    largest = values(splits[-1].train, "new")
    assert len(set(largest)) == 50
    for budget, split in zip(BUDGETS, splits, strict=True):
        assert values(split.train, "new") == largest[:budget]
        assert split.test.frame.equals(splits[0].test.frame)
        assert values(split.train, "old") == values(splits[0].train, "old")


def test_no_row_is_given_that_is_judged_by():
    split = SCENARIO.split(0, 50)
    assert split.test.environment_names == ("new",)
    assert sorted(values(split.train, "new") + values(split.test, "new")) == list(range(2000, 2120))


def test_sources_give_as_many_rows_as_they_are_said_to():
    train = SCENARIO.split(0, 3).train
    assert train.environment_names == ("old", "other", "new")
    assert [len(train.of(name)) for name in train.environment_names] == [30, 30, 3]
    drawn = set(np.array(values(train, "old")) - 1000)
    assert drawn != set(np.array(values(train, "other")) - 3000)  # each draws its own
    whole = Scenario("test", "new", ("old",), "latency", None, recorded)
    assert whole.aligned
    assert len(whole.split(0, 3).train.of("old")) == 120


def test_the_seed_decides():
    first, again, other = (SCENARIO.split(seed, 10).train.frame for seed in (0, 0, 1))
    assert first.equals(again)
    assert not first.equals(other)


def test_a_budget_that_would_take_test_rows_is_refused():
    with pytest.raises(ValueError, match="from 0 to 50, got 51"):
        SCENARIO.split(0, 51)


def test_every_scenario_has_a_name_of_its_own():
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.parametrize("stage", STAGES)
def test_invented_sources_are_what_their_stage_says(stage):
    table = invented(stage, 3)
    assert invented(stage, 3).frame.equals(table.frame)
    assert not invented(stage, 4).frame.equals(table.frame)
    assert len(table.environments) == (11 if stage == "one-of-ten" else 2)
    last = table.of(table.environment_names[-1]).frame["latency"]
    assert (len(set(last)) == 1) == (stage == "constant")


@REAL
def test_sources_of_the_tx2_are_tampered_with_as_their_stage_says():
    recorded = tx2(environments=["400x400"]).frame["latency"].to_numpy()
    found = {}
    for stage in STAGES:
        table = flawed_tx2(stage, 0)
        sources = [name for name in table.environment_names if name != "target"]
        found[stage] = [table.of(name).frame["latency"].to_numpy() for name in sources]
    tenfold = np.isclose(found["outliers"][0], 10 * recorded)
    assert 0.02 < tenfold.mean() < 0.08
    assert np.array_equal(found["outliers"][0][~tenfold], recorded[~tenfold])
    assert np.allclose(found["flipped"][0] * recorded, 1)
    assert set(found["constant"][0]) == {1.0}
    *useless, good = found["one-of-ten"]
    assert np.array_equal(good, recorded)
    assert len(useless) == 9
    for shuffled in (*useless, *found["unrelated"]):
        assert np.array_equal(np.sort(shuffled), np.sort(recorded))
        assert abs(np.corrcoef(shuffled, recorded)[0, 1]) < 0.2


@REAL
@pytest.mark.parametrize("name", NAMES)
def test_every_scenario_can_be_split(name):
    scenario = next(s for s in [*scenarios(), *staged()] if s.name == name)
    split = scenario.split(0, 5)
    assert split.train.environment_names == (*scenario.sources, scenario.target)
    assert len(split.train.of(scenario.target)) == 5
    assert len(split.test) >= 30
    if scenario.aligned:
        source = split.train.of(scenario.sources[0]).configurations()
        asked = pd.concat([source, split.test.configurations()])
        assert asked.duplicated().sum() == len(split.test)

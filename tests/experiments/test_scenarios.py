"""Every scenario can be split, and staged sources are what they say."""

import os

import numpy as np
import pandas as pd
import pytest

from bayestl.datasets.tx2 import tx2
from experiments.scenarios import BUDGETS, OWN_GROUPS, scenarios, staged, unseen
from experiments.staged_sources import STAGES, flawed_tx2, invented

REAL = pytest.mark.skipif("BAYESTL_DATA" not in os.environ, reason="needs BAYESTL_DATA")
EVERY = [*scenarios(), *unseen(), *staged()]
NAMES = [scenario.name for scenario in EVERY]


def test_every_scenario_has_a_name_of_its_own():
    assert len(set(NAMES)) == len(NAMES)


def test_no_target_of_what_is_unseen_was_seen():
    def targets(every):
        # environments of SeMPL's systems share their names
        return {(s.target, s.metric, s.label if s.group == "system" else "") for s in every}

    assert not targets(scenarios()) & targets(unseen())


def test_groups_of_our_own_data_set_are_known_as_such():
    ours = {s.group for s in EVERY if s.target.startswith("amd-epyc-2c/")}
    assert ours == set(OWN_GROUPS)


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
    scenario = next(s for s in EVERY if s.name == name)
    split = scenario.split(0)
    assert split.sources.environment_names == scenario.sources
    assert len(split.pool) == max(BUDGETS)
    assert len(split.test) >= 30
    if scenario.source_rows is None:
        source = split.sources.of(scenario.sources[0]).configurations()
        asked = pd.concat([source, split.test.configurations()])
        assert asked.duplicated().sum() == len(split.test)

"""An environment is known by its name and told apart by its fingerprint."""

import copy
import pickle

import pytest
import strategies
from hypothesis import given

from bayestl.data.environment import Environment
from bayestl.errors import UnknownEnvironment


def test_settings_have_names():
    with pytest.raises(UnknownEnvironment, match=r"expected settings such as.*, got 'cores'"):
        Environment("a", settings="cores")


@given(strategies.environments)
def test_round_trips(environment):
    for twin in (
        Environment.from_dict(environment.to_dict()),
        copy.deepcopy(environment),
        pickle.loads(pickle.dumps(environment)),
    ):
        assert twin == environment
        assert hash(twin) == hash(environment)
        assert twin.fingerprint == environment.fingerprint


@pytest.mark.parametrize(
    "levels", [(), "ab", (1, 1), (2, 1), (1, float("inf")), (True, 2), ("1", 2), {1, 2}, 3]
)
def test_levels_ascend(levels):
    with pytest.raises(UnknownEnvironment, match=r"levels of 'mhz' must be a list.*ascending"):
        Environment("a", levels={"mhz": levels})


def test_levels_have_options():
    with pytest.raises(UnknownEnvironment, match=r"expected levels such as.*, got \[1, 2\]"):
        Environment("a", levels=[1, 2])


def test_without_levels_an_environment_is_written_as_it_was():
    """So that fingerprints and stores from before there were levels stay."""
    assert "levels" not in Environment("a").to_dict()
    assert Environment("a").fingerprint == "381816c60119a581"
    assert Environment("a", levels={"mhz": (1, 2)}).fingerprint != Environment("a").fingerprint


def test_the_fingerprint_changes_with_all_but_the_name():
    board = Environment("a", "TX2", settings={"cores": "0"})
    assert board.fingerprint == Environment("b", "TX2", settings={"cores": "0"}).fingerprint
    assert board.fingerprint != Environment("a", "TX2", settings={"cores": "1"}).fingerprint
    assert board.fingerprint != Environment("a", "Xavier", settings={"cores": "0"}).fingerprint


@pytest.mark.parametrize("name", ["", "  ", None, 3])
def test_a_name_is_needed(name):
    with pytest.raises(UnknownEnvironment, match="expected an environment's name"):
        Environment(name)


@pytest.mark.parametrize("value", [None, [1], float("nan"), {"a": 1}])
def test_settings_are_plain(value):
    with pytest.raises(UnknownEnvironment, match="setting 'x' must be text, a finite number"):
        Environment("a", settings={"x": value})

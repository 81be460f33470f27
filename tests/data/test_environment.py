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

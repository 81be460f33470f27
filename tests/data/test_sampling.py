"""Samples are valid, enumerations complete."""

import itertools

import numpy as np
import pytest
import strategies
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest

from bayestl.data import sampling
from bayestl.data.options import Boolean, Categorical, Integer, Real
from bayestl.data.sampling import candidates, enumerate_space, sample
from bayestl.data.space import ConfigSpace
from bayestl.errors import SpaceError

methods = st.sampled_from(("sobol", "uniform", "latin_hypercube"))
ONE_HOT = ConfigSpace(
    {f"b{i}": Boolean(default=i == 0) for i in range(12)},
    [" + ".join(f"b{i}" for i in range(12)) + " == 1"],
)
"""12 valid configurations out of 4,096."""


def brute_force(space):
    """Every valid configuration: the product of all levels and None, filtered."""
    found = []
    for values in itertools.product(*[(None, *option.levels) for option in space.options.values()]):
        configuration = dict(zip(space.names, values, strict=True))
        if space.contains(configuration) and space.configuration(configuration) == configuration:
            found.append(configuration)
    return found


@given(strategies.spaces(finite=True, most=3))
def test_enumeration_is_the_filtered_product_in_its_order(space):
    assert space.records(enumerate_space(space)) == brute_force(space)


@given(strategies.spaces(), methods, st.integers(0, 20), st.integers(0, 3))
def test_samples_are_valid_and_repeatable(space, method, n, seed):
    frame = sample(space, n, method=method, seed=seed, distinct=False)
    assert len(frame) == n
    assert space.frame(frame).equals(frame)
    assert sample(space, n, method=method, seed=seed, distinct=False).equals(frame)


@given(strategies.spaces(finite=True, most=3), methods)
def test_a_distinct_sample_of_everything_is_everything(space, method):
    every = enumerate_space(space)
    frame = sample(space, len(every), method=method)
    keys = [space.key(record) for record in space.records(frame)]
    assert len(set(keys)) == len(keys)
    assert set(keys) == {space.key(record) for record in space.records(every)}
    with pytest.raises(SpaceError, match=f"only {len(every)} distinct valid configurations"):
        sample(space, len(every) + 1, method=method)


@given(strategies.spaces(finite=True, most=3), st.integers(1, 30))
def test_candidates_are_distinct_bounded_and_hold_the_default(space, limit):
    frame = candidates(space, limit)
    keys = [space.key(record) for record in space.records(frame)]
    assert space.key(space.default) in keys
    assert len(set(keys)) == len(keys) == min(limit, len(enumerate_space(space)))


@pytest.mark.parametrize("method", ["sobol", "uniform", "latin_hypercube"])
def test_samples_follow_the_prior(method):
    space = ConfigSpace({"x": Real(1, 100, log=True), "c": Categorical(("a", "b"))})
    frame = sample(space, 512, method=method, seed=1)
    u = np.log(frame["x"].astype(float)) / np.log(100)
    assert kstest(u, "uniform").pvalue > 1e-3
    assert abs((frame["c"] == "a").mean() - 0.5) < 0.1


def test_a_latin_hypercube_has_one_value_in_every_slice():
    frame = sample(ConfigSpace({"x": Real(0, 1), "y": Real(0, 1)}), 40, method="latin_hypercube")
    for name in frame:
        assert sorted((frame[name].astype(float) * 40).astype(int)) == list(range(40))


def test_different_seeds_differ():
    space = ConfigSpace({"x": Real(0, 1)})
    assert not sample(space, 8, seed=0).equals(sample(space, 8, seed=1))


def test_rare_configurations_are_found_through_the_list():
    assert (sample(ONE_HOT, 12).sum(axis=1) == 1).all()
    assert len(sample(ONE_HOT, 40, distinct=False)) == 40
    assert len(candidates(ONE_HOT, 100)) == 12


def test_candidates_are_drawn_where_they_cannot_be_listed(monkeypatch):
    monkeypatch.setattr(sampling, "MAX_STEPS", 1_000)
    names = [f"x{i}" for i in range(16)]  # the first that is valid comes after thousands
    space = ConfigSpace(
        {name: Boolean(default=True) for name in names}, [f"{' + '.join(names)} > 9"]
    )
    frame = candidates(space, 50)
    assert len(frame) == 50
    assert frame.iloc[0].all()
    with pytest.raises(SpaceError, match="gave up listing"):
        enumerate_space(space)


def test_enumeration_cuts_branches():
    n = 60  # 2^60 combinations, 61 of them valid
    constraints = [f"not x{i + 1} or x{i}" for i in range(n - 1)]
    space = ConfigSpace({f"x{i}": Boolean() for i in range(n)}, constraints)
    assert len(enumerate_space(space)) == n + 1


def test_a_space_too_large_to_be_listed_is_sampled_where_valid_ones_come_late(monkeypatch):
    monkeypatch.setattr(sampling, "MAX_STEPS", 10_000)
    late = {f"x{i}": Boolean(default=True) for i in range(26)}
    space = ConfigSpace(late, ["x0 and x25"])  # decided at the end; half of all begin with not x0
    frame = candidates(space, 100)
    assert len(frame.drop_duplicates()) == 100
    assert frame[["x0", "x25"]].all(axis=None)


def test_impossible_requests_say_how_rare_it_is(monkeypatch):
    rare = ConfigSpace({"x": Real(0, 1, default=0), "b": Boolean()}, ["x <= 0.00000001"])
    with pytest.raises(SpaceError, match="too rare to sample: 0 of 16384 draws satisfied"):
        sample(rare, 2)
    with pytest.raises(SpaceError, match="option 'x' has no list of levels"):
        enumerate_space(rare)
    with pytest.raises(SpaceError, match="more than 10 valid configurations"):
        enumerate_space(ConfigSpace({"x": Integer(1, 11)}), limit=10)
    monkeypatch.setattr(sampling, "MIN_DRAWS", 1)
    monkeypatch.setattr(sampling, "DRAWS_PER_SAMPLE", 1)
    monkeypatch.setattr(sampling, "MAX_STEPS", 10)
    with pytest.raises(SpaceError, match="gave up listing the space after 10 partial"):
        enumerate_space(ONE_HOT)
    with pytest.raises(SpaceError, match=r"too rare: \d+ of 16 draws .* gave up listing"):
        sample(ONE_HOT, 12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sample(ONE_HOT, 2, method="grid"), "expected method sobol"),
        (lambda: sample(ONE_HOT, -1), "n >= 0"),
        (lambda: candidates(ONE_HOT, 0), "at least one candidate"),
    ],
)
def test_malformed_requests(call, message):
    with pytest.raises(SpaceError, match=message):
        call()

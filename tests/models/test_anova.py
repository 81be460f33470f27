"""Shares against closed forms and against sums over the whole space."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayestl.data.options import Boolean, Categorical, Integer, Ordinal, Real
from bayestl.data.sampling import enumerate_space, sample
from bayestl.data.space import ConfigSpace
from bayestl.models.anova import Anova

MIXED = ConfigSpace(
    {"a": Ordinal((1, 2, 3, 4)), "b": Boolean(), "c": Categorical(("x", "y", "z")), "d": Boolean()}
)
GRID = enumerate_space(MIXED)


def shares(pool, values, *, sampled, tied=False, order=2) -> dict:
    anova = Anova(pool, sampled, tied, order)
    functions = anova.functions(np.asarray(values, float)[None])
    return {term: anova.shares(functions, term, weights)[0] for term, weights in anova.terms()}


def conditional_variance(values, names) -> float:
    """Var(E[f | x_names]) over a full grid, by its definition."""
    frame = GRID[list(names)].assign(value=values)
    return float(frame.groupby(list(names))["value"].transform("mean").var(ddof=0))


@pytest.mark.parametrize("seed", range(3))
def test_on_a_whole_grid_they_are_the_definition(seed):
    values = np.random.default_rng(seed).normal(size=len(GRID))
    found, total = shares(GRID, values, sampled=False), values.var()
    alone = {name: conditional_variance(values, [name]) for name in GRID.columns}
    for name in GRID.columns:
        assert found[name,] == pytest.approx(alone[name] / total)
    for one, other in combinations(GRID.columns, 2):
        both = conditional_variance(values, [one, other]) - alone[one] - alone[other]
        assert found[one, other] == pytest.approx(both / total)


@pytest.mark.parametrize("seed", range(3))
def test_ishigami(seed):
    """Ishigami and Homma (1990), with the indices in closed form."""
    space = ConfigSpace({name: Real(-np.pi, np.pi) for name in ("x", "y", "z")})
    pool = sample(space, 1024, method="latin_hypercube", seed=seed)
    x, y, z = pool.to_numpy(float).T
    found = shares(pool, np.sin(x) + 7 * np.sin(y) ** 2 + 0.1 * z**4 * np.sin(x), sampled=True)
    expected = {("x",): 0.3139, ("y",): 0.4424, ("z",): 0.0, ("x", "z"): 0.2437}
    for term, share in found.items():
        assert share == pytest.approx(expected.get(term, 0.0), abs=0.05), term


def test_a_sample_of_mixed_options_finds_what_the_whole_space_has():
    space = ConfigSpace(
        {
            **{f"b{i}": Boolean() for i in range(8)},
            "n": Integer(1, 40),
            "c": Categorical(tuple("uvwxyz")),
            "r": Real(1, 1000, log=True),
        }
    )
    pool = sample(space, 1024, method="latin_hypercube", seed=1)
    b0, b1 = pool["b0"].to_numpy(float), pool["b1"].to_numpy(float)
    n, c = pool["n"].to_numpy(float), (pool["c"] == "w").to_numpy(float)
    values = b0 + 1.5 * b0 * b1 + 0.08 * n + 2 * c * (n > 20) + np.log10(pool["r"].astype(float))
    found = shares(pool, values, sampled=True)
    variance = {
        ("b0",): 1.75**2 / 4,
        ("b1",): 0.75**2 / 4,
        ("b0", "b1"): 1.5**2 / 16,
        ("c",): 5 / 36,
        ("n", "c"): 5 / 36,
        ("r",): 9 / 12,
        # 0.08 n + (n > 20) / 3, of which the covariance is 0.08 / 3 * 2 * 5
        ("n",): 0.08**2 * (40**2 - 1) / 12 + 1 / 36 + 2 * 0.08 / 3 * 5,
    }
    total = sum(variance.values())
    for term, share in found.items():
        assert share == pytest.approx(variance.get(term, 0.0) / total, abs=0.03), term


@given(seed=st.integers(0, 10_000), doubt=st.sampled_from([0.0, 1.0]))
def test_shares_are_shares(seed, doubt):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=4)[GRID["a"].to_numpy(int) - 1] * (1 + GRID["b"].to_numpy(int))
    values = values + doubt * rng.normal(size=len(GRID))
    found = shares(GRID, values, sampled=False)
    assert min(found.values()) >= 0
    assert sum(found.values()) <= 1 + 1e-9
    if not doubt:
        assert sum(found.values()) == pytest.approx(1)


@given(seed=st.integers(0, 10_000), order=st.permutations(range(4)))
def test_neither_names_nor_order_nor_unit_matter(seed, order):
    values = np.random.default_rng(seed).normal(size=len(GRID))
    expected = shares(GRID, values, sampled=False)
    other = GRID[[GRID.columns[i] for i in order]].rename(columns=str.upper)
    found = shares(other, 5 - 1000 * values, sampled=False)
    for term, share in found.items():
        names = sorted(name.lower() for name in term)
        assert share == pytest.approx(expected[tuple(names)], abs=1e-9)


def test_what_a_sample_shows_by_chance_is_subtracted():
    pool = sample(ConfigSpace({f"x{i}": Real(0, 1) for i in range(10)}), 512, method="uniform")
    rng = np.random.default_rng(0)
    noise = Anova(pool, sampled=True)
    functions = noise.functions(rng.normal(size=(50, 512)))
    for term, weights in noise.terms():
        chance = np.square(weights).sum() / 512  # what it would be without
        assert noise.shares(functions, term, weights).mean() < 0.6 * chance


def test_what_options_have_in_common_by_chance_does_no_harm():
    space = ConfigSpace({f"b{i}": Boolean() for i in range(14)})
    pool = sample(space, 256, method="uniform", seed=0)
    found = shares(pool, pool["b0"].to_numpy(float), sampled=True)
    assert found.pop(("b0",)) == pytest.approx(1)
    assert max(found.values()) < 1e-9


def test_tied_options_keep_shares_at_or_above_zero():
    space = ConfigSpace(
        {"on": Boolean(), "level": Integer(1, 4), "free": Boolean()},
        constraints=["level < 4 or free"],
        conditions={"level": "on"},
    )
    pool = enumerate_space(space)
    found = shares(pool, pool["on"].astype(float), sampled=False, tied=True)
    assert found["on",] == pytest.approx(1)
    assert found["level",] == pytest.approx(1)  # which says whether it is on
    assert all(found[pair] == pytest.approx(0, abs=1e-9) for pair in combinations(pool.columns, 2))


def test_options_alone_or_pairs_as_well():
    assert set(shares(GRID, range(len(GRID)), sampled=False, order=1)) == {(n,) for n in "abcd"}
    with pytest.raises(ValueError, match="order 1"):
        Anova(GRID, False, order=3)


def test_an_option_with_one_value_explains_nothing():
    pool = pd.DataFrame({"a": [1, 2, 3], "fixed": [7, 7, 7]}, dtype=object)
    found = shares(pool, [1.0, 2.0, 4.0], sampled=False)
    assert found == {("a",): pytest.approx(1), ("fixed",): 0, ("a", "fixed"): 0}

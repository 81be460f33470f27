import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayestl.errors import FitError
from bayestl.models.scaling import Scaling, quantile_column

positive = st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=8).map(np.array)
real = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=8).map(np.array)


def one(values: np.ndarray) -> np.ndarray:
    return np.full(len(values), "e", dtype=object)


@given(positive)
def test_log_round_trip(values):
    scaling = Scaling.of(values, one(values))
    assert scaling.log
    assert scaling.unscale(scaling.scale(values)) == pytest.approx(values, rel=1e-9)


@given(real)
def test_identity_round_trip(values):
    scaling = Scaling.of(values, one(values), "identity")
    assert scaling.spread > 0
    tolerance = 1e-9 * (1 + np.abs(values).max())
    assert scaling.unscale(scaling.scale(values)) == pytest.approx(values, abs=tolerance)


@given(positive, st.floats(1e-3, 1e3))
def test_a_change_of_unit_changes_nothing_on_the_scale(values, factor):
    for transform in ("log", "identity"):
        a = Scaling.of(values, one(values), transform).scale(values)
        b = Scaling.of(factor * values, one(values), transform).scale(factor * values)
        assert b == pytest.approx(a, abs=1e-8)


def test_offsets_between_environments_do_not_widen_the_spread():
    values = np.array([1.0, 2.0, 1000.0, 2000.0])
    where = np.array(["a", "a", "b", "b"], dtype=object)
    apart = Scaling.of(values, where)
    together = Scaling.of(np.array([1.0, 2.0, 1.0, 2.0]), where)
    assert apart.spread == pytest.approx(together.spread)


def test_auto_takes_the_log_only_of_positive_values():
    assert not Scaling.of(np.array([1.0, 0.0]), one(np.zeros(2))).log


def test_the_log_names_the_value_that_it_cannot_take():
    with pytest.raises(FitError, match=r"row 1 in environment 'e' is -3: .*identity"):
        Scaling.of(np.array([1.0, -3.0]), one(np.zeros(2)), "log")


def test_the_summary_is_the_log_normal_distribution():
    scaling = Scaling(log=True, centre=0.3, spread=0.5)
    mean, variance = np.array([0.4]), np.array([1.7])
    draws = scaling.unscale(
        mean + np.sqrt(variance) * np.random.default_rng(0).normal(size=400_000)
    )
    summary = scaling.summary(mean, variance, (0.05, 0.5, 0.9), pd.RangeIndex(1)).iloc[0]
    assert summary["mean"] == pytest.approx(draws.mean(), rel=0.01)
    assert summary["std"] == pytest.approx(draws.std(), rel=0.03)
    expected = np.quantile(draws, [0.05, 0.5, 0.9])
    assert summary[["q05", "q50", "q90"]].to_numpy(float) == pytest.approx(expected, rel=0.01)


def test_a_hopeless_belief_does_not_overflow():
    scaling = Scaling(log=True, centre=0.0, spread=1.0)
    summary = scaling.summary(
        np.array([0.0, 800.0]), np.array([1e5, 0.0]), (0.01, 0.99), pd.RangeIndex(2)
    )
    assert np.isfinite(summary.to_numpy()).all()


def test_columns_are_named_by_percent():
    assert [quantile_column(q) for q in (0.05, 0.5, 0.975)] == ["q05", "q50", "q97.5"]
    with pytest.raises(ValueError, match="between 0 and 1"):
        quantile_column(1.0)

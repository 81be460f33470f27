import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bayestl.errors import FitError
from bayestl.models.gaussian_mixture import GaussianMixture
from bayestl.models.scaling import TYPICAL_SPREAD, Scaling, quantile_column, quantile_columns

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


def test_a_value_whose_square_is_no_number_needs_the_log():
    huge = np.array([1.0, -1e200])
    with pytest.raises(FitError, match=r"row 1 in environment 'e' is -1e\+200: .*larger unit"):
        Scaling.of(huge, one(huge))
    assert Scaling.of(np.abs(huge), one(huge)).log
    small, large = np.array([-1.0, 1.0]), np.array([-1e150, 1e150])
    expected = Scaling.of(small, one(small)).scale(small)
    assert Scaling.of(large, one(large)).scale(large) == pytest.approx(expected)


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


def mixture(weights, means, variances) -> GaussianMixture:
    """Of one value, unless `means` have several columns."""
    tensors = [torch.tensor(a, dtype=torch.float64) for a in (weights, means, variances)]
    return GaussianMixture(tensors[0], *(t.reshape(len(weights), -1) for t in tensors[1:]))


@pytest.mark.parametrize("log", [True, False])
def test_the_summary_of_a_mixture_is_that_of_draws_from_it(log):
    scaling = Scaling(log, centre=0.3, spread=0.5)
    weights, means, variances = [0.2, 0.5, 0.3], [-1.0, 0.4, 2.0], [0.3, 0.05, 1.5]
    rng = np.random.default_rng(0)
    which = rng.choice(3, 400_000, p=weights)
    sd = np.sqrt(np.take(variances, which))
    draws = scaling.unscale(np.take(means, which) + sd * rng.normal(size=len(which)))
    levels = (0.05, 0.5, 0.9)
    summary = scaling.mixture_summary(
        mixture(weights, means, variances), levels, pd.Index(["only"])
    )
    assert list(summary.index) == ["only"]
    row = summary.iloc[0]
    assert row["mean"] == pytest.approx(draws.mean(), rel=0.01)
    assert row["std"] == pytest.approx(draws.std(), rel=0.03)
    expected = np.quantile(draws, levels)
    assert row[["q05", "q50", "q90"]].to_numpy(float) == pytest.approx(expected, rel=0.02, abs=0.01)


@pytest.mark.parametrize("log", [True, False])
@pytest.mark.parametrize("parts", [1, 3])
def test_equal_components_are_one(log, parts):
    scaling = Scaling(log, centre=-2.0, spread=0.7)
    mean, variance = np.array([0.4, -1.0, 3.0]), np.array([1.7, 1e-4, 30.0])
    weights = np.full(parts, 1 / parts)
    repeated = mixture(weights, np.tile(mean, (parts, 1)), np.tile(variance, (parts, 1)))
    levels = (1e-9, 0.05, 0.5, 0.975)
    index = pd.RangeIndex(3)
    found = scaling.mixture_summary(repeated, levels, index)
    pd.testing.assert_frame_equal(found, scaling.summary(mean, variance, levels, index), rtol=1e-9)


def test_a_hopeless_mixture_does_not_overflow():
    scaling = Scaling(log=True, centre=0.0, spread=1.0)
    wide = mixture([0.5, 0.5], [[0.0, 800.0], [1.0, 0.0]], [[1e5, 1e-12], [1e-12, 1e-12]])
    summary = scaling.mixture_summary(wide, (0.01, 0.99), pd.RangeIndex(2))
    assert np.isfinite(summary.to_numpy()).all()


def test_columns_are_named_by_percent():
    assert [quantile_column(q) for q in (0.05, 0.5, 0.975)] == ["q05", "q50", "q97.5"]
    with pytest.raises(ValueError, match="between 0 and 1"):
        quantile_column(1.0)


@pytest.mark.parametrize(
    ("quantiles", "message"),
    [
        (0.5, "expected a list of quantiles, such as .*, got 0.5"),
        (None, "expected a list of quantiles, such as .*, got None"),
        (("a",), "quantiles strictly between 0 and 1, got 'a'"),
        ((1e-9, 1e-300), "got 1e-09 and 1e-300, which are both 'q00'"),
    ],
)
def test_quantiles_are_a_list_of_levels_with_a_column_each(quantiles, message):
    with pytest.raises(ValueError, match=message):
        quantile_columns(quantiles)


@pytest.mark.parametrize("transform", ["log", "identity"])
def test_the_spread_of_sources_that_hardly_vary_has_a_bound(transform):
    """A share of the imagined observation's distance, in whatever unit."""
    still = np.full(400, 8.0)
    plain = Scaling.of(still, one(still), transform)
    bounded = Scaling.of(still, one(still), transform, least=0.2)
    size = 1.0 if transform == "log" else 8.0
    assert plain.spread < 0.2 * TYPICAL_SPREAD * size
    assert bounded.spread == pytest.approx(0.2 * TYPICAL_SPREAD * size)
    assert bounded.centre == plain.centre
    varied = np.exp(np.random.default_rng(0).normal(size=400))
    assert Scaling.of(varied, one(varied), transform, least=0.2) == Scaling.of(
        varied, one(varied), transform
    )

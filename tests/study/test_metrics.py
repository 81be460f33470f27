"""Metrics against their definitions: numerical integrals, other libraries, plain loops."""

import math

import numpy as np
import pandas as pd
import pytest
import scoringrules
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import kstest, norm, spearmanr

from bayestl.study.metrics import (
    coverage,
    crps,
    interval_score,
    mape,
    median_ape,
    nlpd,
    pit,
    score,
    spearman,
)

Y = np.array([10.0, 20.0, -40.0])
P = np.array([11.0, 10.0, -40.0])
pairs = st.lists(
    st.tuples(st.integers(-5, 5), st.integers(-5, 5)).map(lambda p: (p[0] / 2, p[1] / 2)),
    min_size=3,
    max_size=20,
)


def test_percentage_errors_by_hand():
    assert mape(Y, P) == pytest.approx((10 + 50 + 0) / 3)
    assert median_ape(Y, P) == pytest.approx(10)


@given(pairs=pairs)
def test_spearman_equals_scipy(pairs):
    y, p = np.array(pairs).T
    if len(set(y)) == 1:
        assert math.isnan(spearman(y, p))
    elif len(set(p)) == 1:
        assert spearman(y, p) == 0
    else:
        assert spearman(y, p) == pytest.approx(spearmanr(y, p).statistic)


def test_coverage_counts_the_ends_as_inside():
    assert coverage([1, 2, 3, 4], [1, 0, 4, 4], [1, 2, 5, 4]) == 0.75


def test_interval_score_by_hand():
    # inside: width 2; below by 1 and above by 2 at level 0.8, so 10 each
    assert interval_score([1, -1, 4], [0, 0, 0], [2, 2, 2], level=0.8) == pytest.approx(
        (2 + (2 + 10) + (2 + 20)) / 3
    )


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_interval_score_is_smallest_for_the_true_quantiles(level):
    y = np.random.default_rng(0).normal(size=200_000)
    z = norm.ppf(0.5 + level / 2)

    def at(low, high):
        return interval_score(y, np.full(len(y), low), np.full(len(y), high), level)

    best = at(-z, z)
    assert all(best < at(-z * a, z * b) for a, b in [(0.9, 1), (1.1, 1), (1, 0.9), (1.1, 1.1)])


def test_nlpd_is_the_mean_negative_log_density():
    y, mean, std = np.random.default_rng(0).random((3, 7)) + 0.1
    assert nlpd(y, mean, std) == pytest.approx(-norm.logpdf(y, mean, std).mean())


@pytest.mark.parametrize(("y", "mean", "std"), [(0.3, 0.0, 1.0), (-2.0, 1.0, 0.5), (5.0, 4.0, 3.0)])
def test_crps_is_the_integral_of_the_squared_difference(y, mean, std):
    below, _ = quad(lambda x: norm.cdf(x, mean, std) ** 2, mean - 12 * std, y)
    above, _ = quad(lambda x: norm.sf(x, mean, std) ** 2, y, mean + 12 * std)
    assert crps([y], [mean], [std]) == pytest.approx(below + above, rel=1e-7)


predicted = st.lists(
    st.tuples(st.floats(-30, 30), st.floats(-50, 50), st.floats(0.05, 20)), min_size=1, max_size=20
)


@given(predicted=predicted)
def test_proper_scores_equal_those_of_scoringrules(predicted):
    z, mean, std = np.array(predicted).T
    y = mean + z * std  # further out than 38 deviations the density of scoringrules underflows
    assert crps(y, mean, std) == pytest.approx(scoringrules.crps_normal(y, mean, std).mean())
    assert nlpd(y, mean, std) == pytest.approx(scoringrules.logs_normal(y, mean, std).mean())
    low, high = mean - 1.2 * std, mean + 0.7 * std
    assert interval_score(y, low, high, level=0.8) == pytest.approx(
        scoringrules.interval_score(y, low, high, 0.2).mean()
    )


def test_pit_of_calibrated_predictions_is_uniform():
    rng = np.random.default_rng(0)
    mean, std = rng.normal(size=2_000), rng.uniform(0.5, 2, 2_000)
    y = rng.normal(mean, std)
    assert kstest(pit(y, mean, std), "uniform").pvalue > 0.01
    assert kstest(pit(y, mean, 2 * std), "uniform").pvalue < 1e-6


def test_score_of_a_prediction():
    measured = pd.Series([10.0, 20.0, 30.0], index=["a", "b", "c"])
    prediction = pd.DataFrame(
        {"q05": [5.0, 21.0, 10.0], "q50": [11.0, 25.0, 30.0], "q95": [20.0, 42.0, 90.0]},
        index=measured.index,
    )
    result = score(measured, prediction)
    assert result == pytest.approx(
        {
            "mape": (10 + 25 + 0) / 3,
            "median_ape": 10.0,
            "spearman": 1.0,
            "coverage90": 2 / 3,
            "width_ratio90": (4 * 2 * 9) ** (1 / 3),
        }
    )
    assert score(measured.to_numpy(), prediction) == result
    assert math.isnan(score(measured, prediction.assign(q05=-1.0))["width_ratio90"])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mape([1, 2], [1]), "one shape"),
        (lambda: mape([[1, 2]], [[1, 2]]), "one shape"),
        (lambda: mape([], []), "not empty"),
        (lambda: mape([0, 1], [1, 1]), "other than zero"),
        (lambda: spearman([1, np.nan], [1, 2]), "measured to be finite"),
        (lambda: crps([1], [np.inf], [1]), "mean to be finite"),
        (lambda: nlpd([1], [1], [0]), "positive standard deviations"),
        (lambda: interval_score([1], [0], [2], level=1.0), "between 0 and 1"),
        (lambda: score([1], pd.DataFrame({"q50": [1]})), "missing"),
        (
            lambda: score(pd.Series([1.0]), pd.DataFrame({"q05": 1, "q50": 1, "q95": 1}, ["x"])),
            "prediction's index",
        ),
    ],
)
def test_bad_arguments_are_clear_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()

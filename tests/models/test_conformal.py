import math

import numpy as np
import pytest
from scipy.stats import t as student

from bayestl.models.conformal import PRIOR_POINTS, PRIOR_SIZE, HeldOut, Ranked


class Constant:
    def __init__(self, value):
        self.value = value

    def predict(self, x):
        return np.full(len(x), self.value)


def leave_one_out_means(z):
    """The jackknife+ of the mean as a predictor."""
    members = [Constant(np.delete(z, i).mean()) for i in range(len(z))]
    residuals = np.array([abs(z[i] - m.value) for i, m in enumerate(members)])
    return HeldOut(members, np.eye(len(z)), residuals, np.ones(len(z)))


@pytest.mark.parametrize("n", [9, 10, 19, 40])
@pytest.mark.parametrize("level", [0.05, 0.2, 0.4, 0.6, 0.9, 0.95])
def test_quantiles_equal_the_jackknife_plus_by_its_definition(n, level):
    z = np.random.default_rng(n).normal(size=n)
    alpha = 2 * min(level, 1 - level)
    ends = []
    for i in range(n):
        rest = [z[j] for j in range(n) if j != i]
        mean = sum(rest) / (n - 1)
        sign = 1 if level > 0.5 else -1
        ends.append(mean + sign * abs(z[i] - mean))
    rank = math.ceil(round((1 - alpha) * (n + 1), 9))
    expected = sorted(ends)[rank - 1] if level > 0.5 else sorted(ends, reverse=True)[rank - 1]
    centre = np.full(3, z.mean())
    (got,) = leave_one_out_means(z).quantiles(np.zeros((3, 1)), centre, [level])
    bounded = max(expected, centre[0]) if level > 0.5 else min(expected, centre[0])
    np.testing.assert_allclose(got, bounded)


@pytest.mark.parametrize("n", [6, 12, 30])
def test_intervals_cover_what_they_promise(n):
    rng = np.random.default_rng(0)
    inside, trials = 0, 2_000
    for _ in range(trials):
        z = rng.standard_t(3, n + 1)
        held_out = leave_one_out_means(z[:n])
        low, high = held_out.quantiles(np.zeros((1, 1)), np.array([z[:n].mean()]), [0.05, 0.95])
        inside += low[0] <= z[n] <= high[0]
    assert 0.87 < inside / trials < 0.97


def test_beyond_the_ranks_the_widest_interval_grows_as_students_t():
    z = np.random.default_rng(0).normal(size=7)
    held_out, x, centre = leave_one_out_means(z), np.zeros((1, 1)), np.array([z.mean()])
    reached, beyond = held_out.quantiles(x, centre, [(1 + 7 / 8) / 2, 0.999])
    ratio = student.ppf(0.999, 7) / student.ppf((1 + 7 / 8) / 2, 7)
    np.testing.assert_allclose(beyond - centre, ratio * (reached - centre))


@pytest.mark.parametrize("n", [0, 2, 4, 5, 25])
def test_quantiles_never_cross_and_the_median_is_the_point_prediction(n):
    rng = np.random.default_rng(n)
    if n == 0:
        held_out = HeldOut([], np.empty((0, 0)), np.empty(0), np.empty(0))
    else:
        held_out = leave_one_out_means(rng.normal(size=n))
    centre = np.array([-2.0, 0.0, 3.0])
    levels = [0.001, 0.05, 0.3, 0.5, 0.7, 0.95, 0.999]
    got = np.stack(held_out.quantiles(np.zeros((3, 1)), centre, levels))
    assert (np.diff(got, axis=0) >= 0).all()
    np.testing.assert_allclose(got[3], centre)


def test_few_points_fall_back_to_a_wide_students_t():
    nothing = HeldOut([], np.empty((0, 0)), np.empty(0), np.empty(0))
    (high,) = nothing.quantiles(np.zeros((1, 1)), np.array([1.0]), [0.95])
    assert high[0] == pytest.approx(1 + PRIOR_SIZE * student.ppf(0.95, PRIOR_POINTS))
    two = HeldOut([], np.empty((2, 0)), np.array([0.1, 0.1]), np.ones(2))
    (narrower,) = two.quantiles(np.zeros((1, 1)), np.array([1.0]), [0.95])
    assert 1 + PRIOR_SIZE < narrower[0] < high[0]


@pytest.mark.parametrize("n", [2, 5, 7, 40])
def test_repeats_that_show_the_same_are_no_further_points(n):
    once = leave_one_out_means(np.random.default_rng(n).normal(size=n))
    copies = np.repeat(np.arange(n), np.arange(n) % 3 + 1)
    weights = 1 / (copies % 3 + 1)
    often = HeldOut(once.members, once.shares[copies], once.residuals[copies], weights)
    assert often.points == once.points == n
    x, centre, levels = np.zeros((2, 1)), np.array([0.0, 0.3]), [0.01, 0.1, 0.5, 0.7, 0.95]
    expected = once.quantiles(x, centre, levels)
    np.testing.assert_allclose(often.quantiles(x, centre, levels), expected, rtol=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_an_end_is_the_least_one_of_enough_weight(seed):
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 8, 9)
    weights = np.repeat(1 / counts, counts)
    ends = rng.normal(size=(len(weights), 3))
    ranked = Ranked.of(ends, weights)
    for rank in (0.1, 1, 2.7, 8.1, 9, 9.5):
        reached = [
            [end for end in column if weights[column <= end].sum() > rank - 1e-9] or [max(column)]
            for column in ends.T
        ]
        np.testing.assert_array_equal(ranked.at(rank), [min(column) for column in reached])


def test_ten_identical_repeats_of_five_configurations_cover_as_one_of_each_does():
    rng = np.random.default_rng(0)
    inside, trials = 0, 1_000
    for _ in range(trials):
        z = rng.normal(size=6)
        once = leave_one_out_means(z[:5])
        copies = np.repeat(np.arange(5), 10)
        held_out = HeldOut(
            once.members, once.shares[copies], once.residuals[copies], np.full(50, 0.1)
        )
        low, high = held_out.quantiles(np.zeros((1, 1)), np.array([z[:5].mean()]), [0.05, 0.95])
        inside += low[0] <= z[5] <= high[0]
    assert inside / trials > 0.87

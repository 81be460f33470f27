"""The curves by themselves: closed forms beside refits, and the choice among sources."""

import numpy as np
import pytest
from sklearn.ensemble import RandomForestRegressor

from bayestl.models.regression import Examples
from bayestl.transfer.shift import forests, line, offset, root_mean_square, straight, unchanged


def points(n, seed=0):
    rng = np.random.default_rng(seed)
    predicted = rng.normal(size=n)
    z = 0.7 - 1.3 * predicted + 0.2 * rng.normal(size=n)
    return predicted, z, rng.integers(1, 4, n).astype(float)


@pytest.mark.parametrize("fit", [unchanged, offset, line])
@pytest.mark.parametrize("n", [3, 8, 30])
def test_left_out_errors_are_those_of_refits(fit, n):
    predicted, z, weights = points(n)
    _, errors = fit(predicted, z, weights)
    for out in range(n):
        kept = np.arange(n) != out
        curve, _ = fit(predicted[kept], z[kept], weights[kept])
        assert errors[out] == pytest.approx(z[out] - curve(predicted[out]))


def test_a_repeat_counts_as_much_as_a_row():
    predicted, z, weights = points(9)
    rows = np.repeat(np.arange(9), weights.astype(int))
    curve, _ = line(predicted, z, weights)
    slope, intercept = np.polyfit(predicted[rows], z[rows], 1)
    assert (curve.slope, curve.intercept) == pytest.approx((slope, intercept))
    level, _ = offset(predicted, z, weights)
    assert level.intercept == pytest.approx((z - predicted)[rows].mean())


def test_a_line_through_one_prediction_is_an_offset():
    predicted, z, weights = np.full(4, 2.0), np.array([1.0, 2, 3, 4]), np.ones(4)
    curve, errors = line(predicted, z, weights)
    assert (curve.slope, curve.intercept) == (1.0, 0.5)
    np.testing.assert_allclose(errors, offset(predicted, z, weights)[1])


def test_a_point_without_which_no_slope_is_left_is_judged_by_the_offset():
    predicted, z, weights = np.array([0.0, 0, 0, 1]), np.array([1.0, 2, 3, 9]), np.ones(4)
    _, errors = line(predicted, z, weights)
    assert errors[3] == pytest.approx(9 - (2 + 1))


def test_the_source_with_the_least_left_out_error_is_kept():
    rng = np.random.default_rng(7)
    useful, z = points(12)[:2]
    x = np.column_stack([rng.normal(size=12), useful, rng.normal(size=12)])
    shift = straight(line, offset, x, z, np.ones(12))
    assert shift.sources == (1,)
    assert int(np.argmin(shift.errors)) == 1
    np.testing.assert_allclose(shift.predict(x), line(useful, z, np.ones(12))[0](useful))


@pytest.mark.parametrize("n", [1, 2])
def test_with_few_points_an_offset_of_the_mean_source_stands_in(n):
    x, z = np.array([[0.0, 2.0], [1.0, 5.0]])[:n], np.array([3.0, 3.0])[:n]
    shift = straight(line, offset, x, z, np.ones(n))
    assert shift.sources == (0, 1)
    assert shift.errors == ()
    assert shift.predict(np.array([[10.0, 20.0]]))[0] == 15 + (z - x.mean(axis=1)).mean()


def test_with_no_point_the_sources_are_averaged_unchanged():
    shift = straight(line, offset, np.empty((0, 2)), np.empty(0), np.empty(0))
    assert shift.predict(np.array([[1.0, 4.0]]))[0] == 2.5


def examples(x, z):
    n = len(z)
    return Examples(x, z, np.ones(n), np.ones(n, dtype=bool), np.arange(n), z)


def test_a_forest_is_judged_by_trees_that_did_not_draw_the_point():
    rng = np.random.default_rng(1)
    useful = rng.normal(size=25)
    x, z = np.column_stack([rng.normal(size=25), useful]), np.sign(useful) + useful
    trained = forests(examples(x, z), 40, seed=0)
    assert trained.regressor.sources == (1,)
    assert {member.sources for member in trained.members} == {(1,)}
    samples = trained.regressor.curve.regressor.estimators_samples_
    for tree, drawn in enumerate(samples):
        assert not trained.left_out[drawn, tree].any()
    assert trained.left_out.any(axis=1).all()
    held_out = trained.held_out(examples(x, z))
    out_of_bag = root_mean_square(held_out.residuals, np.ones(25))
    assert trained.regressor.errors[1] == pytest.approx(out_of_bag)


def test_a_point_has_no_say_in_which_source_predicts_it():
    rng = np.random.default_rng(0)
    z = rng.normal(size=12)
    x = np.column_stack([z + rng.normal(size=12), z + rng.normal(size=12)])
    trained = forests(examples(x, z), 60, seed=0)
    square = np.empty((12, 2))
    for source in (0, 1):
        forest = RandomForestRegressor(60, random_state=0, oob_score=True)
        forest.fit(x[:, [source]], z, sample_weight=np.ones(12))
        square[:, source] = (z - forest.oob_prediction_) ** 2
    sources = np.array([member.sources[0] for member in trained.members])
    expected = [int(np.delete(square, point, axis=0).sum(axis=0).argmin()) for point in range(12)]
    assert set(expected) == {0, 1}
    for row, source in zip(trained.left_out, expected, strict=True):
        assert set(sources[row].tolist()) == {source}

import numpy as np
import pytest

from bayestl.data.table import MeasurementTable
from bayestl.models.observations import Observations
from bayestl.models.regression import (
    Examples,
    Trained,
    cross_validated,
    cross_validated_together,
)


class Mean:
    """Predicts the weighted mean of what it saw."""

    def __init__(self, x, z, weights):
        self.value = np.average(z, weights=weights)

    def predict(self, x):
        return np.full(len(x), self.value)


@pytest.fixture
def measure(make_table):
    """(sources, targets, seed) -> a table in which every configuration is distinct."""

    def table(sources, targets, seed=0):
        return make_table({"laptop": (sources, 1.0, 0.0), "board": (targets, 1.0, 0.7)}, seed)

    return table


def examples_of(table):
    return Examples.of(Observations.of(table, "latency", "board", "auto"))


def test_repeats_become_one_row_that_counts_for_all_of_them(measure):
    table = measure(0, 6)
    thrice = MeasurementTable.concat([table, table.select([0]), table.select([0])])
    once, repeated = examples_of(table), examples_of(thrice)
    np.testing.assert_array_equal(once.x, repeated.x)
    assert sorted(once.weights) == [1] * 6
    assert sorted(repeated.weights) == [1] * 5 + [3]
    assert len(repeated.repeats_z) == 8
    np.testing.assert_allclose(repeated.z[repeated.repeats_row], repeated.repeats_z, atol=1e-12)


def test_the_target_outweighs_its_sources_by_a_root(measure):
    both = examples_of(measure(40, 10).select(np.arange(50)))
    target, source = both.weights[both.is_target].sum(), both.weights[~both.is_target].sum()
    assert source == 40
    assert target == pytest.approx(10 * np.sqrt(40 / 10))
    few = examples_of(measure(4, 10))
    assert few.weights[few.is_target].sum() == 10


def test_the_environment_is_an_indicator_where_there_are_several(measure):
    both, alone = examples_of(measure(5, 5)), examples_of(measure(0, 5).of("board"))
    assert both.x.shape[1] == alone.x.shape[1] + 2
    np.testing.assert_array_equal(both.x[:, -2], both.is_target)
    np.testing.assert_array_equal(both.x[:, -1], ~both.is_target)


def test_every_target_row_is_judged_by_a_member_that_never_saw_it(measure):
    examples = examples_of(measure(8, 13))
    trained = cross_validated(examples, fit=Mean, seed=0)
    targets = np.flatnonzero(examples.is_target)
    np.testing.assert_array_equal(trained.left_out.sum(axis=1), 1)
    assert len(trained.members) == 10
    for fold, member in enumerate(trained.members):
        kept = np.setdiff1d(np.arange(len(examples.z)), targets[trained.left_out[:, fold]])
        assert member.predict(np.zeros((1, 1)))[0] == pytest.approx(
            np.average(examples.z[kept], weights=examples.weights[kept])
        )


def test_regressors_trained_side_by_side_leave_out_what_those_trained_alone_do(measure):
    examples = examples_of(measure(8, 4))

    def fit(weights):
        return (Mean(examples.x, examples.z, row) for row in weights)

    alone = cross_validated(examples, fit=Mean, seed=0)
    together = cross_validated_together(examples, fit=fit, seed=0)
    np.testing.assert_array_equal(together.left_out, alone.left_out)
    for one, other in zip(
        (together.regressor, *together.members), (alone.regressor, *alone.members), strict=True
    ):
        assert one.predict([0]) == pytest.approx(other.predict([0]))


def test_side_by_side_there_are_fewer_folds(measure):
    examples = examples_of(measure(0, 9).of("board"))
    trained = cross_validated_together(examples, fit=lambda weights: [*weights], seed=0)
    np.testing.assert_array_equal(trained.left_out.sum(axis=1), 1)
    assert len(trained.members) == 5


def test_residuals_are_those_of_single_measurements(measure):
    examples = examples_of(MeasurementTable.concat([measure(0, 7, seed=0)] * 2))
    noisy = Examples(
        examples.x,
        examples.z,
        examples.weights,
        examples.is_target,
        examples.repeats_row,
        examples.repeats_z + 0.1 * np.arange(14),
    )
    trained = cross_validated(noisy, fit=Mean, seed=0)
    held_out = trained.held_out(noisy)
    assert held_out.points == 7
    np.testing.assert_array_equal(held_out.weights, 0.5)
    for measurement in range(14):
        row = noisy.repeats_row[measurement]
        member = trained.members[int(trained.left_out[row].argmax())]
        expected = abs(noisy.repeats_z[measurement] - member.value)
        assert held_out.residuals[measurement] == pytest.approx(expected)


def test_a_row_that_every_member_saw_is_not_judged(measure):
    examples = examples_of(measure(0, 6))
    left_out = np.eye(6, dtype=bool)
    left_out[2, 2] = False
    members = [Mean(examples.x, examples.z, examples.weights)] * 6
    held_out = Trained(members[0], members, left_out).held_out(examples)
    assert held_out.points == 5
    np.testing.assert_allclose(held_out.shares.sum(axis=1), 1.0)


def test_one_row_alone_has_nothing_to_be_judged_by(measure):
    examples = examples_of(measure(0, 1))
    trained = cross_validated(examples, fit=Mean, seed=0)
    assert trained.members == []
    assert trained.held_out(examples).points == 0

"""Networks that are trained side by side learn, each by itself, what its rows say."""

import numpy as np
import pytest

from bayestl.models import network
from bayestl.models.network import PENALTIES, RATES, Networks, Settings, Shape


@pytest.fixture
def sample():
    """(n, options) -> features of which the first two matter, and values."""

    def draw(n, options=4, seed=0):
        x = np.random.default_rng(seed).random((n, options))
        return x, np.abs(x[:, 0] - 0.5) + x[:, 0] * x[:, 1]

    return draw


def fresh(inputs=4, depth=2, count=1):
    return Networks.fresh(Shape(inputs, depth, 16), count, seed=1)


def train(networks, x, z, weights=None, **arguments):
    count = len(networks)
    weights = np.ones((count, len(z))) if weights is None else weights
    penalties = arguments.pop("penalties", [0.0] * count)
    rates = arguments.pop("rates", [1e-2] * count)
    settings = {"steps": 300, "seed": 0, **arguments}
    return networks.trained(x, z, weights, penalties=penalties, rates=rates, **settings)


def test_a_seed_is_any_whole_number():
    shape = Shape(4, 2, 16)
    assert (shape.fresh(1, np.int64(1)) == shape.fresh(1, 1)).all()


def test_untrained_networks_are_alike_and_zero(sample):
    x, _ = sample(5)
    assert (fresh(count=3).predict(x) == 0).all()
    assert (fresh(count=3).flat[0] == fresh(count=3).flat[2]).all()


@pytest.mark.parametrize("n", [60, 600])  # in one batch, and in several
def test_they_learn_a_function(sample, n):
    x, z = sample(n)
    new, truth = sample(200, seed=9)
    error = train(fresh(), x, z).predict(new)[0] - truth
    assert np.sqrt((error**2).mean()) < 0.25 * truth.std()


def test_each_is_trained_as_if_it_were_alone(sample):
    x, z = sample(40)
    weights = np.ones((3, 40))
    weights[1, :20] = 0
    weights[2] = 7
    both = train(
        fresh(count=3), x, z, weights, rates=[1e-2, 1e-3, 1e-2], penalties=[0, 1e-3, 0], steps=40
    )
    alone = train(fresh(), x[20:], z[20:], rates=[1e-3], penalties=[1e-3], steps=40)
    predicted = both.predict(x)
    np.testing.assert_allclose(predicted[1], alone.predict(x)[0], atol=1e-4)
    np.testing.assert_allclose(predicted[2], predicted[0], atol=1e-4)
    assert np.abs(predicted[0] - predicted[1]).max() > 0.01


def test_a_penalty_empties_the_first_layer_where_an_option_does_not_matter(sample):
    x, z = sample(80, options=8)
    networks = train(fresh(8, count=2), x, z, penalties=[0.0, 3e-3], steps=600)
    free, sparse = (np.abs(networks[place].layers[0][0]).sum(axis=1) for place in (0, 1))
    assert sparse[2:].sum() < 0.1 * sparse[:2].sum()
    assert sparse[2:].sum() < 0.1 * free[2:].sum()


def test_levelled_networks_have_no_mean_error_and_the_same_shape(sample):
    x, z = sample(50)
    networks = train(fresh(count=2), x, z, steps=100)
    weights = np.ones((2, 50))
    weights[1, 1:] = 0
    moved = networks.levelled(x, z + 5, weights)
    error = z + 5 - moved.predict(x)
    assert error[0].mean() == pytest.approx(0, abs=1e-5)
    assert error[1, 0] == pytest.approx(0, abs=1e-5)
    assert np.ptp(moved.predict(x)[0] - networks.predict(x)[0]) < 1e-5


def test_training_goes_on_from_where_it_was(sample):
    x, z = sample(60)
    once = train(fresh(), x, z)
    again = train(once.copies(2), x, z, steps=5, rates=[1e-4] * 2)
    assert len(again) == 2
    np.testing.assert_allclose(again.predict(x)[1], once.predict(x)[0], atol=0.05)


def test_constant_values_are_predicted_exactly(sample):
    x, _ = sample(30)
    assert (train(fresh(), x, np.zeros(30)).predict(x) == 0).all()


def test_a_search_ends_where_another_layer_does_not_help_and_keeps_the_best_penalty(sample):
    x, z = sample(90, options=12)
    z = z + 0.1 * np.random.default_rng(2).normal(size=90)
    tried = []

    def start(depth, count):
        tried.append((depth, count))
        return fresh(12, depth, count)

    found = Settings.searched(start, x, z, np.ones(90), depths=(1, 2, 3, 4), steps=100, seed=0)
    assert found.rate in RATES
    assert found.penalty in PENALTIES[1:]  # ten options are noise
    depths = [depth for depth, _ in tried[:-1]]
    assert depths == list(range(1, len(depths) + 1))
    assert found.depth == (depths[-1] if depths[-1] == 4 else depths[-1] - 1) or len(depths) == 4
    assert tried[-1] == (found.depth, len(PENALTIES))


def test_a_search_is_of_some_rows_and_needs_a_few(sample, monkeypatch):
    x, z = sample(40)
    few = Settings.searched(
        lambda *_: pytest.fail("searched"), x[:5], z[:5], np.ones(5), depths=(2, 3), steps=9, seed=0
    )
    assert few == Settings(2, 3e-2, 1e-2)
    monkeypatch.setattr(network, "SEARCHED_ROWS", 12)
    seen = []

    class Spied(Networks):
        def trained(self, x, z, weights, **settings):
            seen.append(len(z))
            return super().trained(x, z, weights, **settings)

    def start(depth, count):
        return Spied(Shape(4, depth, 4), Shape(4, depth, 4).fresh(count, 0))

    Settings.searched(start, x, z, np.ones(40), depths=(1,), steps=3, seed=0)
    assert seen == [8, 8]

"""Repeats say how noisy a configuration is, as far as they can, and no further."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import f, spearmanr
from torch.testing import assert_close

from bayestl.data.table import MeasurementTable
from bayestl.models.gaussian_process import repeats
from bayestl.models.gaussian_process.conditioning import Conditioned
from bayestl.models.gaussian_process.repeats import (
    BELIEF,
    noisy_configurations,
    relative_noise,
    variance_within,
)
from bayestl.models.gp import MultiTaskGP, TargetOnlyGP
from bayestl.models.persistence import load
from bayestl.models.sequential.sequential_gp import SequentialGP

QUIET, NOISY = 0.05, 0.6


def repeated(deviation, times, seed=0, environment=0.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Each configuration so many times, its repeats with so large a standard deviation."""
    rng = np.random.default_rng(seed)
    which = np.repeat(np.arange(len(deviation)), times)
    z = rng.normal(size=len(deviation))[which] + rng.normal(size=len(which)) * deviation[which]
    x = np.c_[which, np.full(len(which), environment)].astype(float)
    return torch.from_numpy(x), torch.from_numpy(z)


def a_quarter_noisy(n: int) -> np.ndarray:
    return np.where(np.arange(n) % 4 == 0, NOISY, QUIET)


@pytest.mark.parametrize("n", [1, 2, 40])
def test_without_repeats_all_are_equally_noisy(n):
    x, z = repeated(a_quarter_noisy(n), 1)
    assert torch.equal(relative_noise(x, z), torch.ones(n, dtype=z.dtype))
    assert len(relative_noise(x[:0], z[:0])) == 0


@pytest.mark.parametrize("times", [2, 3, 5])
@pytest.mark.parametrize("n", [3, 15, 60])
def test_chance_is_no_noise_of_their_own(times, n):
    found = []
    for seed in range(30):
        x, z = repeated(np.full(n, QUIET), times, seed)
        found.append(bool((relative_noise(x, z) != 1).any()))
    assert np.mean(found) < 0.1


@pytest.mark.parametrize("times", [2, 3, 5])
def test_noisy_configurations_are_told_from_quiet_ones(times):
    deviation = a_quarter_noisy(60)
    x, z = repeated(deviation, times)
    every = relative_noise(x, z)
    relative = every.reshape(60, times).median(1).values  # one of them may be an outlier
    rank, _ = spearmanr(relative, deviation)
    assert rank > 0.5
    noisy = torch.from_numpy(deviation == NOISY)
    assert relative[noisy].mean() > 4 * relative[~noisy].mean()
    assert len(noisy_configurations(x, every)[:, 0].unique()) == 60


def test_what_was_measured_once_is_as_noisy_as_a_new_measurement():
    times = np.where(np.arange(80) % 2 == 0, 4, 1)
    x, z = repeated(a_quarter_noisy(80), times)
    relative = relative_noise(x, z)
    once = torch.from_numpy(np.repeat(times, times) == 1)
    assert (relative[once] == 1).all()
    assert (relative[~once] != 1).all()


def test_it_is_the_moderated_variance_over_what_repeats_vary_by(monkeypatch):
    monkeypatch.setattr(repeats, "OUTLIERS", 1e-12)
    x, z = repeated(a_quarter_noisy(60), 4)
    s2 = z.reshape(60, 4).var(1)
    relative = relative_noise(x, z).reshape(60, 4)[:, 0] * s2.mean()
    # (d0 s0^2 + d s^2) / (d0 + d) is a line in s^2, whose slope is d / (d0 + d)
    slope, intercept = np.polyfit(s2, relative, 1)
    np.testing.assert_allclose(relative, intercept + slope * s2, atol=1e-12)
    d0 = 3 / slope - 3
    assert min(abs(d0 - known) for known in repeats.FREEDOM) < 1e-9
    assert QUIET**2 / 2 < intercept / (1 - slope) < NOISY**2 / 2


def test_variances_drawn_from_the_prior_give_it_back():
    rng = np.random.default_rng(0)
    x, z = repeated(0.1 * np.sqrt(4.0 / rng.chisquare(4.0, 500)), 5)
    s2 = z.reshape(500, 5).var(1)
    slope, intercept = np.polyfit(s2, relative_noise(x, z).reshape(500, 5)[:, 0] * s2.mean(), 1)
    assert 3.0 <= 4 / slope - 4 <= 6.0
    assert intercept / (1 - slope) == pytest.approx(0.01, rel=0.25)


@pytest.mark.parametrize("times", [2, 3, 5])
def test_one_outlying_repeat_in_fifty_is_none_of_the_configurations(times):
    found = []
    for seed in range(20):
        x, z = repeated(np.full(30, QUIET), times, seed)
        z[np.random.default_rng(seed).random(len(z)) < 0.02] += 2.3
        found.append(bool((relative_noise(x, z) != 1).any()))
    assert np.mean(found) < 0.2


def test_where_noise_differs_an_outlier_leaves_what_the_others_say():
    deviation = np.where(np.arange(60) % 4 == 0, 3 * QUIET, QUIET)
    x, z = repeated(deviation, 5)
    before = relative_noise(x, z)
    z[5] += 50.0  # of the second configuration, a quiet one
    after = relative_noise(x, z)
    assert (after != 1).all()
    assert (after[6:10] < 1).all()
    assert after[5] > 100
    assert_close(after[10:], before[10:], rtol=0.1, atol=0.0)


def test_of_two_repeats_that_differ_far_too_much_either_may_be_the_outlier():
    x, z = repeated(np.random.default_rng(0).permutation(a_quarter_noisy(200)), 2)
    z[7] += 1e4
    relative = relative_noise(x, z)
    assert relative[6] == relative[7] > 1e3
    assert 0.01 < relative.median() < 1  # the others are as they were


def test_one_configuration_that_scatters_all_over_is_noisy():
    deviation = np.full(20, QUIET)
    deviation[7] = 10 * QUIET
    relative = relative_noise(*repeated(deviation, 5)).reshape(20, 5)[:, 0]
    assert relative.argmax() == 7
    assert relative[7] > 10 * relative.median()


def test_an_environment_says_nothing_of_another():
    x, z = repeated(a_quarter_noisy(40), 3)
    other = repeated(np.full(40, QUIET), 3, 1, environment=1.0)
    relative = relative_noise(torch.cat([x, other[0]]), torch.cat([z, other[1]]))
    assert_close(relative[:120], relative_noise(x, z), rtol=0.0, atol=0.0)
    assert (relative[120:] == 1).all()


def test_the_order_of_the_rows_does_not_matter():
    x, z = repeated(a_quarter_noisy(40), 3)
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(z)))
    assert_close(relative_noise(x[order], z[order]), relative_noise(x, z)[order])


def test_repeats_that_are_equal_are_alike():
    x, z = repeated(np.zeros(30), 3)
    assert (relative_noise(x, z) == 1).all()


@pytest.mark.parametrize("d", [1, 2, 5])
@pytest.mark.parametrize("d0", [1.0, 4.0, 32.0])
def test_the_density_is_that_of_the_logarithm_of_f(d, d0):
    apart = np.linspace(-6, 6, 13)
    expected = f(d, d0).logpdf(np.exp(apart)) + apart
    np.testing.assert_allclose(repeats._log_density(apart, np.array([d]), d0), expected)
    assert (repeats._log_density(apart, np.array([0]), d0) == 0).all()


def staged(measure, seed: int, sizes: dict[str, int], times: int = 3) -> MeasurementTable:
    """A table in which every fourth configuration is twelve times as noisy as the others."""
    once = measure({name: (n, 1.0, 0.0) for name, n in sizes.items()}, seed)
    rows = np.repeat(np.arange(len(once.frame)), times)
    noise = a_quarter_noisy(len(once.frame))[rows]
    factor = np.exp(noise * np.random.default_rng(seed).normal(size=len(rows)))
    frame = once.frame.iloc[rows].reset_index(drop=True)
    frame = frame.assign(latency=frame["latency"] * factor)
    return MeasurementTable(frame, once.space, once.environments, once.metrics)


ALONE, BOTH = {"target": 40}, {"target": 16, "source": 40}
RECIPES = [(TargetOnlyGP(), ALONE), (MultiTaskGP(), BOTH), (SequentialGP(), BOTH)]
BY_NAME = pytest.mark.parametrize(("recipe", "sizes"), RECIPES, ids=lambda p: type(p).__name__)


@BY_NAME
def test_noisy_configurations_count_for_less(recipe, sizes, measure, make_test, monkeypatch):
    (configs, truth), errors = make_test(), []
    for worth in (repeats.WORTH, np.inf):
        monkeypatch.setattr(repeats, "WORTH", worth)
        for seed in range(4):
            fitted = recipe.fit(staged(measure, seed, sizes), metric="latency", target="target")
            assert any(fitted.diagnostics.details["own_noise"].values()) == (worth < np.inf)
            errors.append(np.abs(fitted.predict(configs)["q50"] / truth - 1).mean())
    with_repeats, without = np.log(errors).reshape(2, 4).mean(1)
    assert with_repeats < without - 0.3


@BY_NAME
def test_a_model_knows_how_many_are_noisy_and_is_kept_with_them(
    recipe, sizes, measure, make_test, tmp_path
):
    table = staged(measure, 0, sizes)
    fitted = recipe.fit(table, metric="latency", target="target")
    last = list(sizes)[-1]
    assert fitted.diagnostics.details["own_noise"][last] == sizes[last]
    fitted.save(tmp_path / "m.bayestl")
    found = load(tmp_path / "m.bayestl")
    configs = make_test()[0]
    pd.testing.assert_frame_equal(found.predict(configs), fitted.predict(configs), check_exact=True)
    assert_close(found.leave_one_out().moments(), fitted.leave_one_out().moments(), rtol=0, atol=0)


def test_left_out_is_a_configuration_and_its_measurements_have_their_own_noise(measure):
    fitted = TargetOnlyGP().at_mode(staged(measure, 0, ALONE), metric="latency", target="target")
    belief, (mean, variance) = fitted.belief, fitted.leave_one_out().moments()
    same = (belief.x == belief.x[0]).all(-1)
    assert same.sum() > 1
    rest, out = torch.nonzero(~same).squeeze(-1), torch.nonzero(same).squeeze(-1)
    without = Conditioned.on(
        belief.hyperparameters,
        *(p[rest] for p in (belief.x, belief.z, belief.extra, belief.relative)),
    )
    expected, doubt = without.marginals(belief.x[out])
    assert not belief.extra[out].any()
    assert_close(mean[out], expected, rtol=1e-6, atol=1e-6)
    assert_close(variance[out], doubt + belief.noise_of(out), rtol=1e-6, atol=1e-6)


def test_refitting_is_fitting_with_repeats_too(measure, make_test):
    table = staged(measure, 1, {"target": 24, "source": 40})
    recipe, configs = SequentialGP(), make_test()[0]
    fewer = table.select(np.r_[0:36, 72 : len(table.frame)])
    first = recipe.fit(fewer, metric="latency", target="target")
    refitted, fitted = first.refit(table), recipe.fit(table, metric="latency", target="target")
    assert refitted.block.prior is first.block.prior
    assert torch.equal(refitted.block.relative, fitted.block.relative)
    assert (fitted.block.relative != 1).any()
    expected = fitted.predict(configs)
    pd.testing.assert_frame_equal(refitted.predict(configs), expected, check_exact=True)


@BY_NAME
def test_an_outlier_among_repeats_is_still_one(recipe, sizes, measure):
    once = measure({name: (n, 1.0, 0.0) for name, n in sizes.items()})
    rows = np.repeat(np.arange(len(once.frame)), 3)
    frame = once.frame.iloc[rows].reset_index(drop=True)
    noise = np.exp(0.02 * np.random.default_rng(0).normal(size=len(frame)))
    frame = frame.assign(latency=frame["latency"] * noise)
    frame.loc[10, "latency"] *= 10
    table = MeasurementTable(frame, once.space, once.environments, once.metrics)
    details = recipe.fit(table, metric="latency", target="target").diagnostics.details
    assert set(details["own_noise"].values()) == {0}
    assert details["outliers"]["target"] == pytest.approx(1, abs=0.01)


def test_older_files_have_no_noise_of_their_own(measure):
    table = measure({"target": (8, 1.0, 0.0), "source": (20, 1.0, 0.0)})
    fitted = SequentialGP().fit(table, metric="latency", target="target")
    state = fitted.to_state()
    arrays = {n: a for n, a in state.arrays.items() if not n.endswith("relative")}
    older = type(fitted).from_state(type(state)(state.plain, arrays))
    assert (older.block.relative == 1).all()
    configs = table.configurations().head(5)
    pd.testing.assert_frame_equal(older.predict(configs), fitted.predict(configs), check_exact=True)


def test_rows_of_repeats_are_found_and_count_as_one():
    x = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0], [1.0, 1.0], [0.0, 0.0]]).double()
    assert [rows.tolist() for rows in repeats.repeated(x)] == [[0, 2, 4]]
    weights, count = repeats.shares(x)
    assert count == 3
    torch.testing.assert_close(weights, torch.tensor([1 / 9, 1 / 3, 1 / 9, 1 / 3, 1 / 9]).double())
    assert [rows.tolist() for rows in repeats.repeated(x[:, :0])] == [[0, 1, 2, 3, 4]]
    assert repeats.repeated(x[:1]) == repeats.repeated(x[:0]) == []


def test_repeats_and_a_belief_say_how_much_repeats_vary():
    z = torch.tensor([1.0, 5.0, 3.0, 7.0, -2.0]).double()
    groups = [torch.tensor([0, 2]), torch.tensor([1, 3])]
    assert variance_within([], z, 1.0, 4.0) == math.inf
    found = variance_within(groups, z, 1.0, 4.0)
    assert found == pytest.approx((BELIEF * 4.0 + 4.0) / (BELIEF + 2))
    noisy = torch.tensor([4.0, 1.0, 4.0, 1.0, 1.0]).double()  # 1 apart where 2 are expected
    found = variance_within(groups, z, noisy, 4.0)
    assert found == pytest.approx((BELIEF * 4.0 + 0.5 + 2.0) / (BELIEF + 2))


def test_how_much_repeats_vary_withstands_outliers():
    rng = np.random.default_rng(0)
    for times in (2, 3, 10):
        which = torch.arange(60).repeat_interleave(times)
        z = which.double() + 0.1 * torch.from_numpy(rng.normal(size=len(which)))
        groups = [torch.nonzero(which == one).squeeze(-1) for one in range(60)]
        clean = variance_within(groups, z, 1.0, 0.01)
        assert clean == pytest.approx(0.01, rel=0.35)
        z[::40] += 3.0
        assert variance_within(groups, z, 1.0, 0.01) == pytest.approx(clean, rel=0.15)
    one = torch.from_numpy(0.1 * rng.normal(size=10))
    one[3] = 50.0
    assert variance_within([torch.arange(10)], one, 1.0, 0.01) < 0.04

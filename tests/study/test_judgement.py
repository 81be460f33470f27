"""Scores of a fitted model, and densities that are known by their quantiles."""

import numpy as np
import pytest
from scipy.special import ndtri
from scipy.stats import norm
from scipy.stats import t as student

from bayestl.baselines.trees import RandomForest
from bayestl.models.gp import TargetOnlyGP
from bayestl.study.judgement import LEVELS, SCORES, judge, log_density
from bayestl.study.metrics import coverage, mape
from tests.staged_study import scenario

SPLIT = scenario().split(0)


def fitted(recipe):
    return recipe.fit(SPLIT.train(range(10)), metric="latency", target="new")


def test_the_density_of_a_gaussian_is_exact_from_its_quantiles():
    y = np.linspace(-30, 30, 61)
    quantiles = np.tile(1 + 2 * ndtri(LEVELS), (61, 1))
    np.testing.assert_allclose(log_density(y, quantiles, LEVELS), norm.logpdf(y, 1, 2), rtol=1e-5)


@pytest.mark.parametrize("freedom", [3, 10])
def test_the_density_of_a_heavy_tail_is_close_and_stays_so_far_out(freedom):
    y = np.array([-300.0, -40, -5, -1, 0, 0.5, 3, 12, 100])
    quantiles = np.tile(student.ppf(LEVELS, freedom), (len(y), 1))
    expected = student.logpdf(y, freedom)
    np.testing.assert_allclose(log_density(y, quantiles, LEVELS), expected, atol=0.5)


def test_a_density_depends_on_its_own_row_alone():
    centres = np.array([[0.0], [10.0]])
    quantiles = centres + ndtri(LEVELS)
    found = log_density(np.array([0.0, 10.0]), quantiles, LEVELS)
    np.testing.assert_allclose(found, norm.logpdf(0))


def test_every_score_of_a_process():
    model = fitted(TargetOnlyGP())
    scores = judge(model, SPLIT.test)
    assert tuple(scores) == SCORES
    assert np.isfinite(list(scores.values())).all()
    measured = SPLIT.test.frame["latency"]
    prediction = model.predict(SPLIT.test.configurations())
    assert scores["mape"] == pytest.approx(mape(measured, prediction["q50"]))
    expected = coverage(measured, prediction["q05"], prediction["q95"])
    assert scores["coverage90"] == expected
    assert scores["coverage50"] <= scores["coverage80"] <= scores["coverage95"]
    z = (np.log(measured) - np.log(prediction["q50"])).to_numpy()
    std = (np.log(prediction["q95"] / prediction["q05"]) / (2 * ndtri(0.95))).to_numpy()
    gaussian = -norm.logpdf(z, scale=std).mean()
    assert scores["nlpd"] == pytest.approx(gaussian, abs=0.3)


def test_ranks_have_no_density():
    scores = judge(fitted(RandomForest(trees=5)), SPLIT.test)
    assert np.isnan(scores["nlpd"])
    assert np.isfinite(scores["crps"])


def test_other_environments_are_not_judged():
    model = fitted(TargetOnlyGP())
    both = SPLIT.train([])  # sources alone
    with pytest.raises(ValueError, match="not empty"):
        judge(model, both)

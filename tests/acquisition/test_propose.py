import logging
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bayestl.acquisition import pool as pool_module
from bayestl.acquisition.feasibility import Feasibility
from bayestl.acquisition.improvement import ExpectedImprovement, log_expected_improvement
from bayestl.acquisition.propose import propose
from bayestl.acquisition.uninformed import RandomSampling
from bayestl.acquisition.variance import IntegratedVariance, PosteriorVariance
from bayestl.data.table import MeasurementTable
from bayestl.errors import AcquisitionError, NoCandidateLeft

ACQUISITIONS = [
    IntegratedVariance(),
    PosteriorVariance(),
    ExpectedImprovement(),
    RandomSampling(),
]


def keys(space, configs):
    return [space.key(config) for config in configs]


def greedy(posterior, weights, measured, n, among=range(11)):
    """Brute force: condition by inverting the whole joint covariance at every step."""
    k, noise = posterior.covariance, np.diag(posterior.noise_variance)
    conditioned = list(measured)

    def left(rows):
        gram = (k + noise)[np.ix_(rows, rows)]
        return weights @ np.diag(k - k[:, rows] @ np.linalg.inv(gram) @ k[rows])

    for _ in range(n):
        others = [j for j in among if j not in conditioned]
        conditioned.append(min(others, key=lambda j: left([*conditioned, j])))
    return conditioned[len(measured) :]


@pytest.mark.parametrize("seed", range(5))
def test_a_greedy_batch_equals_brute_force(space, grid_gp, candidates, seed):
    records = space.records(candidates)
    weights = np.random.default_rng(seed).uniform(0.5, 1.5, len(records))  # no two are equal
    pending = seed, seed + 2
    expected = greedy(grid_gp().posterior(candidates), weights, pending, 4)
    got = propose(
        IntegratedVariance(),
        grid_gp(),
        candidates,
        n=4,
        pending=[records[j] for j in pending],
        weights=weights,
    )
    assert got == [records[j] for j in expected]


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # gpytorch's import
def test_a_batch_for_a_real_model_equals_brute_force_on_its_posterior(space, candidates):
    from bayestl.models.transfer_gp import TransferGP

    frame = candidates.iloc[[0, 3, 4, 8]].assign(environment="board", latency=[3.0, 1.2, 2.0, 1.5])
    table = MeasurementTable.from_frame(frame, options=space, metrics={"latency": "ms"})
    fitted = TransferGP().fit(table, metric="latency", target="board")
    measured, weights = space.records(candidates.iloc[[0, 3, 4, 8]]), np.arange(1.0, 12.0)
    got = propose(IntegratedVariance(), fitted, candidates, n=3, measured=measured, weights=weights)
    records, posterior = space.records(candidates), fitted.posterior(candidates)
    left = [j for j in range(11) if records[j] not in measured]
    assert got == [records[j] for j in greedy(posterior, weights, (), 3, left)]


def test_a_pending_configuration_outside_the_candidates_still_counts(grid_gp, candidates):
    others = candidates[candidates["threads"].isin([1, 3])]
    pending = [{"threads": 2, "mode": "slow"}]

    def modes(**known):
        return {
            propose(PosteriorVariance(), grid_gp(), others, seed=seed, **known)[0]["mode"]
            for seed in range(20)
        }

    assert modes() == {"slow", "fast"}
    assert modes(pending=pending) == {"fast"}  # its neighbours will be known better


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_nothing_is_proposed_twice(space, grid_gp, candidates, data):
    acquisition = data.draw(st.sampled_from(ACQUISITIONS))
    records = space.records(candidates)
    configs = st.lists(st.sampled_from(records), max_size=len(records) // 2)
    measured, pending = data.draw(configs), data.draw(configs)
    n = data.draw(st.integers(1, 5))
    seed = data.draw(st.integers(0, 100))
    taken = {*keys(space, measured), *keys(space, pending)}
    if len(taken) == len(records):
        return
    got = propose(
        acquisition, grid_gp(), candidates, n=n, measured=measured, pending=pending, seed=seed
    )
    assert len(set(keys(space, got))) == len(got) == min(n, len(records) - len(taken))
    assert not taken & set(keys(space, got))
    assert all(space.contains(config) for config in got)
    assert got == propose(
        acquisition, grid_gp(), candidates, n=n, measured=measured, pending=pending, seed=seed
    )


def test_replicates_may_repeat(space, grid_gp, candidates):
    one = candidates.iloc[:1]
    measured = space.records(one)
    got = propose(IntegratedVariance(), grid_gp(), one, n=3, measured=measured, replicates=True)
    assert got == measured * 3


def test_nothing_left_is_an_error_that_says_so(space, grid_gp, candidates):
    with pytest.raises(NoCandidateLeft, match=r"no candidate is left.*11.*allow replicates"):
        propose(RandomSampling(), grid_gp(), candidates, measured=space.records(candidates))


def test_random_sampling_needs_no_model_and_asks_none(grid_gp, candidates):
    fitted = grid_gp()
    assert len(propose(RandomSampling(), None, candidates, n=4)) == 4
    propose(RandomSampling(), fitted, candidates)
    assert fitted.asked == 0


def test_random_sampling_is_uniform(space, candidates):
    records = space.records(candidates)
    chosen = [propose(RandomSampling(), None, candidates, seed=seed)[0] for seed in range(330)]
    counts = np.array([chosen.count(record) for record in records])
    assert ((counts - 30) ** 2 / 30).sum() < 29.6  # chi-square, 10 degrees, p = 0.001


@pytest.mark.parametrize("acquisition", ACQUISITIONS[:3])
def test_a_posterior_that_is_not_there_is_an_error(acquisition, candidates):
    with pytest.raises(AcquisitionError, match=r"expected a fitted model.*got none"):
        propose(acquisition, None, candidates)


def test_a_fitted_model_without_a_joint_posterior_is_named(grid_gp, candidates):
    class Forest:
        diagnostics = grid_gp().diagnostics

    with pytest.raises(AcquisitionError, match=r"joint posterior.*got GridGP\(\)"):
        propose(IntegratedVariance(), Forest(), candidates)  # type: ignore[arg-type]


def test_ties_are_broken_by_the_seed(grid_gp, candidates):
    firsts = {
        tuple(propose(PosteriorVariance(), grid_gp(), candidates, seed=seed)[0].values())
        for seed in range(30)
    }
    assert len(firsts) > 5  # before any measurement all variances are equal


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_expected_improvement_finds_the_best_of_a_known_surface(grid_gp, candidates, direction):
    fitted = grid_gp(direction)
    posterior = fitted.posterior(candidates)
    sign = 1 if direction == "maximize" else -1
    best = candidates.iloc[int((sign * posterior.mean).argmax())].to_dict()
    assert propose(ExpectedImprovement(), fitted, candidates) == [best]


def test_weights_steer_the_integral(grid_gp, candidates):
    weights = (candidates["mode"] == "fast").to_numpy(float)
    got = propose(IntegratedVariance(), grid_gp(), candidates, weights=weights)
    assert got[0]["mode"] == "fast"
    for bad in (weights[:-1], -1 - weights, weights * np.nan):
        with pytest.raises(AcquisitionError, match="weights of zero or more"):
            propose(IntegratedVariance(), grid_gp(), candidates, weights=bad)


def test_a_large_pool_is_thinned_but_keeps_what_may_be_proposed(
    space, grid_gp, candidates, monkeypatch
):
    monkeypatch.setattr(pool_module, "MAX_POOL", 3)
    records = space.records(candidates)
    for left in range(len(records)):
        measured = records[:left] + records[left + 1 :]
        assert propose(IntegratedVariance(), grid_gp(), candidates, measured=measured) == [
            records[left]
        ]
    first = [propose(IntegratedVariance(), grid_gp(), candidates, seed=s)[0] for s in range(20)]
    assert len({space.key(config) for config in first}) > 3


def test_missing_values_and_numpy_types_are_the_same_configuration(candidates):
    frame = pd.DataFrame({"a": np.array([1.0, np.nan]), "b": ["x", None]})
    got = propose(RandomSampling(), None, frame, measured=[{"a": 1, "b": "x"}])
    assert got == [{"a": None, "b": None}]


def test_an_incomplete_configuration_is_an_error(grid_gp, candidates):
    with pytest.raises(AcquisitionError, match=r"threads.*mode"):
        propose(RandomSampling(), grid_gp(), candidates, pending=[{"threads": 1}])
    with pytest.raises(AcquisitionError, match="n of at least 1"):
        propose(RandomSampling(), grid_gp(), candidates, n=0)


def test_posteriors_that_are_not_finite_are_an_error(grid_gp, candidates):
    with pytest.raises(AcquisitionError, match="not finite"):
        propose(PosteriorVariance(), grid_gp(noise=0.1, space=_Broken()), candidates)


class _Broken:
    """A space whose encoding yields NaN."""

    def frame(self, configs):
        return pd.DataFrame({"threads": [np.nan] * len(configs), "mode": ["slow"] * len(configs)})


def test_what_failed_is_never_proposed_again_even_as_a_replicate(space, grid_gp, candidates):
    two = candidates.iloc[:2]
    first, second = space.records(two)
    known = Feasibility(space, (first,))
    got = propose(PosteriorVariance(), grid_gp(), two, n=4, replicates=True, feasibility=known)
    assert got == [second] * 4


class Recorder:
    """Finds every point equally good, and keeps what it was shown."""

    needs_posterior: ClassVar[bool] = True

    def score(self, outlook):
        self.outlook = outlook
        return np.ones(outlook.size)


@pytest.mark.parametrize(("direction", "worst", "best"), [("minimize", -1, 1), ("maximize", 0, -2)])
def test_the_incumbent_is_the_best_that_was_measured_and_did_not_fail(
    space, grid_gp, candidates, direction, worst, best
):
    records, mean = space.records(candidates), grid_gp().posterior(candidates).mean
    order = np.argsort(mean)
    failed = records[order[0 if direction == "minimize" else -1]]
    measured = [failed, records[order[best]], records[order[worst]]]
    recorder = Recorder()
    known = Feasibility(space, (failed,))
    propose(recorder, grid_gp(direction), candidates, measured=measured, feasibility=known)
    assert recorder.outlook.best == pytest.approx(mean[order[best]])
    assert recorder.outlook.maximize == (direction == "maximize")
    propose(recorder, grid_gp(direction), candidates)
    assert recorder.outlook.best is None


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_a_batch_that_improves_takes_its_choices_for_measured(
    space, grid_gp, candidates, direction
):
    """Brute force: each choice, and what is pending, comes back with the value that is expected."""
    records, sign = space.records(candidates), 1 if direction == "maximize" else -1
    posterior = grid_gp(direction).posterior(candidates)
    measured, pending, expected = [2], [7], []
    for _ in range(4):
        known = [*measured, *pending, *expected]
        belief = posterior
        for position in [*pending, *expected]:
            belief = belief.measured(position)
        gain = sign * belief.mean - (sign * belief.mean[known]).max()
        score = log_expected_improvement(gain, np.sqrt(belief.variance))
        score[known] = -np.inf
        expected.append(int(score.argmax()))
    got = propose(
        ExpectedImprovement(),
        grid_gp(direction),
        candidates,
        n=4,
        measured=[records[i] for i in measured],
        pending=[records[i] for i in pending],
    )
    assert got == [records[i] for i in expected]


def test_success_weighs_utilities_and_what_knowledge_is_worth(space, grid_gp, candidates):
    effects = np.zeros(9)
    effects[0] = 3.0  # threads' position: more threads, more success
    known = Feasibility(space, (), 0.0, effects)
    success = known.probability(candidates)
    recorder = Recorder()
    weights = np.arange(len(candidates), dtype=float)
    got = propose(recorder, grid_gp(), candidates, feasibility=known, weights=weights)
    np.testing.assert_allclose(recorder.outlook.weights, weights * success)
    assert got[0] == space.records(candidates)[int(success.argmax())]


def test_configurations_predicted_to_fail_are_avoided(space, grid_gp, candidates, caplog):
    # the encoding has threads' position, its six levels, then the modes
    effects = np.zeros(9)
    effects[-1] = -8.0
    known = Feasibility(space, (), 0.0, effects)
    probability = known.probability(candidates)
    assert (probability[candidates["mode"] == "fast"] < 0.5).all()
    slow = int((candidates["mode"] == "slow").sum())
    with caplog.at_level(logging.WARNING):
        got = propose(IntegratedVariance(), grid_gp(), candidates, n=slow, feasibility=known)
        assert {config["mode"] for config in got} == {"slow"}
        assert not caplog.records
        more = propose(IntegratedVariance(), grid_gp(), candidates, n=slow + 1, feasibility=known)
    assert more[-1]["mode"] == "fast"
    assert "probably fail" in caplog.text

"""Laws of plans: `ask` and `tell` are pure, deterministic, and never repeat themselves."""

import json
from dataclasses import replace
from statistics import NormalDist
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bayestl.acquisition.variance import PosteriorVariance
from bayestl.campaign.budget import Budget, Stop
from bayestl.campaign.campaign import Campaign, expected_error, plan_from_dict
from bayestl.campaign.plan import Belief
from bayestl.campaign.recipes import model_recipe
from bayestl.campaign.state import State
from bayestl.data.measurement import Measurement, Metric, Status
from bayestl.data.options import Boolean, Categorical
from bayestl.data.space import ConfigSpace
from bayestl.data.table import MeasurementTable
from bayestl.errors import (
    CampaignError,
    ConfigurationError,
    SpaceError,
    SpecificationError,
    TableError,
)


def go(rehearsal, plan, steps: int, n: int = 1) -> State:
    """The state after so many rounds of ask and tell."""
    state = plan.start()
    for _ in range(steps):
        state, trials = plan.ask(state, n)
        for trial in trials:
            while trial in state.pending:
                result = rehearsal.formula(trial.configuration, trial.environment)
                state = plan.tell(state, trial.number, result)
    return state


@settings(max_examples=15)
@given(data=st.data())
def test_ask_and_tell_in_any_order_keep_their_laws(rehearsal, data):
    plan = rehearsal.campaign(seed=data.draw(st.integers(0, 3)))
    state = plan.start()
    for _ in range(6):
        before, n = state, data.draw(st.integers(1, 4))
        state, trials = plan.ask(state, n)
        assert (state, trials) == plan.ask(before, n)
        assert len(trials) <= n
        assert state.trials == (*before.trials, *trials)
        assert [t.number for t in state.trials] == list(range(1, len(state.trials) + 1))
        for trial in state.pending:
            if data.draw(st.booleans()):
                result = rehearsal.formula(trial.configuration, trial.environment)
                state = plan.tell(state, trial.number, result)
                assert state.attempts[-1].measurement == result
    for trial in state.trials:
        assert rehearsal.SPACE.contains(trial.configuration)
    keys = [rehearsal.SPACE.key(t.configuration) for t in state.trials_in("all-cores")]
    assert len(keys) == len(set(keys))


def test_the_source_comes_first_then_the_default(rehearsal):
    state = go(rehearsal, rehearsal.campaign(), 10)
    assert [t.environment for t in state.trials] == ["one-core"] * 6 + ["all-cores"] * 4
    assert state.trials[6].configuration == rehearsal.SPACE.default


def test_a_settled_or_unknown_trial_is_not_told(rehearsal):
    plan = rehearsal.campaign()
    state = go(rehearsal, plan, 1)
    result = state.attempts[0].measurement
    with pytest.raises(CampaignError, match="trial 1 has been told already"):
        plan.tell(state, 1, result)
    for number in (0, 2, -1):
        with pytest.raises(CampaignError, match=f"unknown trial {number}"):
            plan.tell(state, number, result)


def test_a_measurement_of_something_else_is_refused(rehearsal):
    plan = rehearsal.campaign(source=None)
    state, (trial,) = plan.ask(plan.start())
    wrong = rehearsal.formula({**trial.configuration, "threads": 7}, "all-cores")
    with pytest.raises(CampaignError, match="expected a measurement of"):
        plan.tell(state, trial.number, wrong)
    with pytest.raises(CampaignError, match="expected a measurement of"):
        plan.tell(state, trial.number, rehearsal.formula(trial.configuration, "one-core"))


@pytest.mark.parametrize("n", [0, -1, 1.5, True, "1"])
def test_what_is_no_number_of_trials_is_not_asked_for(rehearsal, n):
    for plan in (rehearsal.campaign(source=None), rehearsal.campaign(), rehearsal.survey()):
        with pytest.raises(CampaignError, match="whole number of trials >= 1, got"):
            plan.ask(plan.start(), n)


def test_what_is_no_measurement_is_not_told(rehearsal):
    plan = rehearsal.campaign(source=None)
    state, (trial,) = plan.ask(plan.start())
    told = rehearsal.formula(trial.configuration, "all-cores")
    for number in ("1", 1.0, True, None):
        with pytest.raises(CampaignError, match="expected the number of a trial"):
            plan.tell(state, number, told)
    for wrong in (None, 3.2, told.to_dict()):
        with pytest.raises(CampaignError, match="expected a Measurement"):
            plan.tell(state, 1, wrong)
    for seconds in (-1.0, float("nan"), None):
        with pytest.raises(CampaignError, match="expected seconds of zero or more"):
            plan.tell(state, 1, replace(told, seconds=seconds))
    for value in (np.float32(2.5), np.array(2.5), 2):
        state_after = plan.tell(state, 1, replace(told, values={"latency": value}))
        assert plan.table(state_after).frame["latency"].tolist() == [float(value)]


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"latency": float("nan")},
        {"energy": 1.0},
        {"latency": "1.0"},
        {"latency": None},
        {"latency": [1.0, 2.0]},
        {"latency": True},
    ],
)
def test_ok_without_a_finite_value_is_refused(rehearsal, values):
    plan = rehearsal.campaign(source=None)
    state, (trial,) = plan.ask(plan.start())
    hollow = Measurement(trial.configuration, "all-cores", Status.OK, values)
    with pytest.raises(CampaignError, match="finite value of latency"):
        plan.tell(state, trial.number, hollow)


def test_a_meter_that_reads_nothing_is_told_with_its_reason(rehearsal):
    plan = rehearsal.campaign(source=None)
    state, (trial,) = plan.ask(plan.start())
    readings = {"latency": {"value": None, "source": "no such counter here"}}
    hollow = Measurement(
        trial.configuration,
        "all-cores",
        Status.OK,
        {"energy": 1.0},
        provenance={"readings": readings},
    )
    with pytest.raises(CampaignError, match="reads nothing: latency: no such counter here"):
        plan.tell(state, trial.number, hollow)


def test_a_failure_is_not_repeated_and_a_disturbance_is_three_times(rehearsal):
    for status, attempts in ((Status.TIMEOUT, 1), (Status.CONTAMINATED, 3)):
        plan = rehearsal.campaign(source=None)
        state, (trial,) = plan.ask(plan.start())
        for count in range(1, attempts + 1):
            assert state.pending == (trial,)
            failed = Measurement(trial.configuration, "all-cores", status)
            state = plan.tell(state, trial.number, failed)
            assert state.attempts[-1].count == count
        assert state.pending == ()
        assert len(plan.table(state)) == attempts


def test_where_everything_fails_the_sample_goes_on_until_nothing_is_left(rehearsal):
    space = ConfigSpace({"mode": Categorical(("a", "b", "c")), "spin": Boolean()})
    plan = Campaign(
        space,
        rehearsal.TARGET,
        "latency",
        rehearsal.METRICS,
        model=rehearsal.MeanModel(),
        acquisition=rehearsal.RandomSampling(),
    )
    state = plan.start()
    for _ in range(8):
        state, trials = plan.ask(state)
        for trial in trials:
            crash = Measurement(trial.configuration, "all-cores", Status.CRASH)
            state = plan.tell(state, trial.number, crash)
    assert len(state.trials) == 6
    assert plan.believe(state).fitted is None


@pytest.mark.parametrize(("replicates", "count"), [(False, 2), (True, 7)])
def test_a_space_smaller_than_the_initial_sample_is_learnt(rehearsal, replicates, count):
    plan = Campaign(
        ConfigSpace({"spin": Boolean()}),
        rehearsal.TARGET,
        "latency",
        rehearsal.METRICS,
        model=model_recipe("TargetOnlyGP"),
        acquisition=PosteriorVariance(),
        budget=Budget(7),
        replicates=replicates,
    )
    state = plan.start()
    for _ in range(7):
        state, trials = plan.ask(state)
        for trial in trials:
            values = {"latency": 2.0 + trial.configuration["spin"]}
            told = Measurement(trial.configuration, "all-cores", Status.OK, values)
            state = plan.tell(state, trial.number, told)
    assert len(state.trials) == count
    assert plan.believe(state).fitted.diagnostics.n_target == count


def test_a_plan_comes_back_from_json(rehearsal):
    surveyed = rehearsal.campaign(model=model_recipe({"name": "RandomForest", "trees": 7}))
    state = go(rehearsal, surveyed.source, 6)
    table = surveyed.source.table(state)
    from_table = rehearsal.campaign(model=surveyed.model, source=table)
    for plan in (surveyed, from_table, rehearsal.campaign(model=surveyed.model, source=None)):
        text = json.dumps(plan.to_dict(), allow_nan=False)
        again = plan_from_dict(json.loads(text))
        assert again.to_dict() == plan.to_dict()
        assert again.space == plan.space
        assert again.table(again.start()).frame.equals(plan.table(plan.start()).frame)
    survey = plan_from_dict(json.loads(json.dumps(rehearsal.survey().to_dict())))
    assert survey == rehearsal.survey()


def test_a_model_of_ones_own_does_not_come_back(rehearsal):
    with pytest.raises(SpecificationError, match="unknown model 'MeanModel'"):
        plan_from_dict(rehearsal.campaign().to_dict())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"initial": 0}, "initial must be a whole number >= 1"),
        ({"batch": True}, "batch must be"),
        ({"candidates": 1}, "candidates must be"),
        ({"candidates": "all"}, "candidates must be a whole number >= 2, got 'all'"),
        ({"seed": -1}, "seed must be"),
        ({"seed": 2**64}, r"seed must be below 2\*\*64"),
        ({"replicates": "no"}, "replicates must be true or false, got 'no'"),
        ({"source": "one-core.parquet"}, "source: expected a MeasurementTable, a Survey or None"),
        ({"metrics": ["latency"]}, r"metrics: expected a list such as \[Metric"),
        ({"metrics": "latency"}, r"metrics: expected a list such as \[Metric"),
        ({"budget": 5}, r"budget: expected Budget\(\.\.\.\), got 5"),
        ({"model": "TransferGP"}, "model: expected a recipe, such as .*, got 'TransferGP'"),
        ({"acquisition": "EI"}, "acquisition: expected a recipe, such as .*, got 'EI'"),
    ],
)
def test_malformed_campaigns_are_refused(rehearsal, changes, message):
    arguments = {"space": rehearsal.SPACE, "target": rehearsal.TARGET, "metric": "latency"}
    with pytest.raises(CampaignError, match=message):
        Campaign(**{**arguments, "metrics": rehearsal.METRICS, **changes})


def test_an_acquisition_that_the_model_cannot_serve_is_refused_before_anything_is_paid(rehearsal):
    needy = PosteriorVariance()
    blind = {"name": "LinearShift", "base": "RandomForest"}
    around = {"name": "Conformal", "model": "TransferGP"}
    for model in ("Mean", "RandomForest", around, blind, "RankingWeightedEnsemble"):
        rehearsal.campaign(model=model_recipe(model))
        with pytest.raises(CampaignError, match="joint posterior, such as TransferGP, got"):
            rehearsal.campaign(model=model_recipe(model), acquisition=needy)
    for model in ("TransferGP", "SequentialGP", "MultiTaskGP", "LMCGP", "TargetOnlyGP"):
        rehearsal.campaign(model=model_recipe(model), acquisition=needy)
    rehearsal.campaign(acquisition=needy)  # a model of one's own that does not say


def test_what_does_not_fit_the_source_is_refused_at_once(rehearsal):
    plan = rehearsal.campaign()
    energy = replace(plan.source, metrics=rehearsal.METRICS[1:])
    for changes, error, message in (
        ({"source": energy}, CampaignError, "survey of the source does not measure 'latency'"),
        ({"metric": "power"}, CampaignError, "unknown metric 'power'"),
        (
            {"target": "all-cores"},
            CampaignError,
            r"target: expected Environment\(\.\.\.\), got 'all",
        ),
        ({"space": ConfigSpace({"threads": Boolean()})}, SpaceError, "same options"),
        ({"target": rehearsal.SOURCE}, CampaignError, "both named 'one-core'"),
        ({"metrics": [Metric("latency", "s")]}, TableError, "mixed units"),
        (
            {"metrics": [*plan.metrics, Metric(plan.space.names[0])]},
            TableError,
            "duplicate column",
        ),
    ):
        with pytest.raises(error, match=message):
            replace(plan, **changes)


def test_a_table_without_the_metric_is_no_source(rehearsal):
    table = MeasurementTable.from_measurements(
        [rehearsal.formula(rehearsal.SPACE.default, "one-core")],
        space=rehearsal.SPACE,
        metrics=rehearsal.METRICS[1:],
    )
    with pytest.raises(CampaignError, match="the table of the source has no 'latency'"):
        rehearsal.campaign(source=table)


def test_a_table_of_the_target_alone_is_no_source(rehearsal):
    one_core, all_cores = (
        MeasurementTable.from_measurements(
            [rehearsal.formula(rehearsal.SPACE.default, environment.name)],
            space=rehearsal.SPACE,
            metrics=rehearsal.METRICS,
            environments=[environment],
        )
        for environment in (rehearsal.SOURCE, rehearsal.TARGET)
    )
    for table in (all_cores, all_cores.knowing(rehearsal.SOURCE), all_cores.select([])):
        with pytest.raises(CampaignError, match="another environment than the target 'all-cores'"):
            rehearsal.campaign(source=table)
    both = MeasurementTable.concat([one_core, all_cores])
    assert len(rehearsal.campaign(source=both).table(State())) == 2


@pytest.mark.parametrize(
    "limits",
    [
        {"measurements": 0},
        {"measurements": 2.5},
        {"measurements": True},
        {"seconds": float("nan")},
        {"error_percent": -1},
        {"measurements": None},
    ],
)
def test_a_budget_without_a_positive_limit_is_refused(limits):
    with pytest.raises(CampaignError):
        Budget(**limits)


def test_the_first_limit_that_is_reached_ends_it():
    budget = Budget(10, seconds=60, error_percent=5)
    assert budget.reached(9, 59, 6) is None
    assert budget.reached(10, 0, None) is Stop.MEASUREMENTS
    assert budget.reached(1, 60, None) is Stop.SECONDS
    assert budget.reached(8, 0, 5) is Stop.ACCURACY
    assert budget.reached(7, 0, 0.1) is None  # too few to be believed
    assert budget.reached(9, 0, 0.1, failures=2) is None
    assert budget.reached(9, 0, 0.1, failures=1) is Stop.ACCURACY


def test_failures_do_not_make_the_expected_error_believed(rehearsal):
    plan = rehearsal.campaign(source=None, initial=9, budget=Budget(40, error_percent=5))
    state, trials = plan.ask(plan.start(), 9)
    for trial in trials:
        status = Status.OK if trial.number > 2 else Status.OOM
        values = {"latency": 1.0} if trial.number > 2 else {}
        told = Measurement(trial.configuration, "all-cores", status, values)
        state = plan.tell(state, trial.number, told)
    assert plan.stop(state, Belief(error_percent=0.1)) is None


def test_a_batch_stays_within_the_budget(rehearsal):
    plan = rehearsal.campaign(source=None, batch=5, budget=Budget(7))
    state = go(rehearsal, plan, 2, n=3)
    assert plan.turn(state) == 7 - len(state.trials)
    assert plan.stop(state, Belief()) is None


def test_the_expected_error_is_that_of_a_lognormal():
    rng = np.random.default_rng(0)
    for s in (0.01, 0.2, 0.8):
        values = 7 * np.exp(s * rng.standard_normal(2_000_000))
        simulated = 100 * np.mean(np.abs(7 / values - 1))
        reach = np.exp(s * NormalDist().inv_cdf(0.95))
        assert expected_error(np.array([7 / reach]), np.array([7 * reach])) == pytest.approx(
            simulated, rel=0.01
        )
    assert expected_error(np.array([1.0, 0.0]), np.ones(2)) is None
    assert expected_error(np.array([1.0]), np.array([np.inf])) is None
    assert np.isfinite(expected_error(np.array([1e-300]), np.array([1e300])))


def test_the_tails_of_a_mixture_do_not_decide_the_expected_error(rehearsal):
    plan = rehearsal.campaign(source=None)
    fitted = SimpleNamespace(
        predict=lambda configs: pd.DataFrame(
            {"mean": 1e11, "std": 1e28, "q05": 0.9, "q50": 1.0, "q95": 1.1}, index=range(3)
        )
    )
    assert 4 < plan.estimate(fitted) < 6


def test_given_candidates_are_all_that_is_measured(rehearsal):
    space = rehearsal.SPACE
    for default in ([], [space.default]):
        pool = [*rehearsal.survey(9).configurations, *default]
        plan = rehearsal.campaign(source=None, candidates=pool)
        state = go(rehearsal, plan, 20)
        measured = [trial.configuration for trial in state.trials]
        assert measured[0] == (default or pool)[0]
        assert {space.key(c) for c in measured} == {space.key(c) for c in pool}
        assert json.loads(json.dumps(plan.to_dict()))["candidates"] == pool


def test_a_frame_serves_as_a_list_of_configurations(rehearsal):
    space, listed = rehearsal.SPACE, rehearsal.survey(9).configurations
    frame = space.frame(listed)
    assert replace(rehearsal.survey(), configurations=frame).configurations == listed
    plan = rehearsal.campaign(candidates=frame)
    assert plan.candidates == listed
    assert plan.to_dict() == rehearsal.campaign(candidates=listed).to_dict()
    for wrong in (frame.drop(columns="mode"), ["spin"], [*listed, {"threads": 99}]):
        with pytest.raises(ConfigurationError, match=r"missing \['mode'\]|row \d: .*('spin'|99)"):
            rehearsal.campaign(candidates=wrong)
        with pytest.raises(ConfigurationError):
            replace(rehearsal.survey(), configurations=wrong)


def test_a_metric_that_would_share_a_column_is_refused(rehearsal):
    for name in ("threads", "latency", "status"):
        metrics = [*rehearsal.METRICS, Metric(name, "s")]
        with pytest.raises(TableError, match=f"{name}.*(in one role|of every table)"):
            Campaign(rehearsal.SPACE, rehearsal.TARGET, "latency", metrics)
        with pytest.raises(TableError, match=f"{name}.*(in one role|of every table)"):
            replace(rehearsal.survey(), metrics=metrics)

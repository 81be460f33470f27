"""The loop: what it stores, when it stops, what it tells, and how it goes on."""

from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest

from bayestl.campaign.budget import Budget, Stop
from bayestl.campaign.campaign import Campaign
from bayestl.campaign.events import Learnt, Measured, Proposed, Stopped, Warned
from bayestl.campaign.history import fold
from bayestl.campaign.loop import resume, run
from bayestl.campaign.store import Record
from bayestl.data.environment import Environment
from bayestl.data.measurement import Metric
from bayestl.errors import CampaignError, EngineError, StoreError


def test_the_store_folds_to_the_state(rehearsal, store):
    result = run(rehearsal.campaign(), rehearsal.FormulaRunner(), store, name="a")
    history = fold(store.load("a"))
    assert history.state == result.state
    assert result.reason is Stop.MEASUREMENTS
    assert len(result.state.settled_in("all-cores")) == 12
    assert history.sessions[0].environments == (rehearsal.SOURCE, rehearsal.TARGET)


def test_a_trial_is_stored_before_it_is_measured(rehearsal, store):
    class Watching(rehearsal.FormulaRunner):
        def run(self, configuration, environment):
            stored = fold(store.load("a")).state
            assert [t.configuration for t in stored.pending] == [configuration]
            return super().run(configuration, environment)

    run(rehearsal.campaign(), Watching(), store, name="a")


def test_events_tell_the_story_in_order(rehearsal, store):
    events = []
    plan = rehearsal.campaign(source=None, budget=Budget(5))
    run(plan, rehearsal.FormulaRunner(), store, name="a", observer=events.append)
    kinds = [type(event) for event in events]
    assert kinds[:2] == [Proposed, Measured]
    assert kinds[-2:] == [Learnt, Stopped]
    assert kinds.count(Learnt) == 3  # after the third, the fourth and the last
    assert [e.settled for e in events if isinstance(e, Measured)][-1] == 5
    assert all(e.total == 5 for e in events if isinstance(e, (Proposed, Measured)))


def test_running_again_measures_nothing_again(rehearsal, store):
    first = run(rehearsal.campaign(), rehearsal.FormulaRunner(), store, name="a")
    runner = rehearsal.FormulaRunner()
    again = run(rehearsal.campaign(), runner, store, name="a")
    assert (again.state, again.reason, runner.seen) == (first.state, first.reason, [])


def test_more_budget_goes_on_where_it_stopped(rehearsal, store, tmp_path):
    run(rehearsal.campaign(budget=Budget(5)), rehearsal.FormulaRunner(), store, name="a")
    more = run(rehearsal.campaign(), rehearsal.FormulaRunner(), store, name="a")
    other = type(store)(tmp_path / "other.sqlite")
    assert more.state == run(rehearsal.campaign(), rehearsal.FormulaRunner(), other, name="a").state
    assert len(fold(store.load("a")).plans) == 2


def test_another_plan_under_the_same_name_is_refused(rehearsal, store):
    run(rehearsal.survey(), rehearsal.FormulaRunner(), store, name="a")
    with pytest.raises(StoreError, match=r"another plan named .a.: .*configurations"):
        run(rehearsal.survey(7), rehearsal.FormulaRunner(), store, name="a")
    run(rehearsal.survey(7), rehearsal.FormulaRunner(), store, name="b")
    assert store.names() == ("a", "b")


def test_it_stops_by_seconds_of_measuring_summed_over_sessions(rehearsal, store):
    plan = rehearsal.campaign(source=None, budget=Budget(None, seconds=2.0))
    first = run(plan, rehearsal.FormulaRunner(), store, name="a")
    assert first.reason is Stop.SECONDS
    assert 2.0 <= first.state.seconds_in("all-cores") < 2.0 + 0.5
    again = run(plan, rehearsal.FormulaRunner(), store, name="a")
    assert again.state == first.state


def test_it_stops_by_the_stated_accuracy(rehearsal, store):
    plan = rehearsal.campaign(source=None, budget=Budget(40, error_percent=8.5))
    result = run(plan, rehearsal.FormulaRunner(), store, name="a")
    assert result.reason is Stop.ACCURACY
    assert result.belief.error_percent <= 8.5
    assert 8 <= len(result.state.trials) < 40


@dataclass
class Interrupting:
    """A runner that Ctrl-C ends after so many measurements."""

    runner: object
    left: int

    def __getattr__(self, name):
        return getattr(self.runner, name)

    def run(self, configuration, environment):
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        return self.runner.run(configuration, environment)


def test_a_stated_accuracy_is_not_believed_before_the_batch_is_in(rehearsal, store, tmp_path):
    """After 5 measurements the model is sure enough; after 8 of 10 it has not been asked again."""
    budget = Budget(40, error_percent=5)
    plan = rehearsal.campaign(
        source=None, model=rehearsal.MeanModel(0.1), initial=5, batch=5, budget=budget
    )
    whole = run(plan, rehearsal.FormulaRunner(), store, name="a")
    assert whole.reason is Stop.ACCURACY
    assert not whole.state.pending
    parts = type(store)(tmp_path / "parts.sqlite")
    for measured in (7, 1):
        run(plan, Interrupting(rehearsal.FormulaRunner(), measured), parts, name="a")
    resumed = run(plan, rehearsal.FormulaRunner(), parts, name="a")
    assert (resumed.reason, resumed.state) == (whole.reason, whole.state)


def test_a_limit_within_a_batch_leaves_a_belief_about_all_of_it(rehearsal, store):
    plan = rehearsal.campaign(source=None, batch=5, budget=Budget(None, seconds=2.5))
    for _ in range(2):  # the second session finds the limit reached
        result = run(plan, rehearsal.FormulaRunner(), store, name="a")
        assert result.reason is Stop.SECONDS
        assert result.state.pending
        measured = result.state.measurements_in("all-cores")
        assert result.belief.fitted.count == sum(m.ok for m in measured)


def test_it_stops_when_nothing_is_left(rehearsal, store):
    plan = rehearsal.campaign(source=None, candidates=5, budget=Budget(100))
    assert run(plan, rehearsal.FormulaRunner(), store, name="a").reason is Stop.EXHAUSTED


def test_a_disturbed_trial_is_measured_three_times(rehearsal, store):
    survey = replace(
        rehearsal.survey(),
        configurations=[{"threads": 6, "ratio": 0.5, "mode": "plain", "spin": True}],
    )
    result = run(survey, rehearsal.FormulaRunner(), store, name="a")
    assert [attempt.count for attempt in result.state.attempts] == [1, 2, 3]
    assert fold(store.load("a")).state == result.state


def test_a_failing_observer_is_warned_of_once(rehearsal, store):
    def broken(event):
        raise RuntimeError("no terminal")

    with pytest.warns(RuntimeWarning, match="no terminal") as warned:
        result = run(
            rehearsal.survey(), rehearsal.FormulaRunner(), store, name="a", observer=broken
        )
    assert len(warned) == 1
    assert result.reason is Stop.EXHAUSTED


def test_what_is_wrong_with_the_environment_leaves_the_trial_pending(rehearsal, store):
    class Unplugged(rehearsal.FormulaRunner):
        def run(self, configuration, environment):
            if len(self.seen) == 4:
                raise EngineError("the board is gone")
            return super().run(configuration, environment)

    with pytest.raises(EngineError, match="the board is gone"):
        run(rehearsal.campaign(), Unplugged(), store, name="a")
    state = fold(store.load("a")).state
    assert [t.number for t in state.pending] == [5]
    result = run(rehearsal.campaign(), rehearsal.FormulaRunner(), store, name="a")
    assert result.state.attempts[:4] == state.attempts


def test_ctrl_c_leaves_the_trial_pending(rehearsal, store):
    class Interrupted(rehearsal.FormulaRunner):
        def run(self, configuration, environment):
            if len(self.seen) == 4:
                raise KeyboardInterrupt
            return super().run(configuration, environment)

    events = []
    result = run(rehearsal.campaign(), Interrupted(), store, name="a", observer=events.append)
    assert result.reason is Stop.INTERRUPTED
    assert events[-1] == Stopped(Stop.INTERRUPTED, result.state)
    assert [t.number for t in result.state.pending] == [5]


def test_a_changed_environment_is_warned_of(rehearsal, store):
    class Moved(rehearsal.FormulaRunner):
        def describe(self, environment):
            return replace(environment, hardware="another board")

    run(rehearsal.survey(), rehearsal.FormulaRunner(), store, name="a")
    events = []
    run(rehearsal.survey(), Moved(), store, name="a", observer=events.append)
    (warning,) = [event for event in events if isinstance(event, Warned)]
    assert "'one-core' has changed" in warning.message
    assert "hardware:  -> another board" in warning.message


def test_levels_that_come_and_go_are_warned_of(rehearsal, store):
    class Clocked(rehearsal.FormulaRunner):
        levels = None

        def describe(self, environment):
            return replace(environment, levels=self.levels)

    runner, events = Clocked(), []
    for runner.levels in ({}, {"threads": (1, 8)}, {}):
        run(rehearsal.survey(), runner, store, name="a", observer=events.append)
    warnings = [event.message for event in events if isinstance(event, Warned)]
    assert len(warnings) == 2
    assert "levels: None -> {'threads': [1, 8]}" in warnings[0]
    assert "levels: {'threads': [1, 8]} -> None" in warnings[1]


@pytest.mark.parametrize("plan", ["survey", "campaign"])
def test_a_plan_described_on_a_changed_machine_goes_on_with_a_warning(rehearsal, store, plan):
    def described(hardware):
        class Found(rehearsal.FormulaRunner):
            def describe(self, environment):
                return replace(environment, hardware=hardware)

        runner, made = Found(), getattr(rehearsal, plan)()
        if plan == "survey":
            return replace(made, environment=runner.describe(made.environment)), runner
        source = replace(made.source, environment=runner.describe(made.source.environment))
        return replace(made, target=runner.describe(made.target), source=source), runner

    first = run(*described("a board"), store, name="a").state
    events = []
    again = run(*described("a newer board"), store, name="a", observer=events.append).state
    assert again == first
    warnings = [event.message for event in events if isinstance(event, Warned)]
    assert warnings
    assert all("hardware: a board -> a newer board" in warning for warning in warnings)
    events.clear()
    run(*described("a newer board"), store, name="a", observer=events.append)
    assert not [event for event in events if isinstance(event, Warned)]


def test_a_metric_that_the_runner_does_not_measure_is_told_before_anything(rehearsal, store):
    runner = rehearsal.FormulaRunner()
    runner.metrics = (Metric("energy", "J"),)
    with pytest.raises(CampaignError, match="learns 'latency', and its runner measures energy"):
        run(rehearsal.campaign(), runner, store, name="a")
    assert not runner.seen


def test_what_is_no_plan_runner_or_store_is_told_before_anything(rehearsal, store):
    plan, runner = rehearsal.survey(), rehearsal.FormulaRunner()
    for parts, message in (
        (({}, runner, store), "plan: expected a Campaign or a Survey"),
        ((plan, rehearsal.formula, store), "runner: expected a runner, such as LocalRunner"),
        ((plan, runner, str(store.path)), "store: expected a store, such as SQLiteStore"),
    ):
        with pytest.raises(CampaignError, match=message):
            run(*parts, name="a")
    assert not store.path.exists()


def test_another_network_or_engine_is_another_plan(rehearsal, store):
    run(rehearsal.survey(), rehearsal.FormulaRunner(), store, name="a")
    plan = rehearsal.survey()
    other = replace(plan, environment=replace(plan.environment, engine="onnxruntime 99"))
    with pytest.raises(StoreError, match=r"another plan named 'a': environment\.engine differ"):
        run(other, rehearsal.FormulaRunner(), store, name="a")


def test_a_fit_that_fails_is_told_and_the_sample_goes_on(rehearsal, store):
    class Failing(rehearsal.MeanModel):
        def fit(self, table, *, metric, target, seed=0):
            raise rehearsal.FitError("not positive definite")

    events = []
    plan = rehearsal.campaign(
        source=None, model=Failing(), acquisition=Campaign.__dataclass_fields__["acquisition"]
        .default_factory(), budget=Budget(6),
    )  # fmt: skip
    result = run(plan, rehearsal.FormulaRunner(), store, name="a", observer=events.append)
    assert result.reason is Stop.MEASUREMENTS
    warnings = [event.message for event in events if isinstance(event, Warned)]
    assert warnings
    assert all("not positive definite" in warning for warning in warnings)


@pytest.fixture
def refitting(rehearsal):
    """A model that goes on from its last fit, and notes what was fitted and what was refitted."""
    fits, refits, failing = [], [], []

    @dataclass(frozen=True)
    class Refitted(rehearsal.FittedMean):
        def refit(self, table, seed=0):
            refits.append((self, len(table), seed))
            if self.count in failing:
                raise rehearsal.FitError("staged")
            return self.of(MEAN.fit(table, metric=self.metric.name, target=self.target))

        @classmethod
        def of(cls, plain):
            return cls(**vars(plain))

    class Refitting(rehearsal.MeanModel):
        def fit(self, table, *, metric, target, seed=0):
            fits.append(len(table))
            return Refitted.of(super().fit(table, metric=metric, target=target))

    MEAN = rehearsal.MeanModel()
    return SimpleNamespace(model=Refitting(), fits=fits, refits=refits, failing=failing)


def test_each_belief_goes_on_from_the_one_before(rehearsal, refitting, store, tmp_path):
    plan = rehearsal.campaign(model=refitting.model, seed=4)
    events = []
    result = run(plan, rehearsal.FormulaRunner(), store, name="a", observer=events.append)
    learnt = [event.belief.fitted for event in events if isinstance(event, Learnt)]
    assert len(refitting.fits) == 1
    assert [before for before, _, _ in refitting.refits] == learnt[:-1]
    sizes = [rows for _, rows, _ in refitting.refits]
    assert sizes == sorted(sizes)
    assert sizes[-1] == len(plan.table(result.state))
    assert {seed for _, _, seed in refitting.refits} == {4}
    plain = run(
        rehearsal.campaign(seed=4),
        rehearsal.FormulaRunner(),
        type(store)(tmp_path / "plain.sqlite"),
        name="a",
    )
    assert result.state == plain.state
    assert result.belief.error_percent == plain.belief.error_percent


def test_a_refit_that_fails_is_told_and_the_next_is_a_fit(rehearsal, refitting, store):
    refitting.failing.append(5)  # once there are five
    events = []
    plan = rehearsal.campaign(source=None, model=refitting.model, budget=Budget(10), candidates=9)
    run(plan, rehearsal.FormulaRunner(), store, name="a", observer=events.append)
    assert [e.message for e in events if isinstance(e, Warned)] == ["cannot fit Refitting: staged"]
    assert len(refitting.fits) == 2


def test_resume_needs_the_store_alone(rehearsal, store):
    run(rehearsal.survey(), rehearsal.FormulaRunner(), store, name="a")
    assert resume(rehearsal.FormulaRunner(), store, name="a").reason is Stop.EXHAUSTED
    with pytest.raises(StoreError, match="no plan named 'b'; expected one of 'a'"):
        resume(rehearsal.FormulaRunner(), store, name="b")


@pytest.mark.parametrize(
    "record",
    [
        Record("trial", 9, {"configuration": {}, "environment": "e"}),
        Record("trial", 1, {}),
        Record("measurement", 4, {"configuration": {}, "environment": "e", "status": "ok"}),
        Record("measurement", 1, {"configuration": {}, "environment": "e", "status": "new"}),
        Record("surprise", 1, {}),
    ],
)
def test_records_that_make_no_history_are_refused(record):
    with pytest.raises(StoreError, match="does not follow"):
        fold([record])


def test_environments_are_measured_as_the_plan_gives_them(rehearsal, store):
    seen = []

    class Watching(rehearsal.FormulaRunner):
        def run(self, configuration, environment):
            seen.append(environment)
            return super().run(configuration, environment)

    run(rehearsal.survey(), Watching(), store, name="a")
    assert set(seen) == {Environment("one-core", settings={"cores": "0"})}

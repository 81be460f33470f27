import numpy as np
import pytest

from bayestl.acquisition.uninformed import RandomSampling
from bayestl.baselines.ridge import RidgeInteractions
from bayestl.campaign.budget import Budget
from bayestl.campaign.campaign import Campaign
from bayestl.campaign.state import State
from bayestl.data.environment import Environment
from bayestl.data.measurement import Measurement, Metric, Status
from bayestl.data.options import Boolean, Integer
from bayestl.data.space import ConfigSpace
from bayestl.data.table import MeasurementTable
from bayestl.models.gp import TargetOnlyGP
from bayestl.models.transfer_gp import TransferGP
from bayestl.report.campaign import campaign_report
from bayestl.report.content import Improvement
from bayestl.study.comparison import compare

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")

SPACE = ConfigSpace({"threads": Integer(1, 8), "spin": Boolean()})


def campaign(model=None, **changes) -> Campaign:
    return Campaign(
        SPACE,
        Environment("board", engine="onnxruntime"),
        "latency",
        [Metric("latency", "ms")],
        model=model or RidgeInteractions(),
        acquisition=RandomSampling(),
        budget=Budget(12),
        **changes,
    )


def measured(plan: Campaign, count: int = 12) -> State:
    """A campaign's state after `count` trials, of which 3 and 5 threads fail."""
    state, rng = plan.start(), np.random.default_rng(0)
    for _ in range(count):
        state, (trial,) = plan.ask(state, belief=plan.believe(state))
        configuration = trial.configuration
        status, values = Status.OOM, {}
        if configuration["threads"] not in (3, 5):
            latency = 8 / configuration["threads"] * np.exp(0.02 * rng.normal())
            status, values = Status.OK, {"latency": latency}
        message = "" if values else "too much"
        result = Measurement(configuration, "board", status, values, message=message, seconds=2.0)
        state = plan.tell(state, trial.number, result)
    return state


@pytest.fixture(scope="module")
def done():
    plan = campaign()
    state = measured(plan)
    return plan, state, plan.believe(state).fitted


def test_a_finished_campaign_fills_the_page(done):
    plan, state, fitted = done
    report = campaign_report(plan, state, fitted, title="Board")
    assert report.predictions is not None
    assert report.trials is not None
    assert report.effects is not None
    assert report.effects.loc[0, "option"] == "threads"
    assert list(report.trials["number"]) == list(range(1, 13))
    assert dict(report.facts)["measured in board"] == "12"
    assert dict(report.facts)["spent measuring there"] == "24.0 s"
    assert report.provenance["seed"] == "0"
    assert "RidgeInteractions" in report.lede


def test_failures_are_counted_with_an_example(done):
    plan, state, fitted = done
    failures = campaign_report(plan, state, fitted, title="Board").failures
    failed = sum(not attempt.measurement.ok for attempt in state.attempts)
    assert failures is not None
    assert failed > 0
    assert failures.to_dict("records") == [
        {"status": "oom", "environment": "board", "count": failed, "example": "too much"}
    ]


def test_the_best_is_the_models_choice_among_what_was_measured(done):
    plan, state, fitted = done
    improvement = campaign_report(plan, state, fitted, title="Board").improvement
    assert improvement is not None
    assert improvement.default == SPACE.default
    most = max(a.measurement.configuration["threads"] for a in state.attempts if a.measurement.ok)
    assert improvement.best["threads"] == most
    assert improvement.gain(Metric("latency")) == pytest.approx(most, rel=0.1)
    assert "the default was measured once, the best once" in improvement.note
    assert improvement.interval is None  # ridge has no joint posterior


def test_a_process_gives_the_gain_an_interval():
    plan = campaign(TargetOnlyGP())
    state = measured(plan)
    improvement = campaign_report(plan, state, plan.fit(state), title="Board").improvement
    assert improvement is not None
    assert improvement.interval is not None
    low, high = improvement.interval
    gain = improvement.gain(Metric("latency"))
    assert 0.8 * gain < low < high < 1.25 * gain


def test_a_campaign_that_has_only_begun_is_a_page_too():
    plan = campaign()
    empty = campaign_report(plan, plan.start(), None, title="Board")
    assert empty.trials is None
    assert empty.improvement is None
    assert empty.failures is not None
    assert empty.failures.empty
    few = campaign_report(plan, measured(plan, 2), None, title="Board")
    assert few.predictions is None


def test_a_comparison_and_a_verification_take_the_place_of_estimates(done):
    plan, state, fitted = done
    table = plan.table(state)
    methods = {"RidgeInteractions": RidgeInteractions(), "Other": RidgeInteractions()}
    found = compare(methods, table, table, metric="latency", target="board")
    verified = Improvement(SPACE.default, {**SPACE.default, "threads": 8}, 8.0, 1.0)
    report = campaign_report(
        plan, state, fitted, title="Board", comparison=found, improvement=verified
    )
    assert report.methods is not None
    assert set(report.methods["method"]) == {"RidgeInteractions", "Other"}
    assert report.improvement is verified
    assert "8.00 times better" in report.lede
    own = found.final.set_index("method").loc["RidgeInteractions", "mape"]
    assert dict(report.facts)["error of predictions (MAPE)"] == f"{own:.3g} %"


def with_source(model) -> tuple[Campaign, State]:
    """A finished campaign whose target gains from spinning, as its source did not."""
    rng = np.random.default_rng(1)
    rows = [
        Measurement(
            {"threads": threads, "spin": spin},
            "laptop",
            Status.OK,
            {"latency": 4 / threads * np.exp(0.02 * rng.normal())},
        )
        for threads in range(1, 9)
        for spin in (False, True)
    ]
    source = MeasurementTable.from_measurements(
        rows, space=SPACE, metrics=[Metric("latency", "ms")], environments=[Environment("laptop")]
    )
    plan = campaign(model, source=source)
    state = plan.start()
    for _ in range(12):
        state, (trial,) = plan.ask(state, belief=plan.believe(state))
        threads, spin = trial.configuration["threads"], trial.configuration["spin"]
        latency = 8 / threads * (0.5 if spin else 1.0) * np.exp(0.02 * rng.normal())
        measurement = Measurement(
            trial.configuration, "board", Status.OK, {"latency": latency}, seconds=2.0
        )
        state = plan.tell(state, trial.number, measurement)
    return plan, state


def test_what_changed_since_the_source_is_told():
    plan, state = with_source(TransferGP())
    change = campaign_report(plan, state, plan.fit(state), title="Board").change
    assert change is not None
    assert (change.source, change.target, change.log) == ("laptop", "board", True)
    assert change.effects is not None
    assert change.effects.loc[0, "option"] == "spin"
    assert "spin" in change.sure
    assert "threads" not in change.sure


def test_a_model_that_cannot_tell_what_changed_says_so():
    for model in (RidgeInteractions(), TargetOnlyGP()):
        plan, state = with_source(model)
        change = campaign_report(plan, state, plan.fit(state), title="Board").change
        assert change is not None
        assert change.effects is None
        assert "no joint belief about laptop and board" in change.note
    plan = campaign()
    assert campaign_report(plan, plan.start(), None, title="Board").change is None


def test_without_a_source_nothing_changed(done):
    plan, state, fitted = done
    assert campaign_report(plan, state, fitted, title="Board").change is None

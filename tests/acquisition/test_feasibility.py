import numpy as np
import pandas as pd
import pytest

from bayestl.acquisition.feasibility import Feasibility
from bayestl.data.environment import Environment
from bayestl.data.measurement import TRANSIENT, Status
from bayestl.data.options import Boolean, Categorical, Integer, Ordinal
from bayestl.data.space import ConfigSpace
from bayestl.data.table import MeasurementTable
from bayestl.errors import UnknownEnvironment

SPACE = ConfigSpace(
    {
        "batch": Ordinal((1, 2, 4, 8, 16, 32, 64, 128)),
        "threads": Integer(1, 8),
        "arena": Boolean(),
        "layout": Categorical(("nchw", "nhwc")),
        "level": Ordinal((0, 1, 2, 3)),
        "spin": Boolean(),
    }
)


def sampled(n, seed):
    rng = np.random.default_rng(seed)
    options = SPACE.options.items()
    return [{name: option.at(rng.random()) for name, option in options} for _ in range(n)]


def table(rows, target="board"):
    """rows: (configuration, environment, status)"""
    frame = pd.DataFrame(
        [
            {**c, "environment": e, "status": str(s), "latency": 1.0 if s == "ok" else np.nan}
            for c, e, s in rows
        ]
    )
    return MeasurementTable.from_frame(
        frame,
        options=SPACE,
        metrics={"latency": "ms"},
        status="status",
        environments=[Environment(target)],
    )


def memory(config):
    return Status.OOM if config["batch"] >= 64 else Status.OK


def test_a_system_that_never_failed_costs_nothing():
    configs = sampled(20, 0)
    known = Feasibility.of(table([(c, "board", Status.OK) for c in configs]), "board")
    assert known == Feasibility(known.space)
    np.testing.assert_array_equal(known.probability(sampled(50, 1)), 1.0)


def test_the_option_that_makes_configurations_fail_is_found_among_many():
    rows = [(c, "board", memory(c)) for c in sampled(25, 0)]
    known = Feasibility.of(table(rows), "board")
    fresh = sampled(300, 1)
    works = np.array([memory(c) is Status.OK for c in fresh])
    probability = known.probability(fresh)
    assert ((probability > 0.5) == works).mean() > 0.9


def test_failures_of_a_source_warn_the_target():
    rows = [(c, "laptop", memory(c)) for c in sampled(60, 0)]
    rows += [(c, "board", Status.OK) for c in sampled(6, 2) if memory(c) is Status.OK]
    fresh = sampled(300, 1)
    works = np.array([memory(c) is Status.OK for c in fresh])
    probability = Feasibility.of(table(rows), "board").probability(fresh)
    assert probability[works].mean() > probability[~works].mean() + 0.3


def test_the_target_overrules_its_sources():
    rows = [(c, "laptop", memory(c)) for c in sampled(1_000, 0)]
    rows += [(c, "board", Status.OK) for c in sampled(10, 2)]
    large = [c for c in sampled(300, 1) if memory(c) is not Status.OK]
    probability = Feasibility.of(table(rows), "board").probability(large)
    assert (probability > 0.5).all()


def test_a_disturbed_machine_says_nothing_about_the_configuration():
    configs = sampled(10, 0)
    known = Feasibility.of(table([(c, "board", Status.CONTAMINATED) for c in configs]), "board")
    assert known.failed == ()
    np.testing.assert_array_equal(known.probability(configs), 1.0)


def test_what_another_machine_does_not_support_says_nothing_here():
    configs = sampled(10, 0)
    elsewhere = Feasibility.of(table([(c, "laptop", Status.UNSUPPORTED) for c in configs]), "board")
    np.testing.assert_array_equal(elsewhere.probability(configs), 1.0)
    here = Feasibility.of(table([(c, "board", Status.UNSUPPORTED) for c in configs]), "board")
    assert (here.probability(configs) < 0.5).all()


@pytest.mark.parametrize("status", sorted(set(Status) - TRANSIENT - {Status.OK}))
def test_every_other_status_is_a_failure(status):
    good, bad, flaky = sampled(3, 0)
    rows = [(good, "board", Status.OK), (bad, "board", status), (bad, "board", status)]
    rows += [(flaky, "board", status), (flaky, "board", Status.OK), (good, "laptop", status)]
    known = Feasibility.of(table(rows), "board")
    assert known.failed == (SPACE.configuration(bad),)
    ok, failed = known.probability([good, bad])
    assert failed < ok


def test_a_target_where_everything_failed_is_no_division_by_zero():
    configs = sampled(8, 0)
    known = Feasibility.of(table([(c, "board", Status.CRASH) for c in configs]), "board")
    probability = known.probability(configs)
    assert ((probability > 0) & (probability < 0.5)).all()
    assert len(known.failed) == 8
    # what is known beforehand: the default works, and so what resembles it does sooner
    assert known.probability([SPACE.default])[0] > probability.max()


def test_an_unknown_target_is_an_error():
    with pytest.raises(UnknownEnvironment, match="nowhere"):
        Feasibility.of(table([(SPACE.default, "board", Status.OK)]), "nowhere")

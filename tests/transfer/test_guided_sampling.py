import numpy as np
import pandas as pd
import pytest

from bayestl.baselines.ridge import RidgeInteractions
from bayestl.data.environment import Environment
from bayestl.data.options import Boolean, Ordinal
from bayestl.data.sampling import candidates
from bayestl.data.space import ConfigSpace
from bayestl.data.table import MeasurementTable
from bayestl.errors import FitError
from bayestl.transfer.guided_sampling import GuidedSampling, stepwise


def error(fitted, grid, log_latency):
    return float(np.abs(np.log(fitted.predict(grid)["q50"].to_numpy()) - log_latency).mean())


def fit(recipe, table, **arguments):
    return recipe.fit(table, metric="latency", target="board", **arguments)


def test_planted_terms_are_found_and_no_others():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 8))
    z = 2.0 * x[:, 1] - 1.0 * x[:, 4] + 1.5 * x[:, 1] * x[:, 6] + 0.3 * rng.normal(size=200)
    assert set(stepwise(x, z - z.mean())) == {(1,), (4,), (1, 6)}


def test_noise_has_no_terms():
    found = [
        stepwise(rng.normal(size=(150, 10)), rng.normal(size=150))
        for rng in map(np.random.default_rng, range(10))
    ]
    assert np.mean([len(terms) for terms in found]) < 0.3


def test_constant_columns_and_few_rows_do_no_harm():
    x = np.column_stack([np.zeros(5), np.arange(5.0)])
    assert stepwise(x, np.arange(5.0) - 2.0) == ((1,),)
    assert stepwise(np.zeros((4, 3)), np.arange(4.0)) == ()


def test_what_matters_in_the_source_is_estimated_in_the_target(tabulate, truth, some, grid):
    board = 0.5 * truth + 1.0
    table = tabulate(("laptop", range(60), truth), ("board", some(12), board))
    fitted = fit(GuidedSampling(), table)
    assert set(fitted.diagnostics.details["options"]) == {"threads", "layout", "memory"}
    assert any(" * " in term or "threads" in term for term in fitted.diagnostics.details["terms"])
    alone = RidgeInteractions().fit(table, metric="latency", target="board")
    assert error(fitted, grid, board) < error(alone, grid, board)


def test_the_sources_effects_are_a_prior_that_needs_few_points(tabulate, truth, some, grid):
    table = tabulate(("laptop", range(60), truth), ("board", some(3), truth + 1.0))
    bayesian, plain = fit(GuidedSampling(prior="source"), table), fit(GuidedSampling(), table)
    assert error(bayesian, grid, truth + 1.0) < 0.1
    assert error(bayesian, grid, truth + 1.0) < error(plain, grid, truth + 1.0) / 3


def test_sources_at_different_levels_share_their_effects(tabulate, truth, some, grid):
    table = tabulate(
        ("laptop", range(60), truth), ("server", range(60), truth - 3.0), ("board", some(6), truth)
    )
    assert error(fit(GuidedSampling(prior="source"), table), grid, truth) < 0.1


def test_without_a_measurement_the_sources_speak(tabulate, truth, grid):
    table = tabulate(("laptop", range(60), truth), ("board", [], truth))
    fitted = fit(GuidedSampling(), table)
    assert error(fitted, grid, truth) < 0.15
    assert any("nothing was measured" in warning for warning in fitted.diagnostics.warnings)


def test_it_never_says_that_it_chooses_among_sources(tabulate, truth, some):
    table = tabulate(
        ("laptop", range(60), truth), ("server", range(60), truth), ("board", some(1), truth)
    )
    assert not any("choose by" in w for w in fit(GuidedSampling(), table).diagnostics.warnings)


def test_the_design_varies_what_matters_alone(tabulate, grid):
    slow = np.where(grid["layout"] == "nhwc", 3.0, 1.0)
    table = tabulate(("laptop", range(60), slow), ("board", [], slow))
    design = GuidedSampling().design(table, metric="latency", target="board", n=10)
    assert sorted(design["layout"]) == ["blocked", "nchw", "nhwc"]
    default = table.space.default
    assert (design["threads"] == default["threads"]).all()
    assert (design["memory"] == default["memory"]).all()
    for n in (0, 2):
        some = GuidedSampling().design(table, metric="latency", target="board", n=n)
        assert len(some) == n


def test_the_design_keeps_what_only_the_influential_activate():
    space = ConfigSpace(
        {"pool": Boolean(), "spin": Ordinal((0, 1, 2, 3), default=1), "batch": Ordinal((1, 2, 4))},
        conditions={"spin": "pool"},
    )
    grid = candidates(space, 100)
    every = pd.concat([grid.assign(where="laptop")] * 5, ignore_index=True)
    every["latency"] = np.where(every["pool"], 3.0, 1.0)
    table = MeasurementTable.from_frame(
        every,
        options=space,
        environment="where",
        environments=[Environment("board")],
        metrics={"latency": "ms"},
    )
    design = GuidedSampling().design(table, metric="latency", target="board", n=10)
    assert space.records(design) == [
        {"pool": False, "spin": None, "batch": 1},
        {"pool": True, "spin": 1, "batch": 1},
    ]


def test_errors_say_what_to_do(tabulate, truth, some):
    with pytest.raises(FitError, match="prior 'none' or 'source'"):
        GuidedSampling(prior="flat")
    with pytest.raises(FitError, match="measurements of 'latency' in a source"):
        fit(GuidedSampling(), tabulate(("board", some(8), truth)))

"""HELP's protocol: who is given what, the reference that adds up costs, and the summary."""

import os

import numpy as np
import pandas as pd
import pytest

from bayestl.data.table import ENVIRONMENT, MeasurementTable
from bayestl.datasets.help import EDGES, OPERATIONS, SPACE
from experiments.help import (
    PUBLISHED,
    TARGET,
    NasBench,
    OperationCosts,
    SourceModelsRidge,
    flops_correlations,
    middle,
    ranking,
    summarise,
)
from experiments.help_protocol import KNOWN, SOURCES, TARGETS, TESTED

REAL = pytest.mark.skipif("BAYESTL_DATA" not in os.environ, reason="needs BAYESTL_DATA")


def networks(costs, count=30, seed=0):
    """A table of random networks in which the operations' costs add up."""
    rng = np.random.default_rng(seed)
    edges = rng.choice(OPERATIONS, (count, len(EDGES)))
    frame = pd.DataFrame(edges, columns=list(SPACE.names)).assign(**{ENVIRONMENT: TARGET})
    frame["latency"] = 1.0 + np.vectorize(costs.__getitem__)(edges).sum(axis=1)
    return MeasurementTable.from_frame(frame, options=SPACE, metrics={"latency": "ms"})


def test_costs_of_operations_are_found_from_few_networks():
    costs = dict(zip(OPERATIONS, (0.0, 0.1, 0.7, 2.0, 0.4), strict=True))
    fitted = OperationCosts().fit(networks(costs, 12), metric="latency", target=TARGET)
    others = networks(costs, seed=1)
    predicted = fitted.predict(others.configurations())["q50"]
    assert predicted.to_numpy() == pytest.approx(others.frame["latency"].to_numpy(), rel=0.02)


def test_a_mixture_of_two_sources_is_found_at_networks_that_none_has_measured():
    costs = [
        dict(zip(OPERATIONS, rest, strict=True)) for rest in ((0, 0, 1, 2, 0), (1, 2, 0, 0, 1))
    ]
    mixed = {name: 0.5 * (costs[0][name] + costs[1][name]) for name in OPERATIONS}
    tables = [
        MeasurementTable.from_frame(
            networks(each, 60, seed=2).frame.assign(**{ENVIRONMENT: f"s{place}"}),
            options=SPACE,
            metrics={"latency": "ms"},
        )
        for place, each in enumerate(costs)
    ]
    table = MeasurementTable.concat([*tables, networks(mixed, 10)])
    model = SourceModelsRidge(OperationCosts())
    fitted = model.fit(table, metric="latency", target=TARGET)
    others = networks(mixed, seed=1)
    predicted = fitted.predict(others.configurations())["q50"]
    assert predicted.to_numpy() == pytest.approx(others.frame["latency"].to_numpy(), rel=0.05)


def test_the_middle_leaves_a_tenth_out_at_either_end():
    latency = np.array([9.0, 5, 3, 1, 7, 2, 8, 4, 6, 10, 99, 0])
    assert sorted(latency[middle(np.arange(10), latency)]) == [2, 3, 4, 5, 6, 7, 8, 9]


def frame_of(*rows):
    columns = ["method", "budget", "seed", "scenario", "spearman", "error"]
    frame = pd.DataFrame(rows, columns=columns).assign(mape=1.0, coverage90=0.9, seconds=1.0)
    return frame.assign(group="trimmed, edges")


def test_a_failed_fit_orders_nothing():
    table = summarise(
        frame_of(
            ("A", 10, 0, "g/x", 0.8, ""),
            ("A", 10, 0, "g/y", np.nan, "broke"),
            ("A", 10, 1, "g/x", 0.6, ""),
            ("A", 10, 1, "g/y", 0.6, ""),
        )
    )
    row = table.loc[("trimmed, edges", "A", 10)]
    assert row["spearman"] == pytest.approx((0.7 + 0.3) / 2)
    assert (row["lowest"], row["highest"]) == pytest.approx((0.4, 0.6))
    assert row["failed"] == 1


def test_the_figure_has_a_panel_a_group_and_a_row_a_method():
    table = summarise(frame_of(("A", 10, 0, "g/x", 0.8, ""), ("B", 10, 0, "g/x", 0.9, "")))
    (panel,) = ranking(table).axes
    assert [tick.get_text() for tick in panel.get_yticklabels()] == ["A", "B"]


@REAL
@pytest.mark.parametrize("everywhere", [False, True])
def test_sources_have_not_measured_what_is_tested_unless_it_is_said(everywhere):
    split = NasBench("pixel2", everywhere=everywhere).split(0)
    names = list(SPACE.names)
    known, pool, test = (
        set(map(tuple, t.frame[names].to_numpy())) for t in (split.sources, split.pool, split.test)
    )
    assert split.sources.environment_names == SOURCES
    assert (len(pool), len(test)) == (0.8 * KNOWN, 0.8 * TESTED)
    assert pool <= known
    assert not pool & test
    assert (test <= known) == everywhere
    assert not (known & test) or everywhere
    assert len(split.sources) == len(SOURCES) * (KNOWN + (len(test) if everywhere else 0))


@REAL
def test_a_seed_draws_the_order_of_the_pool_alone_and_untrimmed_is_everything():
    one, other = (NasBench("fpga", trimmed=False, counts=True).split(seed) for seed in (0, 1))
    assert one.test.frame.equals(other.test.frame)
    assert not one.pool.frame.equals(other.pool.frame)
    assert sorted(one.pool.frame["latency"]) == sorted(other.pool.frame["latency"])
    assert (len(one.pool), len(one.test)) == (KNOWN, TESTED)
    assert one.pool.space.names[len(EDGES) :][0] == "skip_connect_count"


@REAL
def test_flops_order_the_networks_as_well_as_help_prints():
    found = flops_correlations()
    # four of six to the second digit; on the others HELP's networks may have been others
    assert (found["ours"] - found["printed"]).abs()[: len(TARGETS)].max() < 0.06
    assert abs(found.loc["mean", "ours"] - np.mean(PUBLISHED["FLOPs"])) < 0.01

"""SeMPL's protocol: its rows, its rivals' numbers beside ours, and the places that follow."""

import os
import random

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestRegressor

from bayestl.data.options import Categorical, Real
from bayestl.data.space import ConfigSpace
from bayestl.data.table import MeasurementTable
from bayestl.study.study import COLUMNS, Results
from experiments.sempl import (
    MATCHED,
    OURS,
    RawForest,
    Target,
    beside,
    draw,
    match,
    match_runs,
    read_published,
    read_runs,
    run_rows,
    summarise,
)

needs_data = pytest.mark.skipif(
    "BAYESTL_DATA" not in os.environ, reason="BAYESTL_DATA names no folder of public data"
)


def results(*cells):
    """One row a (system, target, size, method, run, error)."""
    rows = []
    for system, target, size, method, run, error in cells:
        row = dict.fromkeys(COLUMNS, 0.0)
        scenario = f"{system}/S{size}/{target}"
        named = {"scenario": scenario, "group": system, "method": method, "budget": 5, "seed": run}
        rows.append({**row, **named, "error": "", "mape": error})
    return Results.of(rows)


def published(*cells):
    """One row a (system, target, size, method, error)."""
    return pd.DataFrame(cells, columns=["system", "target", "size", "method", "error"])


@pytest.mark.parametrize(("count", "given", "run"), [(100, 11, 0), (201, 24, 3), (40, 30, 29)])
def test_runs_have_the_rows_that_sempl_draws(count, given, run):
    known = np.arange(count)
    random.seed(2 * run)
    judged = random.sample(list(known), count - given)
    left = np.setdiff1d(known, judged)
    assert run_rows(count, given, run) == (random.sample(list(left), given), judged)


def test_means_over_runs_stand_beside_those_of_the_same_target_and_size():
    ours = results(("x264", "e0", 1, OURS, 0, 8.0), ("x264", "e0", 1, OURS, 1, 12.0))
    others = published(
        ("x264", "e0", 1, "SeMPL", 9.0),
        ("x264", "e0", 2, "SeMPL", 1.0),
        ("x264", "e1", 1, "SeMPL", 1.0),
        ("sac", "e0", 1, "SeMPL", 1.0),
    )
    table = beside(ours, others)
    assert table[["method", "error", "rank"]].values.tolist() == [["SeMPL", 9, 1], [OURS, 10, 2]]


def test_one_hard_target_makes_the_mean_error_and_not_the_mean_rank():
    ours = results(*(("sac", f"e{k}", 1, OURS, 0, error) for k, error in enumerate((90, 2, 2))))
    others = published(*(("sac", f"e{k}", 1, "SeMPL", error) for k, error in enumerate((8, 3, 3))))
    found = summarise(beside(ours, others))["sac"]
    assert (found["place_by_error"], found["place_by_rank"]) == (2, 1)
    assert found["mean_error"] == pytest.approx({"SeMPL": 14 / 3, OURS: 94 / 3})
    assert found["mean_rank"] == pytest.approx({OURS: 4 / 3, "SeMPL": 5 / 3})
    assert found["targets"] == 3


def test_the_match_compares_with_the_published_forest_alone():
    sizes = {1: 40.0, 2: 20.0, 3: 10.0}
    ours = results(*(("sac", "e0", size, MATCHED, 0, 1.1 * e) for size, e in sizes.items()))
    others = published(
        *(("sac", "e0", size, MATCHED, e) for size, e in sizes.items()),
        *(("sac", "e0", size, "SeMPL", 1.0) for size in sizes),
    )
    matched = match(ours, others)
    assert (matched["cells"], matched["runs"]) == (3, 1)
    assert matched["correlation"] == pytest.approx(1.0)
    assert matched["median_ratio_by_system"] == {"sac": pytest.approx(1.1)}


def test_runs_are_read_from_a_clone_and_matched_one_by_one(tmp_path, monkeypatch):
    monkeypatch.setenv("BAYESTL_DATA", str(tmp_path))
    (tmp_path / "SeMPL" / "data").mkdir(parents=True)
    assert match_runs(results(("sac", "e0", 1, MATCHED, 0, 9.0)), read_runs(["sac"])) is None
    folder = tmp_path / "SeMPL" / "results" / "RQ1_raw_results" / "RF"
    folder.mkdir(parents=True)
    (folder / "RF_sac_srad_others-3environments_2_58_12-30_03-16-26.txt").write_text(
        "N_train=58 N_test=787 \n"
        "Run 1\nEnvironment 0 RF MRE: 10.5\nEnvironment 1 RF MRE: 2e3\n"
        "Run 2\nEnvironment 0 RF RE: 20.5\nEnvironment 1 RF RE: 1e3"
    )
    stored = read_runs(["sac", "x264"])
    assert stored.values.tolist() == [
        ["sac", "e0", 1, 0, 10.5],
        ["sac", "e1", 1, 0, 2000.0],
        ["sac", "e0", 1, 1, 20.5],
        ["sac", "e1", 1, 1, 1000.0],
    ]
    errors = {("e0", 0): 20.0, ("e0", 1): 10.0, ("e1", 0): 1000.0, ("e1", 1): 2000.0}
    ours = results(*(("sac", t, 1, MATCHED, run, e) for (t, run), e in errors.items()))
    matched = match_runs(ours, stored)
    assert (matched["runs"], matched["pairs"]) == (2, 4)
    assert matched["correlation_of_logarithms"] > 0.9  # the targets differ, and nothing else
    assert matched["correlation_within"] < -0.99
    assert matched["correlation_within_by_system"] == {"sac": matched["correlation_within"]}


def test_the_raw_forest_predicts_what_scikit_learn_does():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.random((40, 3)), columns=["a", "b", "c"])
    frame["c"] = rng.permutation(np.arange(40) % 4)
    frame["time"] = np.exp(3 * frame["a"]) + frame["b"] + frame["c"]
    options = {"a": Real(0, 1), "b": Real(0, 1), "c": Categorical((3, 0, 2, 1))}
    table = MeasurementTable.from_frame(
        frame.assign(environment="e"), options=ConfigSpace(options), metrics={"time": ""}
    )
    fitted = RawForest().fit(table, metric="time", target="e", seed=3)
    x = frame[["a", "b", "c"]].to_numpy(dtype=float)
    features = fitted.features.of(table.configurations())
    assert sorted(features.tolist()) == sorted(x.tolist())
    there = RandomForestRegressor(random_state=3).fit(x, frame["time"]).predict(x)
    here = fitted.predict(table.configurations())["q50"]
    # rows arrive in another order, so that trees draw others
    assert np.corrcoef(here, there)[0, 1] > 0.99
    assert np.abs(here / there - 1).mean() < 0.05


def test_the_figure_has_a_panel_a_system():
    ours = results(("x264", "e0", 1, OURS, 0, 8.0), ("sac", "e0", 1, OURS, 0, 12.0))
    others = published(("x264", "e0", 1, "SeMPL", 9.0), ("sac", "e0", 1, "SeMPL", 900.0))
    figure = draw(beside(ours, others))
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["sac", "x264"]
    assert {t.get_text() for t in figure.axes[0].get_yticklabels()} == {OURS, "SeMPL"}


def test_a_missing_file_of_published_results_ends_the_program(tmp_path):
    with pytest.raises(SystemExit, match="expected a CSV file with the columns system"):
        read_published(tmp_path / "none.csv")


@needs_data
def test_a_run_gives_every_row_of_the_sources_and_judges_on_all_others():
    target = Target("imagemagick", "e2", 1)
    split = target.split(4)
    assert (target.rows, len(split.pool), len(split.test)) == (11, 11, 89)
    assert set(split.sources.environment_names) == {"e0", "e1", "e3"}
    assert len(split.sources) == 300
    again = target.split(4)
    pd.testing.assert_frame_equal(split.pool.frame, again.pool.frame)
    assert not target.split(5).pool.frame.equals(split.pool.frame)

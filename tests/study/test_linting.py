"""Each fault is planted in clean data, and is all that is found."""

import os

import numpy as np
import pandas as pd
import pytest

from bayestl.data.options import Boolean, Integer
from bayestl.data.space import ConfigSpace
from bayestl.data.table import MeasurementTable
from bayestl.datasets.sempl import sempl
from bayestl.datasets.tx2 import tx2
from bayestl.errors import TableError
from bayestl.study.linting import lint

SPACE = ConfigSpace({"a": Integer(0, 9), "b": Boolean(), "c": Boolean()})


def clean(seed=0):
    """Two environments with 40 configurations, alike but not the same."""
    rng = np.random.default_rng(seed)
    grid = [
        {"a": a, "b": b, "c": c} for a in range(10) for b in (False, True) for c in (False, True)
    ]
    frames = []
    for name, slope in (("one", 0.2), ("two", 0.15)):
        frame = pd.DataFrame(grid)
        log = slope * frame["a"] + 0.8 * frame["b"] + 0.1 * rng.normal(size=len(frame))
        frames.append(frame.assign(environment=name, y=5.0 * np.exp(log), status="ok"))
    return pd.concat(frames, ignore_index=True)


def found(frame, **settings):
    table = MeasurementTable.from_frame(frame, options=SPACE, metrics={"y": "ms"}, status="status")
    return lint(table, **settings)


def only(findings, kind):
    assert [finding.kind for finding in findings] == [kind], list(map(str, findings))
    return findings[0]


def test_clean_data_have_no_findings():
    assert found(clean()) == []


def test_a_metric_that_is_not_there_is_told():
    with pytest.raises(TableError, match="unknown metric 'z'"):
        found(clean(), metric="z")


def test_a_frame_is_no_table():
    with pytest.raises(TableError, match="expected a MeasurementTable, got a DataFrame"):
        lint(clean())


def test_most_failed():
    frame = clean()
    frame.loc[50:, "status"], frame.loc[50:, "y"] = "oom", np.nan
    finding = only(found(frame), "failures")
    assert finding.environments == ("two",)
    assert "75% failed: 30 oom" in finding.message


def test_values_that_cannot_be():
    frame = clean()
    frame.loc[[3, 47], "y"] = 0.0, -1.0
    findings = found(frame)
    assert [(f.kind, f.environments, f.rows) for f in findings] == [
        ("nonpositive", ("one",), (3,)),
        ("nonpositive", ("two",), (47,)),
    ]


def test_an_option_that_never_varies():
    frame = clean()
    finding = only(found(frame[(frame.environment == "one") | ~frame.c]), "constant")
    assert (finding.environments, finding.subject) == (("two",), "c")
    findings = found(frame[~frame.c])
    assert [f.message for f in findings] == ["never varies anywhere"]


@pytest.mark.parametrize(
    ("factor", "words"), [(1.0, "equal, at all 40"), (2.5, "two is 2.5 times one")]
)
def test_an_environment_that_is_a_copy(factor, words):
    frame = clean()
    frame.loc[40:, "y"] = factor * frame.loc[:39, "y"].to_numpy()
    finding = only(found(frame), "copy")
    assert finding.environments == ("one", "two")
    assert words in finding.message


def test_values_in_another_unit():
    frame = clean()
    frame.loc[40:, "y"] *= 1_000.0
    finding = only(found(frame), "unit")
    assert finding.environments == ("two", "one")
    assert "another unit" in finding.message


def test_a_limit_that_looks_like_a_value():
    frame = clean()
    slow = frame.index[frame.y > 25.0]
    frame.loc[slow, "y"] = 25.0
    findings = [f for f in found(frame) if f.kind == "ceiling"]
    assert findings
    assert all("25, occurs" in finding.message for finding in findings)
    assert {row for finding in findings for row in finding.rows} <= set(slow)


def test_an_outlier_is_not_what_other_environments_show_too():
    frame = clean()
    frame.loc[7, "y"] *= 500.0
    finding = only(found(frame), "outlier")
    assert (finding.environments, finding.rows) == (("one",), (7,))
    frame.loc[47, "y"] *= 500.0  # the same configuration, so it is slow indeed
    assert not [f for f in found(frame) if f.kind == "outlier"]


def test_programs_that_ended_before_their_work():
    frame = clean()
    low = 0.1 * frame.y[:40].min()
    frame.loc[[5, 9], "y"] = low, 0.9 * low
    finding = only([f for f in found(frame) if f.kind != "outlier"], "early")
    assert (finding.environments, set(finding.rows)) == (("one",), {5, 9})
    assert f"at most {low:.4g}, all others at least {10.0 * low:.4g}" in finding.message
    frame.loc[[45, 49], "y"] = low, low  # the same configurations, so they are fast indeed
    assert not [f for f in found(frame) if f.kind == "early"]


def test_rows_that_stand_twice():
    frame = clean()
    finding = only(
        found(pd.concat([frame, frame.iloc[[3, 3, 9]]], ignore_index=True)), "duplicates"
    )
    assert finding.environments == ("one",)
    assert finding.rows == (80, 81, 82)
    assert "3 of 3 repeats equal another to the last digit" in finding.message
    measured_again = frame.iloc[:20].assign(y=lambda rows: rows["y"] * 1.01)
    some = pd.concat([frame, measured_again, frame.iloc[[3, 3, 9]]], ignore_index=True)
    assert found(some) == []


def test_repeats_that_contradict_each_other():
    frame = clean()
    again = frame.iloc[[5, 6]].assign(y=[3.0 * frame.y[5], 1.1 * frame.y[6]])
    finding = only(found(pd.concat([frame, again], ignore_index=True)), "repeats")
    assert finding.rows == (5, 80)
    assert "1 configurations" in finding.message
    assert "at most 3" in finding.message


def test_an_environment_in_which_nothing_can_be_predicted():
    frame = clean()
    rng = np.random.default_rng(1)
    frame.loc[40:, "y"] = np.exp(rng.normal(size=40))
    finding = only(found(frame), "unpredictable")
    assert finding.environments == ("two",)


needs_data = pytest.mark.skipif("BAYESTL_DATA" not in os.environ, reason="needs BAYESTL_DATA")


@needs_data
def test_known_faults_of_public_data_are_found():
    findings = lint(sempl("sac"))
    ceilings = [f for f in findings if f.kind == "ceiling"]
    assert any("1200" in finding.message for finding in ceilings)
    (early,) = [f for f in findings if f.kind == "early"]
    assert (early.environments, len(early.rows)) == (("e0",), 11)


@needs_data
def test_sizes_of_one_study_are_no_copies():
    assert not [f for f in lint(tx2(), "latency") if f.kind in ("copy", "unit", "nonpositive")]

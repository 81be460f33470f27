import os

import pandas as pd
import pytest


@pytest.fixture
def csv(tmp_path):
    frame = pd.DataFrame(
        [{"a": a, "b": b, "place": p, "y": (2.0 if p == "x" else 6.0) * (1 + a + 3 * b)}
         for a in range(10) for b in (0, 1) for p in "xy"]
    )  # fmt: skip
    path = tmp_path / "runs.csv"
    frame.to_csv(path, index=False)
    return path


def test_findings_are_shown(bayestl, csv):
    command = ("lint", csv, "--options", "a,b", "--metrics", "y:ms", "--environment", "place")
    assert "y is 3 times x" in " ".join(bayestl(*command).out.split())
    (finding,) = bayestl(*command, "--json").json["findings"]
    assert finding["kind"] == "copy"
    assert finding["environments"] == ["x", "y"]


def test_nothing_found_is_said(bayestl, parquet):
    assert bayestl("lint", parquet, "--metric", "latency").code == 0


def test_a_table_may_come_through_a_pipe(bayestl):
    read, write = os.pipe()
    os.write(write, b"threads,latency,environment\n1,2,a\n2,1,a\n")
    os.close(write)
    result = bayestl(
        "lint", f"/dev/fd/{read}", "--options", "threads", "--metrics", "latency:ms", "--json"
    )
    os.close(read)
    assert (result.code, result.json) == (0, {"findings": []})


def test_a_csv_needs_its_metrics_named(refused, csv):
    command = ("lint", csv, "--options", "a,b", "--environment", "place")
    assert "use --metrics" in refused(*command, code=2)

"""What is staged is what is said, and both ways are judged on the same."""

import json

import numpy as np
import pandas as pd
import pytest

from bayestl.models.gaussian_process import repeats
from experiments import repeated_noise
from experiments.repeated_noise import CASES, NOISE, TIMES, compare, measured, summarise


@pytest.mark.parametrize("case", CASES)
def test_configurations_are_as_noisy_as_staged(case):
    table = measured(case, {"source": 200, "target": 100}, np.random.default_rng(0))
    found = table.replicates("latency", log=True)
    assert set(found["count"]) == {TIMES}
    assert len(found) == 300
    share = (found["std"] > 5 * NOISE).mean()
    expected = {"alike": 0.0, "alike, outliers": 0.06, "quarter": 0.13, "quarter, outliers": 0.18}
    assert share == pytest.approx(expected.get(case, 0.07), abs=0.06)


def test_without_is_what_a_model_does_that_knows_nothing_of_repeats(monkeypatch):
    without, given = compare("quarter", "TargetOnlyGP", 0)
    assert (without["repeats"], given["repeats"]) == ("without", "with")
    assert without["error"] != given["error"]
    alike = compare("alike", "TargetOnlyGP", 0)
    assert alike[0]["error"] == alike[1]["error"]
    monkeypatch.setattr(repeats, "WORTH", np.inf)
    assert compare("quarter", "TargetOnlyGP", 0)[1]["error"] == without["error"]


def test_a_row_is_the_mean_over_the_seeds_and_how_sure_the_difference_is():
    made = {"without": [4.0, 6.0], "with": [3.0, 3.0]}
    rows = [
        {"case": "c", "model": "m", "seed": s, "repeats": said, "nlpd": 0.0, "coverage": 90.0}
        | {"error": values[s]}
        for said, values in made.items()
        for s in (0, 1)
    ]
    found = summarise(pd.DataFrame(rows)).loc[("c", "m")]
    assert (found["error without"], found["error with"], found["error +-"]) == (5.0, 3.0, 1.0)


def test_quick(tmp_path, monkeypatch, capsys):
    result = tmp_path / "result.json"
    monkeypatch.setattr("sys.argv", ["repeated_noise", "--quick", "--json", str(result)])
    monkeypatch.setattr(
        repeated_noise, "MODELS", {"TargetOnlyGP": repeated_noise.MODELS["TargetOnlyGP"]}
    )
    repeated_noise.main()
    assert "TargetOnlyGP" in capsys.readouterr().out
    found = json.loads(result.read_text())
    assert found["seeds"] == 2
    assert {"error with", "nlpd without", "coverage +-"} <= set(found["rows"][0])

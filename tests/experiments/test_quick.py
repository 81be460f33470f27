"""Every experiment's `--quick` runs from start to figure; without public data on what is here."""

import json
import os
from importlib import import_module

import pytest

PUBLIC = pytest.mark.skipif("BAYESTL_DATA" not in os.environ, reason="needs BAYESTL_DATA")


@pytest.mark.parametrize(
    "name",
    [
        "active",
        "calibration",
        "few_shot",
        "frequency_tables",
        pytest.param("help", marks=PUBLIC),
        "interval_coverage",
        "negative_transfer",
        "seed_study",
        pytest.param("sempl", marks=PUBLIC),
    ],
)
def test_quick(name, tmp_path, monkeypatch, capsys):
    result, figure = tmp_path / "result.json", tmp_path / "figure.svg"
    options = ["--quick", "--json", str(result), "--figure", str(figure)]
    monkeypatch.setattr("sys.argv", [name, *options])
    import_module(f"experiments.{name}").main()
    assert capsys.readouterr().out
    found = json.loads(result.read_text())
    assert {"command", "commit", "date", "machine", "bayestl"} <= found.keys()
    assert str(tmp_path) not in result.read_text()
    assert not any(found.get("failures", {}).values())
    assert 1_000 < figure.stat().st_size < 200_000

"""What an experiment stores: its result, and where and how it came about, but no paths."""

import json

import pandas as pd
import pytest

from experiments import command


@pytest.fixture
def parse(monkeypatch):
    def parsed(*words):
        monkeypatch.setattr("sys.argv", ["experiments/some.py", *words])
        return command.study_parser("what it shows", seeds=3).parse_args()

    return parsed


def test_a_result_is_stored_with_how_it_came_about(parse, tmp_path):
    file = tmp_path / "result.json"
    arguments = parse("--seeds", "2", "--cache", str(tmp_path), "--json", str(file), "--quick")
    command.publish({"ratio": 0.5, "cells": [{"x": float("nan")}, (float("inf"), 1)]}, arguments)
    found = json.loads(file.read_text())
    assert found["ratio"] == 0.5
    assert found["cells"] == [{"x": None}, [None, 1]]
    assert found["command"].endswith("--seeds 2 --quick")
    assert str(tmp_path) not in file.read_text()
    assert {"commit", "date", "machine", "bayestl", "python"} <= found.keys()


def test_what_is_infinite_in_a_table_is_null_in_its_result(parse, capsys):
    rows = pd.DataFrame({"share": [float("inf")], "method": ["m"]}).to_dict("records")
    command.publish({"rows": rows}, parse("--json"))
    assert json.loads(capsys.readouterr().out)["rows"] == [{"share": None, "method": "m"}]


def test_without_a_file_the_result_is_printed(parse, capsys):
    command.publish({"ratio": 0.5}, parse("--json", "--seeds", "1"))
    found = json.loads(capsys.readouterr().out)
    assert found["ratio"] == 0.5
    assert found["command"].endswith("--seeds 1")
    command.publish({"ratio": 0.5}, parse())
    assert not capsys.readouterr().out


def test_only_methods_of_the_study_are_forgotten(parse):
    arguments = parse("--fresh", "A", "--fresh", "B", "--workers", "2")
    assert command.execution(arguments, ("B", "C"))["fresh"] == ["B"]
    assert command.execution(arguments)["fresh"] == ["A", "B"]
    assert command.execution(arguments)["executor"] == "processes"


def test_failures_are_counted_and_told_with_their_reason(capsys):
    frame = pd.DataFrame({"method": ["A", "A", "B", "C"], "error": ["why", "why", "", "else"]})
    assert command.failures(frame) == {"A": 2, "C": 1}
    command.show_failures(frame)
    assert capsys.readouterr().out.splitlines() == [
        "2 of A's fits failed: why",
        "1 of C's fits failed: else",
    ]
    command.show_failures(frame[frame["error"] == ""])
    assert not capsys.readouterr().out

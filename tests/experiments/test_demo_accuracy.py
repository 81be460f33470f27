"""How accurate methods are in the demo, over runs that are staged here."""

import json
from types import SimpleNamespace

import pandas as pd

from experiments import demo_accuracy


def outcome(bench, folder, tell, seed):
    """The forest's error is 20; ours is 10 in the first run and 30 in the second."""
    rows = pd.DataFrame(
        {"method": ["TransferGP", "RandomForest"], "mape": [10.0 + 20 * seed, 20.0]}
    ).assign(spearman=0.9, coverage90=0.9)
    return SimpleNamespace(comparison=SimpleNamespace(final=rows), seconds=1.0)


def test_a_method_has_the_median_and_the_range_of_its_runs(monkeypatch, capsys):
    monkeypatch.setattr(demo_accuracy, "run_demo", outcome)
    for options, runs, ours in ((["--runs", "2", "--replay"], 2, 20.0), (["--quick"], 1, 10.0)):
        monkeypatch.setattr("sys.argv", ["demo_accuracy", "--json", *options])
        demo_accuracy.main()
        found = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert found["runs"] == runs
        assert found["methods"]["TransferGP"]["mape_median"] == ours
        assert found["methods"]["RandomForest"]["transfer_wins"] == 1
        assert {"command", "commit", "date", "machine"} <= found.keys()

"""The whole road on the recorded table, through the command, as a newcomer runs it."""

import json
from pathlib import Path

import numpy as np
import pytest

from bayestl import demo
from bayestl.campaign.history import fold
from bayestl.campaign.store import SQLiteStore
from bayestl.cli.app import main
from bayestl.datasets.catalogue import load
from bayestl.demo import BUDGET, METHODS, N_SOURCE, N_TEST, STORE, recorded
from bayestl.errors import CampaignError
from bayestl.measure.disturbance import Disturbance
from bayestl.measure.runner import LocalRunner


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def summary(folder: Path) -> dict:
    with pytest.MonkeyPatch.context() as patch:
        lines: list[str] = []
        patch.setattr("builtins.print", lambda *text, **_: lines.append(" ".join(map(str, text))))
        assert main(["demo", "--replay", "--json", "--output", str(folder)]) == 0
    return json.loads(lines[-1])


def test_summary_has_what_programs_rely_on(summary: dict) -> None:
    assert (summary["source"], summary["target"]) == ("one-core", "2-cores")
    assert (summary["n_source"], summary["n_target"]) == (N_SOURCE, BUDGET)
    assert summary["n_test"] == N_TEST
    assert set(summary["mape"]) == set(summary["coverage90"]) == set(METHODS)
    assert all(0 < error < 100 for error in summary["mape"].values())
    assert 0 < summary["best_ms"] <= summary["default_ms"]
    assert summary["seconds"] > 0


def test_report_is_written_with_its_figures(summary: dict, folder: Path) -> None:
    page = Path(summary["report"]).read_text()
    assert all(method in page for method in METHODS)
    assert len(list(folder.glob("*.png"))) >= 4


def test_nothing_that_was_set_aside_is_learnt_from(summary: dict, folder: Path) -> None:
    store = SQLiteStore(folder / STORE)

    def configurations(name: str) -> set:
        trials = fold(store.load(name)).state.trials
        return {tuple(t.configuration.items()) for t in trials if t.environment == "2-cores"}

    assert len(configurations("campaign")) == BUDGET
    assert len(configurations("test")) == N_TEST
    assert not configurations("campaign") & configurations("test")


def test_bench_of_the_recorded_table_is_disjoint_and_seeded() -> None:
    table = load("demo")
    first, again, other = recorded(table, 0), recorded(table, 0), recorded(table, 1)
    assert first.test_configurations == again.test_configurations
    assert first.test_configurations != other.test_configurations
    assert not [c for c in first.candidates if c in first.test_configurations]
    assert first.test_configurations[0] == table.space.default


def test_recorded_table_was_measured_on_two_environments() -> None:
    table = load("demo")
    assert len(table.environments) == 2
    assert all(environment.engine.startswith("onnxruntime") for environment in table.environments)
    assert np.isfinite(table.usable("latency").frame["latency"]).all()


@pytest.mark.parametrize(("share", "limit"), [(0.9, None), (0.0, LocalRunner.disturbance_limit)])
def test_a_busy_machine_is_told_and_does_not_stop_the_demo(monkeypatch, share, limit):
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(demo, "watched", lambda cores, seconds: Disturbance(share, 0.0))
    bench = demo.live()
    assert bench.runner.disturbance_limit == limit
    assert ("others used 90%" in bench.note) == (limit is None)


def test_a_default_that_could_not_be_verified_has_its_value_of_the_test():
    table = load("demo")
    bench = recorded(table, 0)
    space, default = bench.target_space, bench.target_space.default
    target = table.of(bench.target.name)
    usable = target.usable("latency").configurations()
    keys = [space.key(c) for c in space.records(usable)]
    here = np.array([key == space.key(default) for key in keys])
    rest = target.usable("latency").select(np.flatnonzero(~here))
    found = demo._improvement(rest, target, space)
    assert found.default_value == np.median(target.repeats("latency")[space.key(default)])
    assert "test" in found.note
    with pytest.raises(CampaignError, match="once the machine is idle"):
        demo._improvement(rest, rest, space)

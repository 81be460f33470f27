import shlex
import shutil
import sqlite3
from dataclasses import dataclass, replace

import pytest
from rich.progress import Progress

from bayestl.baselines.mean import Mean
from bayestl.campaign import loop
from bayestl.campaign.events import Measured
from bayestl.campaign.specification import read_campaign
from bayestl.campaign.state import Trial
from bayestl.campaign.store import SQLiteStore
from bayestl.cli.progress import Display
from bayestl.data.measurement import Measurement, Metric, Status


def test_run_finds_and_status_and_report_tell(bayestl, runner, specification, tmp_path):
    result = bayestl("campaign", "run", specification(), "--json")
    assert result.code == 0, result.err
    found = result.json
    assert found["stopped"] == "measurements"
    assert found["measurements"] == 10
    assert found["best"] < found["default"] == 3.0
    assert found["best_configuration"]["threads"] > 1
    store = tmp_path / "campaign.db"

    (log,) = bayestl("campaign", "status", store, "--json").json["logs"]
    assert (log["name"], log["measured"], log["of"], log["pending"]) == ("all-cores", 18, 18, 0)
    assert "all-cores" in bayestl("campaign", "status", store).out

    page = bayestl("report", store, "--output", tmp_path / "page", "--json").json
    text = (tmp_path / "page" / "report.html").read_text()
    assert page["page"] == str(tmp_path / "page" / "report.html")
    assert "all-cores: latency in all-cores" in text
    assert len(page["figures"]) == len(list((tmp_path / "page").glob("*.png"))) >= 3


def test_run_is_readable_and_quiet_where_there_is_no_terminal(bayestl, runner, specification):
    result = bayestl("campaign", "run", specification())
    assert "stopped by" in result.out
    assert result.err == ""


@pytest.mark.parametrize("again", ["run", "resume"])
def test_an_interrupted_campaign_goes_on(bayestl, runner, specification, tmp_path, again):
    path, store = specification(), tmp_path / "campaign.db"
    runner.interrupt_at = 12
    stopped = bayestl("campaign", "run", path)
    assert stopped.code == 130
    assert f"3 measurements of all-cores are in {store}" in stopped.err
    assert f"bayestl campaign resume {store}" in stopped.err
    result = bayestl("campaign", again, path if again == "run" else store, "--json")
    assert result.json["measurements"] == 10
    assert runner.count == 19  # the interrupted one twice, no other


def test_how_to_go_on_can_be_pasted_into_a_shell(bayestl, runner, specification, tmp_path):
    path, store = specification(), tmp_path / "two words.db"
    runner.interrupt_at = 12
    stopped = bayestl("campaign", "run", path, "--store", store)
    words = shlex.split(stopped.err.split("go on with: bayestl ")[1])
    assert words == ["campaign", "resume", str(store), "--specification", str(path)]
    assert bayestl(*words).code == 0


def test_resume_with_a_larger_budget(bayestl, runner, specification, tmp_path):
    assert bayestl("campaign", "run", specification()).code == 0
    store = tmp_path / "campaign.db"
    resumed = bayestl("campaign", "resume", store, "--measurements", 12, "--json")
    assert resumed.json["measurements"] == 12
    (log,) = bayestl("campaign", "status", store, "--json").json["logs"]
    assert log["of"] == 20
    assert log["sessions"] == 2


def test_the_campaign_of_several_is_named(bayestl, refused, runner, specification, tmp_path):
    store = ("--store", tmp_path / "both.db")
    assert bayestl("campaign", "run", specification(), *store).code == 0
    second = specification(('name = "all-cores"', 'name = "second"'))
    assert bayestl("campaign", "run", second, *store).code == 0
    message = refused("report", tmp_path / "both.db")
    assert "'all-cores', 'second'; choose with --name" in message
    assert "no campaign named 'third'" in refused("report", tmp_path / "both.db", "--name", "third")
    chosen = ("report", tmp_path / "both.db", "--name", "second", "--json")
    assert bayestl(*chosen).json["name"] == "second"


@dataclass(frozen=True)
class OwnMean(Mean):
    """A recipe that no store can name."""


def test_a_recipe_of_ones_own_hides_neither_its_progress_nor_other_campaigns(
    bayestl, refused, runner, specification, tmp_path
):
    path, store = specification(), tmp_path / "campaign.db"
    _, campaign = read_campaign(path, runner)
    loop.run(replace(campaign, model=OwnMean()), runner, SQLiteStore(store), name="own")
    assert bayestl("campaign", "run", path).code == 0
    logs = bayestl("campaign", "status", store, "--json").json["logs"]
    assert [(log["name"], log["measured"], log["of"]) for log in logs] == [
        ("own", 18, 18),
        ("all-cores", 18, 18),
    ]
    assert bayestl("campaign", "resume", store, "--name", "all-cores").code == 0
    assert "unknown model 'OwnMean'" in refused("campaign", "resume", store, "--name", "own")


def test_a_disturbed_measurement_that_was_repeated_is_no_failure(bayestl, runner, specification):
    plain, tries = runner.run, []

    def disturbed(configuration, environment):
        tries.append(configuration)
        if len(tries) % 2:
            return Measurement(
                configuration, environment.name, Status.CONTAMINATED, message="a neighbour"
            )
        return plain(configuration, environment)

    runner.run = disturbed
    found = bayestl("campaign", "run", path := specification(), "--json").json
    failed = sum(threads == 7 for threads in (c["threads"] for c in tries[1::2]))
    (log,) = bayestl("campaign", "status", path.with_suffix(".db"), "--json").json["logs"]
    assert log["measured"] == 18
    assert log["failed"] == failed
    assert found["failures"] <= failed < 18
    assert found["reasons"]["contaminated"] == "a neighbour"


def test_the_progress_shows_the_metric_that_is_learnt():
    display = Display(Progress(disable=True), "campaign", Metric("energy", "J"))
    for status, values, shown in (
        (Status.OK, {"latency": 3.0, "energy": 0.25}, "0.25 J"),
        (Status.OK, {"latency": 3.0}, "ok"),
        (Status.OOM, {}, "oom"),
    ):
        trial = Trial(1, {}, "all-cores")
        display(Measured(trial, Measurement({}, "all-cores", status, values), 1, 2))
        assert display.bar.tasks[0].fields["note"] == shown


def test_a_changed_campaign_in_the_same_store_is_refused(bayestl, refused, runner, specification):
    assert bayestl("campaign", "run", specification()).code == 0
    changed = specification(("candidates = 40", "candidates = 30"))
    assert "candidates differ" in refused("campaign", "run", changed)


@pytest.mark.parametrize(
    ("change", "line", "message"),
    [
        (('name = "all-cores"', 'name = "all-cores'), 2, ""),
        (('metric = "latency"', 'metric = "speed"'), 4, "unknown metric 'speed'"),
        (('target = "all-cores"', 'target = "moon"'), 3, "unknown environment 'moon'"),
        (("measurements = 10", "measurements = -1"), 10, "positive whole number"),
        (("candidates = 40", "colour = 40"), 7, "colour"),
        (("RidgeInteractions", "Oracle"), 5, "unknown model 'Oracle'"),
    ],
)
def test_an_error_in_the_toml_names_its_line(refused, runner, specification, change, line, message):
    text = refused("campaign", "run", specification(change))
    assert f"line {line}" in text
    assert message in text


def test_mixed_units(refused, runner, specification, rows, tmp_path):
    source = rows[rows["environment"] == "one-core"]
    source.to_csv(tmp_path / "source.csv", index=False)
    table = 'table = "source.csv"\nmetrics = {latency = "s"}\n'
    path = specification(('environment = "one-core"\nmeasurements = 8\n', table))
    assert "mixed units" in refused("campaign", "run", path)


def test_a_missing_specification(refused, runner, tmp_path):
    assert "No such file" in refused("campaign", "run", tmp_path / "no.toml")


@pytest.fixture
def finished(bayestl, runner, specification, tmp_path):
    """The store of a campaign that is done."""
    assert bayestl("campaign", "run", specification()).code == 0
    return tmp_path / "campaign.db"


@pytest.mark.parametrize("command", [("campaign", "status"), ("campaign", "resume"), ("report",)])
def test_a_store_that_is_missing_or_none(refused, runner, tmp_path, command):
    refused(*command, tmp_path / "no.db")
    assert not (tmp_path / "no.db").exists()
    (tmp_path / "text.db").write_text("no database " * 100)
    assert "no bayestl store" in refused(*command, tmp_path / "text.db")


def test_a_corrupted_store(refused, finished):
    content = bytearray(finished.read_bytes())
    position = content.rfind(b"latency")
    content[position] ^= 1
    finished.write_bytes(bytes(content))
    assert str(finished) in refused("report", finished)


def test_a_newer_store(refused, finished, tmp_path):
    newer = tmp_path / "newer.db"
    shutil.copy(finished, newer)
    with sqlite3.connect(newer) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    assert "newer bayestl" in refused("campaign", "status", newer)


def test_a_store_without_permission(refused, runner, specification, tmp_path):
    (tmp_path / "file").write_text("")
    where = ("--store", tmp_path / "file" / "campaign.db")
    assert "campaign.db" in refused("campaign", "run", specification(), *where)


def test_a_report_that_cannot_be_written(refused, finished, tmp_path):
    (tmp_path / "file").write_text("")
    assert "cannot make" in refused("report", finished, "--output", tmp_path / "file" / "page")

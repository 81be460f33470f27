"""Campaigns in TOML: what is read, and what is refused with its line."""

import pytest

from bayestl.campaign.budget import Budget, Stop
from bayestl.campaign.loop import resume, run
from bayestl.campaign.specification import read_campaign, read_runner
from bayestl.campaign.survey import Survey
from bayestl.data.readers import write_table
from bayestl.data.table import MeasurementTable
from bayestl.errors import FileError, SpecificationError
from bayestl.measure.program import ProgramRunner

TEXT = """\
[campaign]
name = "all"
target = "all-cores"
metric = "latency"
model = {name = "RandomForest", trees = 20}
acquisition = "RandomSampling"
initial = 2
candidates = 40

[budget]
measurements = 4

[environments.one-core]
engine = "formula"
settings = {cores = "0"}

[environments.all-cores]
engine = "formula"

[source]
environment = "one-core"
measurements = 5
"""


@pytest.fixture
def written(tmp_path):
    def write(text: str = TEXT, *replacements: tuple[str, str]):
        for old, new in replacements:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "campaign.toml"
        path.write_text(text)
        return path

    return write


def test_a_campaign_is_read_run_and_resumed_from_its_store(rehearsal, written, store):
    name, campaign = read_campaign(written(), rehearsal.FormulaRunner())
    assert name == "all"
    assert isinstance(campaign.source, Survey)
    assert campaign.source.configurations[0] == rehearsal.SPACE.default
    assert campaign.budget == Budget(4)
    result = run(campaign, rehearsal.FormulaRunner(), store, name=name)
    assert len(result.state.trials) == 9
    more = resume(rehearsal.FormulaRunner(), store, name=name, budget=Budget(6))
    assert more.reason is Stop.MEASUREMENTS
    assert len(more.state.trials) == 11


def test_a_table_is_found_beside_the_file(rehearsal, written, tmp_path):
    survey = rehearsal.survey()
    measured = [rehearsal.formula(c, "one-core") for c in survey.configurations]
    table = MeasurementTable.from_measurements(
        measured, space=rehearsal.SPACE, metrics=rehearsal.METRICS
    )
    source = TEXT[TEXT.index("[source]") :]
    for file, more in (("t.parquet", ""), ("t.csv", 'status_column = "status"\n')):
        write_table(table, tmp_path / file)
        path = written(TEXT, (source, f'[source]\ntable = "{file}"\n{more}'))
        _, campaign = read_campaign(path, rehearsal.FormulaRunner())
        assert campaign.source.environment_names == ("one-core",)
        assert len(campaign.source) == 6


def test_without_a_budget_it_is_the_default_one(rehearsal, written):
    path = written(TEXT, ("[budget]\nmeasurements = 4\n", ""))
    assert read_campaign(path, rehearsal.FormulaRunner())[1].budget == Budget()


def test_another_limit_replaces_the_default_number(rehearsal, written):
    path = written(TEXT, ("measurements = 4\n", "seconds = 60\n"))
    assert read_campaign(path, rehearsal.FormulaRunner())[1].budget == Budget(None, seconds=60)


def test_fixed_options_hold_in_source_and_target(rehearsal, written):
    path = written(TEXT, ("initial = 2", 'initial = 2\nfixed = {mode = "plain"}'))
    _, campaign = read_campaign(path, rehearsal.FormulaRunner())
    for space in (campaign.space, campaign.source.space):
        assert space.options["mode"].levels == ("plain",)


def test_a_described_space_goes_before_the_runners(rehearsal, written):
    path = written(TEXT + '\n[options.spin]\nkind = "boolean"\n')
    _, campaign = read_campaign(path, rehearsal.FormulaRunner())
    assert campaign.space.names == ("spin",)


def test_an_option_that_the_runner_does_not_have_is_refused(rehearsal, written):
    path = written(TEXT + '\n[options.speed]\nkind = "boolean"\n')
    message = r"line 24: unknown option 'speed'; all-cores has threads, ratio, mode, spin"
    with pytest.raises(SpecificationError, match=message):
        read_campaign(path, rehearsal.FormulaRunner())


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("initial = 2", "initially = 2", 7, "unknown key 'initially'; expected one of name"),
        ("initial = 2", 'initial = "two"', 7, "initial must be a whole number"),
        ("initial = 2", 'initial = 2\nfixed = {speed = 1}', 8, "unknown option 'speed'"),
        ('metric = "latency"', 'metric = "power"', 4, "unknown metric 'power'"),
        ('metric = "latency"', "metric = 3", 4, "expected metric as text"),
        ('target = "all-cores"', 'target = "board"', 3, "unknown environment 'board'"),
        ('"RandomForest"', '"GradientDescent"', 5, "unknown model 'GradientDescent'"),
        ("trees = 20", "leaves = 20", 5, "has no parameter 'leaves'; expected one of trees"),
        ("trees = 20", 'trees = "many"', 5, "trees must be like 200, got 'many'"),
        ('"RandomSampling"', "3", 6, "unknown acquisition 3"),
        ("measurements = 4", "measurements = -4", 11, "must be a positive whole number"),
        ("measurements = 4", "metres = 4", 11, "unknown key 'metres'"),
        ("measurements = 5", "measurements = 0", 22, "measurements must be a whole number >= 1"),
        ("measurements = 5", 'table = "t.parquet"', 20, "either a table or an environment"),
        ('environment = "one-core"', 'table = "missing.parquet"', 22, "does not go with table"),
        ("[budget]", "[bugdet]", 10, "unknown key 'bugdet'"),
        ("initial = 2", "initial = = 2", 7, "nvalid value"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_line(rehearsal, written, old, new, line, message):
    path = written(TEXT, (old, new))
    with pytest.raises(SpecificationError, match=message) as raised:
        read_campaign(path, rehearsal.FormulaRunner())
    assert f"campaign.toml, line {line}:" in str(raised.value)


def test_a_missing_or_huge_file_is_refused(rehearsal, tmp_path, written):
    with pytest.raises(FileError):
        read_campaign(tmp_path / "missing.toml", rehearsal.FormulaRunner())
    with pytest.raises(FileError, match="at most"):
        read_campaign(written("#" * 1_000_001), rehearsal.FormulaRunner())


def test_what_measures_is_a_program_or_this_machine(tmp_path):
    path = tmp_path / "campaign.toml"
    path.write_text("[runner]\ntimeout_s = 7\n")
    assert read_runner(path).timeout_s == 7
    program = '[program]\ncommand = ["true", "{x}"]\n[options.x]\nkind = "boolean"\n'
    path.write_text(program)
    assert isinstance(read_runner(path), ProgramRunner)
    path.write_text(f"{program}[runner]\ntimeout_s = 7\n")
    with pytest.raises(SpecificationError, match=r"line 5.*expected \[program\] or \[runner\]"):
        read_runner(path)

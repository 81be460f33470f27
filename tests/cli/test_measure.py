import re
from importlib.util import find_spec

import pandas as pd
import pytest

from bayestl.data.readers import read_table
from bayestl.measure.engines.onnxruntime import OnnxRuntime

ARGUMENTS = ("measure", "--network", "squeezenet", "--environment", "one-core")


def test_a_sample_is_measured_and_written(bayestl, runner, tmp_path):
    output = tmp_path / "source.parquet"
    result = bayestl(*ARGUMENTS, "--count", 30, "--output", output, "--json")
    assert result.code == 0
    table = read_table(output)
    assert len(table) == 30
    assert table.environment_names == ("one-core",)
    assert table.space.records(table.configurations())[0] == table.space.default
    assert result.json["measurements"] == 30
    assert result.json["failures"] == {"oom": len(table.failures())}
    assert result.json["reasons"] == {"oom": "too much"}
    assert result.json["latency"]["min"] == table.frame["latency"].min()


def test_one_configuration_from_text(bayestl, runner, tmp_path):
    output = tmp_path / "one.csv"
    given = ("--config", "threads=4", "--config", "spin=true")
    assert bayestl(*ARGUMENTS, *given, "--output", output).code == 0
    (row,) = pd.read_csv(output).to_dict("records")
    assert (row["threads"], row["batch"], row["spin"]) == (4, 1, True)


def test_the_example_in_the_help_sets_an_option_of_the_engine(bayestl):
    (name,) = re.findall(r"--config (\w+)=", bayestl("measure", "--help").out)
    assert name in OnnxRuntime().scopes


def test_configurations_from_a_file(bayestl, runner, tmp_path):
    (tmp_path / "mine.csv").write_text("spin,threads,batch,note\ntrue,2,1,a\nfalse,8,2,b\n")
    output = tmp_path / "mine.parquet"
    given = ("--configs", tmp_path / "mine.csv")
    assert bayestl(*ARGUMENTS, *given, "--output", output).code == 0
    assert list(read_table(output).frame["threads"]) == [2, 8]


def test_an_interrupted_survey_goes_on(bayestl, runner, tmp_path):
    command = (*ARGUMENTS, "--count", 10, "--output", tmp_path / "t.parquet", "--json")
    runner.interrupt_at = 5
    stopped = bayestl(*command)
    assert stopped.code == 130
    assert "4 of 10 measurements are in" in stopped.json["error"]["message"]
    assert not (tmp_path / "t.parquet").exists()
    assert bayestl(*command).json["measurements"] == 10
    assert runner.count == 11  # the interrupted one twice, no other


def test_another_survey_in_the_same_store_is_refused(bayestl, refused, runner, tmp_path):
    output = ("--output", tmp_path / "t.parquet")
    assert bayestl(*ARGUMENTS, "--count", 3, *output).code == 0
    assert "another plan" in refused(*ARGUMENTS, "--count", 4, *output)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("nosuch=1", "unknown option 'nosuch'"),
        ("threads=99", "option 'threads': expected a whole number in [1, 8], got '99'"),
        ("spin=perhaps", "option 'spin'"),
    ],
)
def test_a_configuration_that_is_none(refused, runner, tmp_path, config, message):
    output = ("--output", tmp_path / "t.parquet")
    assert message in refused(*ARGUMENTS, "--config", config, *output)
    assert not list(tmp_path.glob("t.parquet*"))


def test_a_configuration_that_violates_a_constraint(refused, runner, tmp_path):
    given = ("--config", "threads=8", "--config", "batch=4", "--output", tmp_path / "t.parquet")
    assert "violates the constraint 'threads * batch <= 16'" in refused(*ARGUMENTS, *given)


def test_configurations_without_a_column(refused, runner, tmp_path):
    (tmp_path / "mine.csv").write_text("threads,batch\n1,1\n")
    given = ("--configs", tmp_path / "mine.csv", "--output", tmp_path / "t.parquet")
    assert "missing ['spin']" in refused(*ARGUMENTS, *given)


def test_a_table_of_an_unknown_kind_is_refused_before_anything_is_measured(refused, tmp_path):
    command = (*ARGUMENTS, "--output", tmp_path / "t.parqet")
    assert "end in .parquet, .csv, .csv.gz" in refused(*command, code=2)


def test_config_needs_a_value_and_excludes_a_file(refused, runner, tmp_path):
    output = ("--output", tmp_path / "t.parquet")
    assert "key=value" in refused(*ARGUMENTS, "--config", "threads", *output, code=2)
    both = ("--config", "threads=1", "--configs", "x.csv", *output)
    assert "either" in refused(*ARGUMENTS, *both, code=2)


def test_an_engine_that_is_unknown(refused, tmp_path):
    given = ("--engine", "abacus", "--output", tmp_path / "t.parquet")
    assert "unknown engine 'abacus'" in refused(*ARGUMENTS, *given)


def test_an_engine_that_is_not_installed(refused, tmp_path, monkeypatch):
    monkeypatch.setattr("bayestl.measure.engines.onnxruntime.find_spec", lambda name: None)
    message = refused(*ARGUMENTS, "--output", tmp_path / "t.parquet")
    assert 'pip install ".[onnxruntime]"' in message


@pytest.mark.skipif(find_spec("onnxruntime") is None, reason="needs onnxruntime")
def test_a_network_that_is_no_onnx(refused, tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"\xff\xfe nothing of the sort")
    given = ("measure", "--network", tmp_path / "bad.onnx", "--output", tmp_path / "t.parquet")
    assert "bad.onnx" in refused(*given)
    missing = ("measure", "--network", tmp_path / "no.onnx", "--output", tmp_path / "t.parquet")
    assert "No such file" in refused(*missing)


@pytest.mark.skipif(find_spec("onnxruntime") is None, reason="needs onnxruntime")
@pytest.mark.parametrize("cores", ["x", "4096", "3-1"])
def test_cores_that_are_not_there(refused, tmp_path, cores):
    given = ("--cores", cores, "--output", tmp_path / "t.parquet")
    assert "cores" in refused(*ARGUMENTS, *given)


def test_a_folder_that_is_not_there(refused, runner, tmp_path):
    output = tmp_path / "no" / "t.parquet"
    assert "t.parquet" in refused(*ARGUMENTS, "--count", 1, "--output", output)


@pytest.mark.skipif(
    find_spec("onnxruntime") is None or find_spec("onnx") is None, reason="needs onnxruntime"
)
def test_a_real_network_is_measured(bayestl, tmp_path):
    output = tmp_path / "real.parquet"
    given = ("--cores", 0, "--config", "graph_optimization_level=basic", "--output", output)
    given += ("--disturbance-limit", 9, "--timeout", 120)  # tests run beside each other
    result = bayestl("measure", "--network", "squeezenet", *given, "--json")
    assert result.code == 0, result.err
    table = read_table(output)
    assert (table.frame["latency"] > 0).all()
    assert table.environments[0].settings == {"cores": "0", "batch": 1}


def test_repeats_are_measured_in_passes(bayestl, runner, tmp_path):
    command = ("measure", "--network", "squeezenet", "--environment", "one-core", "--count", 4)
    found = bayestl(*command, "--repeats", 3, "--output", tmp_path / "r.parquet", "--json")
    assert found.code == 0, found.err
    assert found.json["measurements"] == 12


@pytest.mark.parametrize("given", [("--cores", "0"), ("--timeout", 9), ("--disturbance-limit", 1)])
def test_what_is_for_networks_does_not_go_with_a_program(refused, tmp_path, given):
    command = ("measure", "--program", "none.toml", "--output", tmp_path / "p.parquet", *given)
    assert "are for networks" in refused(*command, code=2)


def test_a_setting_has_a_value(refused, runner, tmp_path):
    command = ("measure", "--network", "squeezenet", "--output", tmp_path / "s.parquet")
    assert "--setting key=value" in refused(*command, "--setting", "isa", code=2)

"""Programs on the command line: the examples of docs/programs.md, run as they stand there."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from bayestl.campaign.specification import read_program
from bayestl.campaign.store import SQLiteStore

PAGE = Path(__file__).parents[2] / "docs" / "programs.md"
SMALLER = (
    ("measurements = 20", "measurements = 4"),
    ("measurements = 30", "measurements = 6"),
    ("[budget]", 'model = "RidgeInteractions"\nacquisition = "RandomSampling"\n\n[budget]'),
)
LATENCY_LINE = (
    "[01/01/2025-00:00:00] [I] Latency: min = 1.2 ms, max = 2 ms, mean = 1.3 ms, median = 1.25 ms,"
)


@pytest.fixture(scope="module")
def blocks():
    """The blocks of code of the page, by language."""
    found: dict[str, list[str]] = {}
    for language, text in re.findall(r"^```(\w+)\n(.*?)^```", PAGE.read_text(), re.M | re.S):
        found.setdefault(language, []).append(text)
    return found


@pytest.fixture
def folder(tmp_path, blocks, monkeypatch):
    """Where the page's files lie, with the page's interpreter on the PATH."""
    for text in blocks["python"]:
        named = re.match(r"# (\w+\.py)\n", text)
        if named:
            (tmp_path / named[1]).write_text(text)
    (tmp_path / "bin").mkdir()
    install(tmp_path, "python3", f"exec '{sys.executable}' \"$@\"")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_campaign_in_which_everything_fails_says_why(bayestl, written):
    path = written(('"bench.py"', '"bensh.py"'))
    result = bayestl("campaign", "run", path, "--json")
    assert result.json["failures"] == 4
    assert "bensh.py" in result.json["reasons"]["crash"]


def install(folder, name, script):
    path = folder / "bin" / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.fixture
def written(folder, blocks):
    """A function that writes the page's campaign with some text replaced; its path."""

    def write(*changes: tuple[str, str]) -> Path:
        text = blocks["toml"][0]
        for old, new in (*SMALLER, *changes):
            assert text.count(old) == 1
            text = text.replace(old, new)
        (folder / "campaign.toml").write_text(text)
        return folder / "campaign.toml"

    return write


def test_the_commands_of_the_page(bayestl, blocks, folder, written):
    written()
    text = blocks["sh"][0].replace("--measurements 30", "--measurements 5")
    lines = text.replace("--count 20", "--count 3").splitlines()
    assert len(lines) == 4
    results = []
    for line in lines:
        program, *arguments = shlex.split(line)
        assert program == "bayestl"
        result = bayestl(*arguments, "--json")
        assert result.code == 0, result.err
        results.append(result.json)
    ran, resumed, measured, page = results
    assert (ran["measurements"], ran["failures"], ran["unit"]) == (4, 0, "ms")
    assert (resumed["measurements"], resumed["failures"]) == (5, 0)
    assert measured["measurements"] == len(pd.read_parquet(folder / "narrow.parquet")) == 3
    assert Path(page["page"]).exists()


def test_an_interrupted_campaign_goes_on_with_its_program(
    bayestl, refused, folder, written, monkeypatch
):
    from bayestl.measure.program import ProgramRunner

    path, store = written(), folder / "campaign.db"
    counted, run = [], ProgramRunner.run

    def interrupted(self, configuration, environment):
        counted.append(environment.name)
        if len(counted) == 8:
            raise KeyboardInterrupt
        return run(self, configuration, environment)

    monkeypatch.setattr(ProgramRunner, "run", interrupted)
    stopped = bayestl("campaign", "run", path)
    assert stopped.code == 130
    again = f"bayestl campaign resume {store} --specification {path}"
    assert again in stopped.err
    assert "give a program's specification as --specification" in refused(
        "campaign", "resume", store
    )
    resumed = bayestl(*again.split()[1:], "--json")
    assert resumed.code == 0, resumed.out
    assert resumed.json["measurements"] == 4
    assert counted == ["narrow"] * 6 + ["wide"] * 5  # the interrupted one twice
    (log,) = SQLiteStore(store).names()
    assert log == "wide"


def test_a_program_that_finds_its_configurations_unsupported(bayestl, folder, written):
    path = written()
    code = (folder / "bench.py").read_text()
    refusal = 'print(json.dumps({"status": "unsupported", "message": "no float64"}))'
    condition = 'if arguments.precision == "float64":'
    code = code.replace("rng =", f"{condition}\n    {refusal}\n    raise SystemExit\nrng =", 1)
    (folder / "bench.py").write_text(code)
    result = bayestl("measure", "--program", path, "--environment", "wide", "--count", 6,
                     "--output", folder / "t.csv", "--json")  # fmt: skip
    table = pd.read_csv(folder / "t.csv")
    failed = table["precision"] == "float64"
    assert result.json["failures"] == {"unsupported": failed.sum()}
    assert (table["status"] == "unsupported").tolist() == failed.tolist()


def test_a_server_that_is_not_there_stops_a_campaign(refused, folder, written):
    (folder / "bench.py").write_text('print(\'{"status": "error", "message": "no server"}\')')
    message = refused("campaign", "run", written())
    assert "cannot measure any configuration: no server" in message


@pytest.mark.parametrize(
    ("change", "line", "message"),
    [
        (('"python3", "bench.py"', '"python3", "{bench}"'), 3, "unknown placeholder 'bench'"),
        (("[program]", "[programme]"), 1, "unknown key 'programme'"),
        (("timeout_s = 60", "timeout = 60"), 7, "unknown key 'timeout'"),
        (('target = "wide"', 'target = "wider"'), 40, "unknown environment 'wider'"),
    ],
)
def test_an_error_in_the_toml_names_its_line(refused, written, change, line, message):
    text = refused("campaign", "run", written(change))
    assert f"line {line}: " in text
    assert message in text


def test_what_cannot_be_measured_is_refused(refused, folder, written):
    output = ("--output", folder / "t.csv")
    path = written()
    assert "narrow, wide" in refused("measure", "--program", path, *output, code=2)
    here = ("measure", "--program", path, "--environment", "wide", *output)
    assert "settings of its own" in refused(*here, "--cores", "0", code=2)
    assert "either --network or --program" in refused(*here, "--network", "n", code=2)
    assert "either --network or --program" in refused("measure", *output, code=2)
    path.write_text("[environments.wide]\n")
    assert "expected a [program] to measure" in refused(*here)


def described(blocks, folder, number):
    """The runner and the environments of one of the page's specifications."""
    (folder / "described.toml").write_text(blocks["toml"][number])
    runner, environments = read_program(folder / "described.toml")
    assert runner is not None
    return runner, environments


def test_a_binary_that_prints_text(blocks, folder):
    runner, (orin,) = described(blocks, folder, 1)
    install(folder, "trtexec", f'echo "$@" > called; echo "{LATENCY_LINE}"')
    measured = runner.run({"fp16": True, "spin": True}, orin)
    assert measured.ok, measured.message
    assert measured.values["latency"] == 1.25
    assert (folder / "called").read_text().split() == [
        "--onnx=resnet50.onnx", "--builderOptimizationLevel=3", "--maxAuxStreams=0",
        "--fp16", "--useSpinWait",
    ]  # fmt: skip
    install(folder, "trtexec", 'echo "[E] out of memory" >&2; exit 1')
    assert runner.run({}, orin).status == "oom"


def test_the_client_of_a_server(blocks, folder):
    runner, (short, long) = described(blocks, folder, 2)
    answer = (
        '{"date": "today", "completed": 200, "median_ttft_ms": 9.5, "output_throughput": 800.0}'
    )
    keep = f'for last; do :; done; echo \'{answer}\' > "$last"; echo "$@" > called'
    install(folder, "vllm", keep)
    measured = runner.run({"concurrency": 32}, long)
    assert measured.ok, measured.message
    assert measured.values["median_ttft_ms"] == 9.5
    assert measured.values["output_throughput"] == 800
    assert "--random-input-len 2048" in (folder / "called").read_text()
    assert "--max-concurrency 32 " in (folder / "called").read_text()
    install(folder, "vllm", "true")
    assert runner.run({}, short).status == "bad_output"


def test_a_python_function(blocks, folder):
    (code,) = (text for text in blocks["python"] if "function_runner" in text)
    (folder / "main.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "main.py"], capture_output=True, text=True, check=True, timeout=120
    )
    status, latency, build_time = done.stdout.split()
    assert status == "ok"
    assert float(latency) > 0
    assert float(build_time) > 0
    (code,) = (text for text in blocks["python"] if text.startswith("runner = bt.ProgramRunner"))
    (folder / "main.py").write_text(f"import bayestl as bt\n{code}\nprint(runner.metrics[0])")
    done = subprocess.run([sys.executable, "main.py"], capture_output=True, text=True, check=True)
    assert done.stdout == "latency [ms]\n"

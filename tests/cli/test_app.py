import json
import os
import subprocess
import sys

import pytest

COMMANDS = (
    "doctor",
    "measure",
    "fit",
    "predict",
    "report",
    "campaign run",
    "campaign resume",
    "campaign status",
)


def command(*arguments: str, **settings) -> subprocess.CompletedProcess:
    code = "import sys; from bayestl.cli.app import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        **settings,
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_with_an_example(bayestl, name):
    result = bayestl(*name.split(), "--help")
    assert result.code == 0
    assert f"bayestl {name} " in result.out.replace("bayestl doctor\n", "bayestl doctor ")
    assert "--json" in result.out


@pytest.mark.parametrize("arguments", [[], ["campaign"]])
def test_without_a_command_the_help_is_shown(bayestl, arguments):
    result = bayestl(*arguments)
    assert (result.out + result.err).lstrip().startswith("Usage: bayestl")
    assert "error" not in result.err.splitlines()[0]


def test_version(bayestl):
    from importlib.metadata import version

    assert bayestl("--version").out == f"bayestl {version('bayestl')}\n"


def test_the_package_runs_as_the_command():
    arguments = [sys.executable, "-m", "bayestl"]
    told = subprocess.run([*arguments, "--version"], capture_output=True, text=True, check=True)
    assert told.stdout.startswith("bayestl ")
    assert (
        subprocess.run([*arguments, "nonsense"], capture_output=True, check=False).returncode == 2
    )


def test_help_lists_the_exit_codes(bayestl):
    assert "0 done, 1 an error, 2 wrong usage, 130 interrupted" in bayestl("--help").out


def test_help_loads_no_numeric_library():
    code = (
        "import sys; from bayestl.cli.app import main; main(['--help']); "
        "print([m for m in ('numpy', 'pandas', 'torch', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["fit"],
        ["fit", "table.parquet", "--metric", "latency"],
        ["measure", "--network", "squeezenet", "--output", "t.parquet", "--count", "0"],
        ["doctor", "--nonsense"],
    ],
)
def test_wrong_usage_is_exit_code_2(refused, arguments):
    assert "see bayestl --help" in refused(*arguments, code=2)


def test_a_bug_is_one_message_and_a_traceback_only_if_asked(bayestl, monkeypatch):
    def broken(*_) -> None:
        raise ZeroDivisionError("surprise")

    monkeypatch.setattr("bayestl.measure.probe.probe", broken)
    result = bayestl("doctor")
    assert result.code == 1
    assert result.err.startswith("error: unexpected ZeroDivisionError: surprise; this is a bug")
    assert "Traceback" not in result.err
    assert "Traceback" in bayestl("--debug", "doctor").err


def test_ctrl_c_before_anything_is_measured(bayestl, monkeypatch):
    def interrupted(*_) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bayestl.measure.probe.probe", interrupted)
    result = bayestl("doctor", "--json")
    assert result.code == 130
    assert result.json["error"]["message"] == "interrupted"


def test_warnings_are_lines_and_not_tracebacks(bayestl, monkeypatch, recwarn):
    import warnings

    def warned(*_) -> None:
        warnings.simplefilter("always")
        warnings.warn("mind the gap", UserWarning, stacklevel=1)
        raise OSError("gone")

    monkeypatch.setattr("bayestl.measure.probe.probe", warned)
    assert bayestl("doctor").err == "warning: mind the gap\nerror: gone\n"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/dev/full is Linux's")
@pytest.mark.parametrize(
    "arguments", [["--version"], ["doctor", "--repeats", "0", "--json"], ["no", "--json"]]
)
@pytest.mark.parametrize("buffering", ["", "1"])
def test_output_on_a_full_disk(arguments, buffering):
    with open("/dev/full", "w") as full:
        done = command(*arguments, stdout=full, env=os.environ | {"PYTHONUNBUFFERED": buffering})
        assert done.returncode == (2 if "no" in arguments else 1)
        assert done.stderr.count("error: ") == 1
        assert "No space left" in done.stderr or "no" in arguments
        assert "Traceback" not in done.stderr


def test_a_reader_that_leaves_early_is_no_error():
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as closed:
        assert command("campaign", "run", "--help", stdout=closed).stderr == ""


@pytest.mark.parametrize(("arguments", "code"), [(["--version"], 0), (["nonsense", "--json"], 2)])
def test_streams_that_are_closed_are_no_error(arguments, code):
    closed = "import os, sys; os.closerange(0, 3); os.execv(sys.executable, sys.argv[1:])"
    again = [sys.executable, "-m", "bayestl", *arguments]
    assert subprocess.run([sys.executable, "-c", closed, *again], check=False).returncode == code


PROGRAM = """\
[program]
command = ["printf", '{{"status": "oom", "message": "\\u00fc"}}', "{threads}"]
[options.threads]
kind = "integer"
low = 1
high = 2
[environments.here]
"""


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_text_that_the_terminal_lacks_is_escaped(tmp_path, form):
    (tmp_path / "bench.toml").write_text(PROGRAM)
    output = tmp_path / os.fsdecode(b"\xff.csv")
    done = command(
        *("measure", "--program", str(tmp_path / "bench.toml"), "--output", str(output), *form),
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "udcff.csv" in done.stdout
    assert ("u00fc" if form else "xfc") in done.stdout
    if form:
        assert json.loads(done.stdout)["output"] == str(output)
    assert output.exists()

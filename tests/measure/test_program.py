"""Programs as targets: how a configuration reaches them, and what their answers mean."""

import json
import os
import shutil
import sys
from dataclasses import replace

import pytest

from bayestl.data.environment import Environment
from bayestl.data.measurement import Metric, Status
from bayestl.data.options import Boolean, Categorical, Integer, Real
from bayestl.data.space import ConfigSpace
from bayestl.errors import EngineError, EngineUnavailable, SpecificationError, UnknownEnvironment
from bayestl.measure import machine
from bayestl.measure.disturbance import use_of
from bayestl.measure.program import USAGE, ProgramRunner
from tests.processes import started

SPACE = ConfigSpace(
    {
        "threads": Integer(1, 8),
        "mode": Categorical(("plain", "two words; $HOME")),
        "spin": Boolean(),
        "spin_us": Real(0.0, 10.0, default=2.5),
    },
    conditions={"spin_us": "spin"},
)
LATENCY = Metric("latency", "ms")
HERE = Environment("here")

ECHO = """
import json, os, sys
names = ("THREADS", "SPIN_US", "EMPTY")
print(json.dumps({"latency": 1, "argv": sys.argv[1:], "folder": os.getcwd(),
                  "variables": {name: os.environ.get(name) for name in names}}))
"""


@pytest.fixture
def script(tmp_path):
    """A function that makes a runner of a Python script, its options in a file unless given."""

    def make(code, *arguments, **settings):
        (tmp_path / "bench.py").write_text(code)
        settings = {"options": SPACE, "reports": (LATENCY,), "folder": tmp_path, **settings}
        rest = arguments or ("{config_file}",)
        return ProgramRunner([sys.executable, "bench.py", *rest], **settings)

    return make


def answering(script, text, **settings):
    """What is measured of a program that prints the text."""
    return script(f"print({text!r})", **settings).run({}, HERE)


def echoed(runner, configuration, environment=HERE):
    measured = runner.run(configuration, environment)
    assert measured.ok, measured.message
    return json.loads(measured.provenance["stdout"])


def test_options_arrive_as_arguments(script):
    runner = script(
        ECHO, "-t", "{threads}", "--mode={mode}", "--spin={spin}", "--us={spin_us}",
        ["--us", "{spin_us}", "us"], "{{x}}", "{environment}", "{network}", "{setting:batch}",
    )  # fmt: skip
    where = Environment("here", network="net.bin", settings={"batch": 4})
    fixed = ["{x}", "here", "net.bin", "4"]
    assert echoed(runner, {"threads": 4}, where)["argv"] == [
        *("-t", "4", "--mode=plain", "--spin=false"), *fixed,
    ]  # fmt: skip
    active = {"mode": "two words; $HOME", "spin": True}
    assert echoed(runner, active, where)["argv"] == [
        *("-t", "1", "--mode=two words; $HOME", "--spin=true", "--us=2.5", "--us", "2.5", "us"),
        *fixed,
    ]


def test_options_arrive_as_flags_and_variables(script, monkeypatch):
    monkeypatch.setenv("SPIN_US", "inherited")
    runner = script(
        ECHO,
        "{mode}",
        flags={"spin": ["--spin", "--really"]},
        variables={"THREADS": "{threads}", "SPIN_US": "{spin_us}", "EMPTY": ""},
    )
    found = echoed(runner, {"threads": 3})
    assert found["argv"] == ["plain"]
    assert found["variables"] == {"THREADS": "3", "SPIN_US": None, "EMPTY": ""}
    found = echoed(runner, {"spin": True})
    assert found["argv"] == ["plain", "--spin", "--really"]
    assert found["variables"] == {"THREADS": "1", "SPIN_US": "2.5", "EMPTY": ""}


def test_options_arrive_in_a_file_and_the_answer_may_leave_in_one(script):
    code = """
import json, sys
with open(sys.argv[1]) as file:
    configuration = json.load(file)
with open(sys.argv[2], "w") as file:
    json.dump({"latency": configuration["threads"] / 2, "seen": configuration}, file, indent=1)
print(json.dumps(configuration), sys.argv[2])
print('{"latency": -1}')
"""
    measured = script(code, "{config_file}", "{result_file}").run({"threads": 5}, HERE)
    assert measured.values["latency"] == 2.5
    text = measured.provenance["stdout"].splitlines()[0]
    configuration, _, path = text.rpartition(" ")
    assert json.loads(configuration) == {
        "threads": 5, "mode": "plain", "spin": False, "spin_us": None,
    }  # fmt: skip
    assert not os.path.exists(path)


def test_a_result_file_that_is_a_pipe_is_no_answer(script):
    code = "import os, sys; os.mkfifo(sys.argv[2])"
    measured = script(code, "{config_file}", "{result_file}").run({}, HERE)
    assert measured.status is Status.BAD_OUTPUT


def test_the_values_are_medians_and_samples_are_kept(script):
    text = 'starting\n{"latency": 1}\n{"latency": [3, 1.0, 8], "more": "x"}\nbye {"latency": 2}'
    measured = answering(script, text)
    assert measured.status is Status.OK
    assert measured.values["latency"] == 3
    assert measured.samples == {"latency": [3.0, 1.0, 8.0]}
    assert set(measured.values) == {"latency", *(metric.name for metric in USAGE)}
    assert measured.values["cpu_time"] > 0
    assert 0 < measured.values["wall_time"] <= measured.seconds * 1e3
    assert 1 < measured.values["peak_memory"] < 500


def test_a_program_need_not_print(script):
    measured = script("", reports=()).run({}, HERE)
    assert measured.ok
    assert set(measured.values) == {"wall_time", "cpu_time", "peak_memory"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nothing", "expected a line of JSON with latency"),
        ("{'latency': 1}", "expected a line of JSON"),
        ("[1, 2]", "expected a line of JSON"),
        ('{"latency": 1', "expected a line of JSON"),
        ("{" * 100_000 + "}" * 100_000, "expected a line of JSON"),
        ('{"a":' * 50_000 + "1" + "}" * 50_000, "expected a line of JSON"),
        ('{"speed": 1}', 'latency: expected a finite number, or a list of them, got "nothing"'),
        ('{"latency": null}', "got null"),
        ('{"latency": true}', "got true"),
        ('{"latency": "1"}', 'got "1"'),
        ('{"latency": NaN}', "got NaN"),
        ('{"latency": 1e999}', "got Infinity"),
        ('{"latency": 1' + "0" * 400 + "}", "got 1000"),
        ('{"latency": []}', "got []"),
        ('{"latency": [1, false]}', "got [1, false]"),
        ('{"latency": [1, NaN]}', "got [1, NaN]"),
        ('{"latency": {"p50": 1}}', "got {"),
        ('{"latency": 1, "status": "fine"}', "expected a status out of ok, invalid"),
        ('{"latency": 1, "status": ["ok"]}', "expected a status"),
    ],
)
def test_what_is_no_answer_is_bad_output(script, text, message):
    measured = answering(script, text)
    assert measured.status is Status.BAD_OUTPUT
    assert message in measured.message
    assert measured.values == {}


@pytest.mark.parametrize(
    ("code", "status", "message"),
    [
        ('print(\'{"status": "unsupported", "message": "no int4"}\')', "unsupported", "no int4"),
        ('print(\'{"status": "oom"}\'); import sys; sys.exit("died")', "oom", "died"),
        ('print(\'{"status": "ok", "latency": 1}\'); raise SystemExit(9)', "crash", "code 9"),
        ('print(\'{"latency": 1}\'); raise KeyError("k")', "crash", "KeyError: 'k'"),
        ("print('{\"latency\": 1}', flush=True); import time; time.sleep(99)", "timeout", "killed"),
        ("x = bytearray(2 << 30)", "oom", "MemoryError"),
        ('print(\'{"status": "loading"}\'); raise KeyError("k")', "crash", "KeyError: 'k'"),
        ('print(\'{"status": "oom", "message": null}\')', "oom", "the program says oom"),
        ('print(\'{"status": "oom", "message": "\\\\ud800"}\')', "oom", "?"),
    ],
)
def test_every_outcome_has_a_type(script, code, status, message):
    seconds = 1.0 if status == "timeout" else 30.0
    measured = script(code, timeout_s=seconds, memory_limit_mib=1024).run({}, HERE)
    assert measured.status is Status(status)
    assert message in measured.message
    assert measured.values == {}


def test_a_program_that_answers_and_does_not_end_is_late(script):
    code = 'print(\'{"status": "invalid"}\', flush=True); import time; time.sleep(99)'
    assert script(code, timeout_s=1.0).run({}, HERE).status is Status.TIMEOUT


def test_a_program_that_tells_its_progress_and_does_not_end_is_late(script):
    code = 'print(\'{"status": "loading"}\', flush=True); import time; time.sleep(99)'
    assert script(code, timeout_s=1.0).run({}, HERE).status is Status.TIMEOUT


def test_a_deadline_may_be_far_away(script):
    assert script("print('{\"latency\": 1}')", timeout_s=1e9).run({}, HERE).ok


def test_a_program_that_can_measure_nothing_is_an_error(script):
    with pytest.raises(EngineError, match="no server at port 8000"):
        answering(script, '{"status": "error", "message": "no server at port 8000"}')


BUSY = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
print(flush=True)
while True: pass
"""


def test_a_neighbour_contaminates_where_that_is_looked_at(script):
    if use_of([0]) is None:
        pytest.skip("this kernel does not count a core's time")
    here = replace(HERE, settings={"cores": str(machine.available_cores()[0])})
    code = "import time; time.sleep(0.5); print('{\"latency\": [1, 2, 3]}')"
    with started(BUSY) as neighbour:
        assert neighbour.stdout.readline()
        assert script(code).run({}, here).ok
        measured = script(code, disturbance_limit=0.3).run({}, here)
        refused = script('print(\'{"status": "invalid"}\')', disturbance_limit=0.3)
        assert refused.run({}, here).status is Status.INVALID  # for a reason of its own
    assert measured.status is Status.CONTAMINATED
    assert "others used" in measured.message
    assert not measured.values
    assert measured.samples["latency"] == [1, 2, 3]


@pytest.mark.parametrize("ends", [True, False])
def test_what_a_program_leaves_behind_is_no_neighbour(script, monkeypatch, ends):
    def noted(before, after, own_s):
        own.append(own_s)

    own: list[float] = []
    monkeypatch.setattr("bayestl.measure.program.disturbance", noted)
    code = f"""
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "while True: pass"])
time.sleep({2 if ends else 99})
print('{{"latency": 1}}')
"""
    measured = script(code, timeout_s=30.0 if ends else 2.0).run({}, HERE)
    assert measured.status is (Status.OK if ends else Status.TIMEOUT)
    assert own[0] > 0.4


def test_the_provenance_says_what_was_run(script, tmp_path):
    runner = script(ECHO, "{config_file}", "{threads}", variables={"THREADS": "{threads}"})
    found = runner.run({"threads": 2}, HERE).provenance
    assert found["command"][0] == sys.executable
    assert found["command"][1::2] == ["bench.py", "2"]
    assert found["variables"] == {**machine.variables(), "THREADS": "2"}
    assert set(found["files"]) == {sys.executable, str(tmp_path / "bench.py")}
    assert found["exit_code"] == 0
    assert {
        "processor",
        "before",
        "after",
        "foreign_share",
        "stolen_share",
        "stdout",
        "stderr",
        "cores",
    } <= set(found)
    noise = "import sys; print('x' * 100_000); print('y' * 100_000, file=sys.stderr); 1 / 0"
    found = script(noise).run({}, HERE).provenance
    assert len(json.dumps(found)) < 20_000


def test_cores_are_an_affinity(script):
    core = min(os.sched_getaffinity(0))
    code = "import json, os; print(json.dumps({'latency': list(os.sched_getaffinity(0))}))"
    here = Environment("here", settings={"cores": str(core)})
    assert script(code).run({}, here).provenance["stdout"] == f'{{"latency": [{core}]}}\n'


def test_a_changed_program_is_another_environment(script, tmp_path):
    (tmp_path / "weights.bin").write_text("1")
    runner = script(ECHO, files=("weights.bin",))
    described = runner.describe(HERE)
    assert described.engine.split()[0] == runner.name == os.path.basename(sys.executable)
    assert runner.run({}, described).ok
    for file in ("weights.bin", "bench.py"):
        content = (tmp_path / file).read_text()
        (tmp_path / file).write_text(content + " ")
        with pytest.raises(UnknownEnvironment, match="restore its files"):
            runner.run({}, described)
        (tmp_path / file).write_text(content)
        assert runner.describe(HERE) == described


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        (Environment("e", engine="abacus"), "unknown engine 'abacus'; expected 'bench'"),
        (
            Environment("e", network="n", settings={"batch": 1, "speed": 2}),
            "unknown setting 'speed'",
        ),
        (Environment("e", network="n"), "needs the setting 'batch'"),
        (Environment("e", settings={"batch": 1}), "needs its network"),
        (
            Environment("e", network="n", settings={"batch": 1, "cores": "9999"}),
            "asks for cores 9999",
        ),
    ],
)
def test_an_environment_that_cannot_be_arranged(script, environment, message):
    runner = script(ECHO, "{config_file}", "{setting:batch}", "{network}", name="bench")
    for ask in (runner.space, runner.describe, lambda e: runner.run({}, e)):
        with pytest.raises(UnknownEnvironment, match=message):
            ask(environment)


def test_programs_are_found_beside_the_folder_or_on_the_path(tmp_path):
    (tmp_path / "bin").mkdir()
    shutil.copy(shutil.which("true") or "/bin/true", tmp_path / "bin" / "bench")
    space = ConfigSpace({"threads": Integer(1, 2)})
    runner = ProgramRunner(["bin/bench", "{threads}"], space, folder=tmp_path)
    measured = runner.run({}, HERE)
    assert measured.ok
    assert measured.provenance["command"] == [str(tmp_path / "bin" / "bench"), "1"]
    assert runner.name == "bench"
    assert ProgramRunner(["true", "{threads}"], space).run({}, HERE).ok
    for missing in ("bin/other", "bench"):
        with pytest.raises(EngineUnavailable, match=f"no program '{missing}'"):
            replace(runner, command=[missing, "{threads}"]).run({}, HERE)
    with pytest.raises(EngineUnavailable, match=r"cannot read .*weights"):
        replace(runner, files=["weights"]).describe(HERE)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"command": "./bench {threads}"}, "command: expected a list"),
        ({"command": []}, "command: expected a list"),
        ({"command": ["{threads}"]}, "without placeholders first"),
        ({"command": ["bench", 3]}, r"command: expected a list of texts, got 3"),
        ({"command": ["bench", ["-t", 3]]}, "command: expected a list of texts"),
        (
            {"command": ["bench", "{thread}"]},
            r"command: '\{thread\}': unknown placeholder 'thread'",
        ),
        ({"command": ["bench", "{setting:}"]}, "unknown placeholder 'setting:'"),
        ({"command": ["bench", "{threads.real}"]}, "unknown placeholder 'threads.real'"),
        ({"command": ["bench", "{threads"]}, "expected a placeholder"),
        ({"command": ["bench", "{threads}"]}, "option 'spin' does not reach the program"),
        ({"variables": {"T": "{thread}"}}, "variables: T: unknown placeholder 'thread'"),
        ({"variables": {"T": 3}}, "variables: T: expected a text, got 3"),
        ({"variables": {"A=B": "3"}}, "variables: expected a name"),
        ({"flags": {"spun": ["-s"]}}, "flags: spun: unknown option"),
        ({"flags": {"threads": ["-s"]}}, "flags: threads: expected a boolean option"),
        ({"flags": {"spin": "--spin"}}, "flags: spin: expected a list of texts"),
        ({"reports": [Metric("wall_time", "s")]}, "metrics: wall_time: has a meaning"),
        ({"reports": [LATENCY, LATENCY]}, "metrics: latency: expected distinct names"),
        ({"reports": [Metric("threads", "s")]}, "metrics: threads: the name of an option"),
        ({"reports": [Metric("environment", "s")]}, "metrics: environment: has a meaning"),
        (
            {"options": ConfigSpace({"cpu_time": Integer(1, 2)})},
            "options: cpu_time: the name of a metric",
        ),
        ({"timeout_s": 0}, "timeout_s: expected a positive number"),
        ({"timeout_s": "60"}, "timeout_s: expected a positive number"),
        ({"timeout_s": 10**400}, "timeout_s: expected a positive number"),
        ({"lock_timeout_s": "60"}, "lock_timeout_s: expected seconds, at least 0"),
        ({"memory_limit_mib": -1}, "memory_limit_mib: expected a positive number"),
        ({"files": "weights"}, "files: expected a list of texts"),
        (
            {"options": ConfigSpace({"network": Integer(1, 2)})},
            "options: network: the name of another placeholder",
        ),
    ],
)
def test_a_malformed_program_is_refused_at_once(changed, message):
    space = ConfigSpace({"threads": Integer(1, 8), "spin": Boolean()})
    whole = {"command": ["bench", "{threads}", "{spin}"], "options": space}
    with pytest.raises(SpecificationError, match=message):
        ProgramRunner(**{**whole, **changed})

import os
import re
import sys
from pathlib import Path

import pytest

from bayestl.errors import EngineError
from bayestl.measure.meter import Kind
from bayestl.measure.meters import external
from bayestl.measure.meters.external import ExternalEnergy

DOCS = Path(__file__).parents[3] / "docs" / "meters.md"
GOOD = (
    '{"value": 12.5, "unit": "J", "kind": "integrated", "domain": "plug", '
    '"resolution_s": 0.1, "source": "a wattmeter"}'
)


@pytest.fixture
def meter(tmp_path):
    """A function that makes an open meter of a program's text; the program is ended afterwards."""
    made = []

    def make(text, *arguments, timeout_s=20.0):
        path = tmp_path / "program.py"
        path.write_text("import json, os, sys, time\n" + text)
        made.append(
            ExternalEnergy([sys.executable, "-u", str(path), *arguments], timeout_s=timeout_s)
        )
        made[-1].open()
        return made[-1]

    yield make
    for each in made:
        each.close()


def answers(end=GOOD, begin="{}"):
    return f"for line in sys.stdin: print({begin!r} if line == 'begin\\n' else {end!r})"


def read(meter):
    meter.begin()
    return meter.end()


def test_the_example_of_the_documentation_works(meter, tmp_path):
    (text,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert len(text.splitlines()) < 25
    counter = tmp_path / "joules"
    counter.write_text("1000.0\n")
    subject = meter(text, str(counter))
    for joules in (4.5, 30.25):
        subject.begin()
        counter.write_text(f"{float(counter.read_text()) + joules}\n")
        reading = subject.end()
        assert reading.value == joules
        assert (reading.kind, reading.unit) == (Kind.COUNTER, "J")
        assert (reading.domain, reading.resolution_s) == ("wall plug", 1.0)
        assert reading.source == str(counter)
    reading = read(subject)
    assert reading.kind is Kind.UNAVAILABLE  # the file did not change
    assert "stood still" in reading.source


def test_the_program_answers_as_often_as_it_is_asked(meter):
    subject = meter(answers())
    for _ in range(3):
        reading = read(subject)
        assert reading.value == 12.5
        assert reading.kind is Kind.INTEGRATED
        assert reading.source == "a wattmeter"


def test_a_program_may_say_that_it_cannot_read(meter):
    subject = meter(answers('{"kind": "unavailable", "value": null, "source": "plug is offline"}'))
    for _ in range(2):  # this breaks nothing: the next window may work
        reading = read(subject)
        assert reading.kind is Kind.UNAVAILABLE
        assert reading.source == "plug is offline"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("time.sleep(600)", "no answer to 'begin' after 0.3 s"),
        ("sys.stdin.readline(); sys.stdout.write('{'); sys.stdin.read()", "no answer to 'begin'"),
        ("os.close(2); sys.stdin.readline(); time.sleep(600)", "no answer to 'begin'"),
        ("sys.stdin.readline(); print('{}'); time.sleep(600)", "no answer to 'end' after 0.3 s"),
    ],
)
def test_a_program_that_hangs_is_killed(meter, monkeypatch, text, why):
    monkeypatch.setattr(external, "FAREWELL_S", 0.05)
    subject = meter(text, timeout_s=0.3 if "begin" in why else 20.0)
    process = subject._program._process
    subject.begin()
    subject._timeout_s = 0.3
    reading = subject.end()
    assert reading.kind is Kind.UNAVAILABLE
    assert why in reading.source
    assert process.returncode is not None
    assert why in read(subject).source  # and it stays so


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("sys.exit('no such plug')", "ended with exit code 1 (no such plug)"),
        ("sys.stdin.readline(); print('{}'); sys.stdin.readline(); os._exit(7)", "exit code 7"),
        ("sys.stdin.readline(); print('{}'); os.kill(os.getpid(), 9)", "exit code -9"),
        ("sys.stdin.readline(); print('{}\\n{}'); sys.stdin.read()", "silence before 'end'"),
        ("print('Wattmeter 1.0'); sys.stdin.read()", "got 'Wattmeter 1.0"),
        ("import no_such_library", "No module named 'no_such_library'"),
    ],
)
def test_a_program_that_dies_or_talks_out_of_turn_is_told(meter, text, why):
    reading = read(meter(text, timeout_s=3_600.0))  # an end is seen at once
    assert reading.kind is Kind.UNAVAILABLE
    assert why in reading.source


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "12.5",
        "[1]",
        "{",
        "null",
        "[" * 60_000,
        "{}",
        GOOD.replace('"J"', '"Wh"'),
        GOOD.replace("integrated", "estimated"),
        GOOD.replace("integrated", "guess"),
        GOOD.replace('"integrated"', "[]"),
        GOOD.replace("12.5", "NaN"),
        GOOD.replace("12.5", "-1"),
        GOOD.replace("12.5", "null"),
        GOOD.replace("12.5", "true"),
        GOOD.replace("12.5", '"12.5"'),
        GOOD.replace("12.5", "1" + "0" * 400),
        GOOD.replace("0.1", "-0.1"),
        GOOD.replace("0.1", '"fast"'),
    ],
)
def test_garbage_is_no_reading(meter, answer):
    subject = meter(answers(answer))
    reading = read(subject)
    assert reading.kind is Kind.UNAVAILABLE
    assert "expected" in reading.source
    assert len(reading.source) < 2_000


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_program_that_floods_is_bounded(meter, monkeypatch, stream):
    monkeypatch.setattr(external, "FAREWELL_S", 0.05)
    subject = meter(f"while True: sys.{stream}.write('x' * 100_000)", timeout_s=2.0)
    program = subject._program
    reading = read(subject)
    assert reading.kind is Kind.UNAVAILABLE
    assert len(program._line) <= 3 * external.MAX_LINE
    assert len(program._complaints) <= external.KEPT_TEXT
    assert len(reading.source) < 2_000


def test_complaints_do_not_stop_a_program(meter):
    subject = meter(
        "for line in sys.stdin:\n"
        "    sys.stderr.write('x' * 300_000)\n"
        f"    print('{{}}' if line == 'begin\\n' else {GOOD!r})"
    )
    assert read(subject).value == 12.5


def test_closing_ends_the_program_by_its_input(meter, tmp_path):
    subject = meter(f"sys.stdin.read(); open({str(tmp_path / 'bye')!r}, 'w').close()")
    process = subject._program._process
    subject.close()
    assert process.returncode == 0
    assert (tmp_path / "bye").exists()
    assert "not open" in read(subject).source


def test_closing_kills_a_program_that_stays(meter, monkeypatch):
    monkeypatch.setattr(external, "FAREWELL_S", 0.05)
    subject = meter("time.sleep(600)")
    process = subject._program._process
    subject.close()
    assert process.returncode == -9


def test_a_program_shares_the_group_that_a_deadline_kills(meter):
    subject = meter(answers())
    assert os.getpgid(subject._program._process.pid) == os.getpgid(0)


def test_a_program_may_use_the_cores_that_are_not_measured(meter):
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        subject = meter(answers())
        assert os.sched_getaffinity(subject._program._process.pid) >= cores
    finally:
        os.sched_setaffinity(0, cores)


@pytest.mark.parametrize("command", [["/no/such/program"], ["/tmp"]])
def test_a_program_that_cannot_be_started_is_told(command):
    subject = ExternalEnergy(command)
    subject.open()
    reading = read(subject)
    assert reading.kind is Kind.UNAVAILABLE
    assert f"{command[0]} cannot be started" in reading.source


def test_no_shell_reads_the_command(meter, tmp_path):
    subject = meter(
        f"good = json.loads({GOOD!r})\n"
        "for line in sys.stdin: print(json.dumps({**good, 'source': sys.argv[1]}))",
        f"$(touch {tmp_path}/shell); *",
    )
    assert read(subject).source == f"$(touch {tmp_path}/shell); *"
    assert not (tmp_path / "shell").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        {"command": "meter --fast"}, {"command": []}, {"command": [""]}, {"command": ["a", 1]},
        {"command": ["a\0b"]}, {"command": None}, {"command": ["a"], "timeout_s": 0},
        {"command": ["a"], "timeout_s": "1"}, {"command": ["a"], "timeout_s": float("inf")},
        {"command": ["a"], "window_s": -1}, {"command": ["a"], "window_s": None},
    ],
)  # fmt: skip
def test_arguments_are_checked(arguments):
    with pytest.raises(EngineError, match="expected external: "):
        ExternalEnergy(**arguments)


def test_the_window_is_what_the_user_says():
    assert ExternalEnergy(["meter"], window_s=20).window_s == 20


def test_an_answer_may_take_very_long(meter):
    patient = meter(answers(), timeout_s=1e9)
    patient.begin()
    assert patient.end().value == 12.5

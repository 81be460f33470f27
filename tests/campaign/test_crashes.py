"""A campaign is killed, interrupted and run twice at once, for real."""

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from bayestl.campaign.history import fold
from bayestl.campaign.loop import run
from bayestl.campaign.store import SQLiteStore
from bayestl.errors import StoreError

REHEARSAL = str(Path(__file__).with_name("rehearsal.py"))
KILLS = 60


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def server():
    script = [sys.executable, "-W", "ignore", REHEARSAL]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(script, text=True, bufsize=1, env=environment(), **pipes) as process:
        assert process.stdout.readline() == "ready\n"
        yield process
        process.stdin.close()


def begin(server, path: Path, seconds: float = 0.003) -> int:
    """The id of a new process that runs the campaign on the store, so long a measurement."""
    server.stdin.write(f"{seconds} {path}\n")
    return int(server.stdout.readline())


def end(server) -> int:
    """That process's exit code, once it has ended."""
    return int(server.stdout.readline())


def killed_at_random(server, path: Path, chooser: random.Random) -> int:
    """The exit code of one process on the store that is killed at a random moment.

    Every fourth time that is any moment, its start among them; else it is a few
    milliseconds after a measurement began, where there is something to lose.
    """
    before = len(lines(path, "RUNS"))
    child = begin(server, path)
    if chooser.random() < 0.25:
        time.sleep(chooser.uniform(0.0, 0.3))
    else:
        deadline = time.monotonic() + 1.0
        while len(lines(path, "RUNS")) == before and time.monotonic() < deadline:
            time.sleep(0.0005)
        time.sleep(chooser.uniform(0.0, 0.03))
    with suppress(ProcessLookupError):  # it has ended
        os.kill(child, signal.SIGKILL)
    return end(server)


def lines(path: Path, name: str) -> list[str]:
    file = path.with_name(name)
    return file.read_text().splitlines() if file.exists() else []


def facts(state) -> list:
    return [(a.number, a.count, a.measurement.to_dict()) for a in state.attempts]


def stored_acknowledgements(rehearsal, state) -> list[str]:
    found = []
    for a in state.attempts:
        m, key = a.measurement, rehearsal.SPACE.key(a.measurement.configuration)
        found.append(f"{a.number} {m.environment} {key} {dict(m.values)}")
    return found


def test_no_kill_loses_or_repeats_what_was_acknowledged(rehearsal, server, tmp_path):
    """60 times `kill -9` at random moments, from before the store is made until the end."""
    plain = SQLiteStore(tmp_path / "plain.sqlite")
    whole = run(rehearsal.campaign(), rehearsal.FormulaRunner(), plain, name="a").state
    chooser, kills, number = random.Random(1), 0, 0
    while kills < KILLS:
        number += 1
        path = tmp_path / str(number) / "store.sqlite"
        path.parent.mkdir()
        killed = 0
        while killed < 20 and killed_at_random(server, path, chooser) == -signal.SIGKILL:
            killed += 1
            if seen := lines(path, "ACKS"):
                state = fold(SQLiteStore(path).load("a")).state
                assert is_subsequence(seen, stored_acknowledgements(rehearsal, state))
        kills += killed
        begin(server, path)
        assert end(server) == 0
        state = fold(SQLiteStore(path).load("a")).state
        assert facts(state) == facts(whole)
        assert is_subsequence(lines(path, "ACKS"), stored_acknowledgements(rehearsal, state))
        began = len(lines(path, "RUNS"))
        assert len(state.attempts) <= began <= len(state.attempts) + killed
    assert number > 1


def is_subsequence(some: list[str], every: list[str]) -> bool:
    """Whether `some` are in `every`, in that order, each as often as there."""
    rest = iter(every)
    return all(line in rest for line in some)


def acknowledged(path: Path, count: int) -> None:
    """Wait until so many measurements are acknowledged."""
    while len(lines(path, "ACKS")) < count:
        time.sleep(0.001)


def test_ctrl_c_ends_cleanly_and_the_campaign_goes_on(rehearsal, server, tmp_path):
    path = tmp_path / "store.sqlite"
    child = begin(server, path, 0.5)  # time enough to interrupt it on a busy machine
    acknowledged(path, 2)
    os.kill(child, signal.SIGINT)
    assert end(server) == 0
    state = fold(SQLiteStore(path).load("a")).state
    assert is_subsequence(lines(path, "ACKS"), stored_acknowledgements(rehearsal, state))
    assert len(state.trials) < 18
    result = run(rehearsal.campaign(), rehearsal.FormulaRunner(), SQLiteStore(path), name="a")
    assert result.reason == "measurements"
    other = SQLiteStore(tmp_path / "whole.sqlite")
    whole = run(rehearsal.campaign(), rehearsal.FormulaRunner(), other, name="a")
    assert facts(result.state) == facts(whole.state)


def test_a_second_process_is_refused_while_the_first_measures(rehearsal, server, tmp_path):
    path = tmp_path / "store.sqlite"
    child = begin(server, path, 0.1)
    acknowledged(path, 1)
    os.kill(child, signal.SIGSTOP)
    with pytest.raises(StoreError, match=f"in use by process {child}"):
        run(rehearsal.campaign(), rehearsal.FormulaRunner(), SQLiteStore(path), name="a")
    os.kill(child, signal.SIGCONT)
    assert end(server) == 0
    assert len(fold(SQLiteStore(path).load("a")).state.settled_in("all-cores")) == 12

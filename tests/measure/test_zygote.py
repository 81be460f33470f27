import os
import signal
import sys
import time
from pathlib import Path

import pytest

from bayestl.data.environment import Environment
from bayestl.measure import bench, machine
from bayestl.measure.zygote import Zygote
from tests.processes import alive, started, wait_until

PARENT = """
import time
from bayestl.data.environment import Environment
from bayestl.measure.runner import LocalRunner
engines = {"staged": "staged_engine:Staged"}
runner = LocalRunner(engines=engines, timeout_s=120.0, disturbance_limit=None)
try:
    runner.run({"act": "offspring"}, Environment("e", engine="staged", network="squeezenet"))
except KeyboardInterrupt:
    print("interrupted", flush=True)
    time.sleep(600)
"""

SUSPENDED = """
from bayestl.data.environment import Environment
from bayestl.measure.runner import LocalRunner
from bayestl.measure.sampling import Sampling
runner = LocalRunner(
    Sampling(min_sample_s=1.0), engines={"staged": "staged_engine:Staged"}, timeout_s=4.0,
    disturbance_limit=None,
)
here = Environment("e", engine="staged", network="squeezenet")
runner.run({}, here)
print("now", flush=True)
print(runner.run({}, here).status, flush=True)
"""


@pytest.fixture
def pids(tmp_path, monkeypatch):
    path = tmp_path / "pids"
    monkeypatch.setenv("STAGED_PIDS", str(path))
    monkeypatch.setenv("BAYESTL_LOCK", str(tmp_path / "lock"))  # the lock: others may be measuring
    return path


def family(pids):
    """The child that measures, and its own: one in its group and one that left it."""
    assert wait_until(lambda: pids.exists() and len(pids.read_text().split()) == 3)
    return [int(pid) for pid in pids.read_text().split()]


def parent_of(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.parametrize("isolation", ["zygote", "process"])
def test_a_timeout_kills_the_whole_group(staged, staged_environment, pids, isolation):
    runner = staged(timeout_s=3.0, isolation=isolation)
    assert runner.run({"act": "offspring"}, staged_environment).status == "timeout"
    members = family(pids)
    assert not any(map(alive, members))
    with pytest.raises(ChildProcessError):
        os.waitpid(members[0], os.WNOHANG)  # reaped


@pytest.mark.parametrize("isolation", ["zygote", "process"])
def test_engines_are_imported_on_the_cores_that_are_measured(staged, isolation):
    """OpenMP counts them then, and lets threads spin that it believes to have one each."""
    pytest.importorskip("onnx")
    runner, cores = staged(isolation=isolation), machine.available_cores()
    for wanted in (cores[:1], cores, cores[:1]):
        settings = {"cores": machine.format_cores(wanted)}
        here = Environment("e", engine="staged", network="squeezenet", settings=settings)
        session = runner.run({}, here).provenance["session"]
        assert session["imported_on"] == list(wanted)
    runner.close()


def test_what_a_killed_job_had_started_is_of_its_own(staged, staged_environment):
    runner = staged(timeout_s=3.0)
    runner.run({}, staged_environment)  # what a server has reaped before is not counted again
    for _ in range(2):
        measured = runner.run({"act": "compile"}, staged_environment)
        assert measured.status == "timeout"
        assert 0.3 < measured.provenance["cpu_s"] < 3.3


def test_an_interrupt_kills_the_whole_group(staged, staged_environment, pids):
    with started(PARENT) as parent:
        members = family(pids)
        parent.send_signal(signal.SIGINT)
        assert parent.stdout.readline() == "interrupted\n"
        assert wait_until(lambda: not any(map(alive, members)))


def test_an_answer_that_came_while_the_parent_was_suspended_was_in_time(staged, pids):
    pytest.importorskip("onnx")
    with started(SUSPENDED) as parent:
        assert parent.stdout.readline() == "now\n"
        time.sleep(0.3)
        parent.send_signal(signal.SIGSTOP)
        time.sleep(4.5)
        parent.send_signal(signal.SIGCONT)
        assert parent.stdout.readline() == "ok\n"


def test_a_killed_parent_leaves_no_child(staged, staged_environment, pids):
    with started(PARENT) as parent:
        members = family(pids)
        assert all(map(alive, members))
        parent.kill()
    assert wait_until(lambda: not any(map(alive, members)))


def test_a_killed_server_leaves_nothing_of_the_childs_group(staged, staged_environment, pids):
    with started(PARENT):
        child, stays, leaves = family(pids)
        os.kill(parent_of(child), signal.SIGKILL)
        try:
            assert wait_until(lambda: not alive(child) and not alive(stays))
        finally:
            os.kill(leaves, signal.SIGKILL)  # nobody is left who knows it


def test_the_working_directory_is_not_on_the_path(
    staged, staged_environment, tmp_path, monkeypatch
):
    (tmp_path / "numpy.py").write_text("raise SystemExit('a stray file was imported')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    assert staged().run({}, staged_environment).ok


def test_an_import_is_no_disturbance(staged, staged_environment, monkeypatch):
    launched = []
    original = Zygote._launch
    monkeypatch.setattr(Zygote, "_launch", lambda self: (launched.append("launch"), original(self)))
    watched = bench.use_of
    monkeypatch.setattr(bench, "use_of", lambda cores: (launched.append("look"), watched(cores))[1])
    assert staged().run({}, staged_environment).ok
    first_look = launched.index("look")
    assert "launch" in launched[:first_look]
    assert "launch" not in launched[first_look:]

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bayestl.measure import runner as runner_module
from bayestl.measure.zygote import Zygote

PARENT = """
from bayestl.data.environment import Environment
from bayestl.measure.runner import LocalRunner
runner = LocalRunner(engines={"staged": "staged_engine:Staged"}, timeout_s=120.0)
runner.run({"act": "offspring"}, Environment("e", engine="staged", network="squeezenet"))
"""


def alive(pid):
    """Whether a process runs; one that ended and was not yet reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(condition, seconds=30.0):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


@pytest.fixture
def pids(tmp_path, monkeypatch):
    path = tmp_path / "pids"
    monkeypatch.setenv("STAGED_PIDS", str(path))
    return path


def test_a_timeout_kills_the_whole_group(staged, staged_environment, pids):
    runner = staged(timeout_s=3.0)
    assert runner.run({"act": "offspring"}, staged_environment).status == "timeout"
    child, grandchild = map(int, pids.read_text().split())
    assert wait_until(lambda: not alive(child) and not alive(grandchild))
    with pytest.raises(ChildProcessError):
        os.waitpid(child, os.WNOHANG)  # reaped


def test_an_interrupt_kills_the_whole_group(staged, staged_environment, pids):
    def interrupt(number, frame):
        if pids.exists() and pids.read_text():
            signal.setitimer(signal.ITIMER_REAL, 0)
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
        with pytest.raises(KeyboardInterrupt):
            staged().run({"act": "offspring"}, staged_environment)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    child, grandchild = map(int, pids.read_text().split())
    assert wait_until(lambda: not alive(child) and not alive(grandchild))


def test_a_killed_parent_leaves_no_child(staged, staged_environment, pids):
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT], env={**os.environ, "PYTHONPATH": path}
    )
    try:
        assert wait_until(lambda: pids.exists() and len(pids.read_text().split()) == 2)
        child, grandchild = map(int, pids.read_text().split())
        assert alive(child)
    finally:
        parent.kill()
        parent.wait()
    assert wait_until(lambda: not alive(child) and not alive(grandchild))


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
    watched = runner_module.use_of
    monkeypatch.setattr(
        runner_module, "use_of", lambda cores: (launched.append("look"), watched(cores))[1]
    )
    assert staged().run({}, staged_environment).ok
    first_look = launched.index("look")
    assert "launch" in launched[:first_look]
    assert "launch" not in launched[first_look:]

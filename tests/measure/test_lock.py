import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import pytest

from bayestl.errors import EngineError
from bayestl.measure.lock import device_lock, lock_path


def take_turns(path, names, name, count, both_started):
    both_started.wait(60)
    for _ in range(count):
        with device_lock(30.0, path):
            names.append(name)
            time.sleep(0.02)


def test_a_lock_that_cannot_be_opened_is_told(tmp_path):
    with (
        pytest.raises(EngineError, match="cannot open the lock"),
        device_lock(1.0, tmp_path / "nowhere" / "lock"),
    ):
        pass


@pytest.mark.parametrize("name", ["lock", "device.lock", "device.queue", ".queue"])
def test_a_lock_may_have_any_name(tmp_path, name):
    with device_lock(1.0, tmp_path / name):
        pass


def test_two_campaigns_take_turns(tmp_path):
    """One that takes the lock again at once must not keep another waiting for its end."""
    context = multiprocessing.get_context("spawn")
    path = tmp_path / "device.lock"
    with context.Manager() as manager:
        names, start = manager.list(), manager.Barrier(2)
        processes = [
            context.Process(target=take_turns, args=(path, names, name, 40, start)) for name in "ab"
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join(60)
            assert process.exitcode == 0
        order = list(names)
    assert sum(one != next_one for one, next_one in pairwise(order)) > 20, order


def test_all_sessions_of_all_users_mean_the_same_lock(monkeypatch, tmp_path):
    before = lock_path()
    for variable in ("XDG_RUNTIME_DIR", "TMPDIR", "HOME"):
        monkeypatch.setenv(variable, str(tmp_path))
    tempfile.tempdir = None  # it is asked for anew
    assert lock_path() == before
    monkeypatch.setenv("BAYESTL_LOCK", str(tmp_path / "shared"))
    assert lock_path() == tmp_path / "shared"


ANOTHER_USER = """
import os, sys
from pathlib import Path
from bayestl.errors import EngineError
from bayestl.measure.lock import device_lock
if os.getuid() == 0:
    os.setuid(65534)
try:
    with device_lock(0.1, Path(sys.argv[1])):
        print("taken")
except EngineError as error:
    print(error)
"""


def test_another_user_waits_for_the_same_lock():
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o1777)
        path = Path(name) / "lock"
        script = [sys.executable, "-c", ANOTHER_USER, str(path)]

        def other():
            done = subprocess.run(script, capture_output=True, text=True, check=True)
            return done.stdout.strip()

        umask = os.umask(0o077)
        try:
            with device_lock(1.0, path):
                assert f"process {os.getpid()} has been measuring" in other()
        finally:
            os.umask(umask)
        assert other() == "taken"


def test_a_long_wait_is_told(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("bayestl.measure.lock.PATIENCE_S", 0.05)
    path = tmp_path / "lock"
    with device_lock(1.0, path), pytest.raises(EngineError), device_lock(0.3, path):
        pass
    (told,) = caplog.messages
    assert told == f"waiting for process {os.getpid()}, which is measuring on this machine"


@pytest.mark.parametrize("kind", ["link", "hard link", "folder"])
def test_a_lock_that_stands_for_another_file_is_refused(tmp_path, kind):
    path, victim = tmp_path / "lock", tmp_path / "victim"
    victim.write_text("precious")
    if kind == "folder":
        path.mkdir()
    else:
        (path.symlink_to if kind == "link" else path.hardlink_to)(victim)
    with pytest.raises(EngineError, match="BAYESTL_LOCK"), device_lock(0.1, path):
        pass
    assert victim.read_text() == "precious"

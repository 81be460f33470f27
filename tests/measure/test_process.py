"""Any program under a deadline and limits: how it ends is told, and nothing of it is left."""

import json
import os
import signal
import sys
import textwrap
import time

import pytest

from bayestl.data.measurement import Status
from bayestl.errors import EngineError
from bayestl.measure.process import KEPT_ERRORS, KEPT_OUTPUT, run_process
from tests.processes import alive, started, wait_until

OFFSPRING = """
import os, subprocess, sys, time
children = [subprocess.Popen(["sleep", "600"]),
            subprocess.Popen(["sleep", "600"], start_new_session=True)]
with open(sys.argv[1] + ".partial", "w") as file:
    file.write(" ".join(map(str, [os.getpid(), *(child.pid for child in children)])))
os.rename(sys.argv[1] + ".partial", sys.argv[1])
time.sleep(float(sys.argv[2]))
"""

PARENT = """
import sys, time
from bayestl.measure.process import run_process
try:
    run_process(sys.argv[1:], timeout_s=120.0)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    time.sleep(600)
"""


SUSPENDED = """
import sys
from bayestl.measure.process import run_process
command = ["/bin/sh", "-c", 'touch "$1"; sleep 0.5', "sh", sys.argv[1]]
print(run_process(command, timeout_s=3.0).failure(), flush=True)
"""


def python(code, *arguments, timeout_s=30.0, **limits):
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return run_process(command, timeout_s=timeout_s, **limits)


def family(path):
    return [int(pid) for pid in path.read_text().split()]


@pytest.fixture
def offspring(tmp_path):
    """The command of a program that stays, with children, once it has written their pids."""
    return [sys.executable, "-c", OFFSPRING, str(tmp_path / "pids"), "600"]


def test_a_program_reads_prints_and_ends():
    ended = python("import sys; print(sys.stdin.read()[::-1]); print('e', file=sys.stderr)",
                   stdin=b"abc")  # fmt: skip
    assert (ended.code, ended.output, ended.errors) == (0, b"cba\n", "e")
    assert ended.failure() is None


def test_its_surroundings_are_what_was_asked_for(tmp_path):
    core = min(os.sched_getaffinity(0))
    code = """
        import json, os, signal
        print(json.dumps([os.getcwd(), os.environ.get("COLOUR"), os.environ.get("HOME"),
                          sorted(os.sched_getaffinity(0)), sorted(os.listdir("/proc/self/fd"))]))
    """
    ended = python(code, folder=tmp_path, variables={"COLOUR": "red"}, cores=[core])
    folder, colour, home, cores, descriptors = json.loads(ended.output)
    assert (folder, colour, home, cores) == (str(tmp_path), "red", None, [core])
    assert len(descriptors) == 4  # the three streams, and the folder that is being listed


def test_the_caller_keeps_no_descriptor():
    def descriptors():
        return sorted(os.listdir("/proc/self/fd"))

    before = descriptors()
    python("pass")
    python("import time; time.sleep(60)", timeout_s=0.2)
    with pytest.raises(EngineError):
        run_process(["/no/such/program"], timeout_s=10.0)
    assert descriptors() == before


def test_what_it_used_is_told():
    ended = python("x = bytearray(64 << 20)\nx = sum(range(2_000_000))")
    assert ended.cpu_s > 0
    assert ended.seconds > 0
    assert 64 < ended.peak_mib < 160


def test_much_input_and_output_is_neither_a_deadlock_nor_kept():
    code = """
        import sys
        data = sys.stdin.buffer.read()
        for _ in range(24):
            sys.stdout.buffer.write(data)
        sys.stderr.write("x" * 100_000 + "the end")
    """
    ended = python(code, stdin=b"y" * (1 << 20))
    assert ended.code == 0
    assert len(ended.output) == KEPT_OUTPUT
    assert len(ended.errors) <= KEPT_ERRORS
    assert ended.errors.endswith("the end")


def test_input_that_nobody_reads():
    assert python("pass", stdin=b"y" * (1 << 20)).code == 0


@pytest.mark.parametrize(
    ("code", "status", "message"),
    [
        ("import sys; print('no way', file=sys.stderr); sys.exit(3)", "crash", "code 3: no way"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "crash", "signal 11"),
        ("import sys; sys.exit('CUDA error: out of memory')", "oom", "CUDA error"),
        ("raise MemoryError", "oom", "MemoryError"),
        ("import sys; sys.exit('GPU is lost')", "device_lost", "code 1: GPU is lost"),
    ],
)
def test_every_death_has_a_type(code, status, message):
    failure = python(code).failure()
    assert failure is not None
    assert failure[0] is Status(status)
    assert message in failure[1]


def test_a_memory_limit():
    ended = python("bytearray(1 << 30)", memory_limit_mib=256)
    assert "out of memory" in str(ended.failure())


def test_a_program_that_cannot_be_started(tmp_path):
    (tmp_path / "text").write_text("no program")
    (tmp_path / "text").chmod(0o755)
    for command in ("/no/such/program", str(tmp_path), str(tmp_path / "text")):
        with pytest.raises(EngineError, match=f"cannot start {command}"):
            run_process([command], timeout_s=10.0)
    with pytest.raises(EngineError, match="cannot start"):
        python("pass", folder="/no/such/folder")


def test_the_deadline_ends_all_offspring(tmp_path):
    ended = python(OFFSPRING, tmp_path / "pids", 600, timeout_s=5.0)
    assert ended.timed_out
    assert "killed at its deadline" in str(ended.failure())
    pids = family(tmp_path / "pids")
    assert len(pids) == 3
    assert not any(map(alive, pids))


def test_what_a_program_leaves_behind_ends_with_it(tmp_path):
    ended = python(OFFSPRING, tmp_path / "pids", 0)  # its streams are still open
    assert (ended.code, ended.timed_out) == (0, False)
    assert not any(map(alive, family(tmp_path / "pids")))


def test_an_interrupt_ends_all_offspring(tmp_path, offspring):
    with started(PARENT, *offspring) as caller:
        assert wait_until((tmp_path / "pids").exists)
        caller.send_signal(signal.SIGINT)
        assert caller.stdout.readline() == "interrupted\n"
        assert not any(map(alive, family(tmp_path / "pids")))


def test_a_program_that_ended_while_its_caller_was_suspended_was_in_time(tmp_path):
    with started(SUSPENDED, str(tmp_path / "begun")) as caller:
        assert wait_until((tmp_path / "begun").exists)
        caller.send_signal(signal.SIGSTOP)
        time.sleep(3.5)
        caller.send_signal(signal.SIGCONT)
        assert caller.stdout.readline() == "None\n"


def test_a_killed_caller_leaves_nothing(tmp_path, offspring):
    with started(PARENT, *offspring) as caller:
        assert wait_until((tmp_path / "pids").exists)
        assert all(map(alive, family(tmp_path / "pids")))
        caller.kill()
    assert wait_until(lambda: not any(map(alive, family(tmp_path / "pids"))))

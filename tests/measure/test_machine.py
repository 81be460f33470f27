import os

import pytest

from bayestl.errors import UnknownEnvironment
from bayestl.measure import machine


@pytest.mark.parametrize(
    ("text", "cores"),
    [("0", (0,)), ("0-3", (0, 1, 2, 3)), ("2,0", (0, 2)), ("0-1, 4", (0, 1, 4)), ("1,1", (1,))],
)
def test_cores_are_read(text, cores):
    assert machine.parse_cores(text) == cores
    assert machine.parse_cores(machine.format_cores(cores)) == cores


@pytest.mark.parametrize("text", ["", "a", "-1", "3-1", "0-", "0..3", "0-99999999", "1.0"])
def test_nonsense_is_no_list_of_cores(text):
    with pytest.raises(UnknownEnvironment, match="expected cores such as"):
        machine.parse_cores(text)


def test_cores_are_written_short():
    assert machine.format_cores((0, 1, 2, 5, 7, 8)) == "0-2,5,7-8"


def test_facts_are_found_or_none():
    assert machine.processor()
    assert 1 <= machine.physical_cores() <= (os.cpu_count() or 1)
    assert set(machine.processor_flags()) <= set(machine.FLAGS)
    memory = machine.memory_mib()
    assert memory["total"] > memory["available"] > 0
    assert machine.read_text("/no/such/file") is None
    assert machine.load()["load_average"] >= 0


@pytest.fixture
def groups(tmp_path):
    """A function that writes control groups' files, and what is read from them."""

    def read(fact, membership, files):
        (tmp_path / "cgroup").write_text(membership)
        for place, text in files.items():
            path = tmp_path / "fs" / place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return fact(tmp_path / "fs", tmp_path / "cgroup")

    return read


@pytest.mark.parametrize(
    ("membership", "files", "cores"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "50000 100000\n"}, 0.5),
        ("0::/a\n", {"a/cpu.max": "75000 100000\n", "cpu.max": "200000 100000\n"}, 0.75),
        ("0::/a\n", {"a/cpu.max": "max 100000\n"}, None),
        (
            "3:cpuset:/\n2:cpu,cpuacct:/a\n",
            {"cpu/a/cpu.cfs_quota_us": "200000", "cpu/a/cpu.cfs_period_us": "100000"},
            2.0,
        ),
        (
            "2:cpu:/\n0::/\n",
            {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"},
            None,
        ),
        ("", {}, None),
    ],
)
def test_the_quota_is_the_smallest_of_the_groups(groups, membership, files, cores):
    assert groups(machine.cpu_quota, membership, files) == cores


@pytest.mark.parametrize(
    ("membership", "files", "mib"),
    [
        ("0::/\n", {"memory.max": f"{64 << 20}\n"}, 64),
        ("0::/a/b\n", {"a/b/memory.max": "max\n", "a/memory.max": f"{32 << 20}\n"}, 32),
        ("0::/a\n", {"a/memory.max": f"{16 << 20}\n", "memory.max": f"{8 << 20}\n"}, 8),
        ("4:memory:/a\n", {"memory/a/memory.limit_in_bytes": f"{4 << 20}\n"}, 4),
        ("4:memory:/a\n", {"memory/memory.limit_in_bytes": "9223372036854771712\n"}, None),
        ("", {}, None),
    ],
)
def test_the_memory_limit_is_the_smallest_of_the_groups(groups, membership, files, mib):
    assert groups(machine.memory_limit, membership, files) == mib


def test_a_machine_is_told_from_its_namesake(monkeypatch):
    today = machine.identity((0,))
    assert machine.processor() in today
    assert "cores 0 of" in today
    assert machine.identity((0,)) == today
    for fact, value in (
        ("processor_flags", ("avx2",)),
        ("hardware", {"kernel": "Linux 99"}),
        ("governor", "userspace"),
        ("turbo", not machine.turbo()),
        ("cpu_quota", 0.25),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(machine, fact, lambda *_, value=value: value)
            assert machine.identity((0,)) != today, fact


def test_variables_that_change_times_are_found(monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    monkeypatch.setenv("LD_PRELOAD", "")
    monkeypatch.setenv("OMPHALOS", "navel")
    found = machine.variables()
    assert found["OMP_WAIT_POLICY"] == "active"
    assert "LD_PRELOAD" in found
    assert not {"OMPHALOS", "PATH"} & found.keys()

import pytest

from bayestl.data.environment import Environment
from bayestl.errors import EngineUnavailable
from bayestl.measure import allocator


@pytest.fixture(autouse=True)
def _unset(monkeypatch):
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)


@pytest.mark.parametrize(
    ("threshold", "huge", "expected"),
    [
        ("dynamic", False, {}),
        ("dynamic", True, {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}),
        (
            "64KiB",
            False,
            {
                "GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=65536"
                ":glibc.malloc.trim_threshold=524288"
            },
        ),
    ],
)
def test_the_variables_of_a_configuration(threshold, huge, expected):
    configuration = {"malloc_mmap_threshold": threshold, "malloc_hugetlb": huge}
    assert allocator.variables(configuration) == expected


def test_what_is_set_already_stays(monkeypatch):
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.pthread.rseq=0")
    configuration = {"malloc_mmap_threshold": "dynamic", "malloc_hugetlb": True}
    tunables = allocator.variables(configuration)["GLIBC_TUNABLES"]
    assert tunables == "glibc.pthread.rseq=0:glibc.malloc.hugetlb=1"


@pytest.mark.parametrize("found", [("glibc", "2.31"), ("", "")])
def test_another_library_is_refused(monkeypatch, found):
    monkeypatch.setattr(allocator.platform, "libc_ver", lambda: found)
    with pytest.raises(EngineUnavailable, match=r"glibc 2\.35 or later"):
        allocator.check()


def test_each_setting_has_a_process_of_its_own(staged, staged_environment):
    try:
        allocator.check()
    except EngineUnavailable as error:
        pytest.skip(str(error))
    runner = staged(allocator=True)
    assert set(runner.space(staged_environment).names) == {"act", *allocator.OPTIONS}
    for huge in (False, True):
        measured = runner.run({"act": "work", "malloc_hugetlb": huge}, staged_environment)
        assert measured.ok, measured.message
        tunables = measured.provenance["session"]["tunables"]
        assert tunables == ("glibc.malloc.hugetlb=1" if huge else None)
    plain = staged()
    environment = Environment("plain", engine="staged", network="squeezenet")
    assert not plain.run({"malloc_hugetlb": True}, environment).ok

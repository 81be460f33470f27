"""What a benchmark stores beside its numbers."""

from benchmarks.apart import setting


def test_a_result_is_stored_with_how_it_came_about():
    known = setting("python -m benchmarks.some")
    assert list(known) == ["command", "commit", "machine"]
    assert known["command"] == "python -m benchmarks.some"
    assert all(known.values())

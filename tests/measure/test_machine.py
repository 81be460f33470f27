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

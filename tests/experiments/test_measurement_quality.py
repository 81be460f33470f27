"""Whether measurements can be trusted: what is stored, from measurements that are staged here."""

import json
import sys
from types import SimpleNamespace

import pytest

from bayestl.data.options import Integer
from bayestl.data.space import ConfigSpace
from experiments import measurement_quality as quality
from experiments.measurement_quality import Cost, Repeats, Zygote

SPACE = ConfigSpace({"threads": Integer(1, 64)})


class Runner:
    """A machine on which every measurement is disturbed."""

    def __init__(self, **settings):
        pass

    def space(self, environment):
        return SPACE

    def run(self, configuration, environment):
        return SimpleNamespace(
            ok=True, values={"latency": configuration["threads"]}, provenance={"disturbed": True}
        )


@pytest.fixture(autouse=True)
def staged(monkeypatch):
    monkeypatch.setattr(quality, "LocalRunner", Runner)


@pytest.mark.parametrize(
    ("options", "asked", "times"), [([], 30, (8, 7)), (["--quick"], 3, (2, 2))]
)
def test_what_was_found_is_stored(options, asked, times, monkeypatch, tmp_path):
    def compared(forked, fresh, environment, configurations, turns):
        assert (len(configurations), turns) == (asked, times[1])
        return Zygote(asked, 0.9, 1.0, 0.8, float("nan")), Cost(asked, 0.1, 0.2, 1.0)

    def repeated(protocol, environment, configurations, neighbour, count):
        assert count == times[0]
        return Repeats(neighbour, 11.0, 10.0, 0, 0)

    monkeypatch.setattr(quality, "compare_isolation", compared)
    monkeypatch.setattr(quality, "repeat", repeated)
    monkeypatch.setattr(quality, "against_loadgen", lambda *_: None)
    file = tmp_path / "found.json"
    monkeypatch.setattr(sys, "argv", ["measurement_quality", "--json", str(file), *options])
    quality.main()
    found = json.loads(file.read_text())
    assert found["zygote"]["fresh_turns"] is None
    assert [each["neighbour"] for each in found["repeats"]] == [False, True]
    assert found["loadgen"] is None
    assert found["machine"]["cores"]
    assert {"command", "commit", "date"} <= found.keys()


def test_a_machine_that_is_never_quiet_is_told(monkeypatch):
    with pytest.raises(SystemExit, match="disturbed; ask again on a quiet machine"):
        quality.compare_isolation(Runner(), Runner(), None, [{"threads": n} for n in (1, 2, 3)], 2)

import pandas as pd
import pytest

from bayestl.data.environment import Environment
from bayestl.data.measurement import Status
from bayestl.data.options import Boolean, Integer
from bayestl.data.table import MeasurementTable
from bayestl.errors import EngineError, UnknownEnvironment
from bayestl.measure.replay import ReplayRunner

ROWS = [
    ("board", 1, False, "ok", 10.0, 1.0),
    ("board", 1, False, "ok", 11.0, None),
    ("board", 2, True, "crash", None, None),
    ("board", 2, True, "ok", 7.0, 0.7),
    ("server", 1, False, "ok", 3.0, 0.3),
]
BOARD, SERVER = Environment("board", hardware="small"), Environment("server")


@pytest.fixture
def runner():
    columns = ["environment", "threads", "spin", "status", "latency", "energy"]
    table = MeasurementTable.from_frame(
        pd.DataFrame(ROWS, columns=columns),
        options={"threads": Integer(1, 4), "spin": Boolean()},
        metrics={"latency": "ms", "energy": "J"},
        environments=[BOARD],
        status="status",
    )
    return ReplayRunner(table)


def test_repeats_come_in_turn_and_then_again(runner):
    one = {"threads": 1, "spin": False}
    found = [runner.run(one, BOARD).values for _ in range(3)]
    assert found == [{"latency": 10.0, "energy": 1.0}, {"latency": 11.0}, found[0]]
    assert runner.run(one, SERVER).values == {"latency": 3.0, "energy": 0.3}


def test_failures_are_replayed(runner):
    first, second = (runner.run({"threads": 2, "spin": True}, BOARD) for _ in range(2))
    assert first.status is Status.CRASH
    assert not first.values
    assert "recorded as crash" in first.message
    assert second.values["latency"] == 7.0


def test_a_fresh_runner_begins_with_the_first_repeat(runner):
    one = {"threads": 1, "spin": False}
    first = runner.run(one, BOARD)
    again = ReplayRunner(runner.table).run(one, BOARD)
    assert first.values == again.values
    assert again.provenance == {"replayed_row": 0}


def test_what_was_never_measured_cannot_be_replayed(runner):
    with pytest.raises(EngineError, match="never measured in 'server'"):
        runner.run({"threads": 2, "spin": True}, SERVER)
    with pytest.raises(UnknownEnvironment, match="unknown environment 'phone'"):
        runner.run({"threads": 1}, Environment("phone"))


def test_the_configurations_are_known(runner):
    assert runner.configurations(BOARD).to_dict("list") == {
        "threads": [1, 2],
        "spin": [False, True],
    }
    for configuration in runner.space(BOARD).records(runner.configurations(BOARD)):
        runner.run(configuration, BOARD)
    assert runner.describe(Environment("board")) == BOARD

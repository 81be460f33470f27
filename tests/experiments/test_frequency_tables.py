"""Boards that offer different clocks: what a scale means, and who is told."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from bayestl.models.sequential.placing import PRIOR
from bayestl.models.transfer_gp import TransferGP
from experiments.frequency_tables import BOARDS, METHODS, Untold, measured, scenario, summarise


def test_boards_declare_what_they_are_measured_at():
    table = measured("fraction", 0)
    for board, offered in BOARDS.items():
        assert dict(table.environment(board).levels) == offered
        for option, levels in offered.items():
            assert set(table.of(board).frame[option]) == set(levels)


@pytest.mark.parametrize("scale", PRIOR)
def test_a_board_is_faster_at_a_higher_clock(scale):
    frame = measured(scale, 1).of("large").frame
    slow = frame["gpu_mhz"] < 500
    assert frame["latency"][slow].mean() > frame["latency"][~slow].mean()


def test_only_one_method_is_told():
    split = scenario("fraction").split(0)
    table = split.train(range(10))
    told, untold = (m.fit(table, metric="latency", target="large") for m in METHODS.values())
    assert told.first.diagnostics.details["scales"].keys() == {"gpu_mhz", "memory_mhz"}
    assert untold.first.diagnostics.details["scales"] == {}
    bare = replace(table, environments=tuple(replace(e, levels={}) for e in table.environments))
    expected = TransferGP().fit(bare, metric="latency", target="large")
    found = Untold().fit(table, metric="latency", target="large")
    np.testing.assert_array_equal(
        found.predict(split.test.frame), expected.predict(split.test.frame)
    )


def test_errors_are_geometric_means_and_coverages_are_means():
    frame = pd.DataFrame({"group": "by rank", "budget": 5, "method": list(METHODS) * 2})
    found = summarise(frame.assign(mape=[1.0, 2.0, 4.0, 8.0], coverage90=[0.8, 1.0, 0.9, 1.0]))
    assert found.loc[("by rank", 5, "levels known")].tolist() == pytest.approx([2.0, 0.85])
    assert found.loc[("by rank", 5, "not known")].tolist() == pytest.approx([4.0, 1.0])

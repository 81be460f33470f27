"""The transfer on the demo's table: who is given what, and the table of means."""

import pandas as pd
import pytest

from bayestl.data.table import ENVIRONMENT
from experiments.interval_coverage import BUDGETS, SOURCE_ROWS, Demo, summarise


def test_every_measurement_of_the_target_is_offered_or_judged_on_once():
    one, other = (Demo().split(seed) for seed in (0, 1))
    assert len(one.sources) == SOURCE_ROWS
    assert len(one.pool) == max(BUDGETS)
    assert set(one.test.frame[ENVIRONMENT]) == set(one.pool.frame[ENVIRONMENT]) == {one.target}
    both = [
        sorted(pd.concat([split.pool.frame, split.test.frame])["latency"]) for split in (one, other)
    ]
    assert both[0] == both[1]
    assert not one.pool.frame.equals(other.pool.frame)
    assert one.digest == Demo().split(0).digest


def test_a_row_is_the_mean_over_the_seeds_and_the_deviation_between_them():
    frame = pd.DataFrame({"budget": 5, "method": "A", "coverage90": [0.8, 1.0], "mape": [10, 10]})
    found = summarise(frame.assign(median_ape=[1.0, 3.0])).loc[(5, "A")]
    assert found["coverage90_mean"] == pytest.approx(0.9)
    assert found["coverage90_std"] == pytest.approx(0.2 / 2**0.5)
    assert (found["mape_std"], found["median_ape_mean"]) == (0, 2)

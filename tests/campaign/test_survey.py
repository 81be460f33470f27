from itertools import pairwise

import pytest

from bayestl.campaign.survey import Survey, interleaved
from bayestl.data.environment import Environment
from bayestl.data.measurement import Metric
from bayestl.data.options import Integer
from bayestl.data.space import ConfigSpace
from bayestl.errors import CampaignError, TableError


def test_repeats_are_passes_in_orders_of_their_own():
    configurations = [{"x": value} for value in range(6)]
    order = [c["x"] for c in interleaved(configurations, 4, seed=3)]
    passes = [order[k : k + 6] for k in range(0, 24, 6)]
    assert all(sorted(one) == list(range(6)) for one in passes)
    assert len({tuple(one) for one in passes}) > 1
    assert all(one != other for one, other in pairwise(order))
    assert order == [c["x"] for c in interleaved(configurations, 4, seed=3)]


def test_there_is_at_least_one_repeat():
    with pytest.raises(CampaignError, match="at least 1 repeat"):
        interleaved([{"x": 1}], 0)


def test_an_option_named_as_a_metric_is_refused_before_anything_is_measured():
    space = ConfigSpace({"latency": Integer(1, 8)})
    with pytest.raises(TableError, match="duplicate column 'latency'"):
        Survey(space, Environment("e"), [Metric("latency", "ms")], [{"latency": 1}])

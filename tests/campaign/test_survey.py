from itertools import pairwise

import pytest

from bayestl.campaign.survey import interleaved
from bayestl.errors import CampaignError


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

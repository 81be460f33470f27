import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bayestl.data.options import Boolean, Categorical, Integer, Ordinal, Real
from bayestl.data.space import ConfigSpace
from bayestl.models.encoding import Encoding
from tests.strategies import configurations, spaces


@given(st.data())
def test_every_configuration_has_finite_features_in_the_unit_cube(data: st.DataObject) -> None:
    space = data.draw(spaces())
    configs = data.draw(st.lists(configurations(space), min_size=1, max_size=5))
    encoding = Encoding(space)
    features = encoding.encode(space.frame(configs))
    assert features.shape == (len(configs), encoding.width)
    assert features.dtype == torch.float64
    assert bool(((features >= 0) & (features <= 1)).all())


@given(st.data())
def test_equal_features_mean_equal_configurations(data: st.DataObject) -> None:
    space = data.draw(spaces(finite=True))
    a, b = data.draw(configurations(space)), data.draw(configurations(space))
    features = Encoding(space).encode(space.frame([a, b]))
    assert torch.equal(features[0], features[1]) == (space.key(a) == space.key(b))


def encoded(option, *values) -> np.ndarray:
    space = ConfigSpace({"x": option})
    return Encoding(space).encode(space.frame([{"x": v} for v in values])).numpy()


def test_numbers_are_scaled_over_the_domain():
    assert encoded(Real(10, 30), 10, 15, 30)[:, 0] == pytest.approx([0, 0.25, 1])
    assert encoded(Integer(0, 20), 0, 5)[:, 0] == pytest.approx([0, 0.25])


def test_logarithms_serve_where_the_option_or_its_levels_ask():
    assert encoded(Real(1, 100, log=True), 10)[0, 0] == pytest.approx(0.5)
    assert encoded(Ordinal((1, 10, 1000)), 10)[0, 0] == pytest.approx(1 / 3)
    assert encoded(Ordinal((0, 10, 1000)), 10)[0, 0] == pytest.approx(0.01)


def test_text_levels_are_ranks_and_choices_are_equally_far_apart():
    assert encoded(Ordinal(("low", "mid", "high")), "mid")[0, 0] == pytest.approx(0.5)
    features = encoded(Categorical(("a", "b", "c")), "a", "b", "c")
    apart = np.linalg.norm(features[:, None] - features[None], axis=-1)
    assert apart == pytest.approx(1 - np.eye(3))


def test_a_numeric_option_with_few_levels_is_seen_in_both_ways():
    groups = Encoding(ConfigSpace({"x": Ordinal((1, 2, 4))})).groups
    assert [(g.name, g.choice) for g in groups] == [("x", False), ("x (levels)", True)]
    assert len(Encoding(ConfigSpace({"x": Integer(1, 100)})).groups) == 1
    assert [g.choice for g in Encoding(ConfigSpace({"x": Boolean()})).groups] == [True]


def test_an_option_with_one_level_has_no_column():
    assert encoded(Ordinal((7,)), 7).shape == (1, 0)


def test_what_is_not_active_is_told_apart_from_every_value():
    space = ConfigSpace({"on": Boolean(), "level": Real(0, 1)}, conditions={"level": "on == true"})
    features = Encoding(space).encode(space.frame([{"on": False}, {"on": True, "level": 0.5}]))
    level = features[:, 1:]
    assert level[0].tolist() == pytest.approx([0.5, np.sqrt(0.5)])
    assert level[1].tolist() == pytest.approx([0.5, 0.0])

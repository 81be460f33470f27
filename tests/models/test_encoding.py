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


def test_logarithms_serve_where_the_option_asks():
    assert encoded(Real(1, 100, log=True), 10)[0, 0] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("levels", "level", "position"),
    [
        ((1, 10, 1000), 10, 1 / 3),
        ((1, 2, 4, 8, 16), 4, 0.5),
        ((0, 8, 16, 32, 64), 16, np.log(3) / np.log(9)),  # as 8, 16, 24, 40 and 72
        ((0, 1, 1000), 1, np.log(2) / np.log(1001)),
        ((10, 20, 30, 40), 20, 1 / 3),
        ((1, 50, 100, 150, 200), 100, 99 / 199),
        ((0, 3, 4), 3, 0.75),
        ((-1, 2, 5000), 2, 3 / 5001),
        ((1, 100), 100, 1.0),
    ],
)
def test_levels_lie_on_the_scale_on_which_they_are_evenly_spaced(levels, level, position):
    ends = encoded(Ordinal(levels), levels[0], level, levels[-1])[:, 0]
    assert ends == pytest.approx([0.0, position, 1.0])


def test_levels_that_floating_point_can_hardly_tell_apart_keep_their_order():
    for levels in ((1.0, 1.0 + 1e-15, 1.0 + 2e-15), (1e-320, 2e-320, 1e300)):
        features = encoded(Ordinal(levels), *levels)[:, 0]
        assert np.isfinite(features).all()
        assert (np.diff(features) >= 0).all()
        assert features.min() >= 0
        assert features.max() <= 1


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

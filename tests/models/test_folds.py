import numpy as np

from bayestl.data.table import ENVIRONMENT
from bayestl.models.folds import repeat_weights, target_folds


def test_every_target_row_is_held_out_once_and_repeats_together(make_table):
    table = make_table({"source": (5, 1.0, 0.0), "target": (9, 1.0, 0.5)})
    table = table.select([*range(14), 6, 6, 13])
    splits = list(target_folds(table, "target", 4, seed=1))
    assert len(splits) == 4
    held = np.concatenate([held for _, held in splits])
    assert sorted(held) == list(range(5, 17))
    assert (table.frame[ENVIRONMENT].iloc[held] == "target").all()
    for kept, held in splits:
        assert sorted([*kept, *held]) == list(range(17))
        assert len({14, 15, 6} & set(held)) in (0, 3)


def test_no_more_folds_than_configurations(make_table):
    table = make_table({"source": (5, 1.0, 0.0), "target": (3, 1.0, 0.5)})
    assert len(list(target_folds(table, "target", 10, seed=0))) == 3
    assert not list(target_folds(table.without("target"), "target", 10, seed=0))


def test_repeats_share_the_weight_of_their_configuration(make_table):
    table = make_table({"target": (3, 1.0, 0.5)}).select([0, 1, 1, 2, 1])
    np.testing.assert_array_equal(repeat_weights(table), [1, 1 / 3, 1 / 3, 1, 1 / 3])

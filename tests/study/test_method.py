"""How a method spends its budget on a pool."""

from dataclasses import dataclass, replace
from typing import get_args

import numpy as np
import pandas as pd
import pytest

from bayestl.acquisition.variance import PosteriorVariance
from bayestl.baselines.mean import Mean
from bayestl.data.sampling import Method as SampleName
from bayestl.errors import SpaceError, StudyError
from bayestl.models.gp import TargetOnlyGP
from bayestl.models.sequential.sequential_gp import SequentialGP
from bayestl.study.method import Active, Designed, InOrder
from bayestl.transfer.guided_sampling import GuidedSampling
from tests.staged_study import scenario

SPLIT = scenario().split(0)


@dataclass(frozen=True)
class Wanted:
    """Asks for given configurations."""

    rows: tuple[tuple[int, int], ...]

    def design(self, table, *, metric, target, n, seed=0):
        assert not len(table.of(target))
        assert len(table.of("known"))
        return pd.DataFrame(self.rows[:n], columns=["threads", "batch"])


def test_in_order_takes_the_first():
    assert InOrder().choose(Mean(), SPLIT, (0, 2, 4), 0) == [[], [0, 1], [0, 1, 2, 3]]


def test_a_design_takes_the_nearest_of_the_pool():
    pool = SPLIT.pool.configurations()
    wanted = tuple(pool.iloc[[5, 3]].itertuples(index=False, name=None))
    [two, four] = Designed().choose(Wanted(wanted), SPLIT, (2, 4), 0)
    assert two == [5, 3]
    assert four == [5, 3, 0, 1]
    [twice] = Designed().choose(Wanted((wanted[0], wanted[0])), SPLIT, (2,), 0)
    assert twice[0] == 5
    assert len(set(twice)) == 2


def test_a_model_may_be_given_what_another_recipe_designs():
    pool = SPLIT.pool.configurations()
    wanted = Wanted(tuple(pool.iloc[[5, 3]].itertuples(index=False, name=None)))
    assert Designed(wanted).choose(Mean(), SPLIT, (2,), 0) == [[5, 3]]


@pytest.mark.parametrize("name", [*get_args(SampleName), "plackett_burman", "central_composite"])
def test_a_design_by_name_knows_of_no_model(name):
    rows = Designed(name).choose(Mean(), SPLIT, (3, 7), 0)
    assert [len(set(each)) for each in rows] == [3, 7]
    assert rows == Designed(name).choose(GuidedSampling(), SPLIT, (3, 7), 0)
    assert rows != Designed(name).choose(Mean(), SPLIT, (3, 7), 1)


def test_a_design_by_name_measures_near_the_ends():
    pool = SPLIT.pool.configurations()
    [rows] = Designed("plackett_burman").choose(Mean(), SPLIT, (4,), 0)
    ends = {(threads, batch) for threads in (1, 32) for batch in (1, 5)}
    near = {tuple(pool.iloc[row]) for row in rows}
    assert near & ends == ends & set(pool.itertuples(index=False, name=None))


def test_what_a_design_lacks_is_told():
    with pytest.raises(SpaceError, match="at least 3 options"):
        Designed("box_behnken").choose(Mean(), SPLIT, (3,), 0)


@pytest.mark.parametrize("name", ["sobol ", "cube"])
def test_an_unknown_design_is_refused(name):
    with pytest.raises(StudyError, match="plackett_burman"):
        Designed(name).choose(Mean(), SPLIT, (3,), 0)


def test_a_design_needs_a_model_that_has_one():
    with pytest.raises(StudyError, match="GuidedSampling"):
        Designed().choose(Mean(), SPLIT, (2,), 0)


@pytest.mark.parametrize(
    ("model", "initial"), [(SequentialGP(), 0), (TargetOnlyGP(), 3)], ids=["transfer", "alone"]
)
def test_an_active_learner_asks_for_distinct_rows(model, initial):
    active = Active(PosteriorVariance(), initial=initial, batch=2)
    few, more = active.choose(model, SPLIT, (4, 7), 0)
    assert more[:4] == few
    assert len(set(more)) == 7
    assert more[:initial] == list(range(initial))


def test_an_active_learner_measures_repeats_last():
    pool = SPLIT.pool.select([0, 1, 0, 2, 1])
    active = Active(PosteriorVariance(), batch=2)
    [few, every] = active.choose(SequentialGP(), replace(SPLIT, pool=pool), (3, 5), 0)
    assert sorted(few) == [0, 1, 3]
    assert every == [*few, 2, 4]


def test_an_active_learner_fits_its_sources_once():
    @dataclass(frozen=True)
    class Counted:
        fits: list[int]

        def fit(self, table, *, metric, target, seed=0):
            self.fits.append(len(table.of(target)))
            return SequentialGP().fit(table, metric=metric, target=target, seed=seed)

    counted = Counted([])
    active = Active(PosteriorVariance(), batch=1)
    assert active.choose(counted, SPLIT, (4,), 0) == active.choose(SequentialGP(), SPLIT, (4,), 0)
    assert counted.fits == [0]


def test_an_active_learner_sees_only_what_it_asked_for():
    active = Active(PosteriorVariance(), SequentialGP(), batch=2)
    [rows] = active.choose(Mean(), SPLIT, (4,), 0)
    frame = SPLIT.pool.frame.copy()
    unseen = np.setdiff1d(np.arange(len(frame)), rows[:2])
    frame.loc[unseen, "latency"] *= 100
    other = replace(SPLIT, pool=replace(SPLIT.pool, frame=frame))
    assert active.choose(Mean(), other, (4,), 0) == [rows]

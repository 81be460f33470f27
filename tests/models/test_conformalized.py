from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest
from scipy.special import ndtri
from sklearn.svm import SVR

from bayestl.data.environment import Environment
from bayestl.data.measurement import Metric
from bayestl.data.options import Real
from bayestl.data.space import ConfigSpace
from bayestl.data.table import MeasurementTable
from bayestl.errors import FileError, FitError, UnknownEnvironment
from bayestl.models.conformalized import CENTRAL, Conformal, FittedConformal
from bayestl.models.gp import MultiTaskGP
from bayestl.models.model import Diagnostics
from bayestl.models.scaling import quantile_column
from bayestl.models.transfer_gp import TransferGP

SPACE = ConfigSpace({"x": Real(0, 1)})


@dataclass(frozen=True)
class FittedLevel:
    """The mean of what it saw, and a standard deviation that grows with x but is wrong."""

    level: float
    metric: Metric
    target: str
    spread: float
    log: bool
    rows: int
    space: ConfigSpace = SPACE

    @property
    def diagnostics(self):
        transform = "log" if self.log else "identity"
        return Diagnostics("Level()", 0, self.rows, details={"transform": transform})

    def predict(self, configs, environment=None, quantiles=(0.05, 0.5, 0.95)):
        if environment not in (None, self.target, "other"):
            raise UnknownEnvironment(environment)
        frame = self.space.frame(configs)
        deviation = self.spread * (0.5 + frame["x"].astype(float))
        ends = {quantile_column(q): self.level + ndtri(q) * deviation for q in quantiles}
        result = pd.DataFrame(ends, index=frame.index)
        return np.exp(result) if self.log else result


@dataclass(frozen=True)
class Level:
    """Recipe of `FittedLevel`."""

    spread: float = 1.0
    log: bool = False

    def fit(self, table, *, metric, target, seed=0):
        values = table.of(target).usable(metric).frame[metric].to_numpy(float)
        level = np.log(values).mean() if self.log else values.mean()
        return FittedLevel(level, Metric(metric), target, self.spread, self.log, len(values))


def table(n: int, seed: int = 0, log: bool = False) -> MeasurementTable:
    rng = np.random.default_rng(seed)
    x = rng.random(n)
    y = 3 + (0.5 + x) * rng.normal(size=n)
    frame = pd.DataFrame({"x": x, "y": np.exp(y) if log else y})
    return MeasurementTable.from_frame(
        frame, options=SPACE, environment=Environment("t"), metrics={"y": "s"}
    )


def fit(recipe, data):
    return recipe.fit(data, metric="y", target="t")


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("spread", [0.2, 5.0])
@pytest.mark.parametrize("split", [None, 0.5])
def test_intervals_cover_whatever_the_model_thinks(spread, split, log):
    inside = []
    for seed in range(12):
        fitted = fit(Conformal(Level(spread, log), folds=4, split=split), table(50, seed, log))
        new = table(100, 1000 + seed, log).frame
        predicted = fitted.predict(new[["x"]])
        inside += ((predicted["q05"] <= new["y"]) & (new["y"] <= predicted["q95"])).tolist()
    assert np.mean(inside) == pytest.approx(0.9, abs=0.04)


def test_wide_stays_wide_and_narrow_narrow():
    fitted = fit(Conformal(Level(0.1)), table(60))
    predicted = fitted.predict([{"x": 0.0}, {"x": 1.0}])
    width = predicted["q95"] - predicted["q05"]
    assert width[1] == pytest.approx(3 * width[0], rel=0.1)
    assert (predicted["q50"] == fitted.fitted.predict([{"x": 0.0}, {"x": 1.0}])["q50"]).all()


def test_the_ends_are_those_of_cv_plus():
    data = table(12)
    fitted = fit(Conformal(Level(), folds=4), data)
    at = pd.DataFrame({"x": [0.3]})
    upper, lower, held = [], [], 0
    for member, scores in zip(fitted.members, fitted.scores, strict=True):
        low, middle, high = member.predict(at, quantiles=CENTRAL).to_numpy(float)[0]
        upper += [middle + s * (high - middle) for s in scores]
        lower += [middle - s * (middle - low) for s in scores]
        held += len(scores)
        assert member.rows == 9
    assert held == 12
    predicted = fitted.predict(at, quantiles=(0.1, 0.9))
    rank = int(np.ceil(0.8 * 13)) - 1
    assert predicted["q90"].iloc[0] == pytest.approx(sorted(upper)[rank])
    assert predicted["q10"].iloc[0] == pytest.approx(sorted(lower, reverse=True)[rank])


def test_a_level_that_the_points_cannot_reach_is_the_models_own_and_said_to_be():
    wide, narrow = (fit(Conformal(Level(spread)), table(6)) for spread in (9.0, 0.01))
    assert any("at most 86 %" in warning for warning in wide.diagnostics.warnings)
    own = wide.fitted.predict([{"x": 0.5}])
    assert wide.predict([{"x": 0.5}])["q95"].iloc[0] == pytest.approx(own["q95"].iloc[0])
    ends = narrow.predict([{"x": 0.5}], quantiles=(0.05, 0.15, 0.85, 0.95)).to_numpy(float)[0]
    assert ends[0] <= ends[1] < ends[2] <= ends[3]
    assert ends[3] - ends[0] > 1
    assert not fit(Conformal(Level()), table(9)).diagnostics.warnings


def repeated(data: MeasurementTable, *times: int) -> MeasurementTable:
    """The table with each of its rows so many times."""
    return data.select(np.repeat(np.arange(len(data)), times))


@pytest.mark.parametrize("split", [None, 0.5])
def test_repeats_that_show_the_same_change_no_interval(split):
    data, recipe = table(14), Conformal(Level(), folds=4, split=split)
    once, often = fit(recipe, data), fit(recipe, repeated(data, 10))
    at = pd.DataFrame({"x": [0.1, 0.9]})
    levels = (0.02, 0.05, 0.2, 0.5, 0.8, 0.95)
    expected, got = once.predict(at, quantiles=levels), often.predict(at, quantiles=levels)
    np.testing.assert_allclose(got, expected, rtol=1e-9)
    assert often.points == 10 * once.points
    assert often.configurations == once.configurations
    details = [each.diagnostics.details["conformal"] for each in (once, often)]
    assert details[1]["widening"] == pytest.approx(details[0]["widening"])


def test_a_configuration_that_was_repeated_often_is_no_typical_one():
    data = repeated(table(11), *[50, *[1] * 10])
    fitted = fit(Conformal(Level(), folds=11), data)
    each = sorted(scores[0] for scores in fitted.scores)
    assert fitted.diagnostics.details["conformal"]["widening"] == pytest.approx(each[5])


def test_each_configuration_weighs_the_same_in_the_ends():
    times = [1, 30, 1, 2, 1, 3, 1, 1, 5, 1]
    fitted = fit(Conformal(Level(), folds=10), repeated(table(10), *times))
    at = pd.DataFrame({"x": [0.3]})
    ends = []
    for member, scores in zip(fitted.members, fitted.scores, strict=True):
        _, middle, high = member.predict(at, quantiles=CENTRAL).to_numpy(float)[0]
        ends.append(middle + scores[0] * (high - middle))  # each fold holds one configuration out
    end = fitted.predict(at, quantiles=(0.9,))["q90"].iloc[0]
    assert end == pytest.approx(sorted(ends)[int(np.ceil(0.8 * 11)) - 1])


def test_two_configurations_are_two_however_often_they_were_measured():
    fitted = fit(Conformal(Level()), repeated(table(2), 10))
    details = fitted.diagnostics.details["conformal"]
    assert (details["points"], details["configurations"]) == (20, 2)
    assert details["widest_level"] == pytest.approx(2 / 3)
    assert any("2 configurations" in warning for warning in fitted.diagnostics.warnings)


def test_a_state_keeps_what_repeats_weigh_and_an_older_one_had_no_weights():
    fitted = fit(Conformal(Level(), folds=3), repeated(table(6), *range(1, 7)))
    state = fitted.to_state()
    at = pd.DataFrame({"x": [0.3]})
    kept = FittedConformal.from_state(state)
    pd.testing.assert_frame_equal(kept.predict(at), fitted.predict(at), check_exact=True)
    assert kept.configurations == 6
    older = {name: a for name, a in state.arrays.items() if not name.startswith("weights.")}
    assert FittedConformal.from_state(replace(state, arrays=older)).configurations == 21
    for wrong in (0.0, -1.0, 1.5, np.nan):
        damaged = {**state.arrays, "weights.1": np.full(len(fitted.scores[1]), wrong)}
        with pytest.raises(FileError, match=r"weights\.1"):
            FittedConformal.from_state(replace(state, arrays=damaged))
    with pytest.raises(FileError, match="shape"):
        FittedConformal.from_state(replace(state, arrays={**older, "weights.0": np.ones(1)}))


def test_one_point_leaves_the_model_as_it_is():
    fitted = fit(Conformal(Level()), table(1))
    assert fitted.points == 0
    assert any("0 configurations" in warning for warning in fitted.diagnostics.warnings)
    at = pd.DataFrame({"x": [0.1, 0.9]})
    pd.testing.assert_frame_equal(fitted.predict(at), fitted.fitted.predict(at))


def test_a_split_fits_once_and_answers_with_that():
    fitted = fit(Conformal(Level(), split=0.25), table(40))
    assert fitted.points == 10
    assert fitted.fitted is fitted.members[0]
    assert fitted.diagnostics.n_target == 30


def test_another_environment_is_the_models_own():
    fitted = fit(Conformal(Level(0.01)), table(20))
    at = pd.DataFrame({"x": [0.1, 0.9]}, index=["a", "b"])
    pd.testing.assert_frame_equal(fitted.predict(at, "other"), fitted.fitted.predict(at, "other"))
    assert fitted.predict(at).index.equals(at.index)
    assert fitted.predict(at.iloc[:0]).shape == (0, 3)
    with pytest.raises(UnknownEnvironment):
        fitted.predict(at, "moon")


def test_a_value_that_is_not_positive_and_held_out_for_good_is_no_logarithm():
    data = table(30, log=True)
    recipe = Conformal(Level(log=True), split=0.9)
    held = [i for i in range(30) if i not in recipe._parts(data, "t", 0)[0][0]]
    data.frame.loc[held[0], "y"] = 0.0
    fitted = fit(recipe, data)
    assert not fitted.log
    assert np.isfinite(fitted.predict(data.configurations()).to_numpy()).all()


def test_a_process_may_be_wrapped(make_table, make_test):
    data = make_table({"source": (20, 1.0, 0.0), "target": (10, 1.0, 0.5)})
    fitted = Conformal(MultiTaskGP(), folds=2).fit(data, metric="latency", target="target")
    assert fitted.diagnostics.details["conformal"]["fits"] == 2
    assert fitted.diagnostics.n_target == 10
    assert "Conformal" in fitted.diagnostics.model
    configs, _ = make_test(shift=0.5)
    predicted = fitted.predict(configs)
    assert (predicted["q05"] < predicted["q50"]).all()
    assert (predicted["q50"] < predicted["q95"]).all()


def test_configurations_may_come_from_a_generator():
    fitted, at = fit(Conformal(Level()), table(20)), [{"x": 0.1}, {"x": 0.9}]
    pd.testing.assert_frame_equal(fitted.predict(c for c in at), fitted.predict(at))


@pytest.mark.parametrize("folds", [1, 2.5, "a", None, True])
def test_folds_that_are_no_number_of_them_are_refused(folds):
    with pytest.raises(FitError, match=f"expected a whole number of folds.*got {folds!r}"):
        Conformal(Level(), folds=folds)


@pytest.mark.parametrize("split", [0.0, 1.0, np.nan, "a", True])
def test_a_share_that_is_none_is_refused(split):
    with pytest.raises(FitError, match=f"expected a share to hold out.*got {split!r}"):
        Conformal(Level(), split=split)


@pytest.mark.parametrize("model", ["RandomForest", TransferGP, Level, SVR()])
def test_what_is_no_recipe_is_refused(model):
    with pytest.raises(FitError, match=r"expected a recipe, such as TransferGP\(\).*got "):
        Conformal(model)


def test_numbers_of_numpy_are_numbers():
    assert Conformal(Level(), folds=np.int64(3), split=np.float32(0.5)).folds == 3

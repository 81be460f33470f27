"""scikit-learn's own checks of an estimator, and what environments add to it."""

import pickle
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from bayestl.data.options import Boolean, Categorical, Ordinal, Real
from bayestl.data.space import ConfigSpace
from bayestl.errors import ConfigurationError, FitError, UnknownEnvironment
from bayestl.models.gp import MultiTaskGP, TargetOnlyGP
from bayestl.models.persistence import load
from bayestl.models.sklearn_regressor import MARGIN, TransferRegressor


@dataclass(frozen=True)
class Quick:
    """Recipe: a process with the best hyperparameters alone."""

    recipe: TargetOnlyGP | MultiTaskGP = field(default_factory=TargetOnlyGP)
    fails: bool = False

    def fit(self, table, *, metric, target, seed=0) -> Any:
        if self.fails:
            raise FitError("no")
        return self.recipe.at_mode(table, metric=metric, target=target, seed=seed)


@parametrize_with_checks([TransferRegressor(model=Quick())])
def test_scikit_learns_checks(estimator, check):
    check(estimator)


def measured(n: int, environment: str, factor: float, seed: int) -> tuple[pd.DataFrame, np.ndarray]:
    """n configurations in an environment, and their latency."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "threads": rng.integers(1, 17, n),
            "precision": rng.choice(["fp32", "fp16"], n),
            "fused": rng.random(n) < 0.5,
            "environment": environment,
        }
    )
    fast = (frame["precision"] == "fp16") * 0.5 + frame["fused"] * 0.2
    noise = 0.01 * rng.normal(size=n)
    return frame, factor * np.exp(noise - fast) * (1 + 8 / frame["threads"].to_numpy())


@pytest.fixture(scope="module")
def data() -> tuple[pd.DataFrame, np.ndarray]:
    """60 measurements of a source, 8 of the target, which is three times as slow."""
    parts = [measured(60, "source", 1.0, 1), measured(8, "target", 3.0, 2)]
    return pd.concat([X for X, _ in parts], ignore_index=True), np.concatenate(
        [y for _, y in parts]
    )


def test_a_source_helps_and_each_row_is_of_its_environment(data):
    regressor = TransferRegressor(model=Quick(MultiTaskGP())).fit(*data)
    assert regressor.target_ == "target"  # the fewest rows
    X, y = measured(50, "target", 3.0, 3)
    assert np.abs(regressor.predict(X) / y - 1).mean() < 0.1
    there, y_there = measured(50, "source", 1.0, 4)
    both = pd.concat([X, there]).sample(frac=1, random_state=0)
    median, std = regressor.predict(both, return_std=True)
    expected = pd.concat([pd.Series(y, X.index), pd.Series(y_there, there.index)])
    assert np.abs(median / expected.sample(frac=1, random_state=0) - 1).mean() < 0.1
    assert median.shape == std.shape == (100,)
    assert (std > 0).all()


def test_the_default_is_the_guarded_choice(data):
    regressor = TransferRegressor(target="target").fit(*data)
    assert regressor.fitted_.diagnostics.details["chosen"] != "TargetOnlyGP"
    assert regressor.fitted_.diagnostics.n_source == 60


def test_a_target_without_measurements(data):
    X, y = data
    rows = X["environment"] == "source"
    regressor = TransferRegressor(target="new", model=Quick(MultiTaskGP())).fit(X[rows], y[rows])
    median, std = regressor.predict(X[rows].assign(environment="new"), return_std=True)
    assert np.corrcoef(np.log(median), np.log(y[rows]))[0, 1] > 0.9
    assert (std > regressor.predict(X[rows], return_std=True)[1]).all()


def test_what_is_hardly_known_is_not_predicted_to_be_astronomical(data):
    X, y = data
    rows = X["environment"] == "source"
    regressor = TransferRegressor(target="new").fit(X[rows], y[rows])
    there = X[rows].assign(environment="new")
    assert (regressor.fitted_.predict(there)["mean"] > 10 * y[rows]).all()  # the case is one
    assert (regressor.predict(there) < 5 * y[rows]).all()


def test_the_std_is_half_the_central_interval_and_no_outlier_moves_it(data):
    X, y = data
    mine = X["environment"] == "target"
    once = np.where(np.arange(len(y)) == np.flatnonzero(mine)[0], 1000.0, 1.0)
    regressor = TransferRegressor(target="target").fit(X, once * y)
    others = X[mine][1:]
    median, std = regressor.predict(others, return_std=True)
    assert (regressor.fitted_.predict(others)["std"] > 1000 * median).all()  # the case is one
    assert (std < 0.1 * median).all()
    ends = regressor.fitted_.predict(others, quantiles=(0.159, 0.841))
    np.testing.assert_allclose(std, (ends["q84.1"] - ends["q15.9"]) / 2)


def test_in_pipelines_and_searches(data):
    X, y = data
    regressor = TransferRegressor(target="target", model=Quick(MultiTaskGP()))
    pipeline = make_pipeline(FunctionTransformer(), regressor)
    folds = KFold(3, shuffle=True, random_state=0)
    assert cross_val_score(pipeline, X, y, cv=folds).min() > 0.5
    grid = {"transferregressor__model": [Quick(MultiTaskGP("identity")), regressor.model]}
    search = GridSearchCV(pipeline, grid, cv=folds, scoring="neg_mean_absolute_percentage_error")
    assert search.fit(X, y).best_params_ == {"transferregressor__model": regressor.model}
    numbers = make_pipeline(StandardScaler(), TransferRegressor(model=Quick()))
    assert numbers.fit(X[["threads"]], y).score(X[["threads"]], y) > 0.2


def test_a_frame_of_numbers_is_as_good_as_an_array(data):
    X, y = data[0][["threads", "fused"]].astype(float), data[1]
    of_frame = TransferRegressor(model=Quick()).fit(X, y)
    of_array = TransferRegressor(model=Quick()).fit(X.to_numpy(), y)
    assert list(of_frame.feature_names_in_) == ["threads", "fused"]
    assert of_array.fitted_.space.names == ("x0", "x1")
    np.testing.assert_allclose(of_frame.predict(X), of_array.predict(X.to_numpy()), rtol=1e-12)
    clone(of_frame).fit(X.rename(columns={"threads": "y"}), y)  # the metric's name gives way


def test_numbers_outside_the_range_are_moved_to_its_edge_with_a_warning(data):
    X, y = data[0][["threads"]], data[1]
    regressor = TransferRegressor(model=Quick()).fit(X, y)
    reach = MARGIN * 15
    edge = regressor.predict(pd.DataFrame({"threads": [16 + reach, 1 - reach]}))
    with pytest.warns(UserWarning, match="2 values of 'threads' lie far outside.*-2.75 and 19.75"):
        far = regressor.predict(pd.DataFrame({"threads": [20, 16, -9]}))
    np.testing.assert_array_equal(far[[0, 2]], edge)
    assert far[1] != edge[0]
    X = pd.DataFrame({"clock": [1.0, 10.0, 1000.0]})
    space = TransferRegressor(model=Quick()).fit(X, [1.0, 2.0, 3.0]).fitted_.space
    clock = space.options["clock"]
    assert clock.log
    assert (clock.low, clock.high) == pytest.approx((1000**-MARGIN, 1000 ** (1 + MARGIN)))


def test_nullable_numbers_outside_the_range_are_moved_as_well(data):
    X, y = data[0][["threads"]].astype("Int64"), data[1]
    regressor = TransferRegressor(model=Quick()).fit(X, y)
    far = pd.DataFrame({"threads": [200, 4]})
    with pytest.warns(UserWarning, match="1 values of 'threads' lie far outside"):
        expected = regressor.predict(far)
    with pytest.warns(UserWarning, match="1 values of 'threads' lie far outside"):
        np.testing.assert_array_equal(regressor.predict(far.astype("Int64")), expected)
    missing = pd.DataFrame({"threads": pd.array([200, None], dtype="Int64")})
    with (
        pytest.warns(UserWarning, match="1 values of 'threads' lie far outside"),
        pytest.raises(ConfigurationError, match="no value of 'threads'"),
    ):
        regressor.predict(missing)


def test_environments_may_be_named_by_numbers(data):
    X, y = data
    numbered = X.assign(environment=(X["environment"] == "target") + 1)
    regressor = TransferRegressor(target=2, model=Quick(MultiTaskGP())).fit(numbered, y)
    assert regressor.target_ == "2"
    assert regressor.fitted_.diagnostics.n_target == 8


def test_levels_that_were_not_seen(data):
    X, y = data
    regressor = TransferRegressor(model=Quick(MultiTaskGP())).fit(X, y)
    with pytest.raises(ConfigurationError, match="'precision': expected one of 'fp16', 'fp32'"):
        regressor.predict(X.assign(precision="int8"))
    levels = ["fp32", "fp16", "int8"]
    for ordered, kind in ((False, Categorical), (True, Ordinal)):
        declared = X.assign(precision=pd.Categorical(X["precision"], levels, ordered=ordered))
        regressor.fit(declared, y)
        assert regressor.fitted_.space.options["precision"] == kind(tuple(levels))
        assert np.isfinite(regressor.predict(X.assign(precision="int8"))).all()


def test_kinds_may_be_given(data):
    X, y = data
    kinds = {"threads": Ordinal(tuple(range(1, 17))), "fused": None}
    regressor = TransferRegressor(options=kinds, model=Quick(MultiTaskGP())).fit(X, y)
    assert dict(regressor.fitted_.space.options) == {**kinds, "fused": Boolean()}
    with pytest.raises(ConfigurationError, match="'threads': expected one of 1, 2"):
        regressor.predict(X.assign(threads=17))
    space = ConfigSpace({"threads": Real(1, 32)}, constraints=["threads <= 20"])
    regressor = TransferRegressor(options=space, model=Quick(MultiTaskGP())).fit(X, y)
    assert regressor.fitted_.space == space
    assert np.isfinite(regressor.predict(X.assign(threads=20))).all()
    with pytest.raises(ConfigurationError, match="violates the constraint"):
        regressor.predict(X.assign(threads=21))


@pytest.mark.parametrize(
    ("parameters", "change", "message"),
    [
        ({"target": "target"}, {"environment": None}, "environments in a column 'environment'"),
        ({"environment_column": "bord"}, {}, "environments in a column 'bord' of X, got"),
        ({"options": ["threads", "cores"]}, {}, r"expected the options \['cores'\] in X"),
        ({}, {"environment": np.nan}, "an environment in every row of 'environment', got NaN"),
        ({}, {"threads": np.nan}, "no value of 'threads'"),
        ({}, {"precision": np.nan}, "option 'precision': no value in any row"),
        ({}, {"threads": np.inf}, "expected finite numbers, got an infinite one"),
        ({}, {"threads": pd.Timestamp(0)}, "expected text, booleans or numbers, got Timestamp"),
        ({"model": Quick(fails=True)}, {}, "^no$"),
        ({"model": Quick}, {}, r"expected a recipe as model, such as TransferGP\(\), got <class"),
        ({"model": "x"}, {}, "expected a recipe as model, .* got 'x'"),
        ({"options": "threads"}, {}, "a list of columns as options, got the text 'threads'"),
    ],
)
def test_what_cannot_be_fitted(data, parameters, change, message):
    X, y = data
    for name, value in change.items():
        column = X[name].astype(object)
        column.iloc[: len(X) if name == "precision" or message[0] == "e" else 1] = value
        X = X.drop(columns=name) if value is None else X.assign(**{name: column.infer_objects()})
    with pytest.raises(ValueError, match=message):
        TransferRegressor(**{"model": Quick(), **parameters}).fit(X, y)


def test_what_cannot_be_predicted(data):
    X, y = data
    regressor = TransferRegressor(model=Quick(MultiTaskGP())).fit(X, y)
    with pytest.raises(UnknownEnvironment, match="unknown environment 'mars'; this model knows"):
        regressor.predict(X.assign(environment="mars"))
    with pytest.raises(ConfigurationError, match="got inf"):
        regressor.predict(X.assign(threads=np.inf))
    with pytest.raises(ConfigurationError, match="no value of 'threads'"):
        regressor.predict(X.assign(threads=np.nan))
    with pytest.raises(ConfigurationError, match=r"expected a number in .* got 'many'"):
        regressor.predict(X.assign(threads="many"))
    with pytest.raises(ValueError, match="feature names should match"):
        regressor.predict(X.rename(columns={"threads": "cores"}))
    with pytest.raises(ValueError, match="at least one row"):
        regressor.predict(X.iloc[:0])
    with pytest.raises(ValueError, match=r"distinct columns|unique column names"):
        regressor.fit(X.rename(columns={"fused": "threads"}), y)


def test_the_fitted_model_is_there_and_can_be_kept(data, tmp_path):
    X, y = data
    regressor = TransferRegressor(model=Quick(MultiTaskGP()), random_state=None).fit(X, y)
    regressor.fitted_.save(tmp_path / "m.bayestl")
    kept = load(tmp_path / "m.bayestl")
    here = X[X["environment"] == "target"]
    np.testing.assert_array_equal(kept.predict(here)["q50"], regressor.predict(here))


def test_a_pickled_regressor_predicts_the_same_to_the_last_bit(data):
    X, y = data
    regressor = TransferRegressor(target="target").fit(X, y)
    kept = pickle.loads(pickle.dumps(regressor))
    for found, expected in zip(
        kept.predict(X, return_std=True), regressor.predict(X, return_std=True), strict=True
    ):
        np.testing.assert_array_equal(found, expected)

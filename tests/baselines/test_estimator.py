import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR
from xgboost import XGBRegressor

from bayestl.baselines import estimator as module
from bayestl.baselines.estimator import Estimator
from bayestl.data.options import Boolean, Integer
from bayestl.data.space import ConfigSpace
from bayestl.data.table import MeasurementTable
from bayestl.errors import FitError

SPACE = ConfigSpace({"a": Integer(0, 9), "b": Boolean()})
NAMED = ("decision_tree", "nearest_neighbour", "support_vectors", "lasso", "splines",
         "neural_network")  # fmt: skip


def table(n_target=20, n_source=20):
    rows = [(a, b) for a in range(10) for b in (False, True)]
    frame = pd.DataFrame(
        [
            {"a": a, "b": b, "environment": place, "y": scale * np.exp(0.2 * a + 0.7 * b)}
            for place, scale, n in (("s", 1.0, n_source), ("t", 2.0, n_target))
            for a, b in np.random.default_rng(0).permutation(np.array(rows, dtype=object))[:n]
        ]
    )
    return MeasurementTable.from_frame(frame, options=SPACE, metrics={"y": "ms"})


@pytest.mark.parametrize("name", NAMED)
def test_a_named_regressor_learns_what_can_be_learnt(name):
    recipe = getattr(module, name)()
    fitted = recipe.fit(table(14), metric="y", target="t")
    test = table().of("t").select(range(14, 20))
    predicted = fitted.predict(test.configurations())
    error = np.abs(np.log(predicted["q50"] / test.frame["y"].to_numpy()))
    assert error.mean() < 0.35
    assert (predicted["q05"] < predicted["q95"]).all()


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("rows", [1, 2, 3])
def test_a_named_regressor_does_with_few_rows(name, rows):
    fitted = getattr(module, name)().fit(table(rows), metric="y", target="t")
    assert np.isfinite(fitted.predict([{"a": 4, "b": True}]).to_numpy()).all()


def test_an_estimator_is_cloned_and_seeded():
    forest = ExtraTreesRegressor(20)
    answers = [
        Estimator(forest).fit(table(), metric="y", target="t", seed=seed).predict([SPACE.default])
        for seed in (1, 1, 2)
    ]
    pd.testing.assert_frame_equal(answers[0], answers[1])
    assert not answers[0].equals(answers[2])
    assert not hasattr(forest, "estimators_")
    assert forest.random_state is None


def test_its_repr_tells_every_parameter():
    """scikit-learn's own leaves out what is long: a study would take one for the other."""
    long = [f"a step with a name as long as this one, number {k}" for k in range(40)]

    def searched(last):
        return Estimator(
            GridSearchCV(
                Pipeline([(name, StandardScaler()) for name in long] + [("last", SVR())]),
                {"last__C": np.array([1.0, last])},
            )
        )

    assert repr(searched(2.0)) == repr(searched(2.0))
    assert repr(searched(2.0)) != repr(searched(2.0 + 1e-12))
    boosted = [Estimator(XGBRegressor(reg_lambda=penalty)) for penalty in (1.0, 2.0)]
    assert repr(boosted[0]) != repr(boosted[1])
    assert repr(Estimator(SVR(C=2.0))) == ("Estimator(SVR(C=2.0), pooled=False, transform='auto')")


def test_a_pipeline_takes_weights_and_sources():
    recipe = Estimator(make_pipeline(StandardScaler(), SVR(C=10.0)), pooled=True)
    fitted = recipe.fit(table(3), metric="y", target="t")
    assert fitted.diagnostics.n_source == 20
    near = fitted.predict([{"a": 9, "b": True}])["q50"].iloc[0]
    assert near > fitted.predict([{"a": 0, "b": False}])["q50"].iloc[0] * 2


@pytest.mark.parametrize("wrong", [SVR, "SVR", 3])
def test_what_is_no_estimator_is_refused(wrong):
    with pytest.raises(FitError, match="an instance of a scikit-learn regressor"):
        Estimator(wrong)


def test_an_estimator_that_cannot_learn_says_so():
    from sklearn.neighbors import KNeighborsRegressor

    bad = Pipeline([("scale", StandardScaler()), ("near", KNeighborsRegressor(0))])
    with pytest.raises(FitError, match="cannot learn from"):
        Estimator(bad).fit(table(5), metric="y", target="t")

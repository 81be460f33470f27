"""Any scikit-learn regressor as a model, and those that people compare with.

    bt.Estimator(SVR(C=10.0))

The seed study and its successors compared regression trees, support vectors, neural
networks and splines (Iqbal, Kotthoff and Jamshidi, OpML 2019); each is one line here, with
scikit-learn's defaults except where they fail on a handful of rows.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from bayestl.data.table import MeasurementTable
from bayestl.errors import FitError
from bayestl.models.conformal import Regressor
from bayestl.models.regression import (
    Examples,
    FittedRegression,
    Trained,
    cross_validated,
    fit_regression,
    random_state,
)
from bayestl.models.scaling import TransformName

KNOTS = (1 / 3, 2 / 3)


@dataclass(frozen=True)
class Estimator:
    """Recipe: a scikit-learn regressor on the target's measurements, or on everyone's.

    It sees encoded options in the unit cube and standardised values, and is cloned for
    every fit; every parameter named ``random_state`` is the fit's seed. Intervals are
    those of CV+.

    Parameters
    ----------
    estimator : with scikit-learn's `fit`, `predict` and `get_params`, such as a pipeline
    pooled : also learn from the sources' rows, the environment being a feature
    transform : `log` for a positive metric, `identity`, or `auto`
    """

    estimator: Any
    pooled: bool = False
    transform: TransformName = "auto"

    def __post_init__(self) -> None:
        missing = [n for n in ("fit", "predict", "get_params") if not hasattr(self.estimator, n)]
        if missing or isinstance(self.estimator, type):
            raise FitError(
                "expected an instance of a scikit-learn regressor, such as SVR(), got "
                f"{self.estimator!r}"
            )

    def __repr__(self) -> str:
        """The whole of it, by which a study knows what it has kept."""
        return (
            f"Estimator({_told(self.estimator)}, pooled={self.pooled}, "
            f"transform={self.transform!r})"
        )

    def fit(
        self, table: MeasurementTable, *, metric: str, target: str, seed: int = 0
    ) -> FittedRegression:
        """The regressor fitted to the usable rows; see `Model.fit`."""
        return fit_regression(self, self._train, table, metric, target, seed, pooled=self.pooled)

    def _train(self, examples: Examples, *, seed: int) -> Trained:
        fit = partial(_fitted, self.estimator, random_state(seed))
        return cross_validated(examples, fit=fit, seed=seed)


def decision_tree() -> Estimator:
    """A regression tree (Breiman et al., 1984), grown to its leaves."""
    from sklearn.tree import DecisionTreeRegressor

    return Estimator(DecisionTreeRegressor())


def nearest_neighbour() -> Estimator:
    """What the nearest configuration took; of several as near, the first."""
    from sklearn.neighbors import KNeighborsRegressor

    return Estimator(KNeighborsRegressor(1))


def support_vectors() -> Estimator:
    """Support vectors with a Gaussian kernel (Drucker et al., 1997)."""
    from sklearn.svm import SVR

    return Estimator(SVR(C=10.0, epsilon=0.05))


def lasso() -> Estimator:
    """Main effects and pairs with a penalty that selects (Tibshirani, 1996; LARS, by AIC)."""
    from sklearn.linear_model import LassoLarsIC
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures, StandardScaler

    # a noise variance is given, since it cannot be estimated with fewer rows than effects
    return Estimator(
        make_pipeline(
            StandardScaler(),
            PolynomialFeatures(2, interaction_only=True, include_bias=False),
            LassoLarsIC(criterion="aic", noise_variance=0.05),
        )
    )


def splines() -> Estimator:
    """Hinges in each option and their pairs with a ridge, in the manner of MARS.

    Friedman (1991) selects knots and products stepwise; here they are given and shrunk.
    """
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, PolynomialFeatures

    return Estimator(
        make_pipeline(
            FunctionTransformer(_hinges),
            PolynomialFeatures(2, interaction_only=True, include_bias=False),
            Ridge(1.0),
        )
    )


def neural_network() -> Estimator:
    """Two hidden layers, trained to convergence by L-BFGS with a penalty, as few rows need."""
    from sklearn.neural_network import MLPRegressor

    return Estimator(
        MLPRegressor(
            hidden_layer_sizes=(32, 32), activation="tanh", solver="lbfgs", alpha=1.0, max_iter=500
        )
    )


def _told(value: Any) -> str:
    """A parameter in words that are others if it is: scikit-learn's own leave out what is long.

    As there, parameters that are an estimator's defaults are not named.
    """
    if isinstance(value, np.ndarray):
        return f"array({_told(value.tolist())})"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key!r}: {_told(item)}' for key, item in value.items())}}}"
    if isinstance(value, (list, tuple)):
        inside = ", ".join(map(_told, value))
        return f"[{inside}]" if isinstance(value, list) else f"({inside})"
    if not hasattr(value, "get_params") or isinstance(value, type):
        return repr(value)
    try:
        usual = type(value)().get_params(deep=False)
    except Exception:  # it cannot be without some of them
        usual = {}
    told = {name: _told(item) for name, item in value.get_params(deep=False).items()}
    named = [f"{n}={t}" for n, t in told.items() if n not in usual or t != _told(usual[n])]
    return f"{type(value).__name__}({', '.join(named)})"


def _hinges(x: np.ndarray) -> np.ndarray:
    """Each feature of the unit cube, and what it exceeds each of `KNOTS` by."""
    return np.hstack([x, *(np.maximum(x - knot, 0.0) for knot in KNOTS)])


def _fitted(
    estimator: Any, seed: int, x: np.ndarray, z: np.ndarray, weights: np.ndarray
) -> Regressor:
    from sklearn.base import clone
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.utils.validation import has_fit_parameter

    fresh: Any = clone(estimator)
    names = [name for name in fresh.get_params() if name.split("__")[-1] == "random_state"]
    fresh.set_params(**dict.fromkeys(names, seed))
    name, last = getattr(fresh, "steps", [("", fresh)])[-1]  # of a pipeline
    prefix = f"{name}__" if name else ""
    weighted = has_fit_parameter(last, "sample_weight")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # stopping early is a penalty
            return fresh.fit(x, z, **({f"{prefix}sample_weight": weights} if weighted else {}))
    except ValueError as error:
        raise FitError(f"{estimator} cannot learn from {len(z)} rows: {error}") from error

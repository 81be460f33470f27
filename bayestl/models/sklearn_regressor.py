"""`TransferRegressor`: the models as a scikit-learn estimator, for pipelines and grid searches.

    frame with a column that names the environment  ->  table  ->  model  ->  one prediction a row

What a table says beforehand, scikit-learn learns from the training rows, and a fold of a
cross-validation may lack the largest value. So a column of numbers becomes a real option
whose range is wider than the values by `MARGIN` on either side; the model extrapolates within
it, and a value outside is moved to its edge, with a warning. Text has the levels that were
seen, or all that a pandas categorical column declares; another level is an error, as it is
for scikit-learn's encoders. Kinds given as `options` are taken as they are.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils import check_array, check_consistent_length, check_random_state, column_or_1d
from sklearn.utils.validation import check_is_fitted, validate_data

from bayestl.data.environment import Environment
from bayestl.data.measurement import Metric
from bayestl.data.option_inference import infer_option
from bayestl.data.options import Boolean, Categorical, Option, Ordinal, Real
from bayestl.data.space import ConfigSpace
from bayestl.data.table import ENVIRONMENT, MeasurementTable
from bayestl.models.conformalized import CENTRAL
from bayestl.models.model import Model
from bayestl.models.scaling import quantile_column
from bayestl.models.transfer_gp import TransferGP

MARGIN = 0.25
"""How far a range reaches past the values seen, on either side, as a fraction of their span."""

ONLY = "target"
"""The name of the environment where X names none."""


class TransferRegressor(RegressorMixin, BaseEstimator):
    """A scikit-learn regressor over configurations of several environments.

    It is cloned and pickled as any estimator; a file for others, or for later, is what
    `fitted_.save` writes, which runs no code when it is read.

    Parameters
    ----------
    environment_column : the column of X that names each row's environment
        Where X is an array, or has no column of the default name, all rows are of one
        environment: plain Gaussian process regression. None says so beforehand.
    target : the environment that the model is fitted for, with or without rows; by default
        the one with the fewest. Rows of every other environment are sources; a prediction is
        for the environment that its row names.
    model : a recipe such as `MultiTaskGP()`; by default `TransferGP()`
    options : which columns are options, and of which kind: as in `MeasurementTable.from_frame`;
        by default all others, with inferred kinds, see the module
    random_state : of the fit

    Attributes
    ----------
    fitted_ : the fitted model, with `diagnostics`, `predict` with quantiles, and `save`
    target_ : the environment that it was fitted for
    feature_names_in_, n_features_in_ : as everywhere in scikit-learn

    Examples
    --------
    >>> frame = pd.DataFrame(
    ...     {
    ...         "threads": [1, 2, 4, 8, 1, 8],
    ...         "precision": ["fp32", "fp16"] * 3,
    ...         "environment": ["tx2"] * 4 + ["xavier"] * 2,
    ...     }
    ... )
    >>> regressor = TransferRegressor(target="xavier").fit(frame, [40, 18, 11, 5, 21, 3])
    >>> median, std = regressor.predict(frame.tail(2), return_std=True)
    >>> bool(median[0] > median[1]), std.shape
    (True, (2,))
    """

    def __init__(
        self,
        environment_column: str | None = ENVIRONMENT,
        target: str | None = None,
        model: Model | None = None,
        options: ConfigSpace | Sequence[str] | Mapping[str, Option | None] | None = None,
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        self.environment_column = environment_column
        self.target = target
        self.model = model
        self.options = options
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> Self:
        """Fit to (n, d) configurations X and their (n,) values y.

        Raises
        ------
        ValueError
            For anything that is no finite number or text where one is expected, a column that
            is missing, or measurements that the model cannot be fitted to (`FitError`).
        """
        if y is None:
            raise ValueError("TransferRegressor requires y to be passed, but the target y is None")
        frame = self._frame(X, reset=True)
        numbers = check_array(
            y,
            ensure_2d=False,
            dtype=np.float64,  # type: ignore[arg-type]  # inferred from its default
            input_name="y",
        )
        values = column_or_1d(numbers, warn=True)
        check_consistent_length(frame, values)
        environments = self._environments(frame)
        counts = environments.value_counts(sort=False)
        self.target_ = str(counts.idxmin() if self.target is None else self.target)
        metric = "y"
        while metric in frame.columns:
            metric += "_"
        table = MeasurementTable.from_frame(
            frame.assign(**{ENVIRONMENT: environments, metric: values}),
            options=self._learn_space(frame),
            metrics=[Metric(metric)],
            environments=[Environment(self.target_)],
        )
        model = TransferGP() if self.model is None else self.model
        if isinstance(model, type) or not hasattr(model, "fit"):
            raise ValueError(f"expected a recipe as model, such as TransferGP(), got {model!r}")
        self.fitted_ = model.fit(table, metric=metric, target=self.target_, seed=self._seed())
        return self

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """The (n,) medians of new measurements, and with `return_std` their (n,) std.

        The medians, as everywhere that an error is told: where the metric is modelled by its
        logarithm, the mean of what is hardly known is larger by orders of magnitude. For the
        same reason the std is half the width of the central 68 % interval, which a chance of
        outliers hardly moves. `fitted_.predict` has the means, stds and quantiles as well.

        Raises
        ------
        ValueError
            As `fit`; and for a level or an environment that the fit did not see.
        """
        check_is_fitted(self, "fitted_")
        frame = self._within(self._frame(X, reset=False))
        environments = self._environments(frame).to_numpy(dtype=object)
        ends = np.empty((len(frame), len(CENTRAL)))
        for name in dict.fromkeys(environments):
            rows = environments == name
            predicted = self.fitted_.predict(frame[rows], environment=name, quantiles=CENTRAL)
            ends[rows] = predicted[[quantile_column(level) for level in CENTRAL]]
        low, median, high = ends.T.copy()
        return (median, (high - low) / 2) if return_std else median

    def _frame(self, X: Any, *, reset: bool) -> pd.DataFrame:
        """X with a text as the name of each column, those of the fit where it has none."""
        if not isinstance(X, pd.DataFrame):
            X = pd.DataFrame(validate_data(self, X, reset=reset, dtype=np.float64))
        elif X.empty:
            raise ValueError("expected at least one row and one column in X, got an empty frame")
        else:
            validate_data(self, X, reset=reset, skip_check_array=True)  # type: ignore[arg-type]
        numbered = [f"x{position}" for position in range(X.shape[1])]
        names = list(getattr(self, "feature_names_in_", numbered))
        if len(set(names)) < len(names):
            raise ValueError(f"expected distinct columns in X, got {names}")
        return X.set_axis(names, axis=1)

    def _environments(self, frame: pd.DataFrame) -> pd.Series:
        """The name of each row's environment."""
        column = self.environment_column
        if column not in frame.columns:
            if self.target is not None or column not in (None, ENVIRONMENT):
                raise ValueError(
                    f"expected the environments in a column {column!r} of X, got "
                    f"{list(frame.columns)}; name another environment_column, and no target "
                    "where there is only one environment"
                )
            return pd.Series(ONLY, index=frame.index)
        if frame[column].isna().any():
            raise ValueError(f"expected an environment in every row of {column!r}, got NaN")
        return frame[column].map(str)

    def _learn_space(self, frame: pd.DataFrame) -> ConfigSpace:
        """The options, with kinds that hold the training rows and what lies around them."""
        given, self._ranges = self.options, {}
        if isinstance(given, ConfigSpace):
            return given
        if isinstance(given, str):
            raise ValueError(f"expected a list of columns as options, got the text {given!r}")
        if given is None:
            given = [name for name in frame.columns if name != self.environment_column]
        missing = [name for name in given if name not in frame.columns]
        if missing:
            raise ValueError(f"expected the options {missing} in X, got {list(frame.columns)}")
        kinds = dict(given) if isinstance(given, Mapping) else dict.fromkeys(given)
        inferred = {n: _infer(n, frame[n]) for n, kind in kinds.items() if kind is None}
        self._ranges = {n: kind for n, kind in inferred.items() if isinstance(kind, Real)}
        return ConfigSpace({name: kind or inferred[name] for name, kind in kinds.items()})

    def _within(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The frame with numbers outside an inferred range moved to its edge."""
        moved = {}
        for name, option in self._ranges.items():
            numbers = pd.to_numeric(frame[name], errors="coerce").astype(float)
            outside = np.isfinite(numbers) & ~numbers.between(option.low, option.high)
            if outside.any():
                edges = numbers.clip(option.low, option.high)
                # what is no number stays what it is, for the space to refuse
                moved[name] = frame[name].astype(object).where(~outside, edges)
                warnings.warn(
                    f"{int(outside.sum())} values of {name!r} lie far outside those of the fit and "
                    f"are taken for its edges, {option.low:g} and {option.high:g}; give the range: "
                    "options={...: Real(low, high)}",
                    stacklevel=3,
                )
        return frame.assign(**moved)

    def _seed(self) -> int:
        if isinstance(self.random_state, Integral):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(2**31))


def _infer(name: str, column: pd.Series) -> Option:
    """A kind that holds the column's values, and of numbers also those around them."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        kind = Ordinal if column.cat.ordered else Categorical
        return kind(tuple(column.cat.categories.tolist()))
    option = infer_option(name, column)
    if isinstance(option, (Boolean, Categorical)):
        return option
    numbers = column.dropna().to_numpy(dtype=float)
    low, high = float(numbers.min()), float(numbers.max())
    if low > 0 and high / low > 100:  # the rule of `infer_option`
        factor = (high / low) ** MARGIN
        return Real(low / factor, high * factor, log=True)
    reach = MARGIN * (high - low)
    return Real(low - reach, high + reach)

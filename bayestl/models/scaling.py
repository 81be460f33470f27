"""Between a metric in its unit and the scale on which it is Gaussian.

    z = (g(y) - centre) / spread        g: the logarithm for positive metrics, else identity

`spread` is pooled within the environments and kept away from zero by one imagined
observation, so that it is safe with no, one or equal values. `centre` is shared: how far
an environment lies from it is for the model to infer (an offset with a prior), since
the mean of one or two target points would be a poor thing to subtract.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Literal

import numpy as np
import pandas as pd
import torch
from scipy.special import ndtri

from bayestl.errors import FitError
from bayestl.models.gaussian_mixture import GaussianMixture

TransformName = Literal["auto", "log", "identity"]

TYPICAL_SPREAD = 0.5
"""The imagined observation's distance from the mean: log units, or a fraction of the metric."""

_LARGEST = np.log(np.finfo(float).max)
_SMALLEST = 1e-150  # whose square is still a number
_GREATEST = 1e150  # and the squares of many of these have a sum

NO_LOG = "some values are not positive, so the metric is modelled without a log"
"""The warning where `auto` ended without the logarithm."""


@dataclass(frozen=True)
class Scaling:
    """An invertible map between metric and standardised values.

    Parameters
    ----------
    log : whether g is the logarithm
    centre, spread : on the scale of g
    """

    log: bool
    centre: float
    spread: float

    @classmethod
    def of(
        cls,
        values: np.ndarray,
        environments: np.ndarray,
        transform: TransformName = "auto",
        *,
        least: float = 0.0,
    ) -> Scaling:
        """The scaling of the (n,) values measured in the (n,) environments.

        The spread is at least `least` of the imagined observation's distance.

        With `transform="auto"` the logarithm serves when every value is positive.

        Raises
        ------
        FitError
            For a value that is not positive when `transform` is `log`, or that is too large
            without the logarithm; the message names the position, the environment and the
            value.
        """
        if transform not in ("auto", "log", "identity"):
            raise FitError(f"expected transform 'auto', 'log' or 'identity', got {transform!r}")
        log = transform == "log" or (transform == "auto" and bool((values > 0).all()))
        if log and not (values > 0).all():
            row = int(np.argmin(values > 0))
            raise FitError(
                f"row {row} in environment {environments[row]!r} is {values[row]:g}: a log "
                "transform needs positive values; drop the row, or set transform='identity'"
            )
        if not log and (np.abs(values) > _GREATEST).any():
            row = int(np.argmax(np.abs(values)))
            raise FitError(
                f"row {row} in environment {environments[row]!r} is {values[row]:g}: without a log "
                f"transform values may be as large as {_GREATEST:g}; drop the row, or convert the "
                "metric to a larger unit"
            )
        g = np.log(values) if log else values
        groups = [g[environments == name] for name in dict.fromkeys(environments.tolist())]
        size = 1.0 if log else math.fsum(np.abs(g)) / len(g)
        unit = TYPICAL_SPREAD * (size if size > _SMALLEST else 1.0)
        # exact sums, so that the order of rows moves no bit of what follows
        means = [math.fsum(group) / len(group) for group in groups]
        apart = np.concatenate([group - mean for group, mean in zip(groups, means, strict=True)])
        spread = np.sqrt((unit**2 + math.fsum(apart**2)) / (1 + len(g) - len(groups)))
        centre = math.fsum(means) / len(means)
        return cls(log, centre, max(float(spread), least * unit))

    def scale(self, values: np.ndarray) -> np.ndarray:
        """Standardised values of a metric."""
        g = np.log(values) if self.log else values
        return (g - self.centre) / self.spread

    def unscale(self, scaled: np.ndarray) -> np.ndarray:
        """The metric whose standardised values these are."""
        g = self.centre + self.spread * scaled
        return np.exp(np.minimum(g, _LARGEST)) if self.log else g

    def summary(
        self, mean: np.ndarray, variance: np.ndarray, quantiles: Sequence[float], index: pd.Index
    ) -> pd.DataFrame:
        """Mean, std and quantiles of the metric where its standardised value is Gaussian.

        Quantiles are exact, g being monotone. Under the logarithm the metric is
        log-normal: mean exp(m + v/2), std mean * sqrt(exp(v) - 1), computed as logarithms
        so that a hopelessly wide belief gives a large number and no overflow.
        """
        m, v = self.centre + self.spread * mean, self.spread**2 * variance
        if self.log:
            log_mean = m + v / 2
            # log(exp(v) - 1) / 2, for v from tiny to huge
            log_std = log_mean + (v + np.log(-np.expm1(-np.maximum(v, 1e-300)))) / 2
            columns = {"mean": _exp(log_mean), "std": _exp(log_std)}
        else:
            columns = {"mean": m, "std": np.sqrt(v)}
        for column, level in quantile_columns(quantiles).items():
            columns[column] = self.unscale(mean + np.sqrt(variance) * ndtri(level))
        return pd.DataFrame(columns, index=index)

    def mixture_summary(
        self, standardised: GaussianMixture, quantiles: Sequence[float], index: pd.Index
    ) -> pd.DataFrame:
        """Mean, std and quantiles of the metric where its standardised value is a mixture."""
        levels = quantile_columns(quantiles)
        mixture = standardised.affine(self.centre, self.spread)
        if self.log:
            weights = mixture.weights.log().unsqueeze(-1)
            m, v = mixture.means, mixture.variances
            log_mean = torch.logsumexp(weights + m + v / 2.0, 0)
            log_square = torch.logsumexp(weights + 2.0 * (m + v), 0)
            excess = -torch.expm1((2.0 * log_mean - log_square).clamp_max(-1e-300))
            log_std = 0.5 * (log_square + excess.log())
            columns = {"mean": _exp(log_mean.numpy()), "std": _exp(log_std.numpy())}
        else:
            mean, variance = mixture.moments()
            columns = {"mean": mean.numpy(), "std": variance.sqrt().numpy()}
        for column, level in levels.items():
            columns[column] = self.unscale(standardised.quantile(level).numpy())
        return pd.DataFrame(columns, index=index)


def _exp(exponent: np.ndarray) -> np.ndarray:
    return np.exp(np.minimum(exponent, _LARGEST))


def quantile_columns(quantiles: Sequence[float]) -> dict[str, float]:
    """The column of each quantile -> the quantile.

    Raises
    ------
    ValueError
        If they are no list, or one is not strictly between 0 and 1, or two have one column.
    """
    if not isinstance(quantiles, Iterable):
        raise ValueError(f"expected a list of quantiles, such as (0.05, 0.5), got {quantiles!r}")
    columns: dict[str, float] = {}
    for quantile in quantiles:
        column = quantile_column(quantile)
        if column in columns:
            raise ValueError(
                f"expected quantiles with a column each, got {columns[column]!r} and "
                f"{quantile!r}, which are both {column!r}; leave one of them out"
            )
        columns[column] = quantile
    return columns


def quantile_column(quantile: float) -> str:
    """The column of a quantile: `q05` for 0.05, `q97.5` for 0.975.

    Raises
    ------
    ValueError
        If the quantile is not strictly between 0 and 1.
    """
    if not isinstance(quantile, Real) or not 0 < quantile < 1:
        raise ValueError(f"expected quantiles strictly between 0 and 1, got {quantile!r}")
    percent = round(100 * quantile, 6)
    whole = percent == int(percent)
    return f"q{int(percent):02d}" if whole else f"q{percent:g}"

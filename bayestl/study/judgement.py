"""`judge`: every score of a fitted model on measurements that it was not given."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import ndtri
from scipy.stats import norm
from scipy.stats import t as student

from bayestl.data.table import MeasurementTable
from bayestl.models.model import Fitted, HasPosterior
from bayestl.study.metrics import coverage, crps, interval_score, mape, median_ape, spearman

SCORES = (
    *("mape", "median_ape", "spearman", "coverage50", "coverage80", "coverage90", "coverage95"),
    *("interval_score", "crps", "nlpd"),
)
"""What `judge` returns."""

_BELOW = (
    *(1e-6, 1e-5, 1e-4, 1e-3, 3e-3, 0.01, 0.02, 0.025, 0.05, 0.1),
    *(0.15, 0.2, 0.25, 0.3, 0.4),
)
LEVELS = (*_BELOW, 0.5, *(round(1 - level, 6) for level in reversed(_BELOW)))
"""The quantiles by which a predictive distribution is known: ascending, symmetric around 0.5."""

INTERVALS = {50: (0.25, 0.75), 80: (0.1, 0.9), 90: (0.05, 0.95), 95: (0.025, 0.975)}
"""Central intervals by the percentage of measurements that they should hold."""


def judge(fitted: Fitted, test: MeasurementTable) -> dict[str, float]:
    """The model's scores on the test's usable rows of its target.

    Returns
    -------
    `mape` and `median_ape` of the median prediction [%], `spearman`, the share of
    measurements inside central intervals (`coverage50` to `coverage95`), and, on the logarithm
    where every measurement is positive, `interval_score` (of 90 % intervals), `crps`
    (of a Gaussian with the interval's width) and `nlpd` [nats]. The last is NaN for a model
    without a posterior, whose quantiles are ranks and have no density to speak of.

    Raises
    ------
    ValueError
        If a measurement is zero, or there is none.
    """
    rows = test.of(fitted.target).usable(fitted.metric.name)
    measured = rows.frame[fitted.metric.name].to_numpy(dtype=float)
    quantiles = fitted.predict(rows.configurations(), quantiles=LEVELS).iloc[:, 2:]
    predicted = quantiles.to_numpy(dtype=float)
    middle = predicted[:, _at(0.5)]
    scores = {
        "mape": mape(measured, middle),
        "median_ape": median_ape(measured, middle),
        "spearman": spearman(measured, middle),
    }
    for percentage, (low, high) in INTERVALS.items():
        inside = coverage(measured, predicted[:, _at(low)], predicted[:, _at(high)])
        scores[f"coverage{percentage}"] = inside
    y, logs = measured, predicted
    if (measured > 0).all():
        y, logs = np.log(measured), np.log(np.maximum(predicted, 1e-300))
    low, high = logs[:, _at(0.05)], logs[:, _at(0.95)]
    std = np.maximum((high - low) / (2 * ndtri(0.95)), 1e-9)
    has_density = isinstance(fitted, HasPosterior)
    return scores | {
        "interval_score": interval_score(y, low, high),
        "crps": crps(y, logs[:, _at(0.5)], std),
        "nlpd": float(-log_density(y, logs, LEVELS).mean()) if has_density else float("nan"),
    }


def log_density(y: np.ndarray, quantiles: np.ndarray, levels: Sequence[float]) -> np.ndarray:
    """(n,) log densities at y of distributions known by their (n, k) quantiles.

    Between two quantiles the normal score Phi^-1(level) is a straight line in y. Beyond the
    outermost, the density is that of the Student's t around the median that has this
    quantile and the third one from its end, and no heavier than needed. Exact for a Gaussian, close
    for heavier tails; it asks nothing of a model but its quantiles.

    Parameters
    ----------
    levels : k of them, ascending and symmetric around 0.5
    """
    z, rows = ndtri(np.asarray(levels)), np.arange(len(y))
    slopes = np.diff(z) / np.maximum(np.diff(quantiles, axis=1), 1e-12)
    segment = np.clip((quantiles[:, 1:-1] <= y[:, None]).sum(axis=1), 0, len(z) - 2)
    slope = slopes[rows, segment]
    inside = norm.logpdf(z[segment] + slope * (y - quantiles[rows, segment])) + np.log(slope)
    centre = quantiles[:, len(z) // 2]
    above = np.abs(y - centre)
    upper, lower = quantiles - centre[:, None], centre[:, None] - quantiles
    side = np.where((y > centre)[:, None], upper[:, [-1, -3]], lower[:, [0, 2]])
    outer, inner = np.maximum(side, 1e-12).T
    freedom = _freedom(outer / inner, levels[-1], levels[-3])
    scale = inner / student.ppf(levels[-3], freedom)
    return np.where(above > outer, student.logpdf(above, freedom, scale=scale), inside)


def _freedom(ratios: np.ndarray, outer: float, inner: float) -> np.ndarray:
    """(n,) degrees of freedom at which two quantiles of Student's t have the given ratios."""
    grid = np.geomspace(1e8, 1, 200)
    known = student.ppf(outer, grid) / student.ppf(inner, grid)
    return np.exp(np.interp(ratios, known, np.log(grid)))


def _at(level: float) -> int:
    return LEVELS.index(level)

"""How good predictions are: of the point, of the order, of the interval, of the distribution.

Every metric takes (n,) arrays and returns one number, the average over the n points,
but for `pit`, which keeps the points. `score` gathers what a comparison shows.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import ndtr
from scipy.stats import rankdata


def mape(measured: ArrayLike, predicted: ArrayLike) -> float:
    """Mean absolute percentage error [%], 100 mean(|y - p| / |y|)."""
    return float(_percentage_errors(measured, predicted).mean())


def median_ape(measured: ArrayLike, predicted: ArrayLike) -> float:
    """Median absolute percentage error [%], which isolated outliers do not move."""
    return float(np.median(_percentage_errors(measured, predicted)))


def spearman(measured: ArrayLike, predicted: ArrayLike) -> float:
    """Spearman's rank correlation in [-1, 1]: Pearson's of the ranks, ties averaged.

    A constant prediction orders nothing and scores 0; constant measurements have no
    order, and the result is NaN.
    """
    y, p = _columns(measured=measured, predicted=predicted)
    y, p = rankdata(y), rankdata(p)
    y, p = y - y.mean(), p - p.mean()
    if not y.any():
        return float("nan")
    return float(y @ p / np.sqrt((y @ y) * (p @ p))) if p.any() else 0.0


def coverage(measured: ArrayLike, low: ArrayLike, high: ArrayLike) -> float:
    """The share of points inside their interval, mean(low <= y <= high)."""
    y, low, high = _columns(measured=measured, low=low, high=high)
    return float(((low <= y) & (y <= high)).mean())


def interval_score(
    measured: ArrayLike, low: ArrayLike, high: ArrayLike, level: float = 0.9
) -> float:
    """The interval score, in the metric's unit; smaller is better.

        mean(high - low + 2 / a (low - y)_+ + 2 / a (y - high)_+),   a = 1 - level

    Proper for central intervals (Gneiting and Raftery, 2007, equation 43).
    """
    if not 0 < level < 1:
        raise ValueError(f"expected a level strictly between 0 and 1, got {level!r}")
    y, low, high = _columns(measured=measured, low=low, high=high)
    missed = np.clip(low - y, 0, None) + np.clip(y - high, 0, None)
    return float((high - low + 2 / (1 - level) * missed).mean())


def nlpd(measured: ArrayLike, mean: ArrayLike, std: ArrayLike) -> float:
    """The negative log predictive density [nats] of Gaussians; smaller is better.

        mean(z^2 / 2 + log std + log(2 pi) / 2),   z = (y - mean) / std

    All on the model's transformed scale, where its predictions are Gaussian.
    """
    z, std = _standardised(measured, mean, std)
    return float((z**2 / 2 + np.log(std) + np.log(2 * np.pi) / 2).mean())


def crps(measured: ArrayLike, mean: ArrayLike, std: ArrayLike) -> float:
    """The continuous ranked probability score of Gaussians; smaller is better.

        mean(std (z (2 Phi(z) - 1) + 2 phi(z) - 1 / sqrt(pi)))

    In the unit of y (Gneiting and Raftery, 2007, equation 21 and below).
    """
    z, std = _standardised(measured, mean, std)
    density = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    return float((std * (z * (2 * ndtr(z) - 1) + 2 * density - 1 / np.sqrt(np.pi))).mean())


def pit(measured: ArrayLike, mean: ArrayLike, std: ArrayLike) -> np.ndarray:
    """(n,) probability integral transforms Phi(z) of Gaussians (Dawid, 1984).

    Uniform on [0, 1] where the predictions are calibrated.
    """
    z, _ = _standardised(measured, mean, std)
    return ndtr(z)


def score(measured: ArrayLike, prediction: pd.DataFrame) -> dict[str, float]:
    """What a comparison of models shows, from the frame that `predict` returns.

    The point prediction is the median q50: it is the same on every scale, whereas the mean
    of a log-normal grows with the model's doubt and would punish honest intervals twice.

    Parameters
    ----------
    measured : (n,), in the metric's unit; a Series must have the prediction's index
    prediction : with the columns `q05`, `q50` and `q95`

    Returns
    -------
    `mape` and `median_ape` [%], `spearman`, `coverage90` (a share), and `width_ratio90`,
    the geometric mean of q95 / q05 (NaN where an interval reaches zero)
    """
    missing = [name for name in ("q05", "q50", "q95") if name not in prediction.columns]
    if missing:
        raise ValueError(f"expected the columns q05, q50 and q95, missing {missing}")
    if isinstance(measured, pd.Series) and not measured.index.equals(prediction.index):
        raise ValueError(
            "expected measurements with the prediction's index; pass measured.loc[prediction.index]"
        )
    low, middle, high = (prediction[name].to_numpy(dtype=float) for name in ("q05", "q50", "q95"))
    positive = bool((low > 0).all())
    return {
        "mape": mape(measured, middle),
        "median_ape": median_ape(measured, middle),
        "spearman": spearman(measured, middle),
        "coverage90": coverage(measured, low, high),
        "width_ratio90": float(np.exp(np.log(high / low).mean())) if positive else float("nan"),
    }


def _percentage_errors(measured: ArrayLike, predicted: ArrayLike) -> np.ndarray:
    y, p = _columns(measured=measured, predicted=predicted)
    if not y.all():
        raise ValueError("expected measurements other than zero: a percentage of zero is undefined")
    return 100 * np.abs(y - p) / np.abs(y)


def _standardised(
    measured: ArrayLike, mean: ArrayLike, std: ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
    y, mean, std = _columns(measured=measured, mean=mean, std=std)
    if not (std > 0).all():
        raise ValueError(f"expected positive standard deviations, got {std.min():g}")
    return (y - mean) / std, std


def _columns(**columns: ArrayLike) -> list[np.ndarray]:
    """The arguments as arrays of one shape (n,), finite and not empty."""
    arrays = {name: np.asarray(column, dtype=float) for name, column in columns.items()}
    shapes = {name: array.shape for name, array in arrays.items()}
    if len(set(shapes.values())) > 1 or any(array.ndim != 1 for array in arrays.values()):
        raise ValueError(f"expected arrays of one shape (n,), got {shapes}")
    for name, array in arrays.items():
        if not array.size or not np.isfinite(array).all():
            raise ValueError(f"expected {name} to be finite and not empty, got {array!r}")
    return list(arrays.values())

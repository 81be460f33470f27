"""Whether a model is as sure as it may be: errors beside the variances that it claimed for them.

The errors must be of measurements that the model had not seen, such as those of leave-one-out.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri
from scipy.stats import binomtest

LEVEL = 0.9
"""Of the central intervals whose coverage is counted."""

UNLIKELY = 0.01
"""A coverage that calibrated intervals have less often than this is warned of."""

BINS = 10
"""In how many intervals of equal probability the measurements are counted."""


def calibration(error: np.ndarray, variance: np.ndarray) -> dict[str, Any]:
    """How well Gaussian predictions fit what was measured.

    Parameters
    ----------
    error : (n,) measured minus predicted, n at least 1
    variance : (n,) of the predictions, the noise of a measurement included

    Returns
    -------
    Plain values: `points`, n; `coverage90`, the share inside their central 90 % interval;
    `p_value`, how often calibrated and independent predictions give a coverage as unlikely
    or more (two-sided binomial test); `log_density`, the mean [nats]; `pit`, how many of the
    probability integral transforms Phi(error / sd) lie in each tenth of [0, 1], alike where
    all is well, U-shaped where intervals are too narrow (Dawid, 1984).
    """
    z = error / np.sqrt(variance)
    inside = int((np.abs(z) <= ndtri(0.5 + LEVEL / 2)).sum())
    density = -0.5 * (np.square(z) + np.log(variance) + math.log(2 * math.pi))
    counts, _ = np.histogram(ndtr(z), bins=BINS, range=(0.0, 1.0))
    return {
        "points": len(z),
        "coverage90": inside / len(z),
        "p_value": float(binomtest(inside, len(z), LEVEL).pvalue),
        "log_density": float(density.mean()),
        "pit": counts.tolist(),
    }


def miscalibration(found: dict[str, Any]) -> str | None:
    """A warning, where what `calibration` found is not what chance does to good intervals."""
    if found["p_value"] >= UNLIKELY:
        return None
    share, points = found["coverage90"], found["points"]
    return (
        f"intervals are too {'narrow' if share < LEVEL else 'wide'}: those of 90 % hold "
        f"{round(share * points)} of {points} target measurements that were left out"
    )

"""Whether a model is as sure as it may be: what was measured beside what it predicted.

The measurements must be such as the model had not seen, as those of leave-one-out are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.stats import binomtest

from bayestl.models.gaussian_mixture import GaussianMixture

LEVEL = 0.9
"""Of the central intervals whose coverage is counted."""

UNLIKELY = 0.01
"""A coverage that calibrated intervals have less often than this is warned of."""

BINS = 10
"""In how many intervals of equal probability the measurements are counted."""


def calibration(predicted: GaussianMixture, values: torch.Tensor) -> dict[str, Any]:
    """How well predictions fit what was measured.

    Parameters
    ----------
    predicted : of n values, n at least 1, the noise of a measurement included
    values : (n,), what was measured

    Returns
    -------
    Plain values: `points`, n; `coverage90`, the share inside their central 90 % interval;
    `p_value`, how often calibrated and independent predictions give a coverage as unlikely
    or more (two-sided binomial test); `log_density`, the mean [nats]; `pit`, how many of the
    probability integral transforms lie in each tenth of [0, 1], alike where all is well, U-shaped
    where intervals are too narrow (Dawid, 1984).
    """
    transformed = predicted.probability(values).numpy()
    inside = int((np.abs(transformed - 0.5) <= LEVEL / 2).sum())
    counts, _ = np.histogram(transformed, bins=BINS, range=(0.0, 1.0))
    return {
        "points": len(values),
        "coverage90": inside / len(values),
        "p_value": float(binomtest(inside, len(values), LEVEL).pvalue),
        "log_density": predicted.log_density(values).mean().item(),
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

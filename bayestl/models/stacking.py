"""Predictions mixed by the weights that would have predicted best: stacking.

Each member predicts every measurement from all others, in closed form; the weights are those
whose mixture has the best continuous ranked probability score (Yao, Vehtari, Simpson and Gelman,
2018, "Using stacking to average Bayesian predictive distributions").
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import softmax

from bayestl.models.gaussian_mixture import GaussianMixture

NEGLIGIBLE = 0.01
"""A member with less weight has none."""


def distances(
    left_out: Sequence[GaussianMixture], values: torch.Tensor, weights: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(K,) of K members' predictions from n values, and (K, K) between independent predictions.

    Weighted means over the values; half of a member's own is what its ranked probability score
    gains.
    """
    errors = torch.stack([weights @ mixture.absolute_error(values) for mixture in left_out])
    between = [
        torch.stack([weights @ one.distance(other) for other in left_out]) for one in left_out
    ]
    return errors, torch.stack(between)


def stacking_weights(
    errors: np.ndarray, between: np.ndarray, count: int, prior: np.ndarray
) -> np.ndarray:
    """(K,) weights w that maximise -n log crps(w) + sum_k prior_k log w_k.

    The continuous ranked probability score of a linear pool is a quadratic function of its
    weights, w . errors - w . between . w / 2. Its logarithm makes the unit of the metric
    irrelevant, and n of it weigh as much as n measurements do in a likelihood.

    Parameters
    ----------
    errors : (K,) mean distance of each member's prediction from what was measured
    between : (K, K) mean distance between independent predictions of two members
    count : n, the number of measurements, repeats of a configuration as one
    prior : (K,), positive; what a Dirichlet prior is worth, in measurements
    """

    def loss(logits: np.ndarray) -> tuple[float, np.ndarray]:
        weights = softmax(logits)
        score = weights @ errors - 0.5 * weights @ between @ weights
        slope = count * (errors - between @ weights) / score - prior / weights
        return (
            count * float(np.log(score)) - float(prior @ np.log(weights)),
            weights * (slope - weights @ slope),
        )

    start = np.log(prior / prior.sum())
    bounds = [(low, low + 40.0) for low in start - 20.0]
    return softmax(minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x)


def trimmed(weights: np.ndarray) -> np.ndarray:
    """(K,) weights of sum 1 without those of members that have next to none."""
    kept = np.where(weights < NEGLIGIBLE, 0.0, weights)
    return kept / kept.sum()

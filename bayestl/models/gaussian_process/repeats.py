"""Repeats of a configuration tell how noisy it is, relative to others of its environment.

A few repeats hardly tell their variance: s^2 has d degrees of freedom, one less than repeats. But
configurations of an environment are alike. Their variances lie around a common s_0^2 as if that
were known from d_0 more measurements, so that s^2 / s_0^2 ~ F(d, d_0), and that of one is believed
to be

    (d_0 s_0^2 + d s^2) / (d_0 + d)

(Smyth, 2004, "Linear models and empirical Bayes methods for assessing differential expression in
microarray experiments"). Smyth takes s_0^2 and d_0 from the moments of log s^2, in which one
outlier in fifty looks like configurations that differ. So here they are the likeliest, where each
configuration may have one repeat that is an outlier; it says nothing of the others. Unless a finite
d_0 makes the repeats likelier by a good deal, all configurations are equally noisy, and `outliers`
alone looks for what is odd.

How noisy an environment is on average is not decided here: that is a hyperparameter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from scipy.special import gammaln
from scipy.stats import beta

FREEDOM = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 32.0)
"""The d_0 that are looked at."""

ALIKE = 1e6
"""The d_0 of configurations that are equally noisy: as good as infinite."""

WORTH = 2.0
"""Nats that a finite d_0 must be worth."""

LEVELS = np.linspace(-4.0, 4.0, 41)
"""The log s_0^2 that are looked at, from the median of log s^2."""

OUTLIERS = 1.0 / 50.0
"""The share of repeats that are outliers."""

ANYWHERE = math.log(10.0)
"""Minus the log density of log s^2 with an outlier, which may be anywhere within ten units."""

TIES = 1e-9
"""Of two repeats either may be the outlier: what is as far from their mean, up to rounding."""

FAR = 4.0
"""Standard deviations from the median of its configuration past which a repeat tells nothing."""

NORMAL_MEDIAN = 2.198
"""The variance of a normal distribution over the median of its squares."""

BELIEF = 2.0
"""How many repeats the belief in how much they vary is worth."""

LEAST = 1e-6
"""Standardised variance to which repeats are told apart: a clock has ticks."""


def relative_noise(x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    """(n,) noise variance of each measurement, relative to a new one's in its environment.

    1 for all that were not repeated, and throughout an environment whose configurations are
    equally noisy as far as repeats tell.

    Parameters
    ----------
    x : (n, d) inputs, the environment in the last column; those of repeats are equal
    z : (n,) standardised measurements
    """
    relative = torch.ones_like(z)
    for environment in torch.unique(x[:, -1]):
        rows = torch.nonzero(x[:, -1] == environment).squeeze(-1)
        _, which = torch.unique(x[rows], dim=0, return_inverse=True)
        relative[rows] = torch.from_numpy(_within(which.numpy(), z[rows].numpy()))
    return relative


def repeated(x: torch.Tensor) -> list[torch.Tensor]:
    """The rows of each configuration that was measured more than once, of (n, d) inputs."""
    if not x.shape[-1]:
        return [torch.arange(len(x))] if len(x) > 1 else []
    _, which, count = torch.unique(x, dim=0, return_inverse=True, return_counts=True)
    return [torch.nonzero(which == one).squeeze(-1) for one in torch.nonzero(count > 1)]


def variance_within(
    groups: Sequence[torch.Tensor],
    z: torch.Tensor,
    relative: torch.Tensor | float,
    expected: float,
) -> float:
    """How much repeats vary, those of relative noise 1; infinite where there are none.

    But those far from the median of their configuration, of which one may be an outlier.

    Parameters
    ----------
    groups : the rows of each configuration with several
    z, relative : (n,) measurements, and the noise variance of each relative to a new one's
    expected : what is believed before, worth `BELIEF` repeats
    """
    if not groups:
        return math.inf
    weights = 1.0 / torch.as_tensor(relative, dtype=z.dtype).expand_as(z)
    far = [
        (z[rows] - z[rows].quantile(0.5)).square() * weights[rows] * len(rows) / (len(rows) - 1)
        for rows in groups
    ]
    freedom = sum(len(rows) - 1 for rows in groups)
    typical = NORMAL_MEDIAN * torch.cat(far).quantile(0.5).item()
    most = FAR**2 * (BELIEF * expected + freedom * typical) / (BELIEF + freedom)
    squares, freedom = BELIEF * expected, BELIEF
    for rows, distance in zip(groups, far, strict=True):
        kept = rows[distance <= most]
        if len(kept) > 1:
            apart = z[kept] - (weights[kept] @ z[kept]) / weights[kept].sum()
            squares += (weights[kept] @ apart.square()).item()
            freedom += len(kept) - 1
    return squares / freedom


def shares(x: torch.Tensor) -> tuple[torch.Tensor, int]:
    """(n,) weights of sum 1 by which all configurations among (n, d) inputs count alike.

    And how many they are.
    """
    weights = torch.ones(len(x), dtype=torch.float64)
    for rows in repeated(x):
        weights[rows] /= len(rows)
    return weights / weights.sum(), round(weights.sum().item())


def noisy_configurations(x: torch.Tensor, relative: torch.Tensor) -> torch.Tensor:
    """(k, d), the inputs among (n, d) whose noise is one of their own, larger or smaller."""
    own = x[relative != 1]
    return torch.unique(own, dim=0) if own.shape[-1] else own[:1]


def _within(which: np.ndarray, z: np.ndarray) -> np.ndarray:
    """The same in one environment; (n,) `which` says of which configuration z was measured."""
    count = np.bincount(which)
    repeated = count > 1
    if not repeated.any():
        return np.ones(len(z))
    squares = (z - (np.bincount(which, z) / count)[which]) ** 2
    largest = np.zeros(len(count))
    np.maximum.at(largest, which, squares)
    r, total = count[repeated], np.bincount(which, squares)[repeated]
    rest = total - largest[repeated] * r / (r - 1)  # what is left without the furthest repeat
    d = np.stack([r - 1, r - 2])
    variance = np.maximum(np.stack([total, rest]) / np.maximum(d, 1), LEAST)
    levels = np.median(np.log(variance[0])) + LEVELS
    apart = np.log(variance)[:, np.newaxis] - levels[:, np.newaxis]
    outlying = np.minimum(OUTLIERS * r, 0.5)
    # without an outlier, the log density of what is left where all of it is known (Bonferroni)
    share = np.clip(rest / np.maximum(total, LEAST), LEAST, 1.0 - LEAST)
    left = np.log(r * share) + beta.logpdf(share, np.maximum(d[1], 1) / 2.0, 0.5)
    left = np.where(d[1] > 0, left, 0.0)

    def log_densities(d0: float) -> tuple[np.ndarray, np.ndarray]:
        """(levels, configurations), of repeats without and with an outlier."""
        clean = np.log1p(-outlying) + _log_density(apart[0], d[0], d0) + left
        return clean, np.log(outlying) - ANYWHERE + _log_density(apart[1], d[1], d0)

    likelihoods = {d0: np.logaddexp(*log_densities(d0)).sum(-1) for d0 in (*FREEDOM, ALIKE)}
    d0 = max(FREEDOM, key=lambda d0: likelihoods[d0].max())
    if likelihoods[d0].max() < likelihoods[ALIKE].max() + WORTH:
        return np.ones(len(z))
    level = likelihoods[d0].argmax()
    clean, spoiled = (each[level] for each in log_densities(d0))
    kept = (spoiled > clean).astype(int), np.arange(len(r))
    typical = (d[kept] @ variance[kept]) / d[kept].sum()
    moderated = np.ones((2, len(count)))
    moderated[:, repeated] = (d0 * np.exp(levels[level]) + d * variance) / (d0 + d) / typical
    others = np.zeros(len(count), dtype=int)
    others[repeated] = kept[0]
    furthest = squares >= (1.0 - TIES) * largest[which]  # an outlier itself counts for little
    return moderated[np.where(furthest, 0, others[which]), which]


def _log_density(apart: np.ndarray, d: np.ndarray, d0: float) -> np.ndarray:
    """Of log s^2 as far as `apart` from log s_0^2, where s^2 / s_0^2 ~ F(d, d0); 0 where d is."""
    a, b = np.maximum(d, 1) / 2.0, d0 / 2.0
    constant = gammaln(a + b) - gammaln(a) - gammaln(b) + a * np.log(a / b)
    return np.where(d > 0, constant + a * apart - (a + b) * np.log1p(a / b * np.exp(apart)), 0.0)

"""`propose`: the next configurations to measure."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from bayestl.acquisition.acquisition import Acquisition, Outlook
from bayestl.acquisition.feasibility import Feasibility
from bayestl.acquisition.pool import Pool, distinct
from bayestl.data.space import Configuration
from bayestl.errors import AcquisitionError
from bayestl.models.model import Fitted, HasPosterior
from bayestl.models.posterior import Posterior

MAX_FAILURE = 0.5
"""A candidate more likely to fail than this is taken only when nothing else is left."""

_TIE = 1e-9  # relative: rounding must not decide between equal candidates

_log = logging.getLogger(__name__)


def propose(
    acquisition: Acquisition,
    fitted: Fitted | None,
    candidates: pd.DataFrame,
    *,
    n: int = 1,
    measured: Sequence[Mapping[str, Any]] = (),
    pending: Sequence[Mapping[str, Any]] = (),
    replicates: bool = False,
    feasibility: Feasibility | None = None,
    weights: Sequence[float] | np.ndarray | None = None,
    seed: int = 0,
) -> list[Configuration]:
    """The `n` configurations among `candidates` to measure next, best first.

    A batch is greedy: each choice is made as if the ones before it, and all that are
    pending, had been measured. Their values are not known, but a Gaussian's covariance
    does not depend on them (`Posterior.measured`). Utilities are multiplied by the
    probability of success; ties are broken by the seed.

    Parameters
    ----------
    acquisition : what to gain
    fitted : the model; None is enough for an acquisition that needs no posterior
    candidates : valid configurations of the target, a column an option; usually the
        whole finite space or a large sample, since they are also what
        `IntegratedVariance` integrates over. More than `pool.MAX_POOL` are thinned to a
        seeded random subset, which serves both purposes.
    measured : configurations that were measured in the target, failed ones too
    pending : configurations that are being measured; they need not be candidates
    replicates : whether a configuration may be proposed again
    feasibility : what is known about failures; without it everything is taken to work
    weights : one a candidate, how much its knowledge is worth; equal unless given

    Returns
    -------
    `n` configurations, or fewer when fewer are left; distinct unless `replicates`.
    One that failed in the target, and never succeeded there, is never among them. One
    that will probably fail is, with a logged warning, only when nothing else is left.

    Raises
    ------
    NoCandidateLeft
        If every candidate was measured, is pending or is known to fail.
    AcquisitionError
        If the acquisition needs a posterior that is not there, or it is not finite.
    """
    if n < 1:
        raise AcquisitionError(f"expected n of at least 1, got {n}")
    rng = np.random.default_rng(seed)
    names = list(candidates.columns)
    failed = distinct(feasibility.failed if feasibility else (), names)
    awaited, known = distinct(pending, names), distinct(measured, names)
    taken = failed.keys() if replicates else failed.keys() | awaited.keys() | known.keys()
    known = {key: config for key, config in known.items() if key not in failed}
    pool = Pool.of(candidates, weights, taken, {**known, **awaited}, rng)
    success = np.ones(len(pool.points))
    if feasibility is not None:
        success = feasibility.probability(pool.configurations)
    belief = _belief(acquisition, fitted, pool)
    maximize = fitted is not None and fitted.metric.direction == "maximize"
    believed = pool.positions({**known, **awaited})
    for position in pool.positions(awaited):
        belief = belief and belief.measured(position)
    eligible, chosen = pool.eligible.copy(), []
    while len(chosen) < n and eligible.any():
        promising = _promising(eligible, success)
        best = _incumbent(belief, believed, maximize)
        outlook = Outlook(pool.weights * success, rng, belief, best, maximize, promising)
        pick = _argmax(acquisition.score(outlook) * success, promising, rng)
        eligible[pick] = replicates
        believed.append(pick)
        belief = belief and belief.measured(pick)
        chosen.append(pool.configurations[pick])
    return chosen


def _belief(acquisition: Acquisition, fitted: Fitted | None, pool: Pool) -> Posterior | None:
    if not acquisition.needs_posterior:
        return None
    if not isinstance(fitted, HasPosterior):
        got = "none" if fitted is None else fitted.diagnostics.model
        raise AcquisitionError(
            f"{type(acquisition).__name__} expected a fitted model with a joint posterior, such "
            f"as TransferGP, got {got}; use RandomSampling without one"
        )
    return fitted.posterior(pool.configurations)


def _incumbent(belief: Posterior | None, believed: list[int], maximize: bool) -> float | None:
    """The best posterior mean of the points that were measured or are taken to have been."""
    if belief is None or not believed:
        return None
    means = belief.mean[believed]
    return float(means.max() if maximize else means.min())


def _promising(eligible: np.ndarray, success: np.ndarray) -> np.ndarray:
    promising = eligible & (success >= 1 - MAX_FAILURE)
    if promising.any():
        return promising
    _log.warning(
        "every candidate that is left will probably fail (probability %.2f or more)",
        1 - success[eligible].max(),
    )
    return eligible


def _argmax(utility: np.ndarray, eligible: np.ndarray, rng: np.random.Generator) -> int:
    """The position of the largest eligible utility, a random one among equals."""
    if not np.isfinite(utility).all():
        raise AcquisitionError("expected finite utilities; the model's posterior is not finite")
    top = utility[eligible].max()
    equals = np.flatnonzero(eligible & (utility >= top - _TIE * abs(top)))
    return int(rng.choice(equals))

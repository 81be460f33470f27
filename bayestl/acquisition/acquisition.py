"""The protocol of acquisitions: how much is gained by measuring each point of a pool.

An acquisition is a frozen recipe that turns an `Outlook` into one utility a point;
`propose` turns utilities into configurations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from bayestl.errors import AcquisitionError
from bayestl.models.posterior import Posterior


@dataclass(frozen=True)
class Outlook:
    """What an acquisition may look at: the belief about a pool of n configurations.

    Parameters
    ----------
    weights : (n,), how much the knowledge of each point is worth
        Zero for points that are in the pool only because they are being measured.
    rng : the only source of randomness
    belief : the joint posterior at the n points, on the transformed scale; None when
        there is no model yet
    best : the incumbent's value on that scale, the best posterior mean of what was measured, or
        is taken to have been since it is pending or chosen already; None while there is nothing
    maximize : whether larger values of the metric are better
    eligible : (n,), which points may be chosen; all of them unless given
    """

    weights: np.ndarray
    rng: np.random.Generator
    belief: Posterior | None = None
    best: float | None = None
    maximize: bool = False
    eligible: np.ndarray | None = None

    @property
    def size(self) -> int:
        """How many points the pool has."""
        return len(self.weights)

    @property
    def posterior(self) -> Posterior:
        """The joint posterior at the pool.

        Raises
        ------
        AcquisitionError
            If there is no model yet.
        """
        if self.belief is None:
            raise AcquisitionError(
                "expected a fitted model, got none; use RandomSampling until there is one"
            )
        return self.belief


class Acquisition(Protocol):
    """A frozen recipe.

    `needs_posterior` says whether it looks at the model's belief. One that does not,
    such as random sampling, works before there is a model.
    """

    needs_posterior: ClassVar[bool]

    def score(self, outlook: Outlook) -> np.ndarray:
        """(n,) utilities, zero or more, higher is better.

        They are known up to one positive factor a call, so that a utility may be
        multiplied by a probability, such as that of success.
        """
        ...

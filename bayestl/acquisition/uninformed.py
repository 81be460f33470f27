"""Acquisitions that look at nothing: the floor that every other one must beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bayestl.acquisition.acquisition import Outlook


@dataclass(frozen=True)
class RandomSampling:
    """A uniformly random point; it needs no model."""

    needs_posterior: ClassVar[bool] = False

    def score(self, outlook: Outlook) -> np.ndarray:
        return outlook.rng.random(outlook.size)

"""A fitted model whose joint posterior is known exactly: a Gaussian process on a small grid."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bayestl.data.measurement import Metric
from bayestl.data.options import Categorical, Integer
from bayestl.data.space import ConfigSpace
from bayestl.models.model import Diagnostics
from bayestl.models.posterior import Posterior

SPACE = ConfigSpace(
    {"threads": Integer(1, 6), "mode": Categorical(("slow", "fast"))},
    constraints=["not (mode == 'fast' and threads == 6)"],
)


@dataclass
class GridGP:
    """A squared-exponential prior with a known mean; counts how often it is asked."""

    direction: str = "minimize"
    noise: float = 0.05
    asked: int = 0
    target: str = "board"
    space: ConfigSpace = SPACE
    diagnostics: Diagnostics = field(default_factory=lambda: Diagnostics("GridGP()", 0, 0))

    @property
    def metric(self) -> Metric:
        return Metric("latency", "ms", self.direction)

    def predict(self, configs: Any, environment: Any = None, quantiles: Any = ()) -> pd.DataFrame:
        raise NotImplementedError

    def posterior(self, configs: Any, environment: Any = None) -> Posterior:
        self.asked += 1
        frame = self.space.frame(configs)
        x = np.column_stack([frame["threads"].astype(float), 2.0 * (frame["mode"] == "fast")])
        covariance = np.exp(-0.5 * ((x[:, None] - x[None]) ** 2).sum(-1) / 1.5**2)
        return Posterior(np.cos(x[:, 0]) - 0.3 * x[:, 1], covariance, np.full(len(x), self.noise))


@pytest.fixture
def space() -> ConfigSpace:
    return SPACE


@pytest.fixture
def grid_gp() -> Callable[..., GridGP]:
    return GridGP


@pytest.fixture
def candidates() -> pd.DataFrame:
    """All eleven valid configurations."""
    every = [{"threads": t, "mode": m} for t in range(1, 7) for m in ("slow", "fast")]
    return SPACE.frame([config for config in every if SPACE.contains(config)])


def random_posterior(n: int, seed: int) -> Posterior:
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(n, n))
    return Posterior(rng.normal(size=n), root @ root.T / n, rng.uniform(0.01, 0.5, n))


@pytest.fixture
def a_posterior() -> Callable[[int, int], Posterior]:
    return random_posterior

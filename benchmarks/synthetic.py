"""Two environments with a known truth: a smooth function of 15 options, and one like it.

Ten real and five Boolean options act on the logarithm of the metric by main effects and ten
interactions. In the target they act 0.8 times as strongly, on another level, and two
options act differently altogether.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from bayestl.data.environment import Environment
from bayestl.data.options import Boolean, Real
from bayestl.data.space import ConfigSpace
from bayestl.data.table import MeasurementTable

REALS, BOOLEANS, PAIRS, NOISE = 10, 5, 10, 0.02
METRIC, SOURCE, TARGET = "latency", "source", "target"

SPACE = ConfigSpace(
    {f"r{i}": Real(0.0, 1.0) for i in range(REALS)} | {f"b{i}": Boolean() for i in range(BOOLEANS)}
)


@dataclass(frozen=True)
class Truth:
    """The noise-free metric of both environments, drawn at random.

    Parameters
    ----------
    seed : of the draw
    """

    seed: int

    def log_metric(self, frame: pd.DataFrame, environment: str) -> np.ndarray:
        """(n,) natural logarithms of the metric at the configurations of `frame`."""
        rng = np.random.default_rng(self.seed)
        x = frame[list(SPACE.options)].to_numpy(dtype=float)
        count = x.shape[1]
        strength = 0.4 * rng.exponential(size=count) * rng.choice([-1, 1], count)
        bend = rng.uniform(1.0, 3.0, count)
        effects = strength * np.sin(bend * x)
        pairs = rng.integers(count, size=(PAIRS, 2))
        weights = 0.4 * rng.normal(size=PAIRS)
        common = effects.sum(1) + x[:, pairs[:, 0]] * x[:, pairs[:, 1]] @ weights
        if environment == SOURCE:
            return common
        own = rng.choice(count, 2, replace=False)
        return 1.5 + 0.8 * common + x[:, own] @ (0.3 * rng.normal(size=2))

    def measured(self, n_source: int, n_target: int) -> MeasurementTable:
        """A table of noisy measurements; a smaller one is part of a larger one."""
        parts = []
        for position, (name, n) in enumerate(((SOURCE, n_source), (TARGET, n_target))):
            frame = configurations(n, 1_000 * self.seed + position)
            noise = NOISE * np.random.default_rng([self.seed, position]).normal(size=n)
            metric = np.exp(self.log_metric(frame, name) + noise)
            parts.append(frame.assign(environment=name, **{METRIC: metric}))
        return MeasurementTable.from_frame(
            pd.concat(parts, ignore_index=True),
            options=SPACE,
            environment="environment",
            environments=[Environment(SOURCE), Environment(TARGET)],
            metrics={METRIC: "ms"},
        )


def configurations(n: int, seed: int) -> pd.DataFrame:
    """n random configurations of `SPACE`."""
    u = np.random.default_rng(seed).random((n, REALS + BOOLEANS))
    columns = {f"r{i}": u[:, i] for i in range(REALS)}
    columns |= {f"b{i}": u[:, REALS + i] < 0.5 for i in range(BOOLEANS)}
    return pd.DataFrame(columns)

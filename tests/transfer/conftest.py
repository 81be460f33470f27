"""Tables in which every environment responds to the options as the first, up to a line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bayestl.data.environment import Environment
from bayestl.data.options import Categorical, Ordinal
from bayestl.data.sampling import enumerate_space
from bayestl.data.space import ConfigSpace
from bayestl.data.table import MeasurementTable

SPACE = ConfigSpace(
    {
        "threads": Ordinal((1, 2, 4, 8, 16)),
        "layout": Categorical(("nchw", "nhwc", "blocked")),
        "memory": Ordinal((100, 200, 400, 800)),
    }
)
GRID = enumerate_space(SPACE)


def response(grid: pd.DataFrame) -> np.ndarray:
    """Log latency in the reference environment."""
    threads, memory = (np.log(grid[name].to_numpy(float)) for name in ("threads", "memory"))
    layout = grid["layout"].map({"nchw": 0.0, "nhwc": 0.5, "blocked": -0.3}).to_numpy(float)
    return 4 - 0.5 * threads + layout - 0.2 * memory * (threads > 1.5)


def rows_of(
    name: str, rows: Sequence[int] | np.ndarray, log_latency: np.ndarray, noise: float, seed: int
) -> pd.DataFrame:
    """Rows of the grid measured in an environment; a repeated row is a repeat."""
    rng = np.random.default_rng(seed)
    rows = np.asarray(rows, dtype=int)
    values = np.exp(log_latency[rows] + noise * rng.normal(size=len(rows)))
    return GRID.iloc[rows].assign(environment=name, latency=values)


def tabulated(
    *parts: tuple[str, Any, np.ndarray], noise: float = 0.01, seed: int = 0
) -> MeasurementTable:
    """A table of (environment, rows of the grid, log latency of the grid)."""
    frames = [
        rows_of(name, rows, log_latency, noise, seed + place)
        for place, (name, rows, log_latency) in enumerate(parts)
    ]
    return MeasurementTable.from_frame(
        pd.concat(frames, ignore_index=True),
        options=SPACE,
        metrics={"latency": "ms"},
        environments=[Environment(name) for name, _, _ in parts],
    )


@pytest.fixture
def grid() -> pd.DataFrame:
    """Every configuration, 60 of them."""
    return GRID


@pytest.fixture
def truth() -> np.ndarray:
    """(60,) log latency of the grid in the reference environment."""
    return response(GRID)


@pytest.fixture
def tabulate() -> Callable[..., MeasurementTable]:
    """`tabulated`."""
    return tabulated


@pytest.fixture
def some() -> Callable[[int], np.ndarray]:
    """(n) -> n distinct rows of the grid."""
    return lambda n: np.random.default_rng(5).permutation(len(GRID))[:n]

"""Tables of a small, noisy system in two environments, the second twice as slow."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bayestl.data.environment import Environment
from bayestl.data.options import Boolean, Categorical, Integer
from bayestl.data.space import ConfigSpace
from bayestl.data.table import MeasurementTable

SPACE = ConfigSpace(
    {
        "threads": Integer(1, 16),
        "layout": Categorical(("nchw", "nhwc", "blocked")),
        "spin": Boolean(),
    }
)
LAYOUT = {"nchw": 1.0, "nhwc": 1.3, "blocked": 0.8}


def sampled(n: int, seed: int) -> list[dict[str, Any]]:
    """n distinct configurations."""
    rng, result = np.random.default_rng(seed), {}
    while len(result) < n:
        config = {name: option.at(rng.random()) for name, option in SPACE.options.items()}
        result[SPACE.key(config)] = config
    return list(result.values())


def latency_ms(config: dict[str, Any], environment: str) -> float:
    slow = 2.0 if environment == "board" else 1.0
    spin = 0.7 if config["spin"] and config["threads"] > 8 else 1.0
    return 40 * slow * LAYOUT[config["layout"]] * spin / config["threads"] ** 0.6


def measured(rows: list[tuple[dict[str, Any], str]], noise: float, seed: int) -> MeasurementTable:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        [
            {**c, "environment": e, "latency": latency_ms(c, e) * np.exp(noise * rng.normal())}
            for c, e in rows
        ]
    )
    return MeasurementTable.from_frame(
        frame,
        options=SPACE,
        metrics={"latency": "ms"},
        environments=[Environment("laptop"), Environment("board")],
    )


@pytest.fixture
def measure() -> Callable[..., MeasurementTable]:
    """(sources, targets, noise, seed) -> the table; the target is `board`."""

    def table(sources: int, targets: int, noise: float = 0.05, seed: int = 0) -> MeasurementTable:
        rows = [(c, "laptop") for c in sampled(sources, seed)]
        rows += [(c, "board") for c in sampled(targets, seed + 1_000)]
        return measured(rows, noise, seed)

    return table


@pytest.fixture
def fresh() -> pd.DataFrame:
    """Configurations to predict, with an index that is no range."""
    return SPACE.frame(sampled(60, 77)).set_axis([f"c{i}" for i in range(60)])


@pytest.fixture
def true_ms(fresh: pd.DataFrame) -> np.ndarray:
    return np.array([latency_ms(c, "board") for c in SPACE.records(fresh)])

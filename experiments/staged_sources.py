"""Sources that mislead, or are of no use: invented ones, and real ones tampered with.

`invented(stage, seed)` draws a smooth function of eight mixed options for the target;
`flawed_tx2(stage, seed)` takes the TX2's measurements at 600x600 for the target and
those at 400x400 for a source. The stages are the same:

- unrelated: another function, or the source's times shuffled over its configurations
- flipped: one over the latency, so that what is fast in the source is slow in the target
- constant: one and the same value everywhere
- outliers: a good source, of which 5 % are ten times too large
- one-of-ten: nine unrelated sources and a good one
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pandas as pd

from bayestl.data.options import Boolean, Categorical, Integer, Option, Ordinal, Real
from bayestl.data.space import ConfigSpace
from bayestl.data.table import ENVIRONMENT, MeasurementTable
from bayestl.datasets.tx2 import tx2

STAGES = ("unrelated", "flipped", "constant", "outliers", "one-of-ten")

SPACE = ConfigSpace(
    {
        "threads": Ordinal((1, 2, 4, 8)),
        "batch": Ordinal((1, 2, 4, 8, 16, 32)),
        "clock": Real(0.2, 2.0, unit="GHz"),
        "queue": Integer(1, 64),
        "layout": Categorical(("nchw", "nhwc", "blocked")),
        "fuse": Boolean(),
        "spin": Boolean(),
        "arena": Boolean(),
    }
)
ROWS = 700
"""Configurations an invented environment was measured at."""

_NOISE = 0.03  # standard deviation of the logarithm
_OUTLIERS = 0.05
_WAVES = 200
_AMPLITUDE = 0.6  # of a function, in log units

Function = Callable[[pd.DataFrame], np.ndarray]
"""From n configurations to the (n,) logarithms of their latency."""


def sources_of(stage: str) -> tuple[str, ...]:
    """The names of a stage's sources; in the last stage the good one is the last."""
    return tuple(f"source {number}" for number in range(10 if stage == "one-of-ten" else 1))


def invented(stage: str, seed: int) -> MeasurementTable:
    """The target and the sources of a stage, from functions drawn with the seed."""
    rng = np.random.default_rng([seed, STAGES.index(stage)])
    truth, near = _smooth(rng), _smooth(rng)

    def helpful(configurations: pd.DataFrame) -> np.ndarray:
        return 0.7 + truth(configurations) + 0.3 * near(configurations)

    def flipped(configurations: pd.DataFrame) -> np.ndarray:
        return -truth(configurations)

    functions = {"target": truth, **{name: _smooth(rng) for name in sources_of(stage)}}
    last = {"flipped": flipped, "outliers": helpful, "one-of-ten": helpful}
    if stage in last:
        functions[sources_of(stage)[-1]] = last[stage]
    frames = []
    for name, function in functions.items():
        configurations = _draw(ROWS, rng)
        latency = np.exp(function(configurations) + _NOISE * rng.normal(size=ROWS))
        if name != "target":
            latency = _tampered(stage, latency, rng)
        frames.append(configurations.assign(**{ENVIRONMENT: name, "latency": latency}))
    return _table(frames, SPACE)


def flawed_tx2(stage: str, seed: int) -> MeasurementTable:
    """The TX2 at 600x600 as the target, and at 400x400, tampered with, as the sources."""
    rng = np.random.default_rng([seed, STAGES.index(stage)])
    recorded = _recorded()
    latency = recorded.of("400x400").frame["latency"].to_numpy()
    configurations = recorded.of("400x400").configurations()
    target = recorded.of("600x600").frame[[*recorded.space.names, "latency"]]
    frames = [target.assign(**{ENVIRONMENT: "target"})]
    for name in sources_of(stage):
        values = _tampered(stage, latency, rng)
        if stage == "unrelated" or (stage == "one-of-ten" and name != sources_of(stage)[-1]):
            values = rng.permutation(latency)
        if stage == "flipped":
            values = 1 / latency
        frames.append(configurations.assign(**{ENVIRONMENT: name, "latency": values}))
    return _table(frames, recorded.space)


@cache
def _recorded() -> MeasurementTable:
    return tx2(environments=["400x400", "600x600"])


def _tampered(stage: str, latency: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if stage == "constant":
        return np.ones_like(latency)
    if stage == "outliers":
        return np.where(rng.random(len(latency)) < _OUTLIERS, 10 * latency, latency)
    return latency


def _table(frames: list[pd.DataFrame], space: ConfigSpace) -> MeasurementTable:
    frame = pd.concat(frames, ignore_index=True)
    return MeasurementTable.from_frame(frame, options=space, metrics={"latency": "s"})


def _draw(count: int, rng: np.random.Generator) -> pd.DataFrame:
    drawn = rng.random((count, len(SPACE.names)))
    columns = {
        name: [option.at(u) for u in column]
        for (name, option), column in zip(SPACE.options.items(), drawn.T, strict=True)
    }
    return pd.DataFrame(columns)


def _smooth(rng: np.random.Generator) -> Function:
    """A function drawn from a Gaussian process, by random features (Rahimi and Recht, 2007).

    Some options hardly matter; the places of the categorical's choices are drawn as well.
    """
    relevance = rng.lognormal(-0.3, 0.8, size=len(SPACE.names))
    frequencies = relevance * rng.normal(size=(_WAVES, len(SPACE.names)))
    phases = rng.uniform(0, 2 * np.pi, size=_WAVES)
    order = rng.permutation(3)

    def function(configurations: pd.DataFrame) -> np.ndarray:
        places = [
            _places(option, configurations[name].to_numpy(), order)
            for name, option in SPACE.options.items()
        ]
        waves = np.cos(np.column_stack(places) @ frequencies.T + phases)
        return _AMPLITUDE * np.sqrt(2 / _WAVES) * waves.sum(axis=1)

    return function


def _places(option: Option, values: np.ndarray, order: np.ndarray) -> np.ndarray:
    """(n,) places between -1 and 1: levels by rank, the categorical's by the drawn order."""
    if isinstance(option, (Real, Integer)):
        return 2 * (values.astype(float) - option.low) / (option.high - option.low) - 1
    assert option.levels is not None
    levels = list(option.levels)
    ranks = np.array([levels.index(value) for value in values])
    if isinstance(option, Categorical):
        ranks = order[ranks]
    return 2 * ranks / (len(levels) - 1) - 1

"""Tables with a known truth, shared by the tests of the models."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
import pytest
import torch

from bayestl.data.environment import Environment
from bayestl.data.options import Boolean, Categorical, Ordinal, Real
from bayestl.data.space import ConfigSpace
from bayestl.data.table import MeasurementTable
from bayestl.models.encoding import Group
from bayestl.models.gaussian_process.conditioning import Conditioned
from bayestl.models.gaussian_process.fitting import Hyperparameters
from bayestl.models.gaussian_process.kernels import CoregionalizedKernel, EnvironmentNoise
from bayestl.models.sequential.source_block import SourceBlock
from bayestl.models.sequential.target_block import TargetPrior

SPACE = ConfigSpace(
    {
        "threads": Ordinal((1, 2, 4, 8)),
        "mode": Categorical(("a", "b", "c")),
        "fused": Boolean(),
        "share": Real(0.0, 1.0),
    }
)


def response(frame: pd.DataFrame) -> np.ndarray:
    """Log latency: main effects and one interaction."""
    threads = np.log2(frame["threads"].to_numpy(float))
    mode = frame["mode"].map({"a": 0.0, "b": 0.6, "c": -0.4}).to_numpy(float)
    fused, share = frame["fused"].to_numpy(float), frame["share"].to_numpy(float)
    return -0.4 * threads + mode + 0.5 * fused * share + np.sin(2 * share)


def configurations(n: int, seed: int) -> pd.DataFrame:
    """n random configurations of SPACE."""
    rng = np.random.default_rng(seed)
    return SPACE.frame(
        pd.DataFrame(
            {
                "threads": rng.choice([1, 2, 4, 8], n),
                "mode": rng.choice(["a", "b", "c"], n),
                "fused": rng.random(n) < 0.5,
                "share": rng.random(n),
            }
        )
    )


def measured(rows: Mapping[str, tuple[int, float, float]], seed: int = 0) -> MeasurementTable:
    """A table: environment -> (rows, slope, shift), latency = exp(shift + slope * response)."""
    rng = np.random.default_rng(seed)
    parts = []
    for position, (name, (n, slope, shift)) in enumerate(rows.items()):
        frame = configurations(n, 1000 * seed + position)
        noise = 0.02 * rng.normal(size=n)
        parts.append(
            frame.assign(where=name, latency=np.exp(shift + slope * response(frame) + noise))
        )
    return MeasurementTable.from_frame(
        pd.concat(parts, ignore_index=True),
        options=SPACE,
        environment="where",
        environments=[Environment(name) for name in rows],
        metrics={"latency": "ms"},
    )


@pytest.fixture(scope="session")
def measure() -> Callable[..., MeasurementTable]:
    """`measured`, for what a module measures once."""
    return measured


@pytest.fixture
def make_table() -> Callable[..., MeasurementTable]:
    """`measured`."""
    return measured


@pytest.fixture
def make_test() -> Callable[..., tuple[pd.DataFrame, np.ndarray]]:
    """Configurations that no table holds, and their true latency for a slope and a shift."""

    def make(slope: float = 1.0, shift: float = 0.0) -> tuple[pd.DataFrame, np.ndarray]:
        frame = configurations(150, 987_654)
        return frame, np.exp(shift + slope * response(frame))

    return make


GROUPS = (Group("a"), Group("b", True))


def features(n: int, seed: int) -> torch.Tensor:
    """(n, 2) features of GROUPS: a position, and one of two levels."""
    rng = np.random.default_rng(seed)
    return torch.from_numpy(np.c_[rng.random(n), rng.integers(2, size=n)].astype(float))


def process(n: int, seed: int, like: int = 0, shift: float = 0.0) -> Conditioned:
    """A source whose hyperparameters were not fitted; equal `like` give alike functions."""
    rng = np.random.default_rng([seed, 5])
    hyperparameters = Hyperparameters(CoregionalizedKernel(GROUPS, 1), EnvironmentNoise(1))
    with torch.no_grad():
        options = hyperparameters.kernel.options[0]
        options.raw_lengthscales.copy_(torch.tensor(np.log([0.5 + 0.1 * seed, 1.0])))
        hyperparameters.noise.raw_level.fill_(np.log(0.01 * (1 + seed)))
    x = features(n, 100 + seed)
    a, b = x.numpy().T
    z = shift + np.sin(5 * a + 2 * like) + b * (a - 0.3 * like) + 0.1 * rng.normal(size=n)
    inputs = torch.cat([x, torch.zeros(n, 1, dtype=x.dtype)], -1)
    return Conditioned.on(hyperparameters, inputs, torch.from_numpy(z))


@pytest.fixture
def make_features() -> Callable[..., torch.Tensor]:
    """`features`."""
    return features


@pytest.fixture
def make_process() -> Callable[..., Conditioned]:
    """`process`."""
    return process


@pytest.fixture
def groups() -> tuple[Group, ...]:
    """`GROUPS`."""
    return GROUPS


@pytest.fixture
def prior(make_process, groups) -> TargetPrior:
    """Of two sources that are not alike."""
    processes = [make_process(18, 0), make_process(12, 1, like=1, shift=0.8)]
    return TargetPrior.of(groups, SourceBlock.of(processes, unit=0.7))


@pytest.fixture
def nine(prior, make_features) -> tuple[torch.Tensor, torch.Tensor]:
    """Nine measurements of a target, three of them where both sources were measured, or one."""
    first, second = (process.x[:, :-1] for process in prior.sources.processes)
    x = torch.cat([first[:2], second[3:4], make_features(6, seed=50)])
    a, b = x.numpy().T
    noise = 0.1 * np.random.default_rng(3).normal(size=9)
    return x, torch.from_numpy(0.4 + 1.3 * np.sin(5 * a + 1) + 0.8 * b * a + noise)


@pytest.fixture
def no_outliers(monkeypatch) -> None:
    """No measurement is held for an outlier."""
    monkeypatch.setattr("bayestl.models.sequential.explanation.FEW", 10**6)


@pytest.fixture
def unsampled(monkeypatch) -> None:
    """However many hypotheses are likely, none stands for another."""
    monkeypatch.setattr("bayestl.models.sequential.target_block.MASS", 2.0)
    monkeypatch.setattr("bayestl.models.sequential.target_block.MOST", 10**6)

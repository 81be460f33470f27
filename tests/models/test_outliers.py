import numpy as np
import pytest
import torch

from bayestl.models.fitting import Hyperparameters
from bayestl.models.gp import MultiTaskGP, TargetOnlyGP
from bayestl.models.kernels import CoregionalizedKernel, EnvironmentNoise
from bayestl.models.outliers import extra_variance, fit_robustly

SPOILED = (3, 14, 22, 35, 47)
"""One row in ten."""


def test_a_tenfold_value_is_found_and_does_not_move_the_fit(make_table, make_test):
    table = make_table({"source": (60, 1.0, 0.0), "target": (30, 1.0, 1.0)})
    configs, truth = make_test(shift=1.0)
    broken = table.frame.copy()
    row = int(np.flatnonzero(broken["environment"] == "target")[3])
    broken.loc[row, "latency"] *= 20
    clean = MultiTaskGP().fit(table, metric="latency", target="target")
    robust = MultiTaskGP().fit(
        type(table)(broken, table.space, table.environments, table.metrics),
        metric="latency",
        target="target",
    )
    assert clean.diagnostics.details["outliers"] == {"target": 0, "source": 0}
    assert robust.diagnostics.details["outliers"] == {"target": 1, "source": 0}
    assert any("outlier" in warning for warning in robust.diagnostics.warnings)
    errors = [np.abs(g.predict(configs)["q50"] / truth - 1).mean() for g in (clean, robust)]
    assert errors[1] < errors[0] + 0.02


def test_few_measurements_hold_no_outliers(make_table):
    table = make_table({"target": (8, 1.0, 0.0)})
    values = table.frame["latency"].to_numpy().copy()
    values[0] *= 30
    broken = type(table)(
        table.frame.assign(latency=values), table.space, table.environments, table.metrics
    )
    fitted = TargetOnlyGP().fit(broken, metric="latency", target="target")
    assert fitted.diagnostics.details["outliers"] == {"target": 0}


@pytest.fixture
def fifty(make_features, groups):
    """Hyperparameters that were not fitted, fifty rows of a curve, and five of them tenfold."""
    hyperparameters = Hyperparameters(CoregionalizedKernel(groups, 1), EnvironmentNoise(1))
    x = torch.cat([make_features(50, 7), torch.zeros(50, 1, dtype=torch.float64)], -1)
    a, b, _ = x.numpy().T
    rng = np.random.default_rng(2)
    clean = torch.from_numpy(np.sin(5 * a) + 0.5 * b * a + 0.05 * rng.normal(size=50))
    spoiled = clean.clone()
    spoiled[list(SPOILED)] += np.log(10.0)
    return hyperparameters, x, clean, spoiled


def found(extra: torch.Tensor) -> list[int]:
    """The rows that were found to be outliers."""
    return torch.nonzero(extra).squeeze(-1).tolist()


def test_outliers_that_were_fitted_as_noise_are_found_all_the_same(fifty):
    hyperparameters, x, clean, spoiled = fifty
    with torch.no_grad():
        hyperparameters.noise.raw_level.fill_(np.log(0.7**2))  # what the five cause
    assert found(extra_variance(hyperparameters, x, spoiled)) == list(SPOILED)
    assert found(extra_variance(hyperparameters, x, clean)) == []


def test_a_small_source_is_fitted_without_the_pull_of_its_outliers(fifty):
    hyperparameters, x, _, spoiled = fifty
    _, extra = fit_robustly(hyperparameters, x, spoiled)
    assert found(extra) == list(SPOILED)
    assert hyperparameters.noise.variance.item() ** 0.5 < 0.1


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_what_is_constant_has_none(value, fifty):
    hyperparameters, x, clean, _ = fifty
    _, extra = fit_robustly(hyperparameters, x, torch.full_like(clean, value))
    assert found(extra) == []

"""The one choice: dense or matrix-free by the number of measurements, and what it takes."""

import pytest
import torch

from bayestl.models.gaussian_process import solver as solvers
from bayestl.models.gaussian_process.device import CPU
from bayestl.models.gaussian_process.matrix_free import Covariance, MatrixFree
from bayestl.models.gaussian_process.solver import Dense, bytes_needed, solver


@pytest.fixture
def covariance(make_process) -> Covariance:
    """Of 30 measurements."""
    process = make_process(30, 0)
    return Covariance(process.hyperparameters.kernel, process.x, process.noise(process.x))


@torch.no_grad()
def test_the_number_of_measurements_decides(covariance, monkeypatch):
    z = torch.linspace(-1, 1, 30, dtype=torch.float64)
    dense, expected = solver(covariance, z)
    assert isinstance(dense, Dense)
    monkeypatch.setattr(solvers, "DENSE_ROWS", 29)
    monkeypatch.setattr(solvers, "RANK", 8)
    free, alpha = solver(covariance, z)
    assert isinstance(free, MatrixFree)
    assert free.rank == 8
    torch.testing.assert_close(alpha, expected, rtol=1e-6, atol=1e-6)


@torch.no_grad()
def test_a_factor_solves(covariance):
    z = torch.linspace(-1, 1, 30, dtype=torch.float64)
    dense, alpha = solver(covariance, z)
    inverse = torch.linalg.inv(covariance.matrix())
    torch.testing.assert_close(alpha, inverse @ z)
    cross = covariance.kernel.forward(covariance.x, covariance.x[:4] + 0.1)
    torch.testing.assert_close(dense.half(cross).mT @ dense.half(cross), cross.mT @ inverse @ cross)
    rows = torch.tensor([3, 29])
    torch.testing.assert_close(dense.precision(rows), inverse.diagonal()[rows])
    assert dense.rank == 30


def test_memory_is_that_of_the_matrices_or_of_their_roots():
    room = solvers.ROOM * solvers.TILES["cpu"] * 8
    assert bytes_needed([], CPU) == 0
    assert bytes_needed([40_000], CPU) == pytest.approx(12.8e9 + room)
    assert bytes_needed([10_000, 20_000], CPU, 2) == pytest.approx(0.8e9 + 3.2e9 + 2 * room)
    assert 12e9 < bytes_needed([100_000], CPU) < 20e9

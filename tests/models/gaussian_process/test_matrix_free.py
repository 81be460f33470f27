"""Solving without the matrix gives what solving with it does."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from bayestl.models.gaussian_process import matrix_free
from bayestl.models.gaussian_process.matrix_free import (
    CONVERGED,
    TOLERANCE,
    Covariance,
    MatrixFree,
    conjugate_gradients,
    pivoted_cholesky,
)
from bayestl.models.gaussian_process.solver import Dense


@pytest.fixture
def covariance(make_process) -> Covariance:
    """Of 60 measurements, a few of which are noisier."""
    process = make_process(60, 0)
    noise = process.noise(process.x) * torch.linspace(1.0, 20.0, 60, dtype=torch.float64)
    return Covariance(process.hyperparameters.kernel, process.x, noise)


@pytest.fixture
def z() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(3).normal(size=60))


@pytest.fixture(params=[10_000, 300, 10])
def tiles(request, monkeypatch) -> None:
    """Tiles of all rows, of a few, and of less than one."""
    monkeypatch.setitem(matrix_free.TILES, "cpu", request.param)


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


@pytest.mark.usefixtures("tiles")
def test_tiles_make_up_the_matrix(covariance):
    x, vectors = covariance.x, torch.eye(60, dtype=torch.float64)
    whole = covariance.kernel.forward(x, x) + torch.diag(covariance.noise)
    torch.testing.assert_close(covariance.matrix(), whole)
    torch.testing.assert_close(covariance.times(vectors), whole)
    assert covariance.matrix().stride() == (1, 60)  # as LAPACK wants it: factorised in place


@pytest.mark.usefixtures("tiles")
def test_it_solves_as_a_factor_does(covariance, z):
    exact, expected = Dense.of(covariance, z)
    found, alpha = MatrixFree.of(covariance, z, rank=12)
    assert found.rank == 12
    assert found.converged
    assert found.residual <= TOLERANCE
    assert 0 < found.iterations < 60
    torch.testing.assert_close(alpha, expected, rtol=1e-6, atol=1e-6)
    rows = torch.tensor([0, 5, 59])
    torch.testing.assert_close(found.precision(rows), exact.precision(rows), rtol=1e-6, atol=0)


def test_what_is_left_out_makes_the_variance_wider_never_narrower(covariance, z, make_features):
    asked = torch.cat([make_features(40, 7), torch.zeros(40, 1)], -1)
    cross = covariance.kernel.forward(covariance.x, asked)
    explained = Dense.of(covariance, z)[0].half(cross).square().sum(0)
    gaps = []
    for rank in (3, 10, 30, 60):
        found = MatrixFree.of(covariance, z, rank)[0].half(cross).square().sum(0)
        assert (found <= explained + 1e-9).all()
        gaps.append(float((explained - found).max()))
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[0] > 1e-3
    assert gaps[-1] < 1e-6


def test_landmarks_spare_iterations(covariance, z):
    counts = [MatrixFree.of(covariance, z, rank)[0].iterations for rank in (3, 12, 30, 60)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > 10
    assert counts[-1] <= 3


def test_repeats_are_landmarks_once(covariance, z):
    repeated = Covariance(covariance.kernel, covariance.x.repeat(3, 1), covariance.noise.repeat(3))
    found, alpha = MatrixFree.of(repeated, z.repeat(3), rank=100)
    assert found.rank <= 60
    _, expected = Dense.of(repeated, z.repeat(3))
    torch.testing.assert_close(alpha, expected, rtol=1e-6, atol=1e-6)


def test_iterations_end_and_say_what_is_left(covariance, z, monkeypatch):
    monkeypatch.setattr(matrix_free, "ITERATIONS", 2)
    found, alpha = MatrixFree.of(covariance, z, rank=3)
    assert (found.iterations, found.converged) == (2, False)
    left = z - covariance.matrix() @ alpha
    assert found.residual == pytest.approx(float(left.norm() / z.norm()))


def test_what_rounding_leaves_is_no_failure(covariance, z):
    found, _ = MatrixFree.of(covariance, z, rank=3)
    assert replace(found, residual=2.0 * TOLERANCE).converged
    assert not replace(found, residual=2.0 * CONVERGED).converged


def test_blocks_are_solved_a_few_rows_at_a_time(covariance, z, monkeypatch):
    """Unless one is larger by itself; memory is for as many columns."""
    monkeypatch.setattr(matrix_free, "TOGETHER", 5)
    solve, widths = matrix_free.conjugate_gradients, []

    def counted(times, preconditioned, right):
        widths.append(right.shape[-1])
        return solve(times, preconditioned, right)

    found, _ = MatrixFree.of(covariance, z, rank=30)
    monkeypatch.setattr(matrix_free, "conjugate_gradients", counted)
    groups = [
        torch.tensor(rows) for rows in ([3, 9], [20, 1, 7], [4], [30, 31, 32, 33, 34, 35, 36])
    ]
    blocks, inverse = found.blocks(groups), torch.linalg.inv(covariance.matrix())
    assert widths == [5, 1, 7]
    expected, _ = Dense.of(covariance, z)
    for group, block, dense in zip(groups, blocks, expected.blocks(groups), strict=True):
        torch.testing.assert_close(block, inverse[group][:, group], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(dense, inverse[group][:, group])


def test_columns_are_solved_side_by_side():
    """Of which one takes no step, one a single step and one many."""
    rng = np.random.default_rng(0)
    matrix = torch.from_numpy(np.diag(np.r_[1.0, np.logspace(0, 3, 29)]))
    right = torch.from_numpy(rng.normal(size=(30, 3)))
    right[:, 0], right[1:, 1] = 0.0, 0.0
    found, iterations, residual = conjugate_gradients(lambda v: matrix @ v, lambda v: v, right)
    torch.testing.assert_close(matrix @ found, right, rtol=0, atol=1e-6)
    assert (found[:, 0] == 0).all()
    assert iterations >= 20
    assert residual <= TOLERANCE


def test_rounding_ends_the_iterations():
    """Of a system for which float64 is too coarse; the residual that is told is the true one."""
    rng = np.random.default_rng(1)
    basis, _ = np.linalg.qr(rng.normal(size=(40, 40)))
    matrix = torch.from_numpy(basis @ np.diag(np.logspace(0, 17, 40)) @ basis.T)
    right = torch.from_numpy(basis @ np.ones((40, 1)))
    found, iterations, residual = conjugate_gradients(lambda v: matrix @ v, lambda v: v, right)
    assert iterations <= matrix_free.ITERATIONS
    assert residual > TOLERANCE
    assert residual == pytest.approx(float((right - matrix @ found).norm() / right.norm()))


def test_a_pivoted_factor_takes_the_rows_that_explain_most():
    matrix = torch.diag(torch.tensor([1.0, 4.0, 0.5, 9.0], dtype=torch.float64))
    matrix[0, 3] = matrix[3, 0] = 3.0  # the first row is a third of the last
    order, factor, left = pivoted_cholesky(matrix.diagonal(), lambda row: matrix[row], 0.1, 4)
    assert order == [3, 1, 2]
    torch.testing.assert_close(factor @ factor.mT, matrix)
    assert left == pytest.approx(0.0)
    order, factor, left = pivoted_cholesky(matrix.diagonal(), lambda row: matrix[row], 0.1, 2)
    assert (order, factor.shape, left) == ([3, 1], (4, 2), 0.5)


@pytest.mark.parametrize("environments", [1, 3])
def test_everything_is_computed_where_the_tensors_are(environments, groups, monkeypatch):
    """On torch's `meta` device, which has shapes only and refuses to meet the CPU."""
    meta = torch.device("meta")
    monkeypatch.setitem(matrix_free.TILES, "meta", 300)
    kernel = matrix_free.CoregionalizedKernel(groups, environments, 1, environments > 1)
    x = torch.empty(60, 3, dtype=torch.float64, device=meta)
    covariance = Covariance(kernel.double().to(meta), x, x[:, 0])
    assert covariance.matrix().device == covariance.times(x).device == meta
    cross = kernel.forward(x, x[:5])
    dense = Dense(covariance.matrix(), 0.0)
    assert dense.half(cross).shape == (60, 5)
    assert dense.precision(torch.arange(2)).device == meta
    some = MatrixFree(covariance, x.new_empty(60, 7), x.new_empty(7, 7), 0, 0.0)
    assert some.half(cross).shape == (7, 5)
    assert some._preconditioned(x).device == meta

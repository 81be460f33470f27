"""A process answers the same however its covariance is solved with, and wherever."""

import numpy as np
import pytest
import torch

from bayestl.models.gaussian_process import conditioning, matrix_free
from bayestl.models.gaussian_process import solver as solvers
from bayestl.models.gaussian_process.conditioning import Conditioned
from bayestl.models.gaussian_process.fitting import Hyperparameters
from bayestl.models.gaussian_process.kernels import CoregionalizedKernel, EnvironmentNoise
from bayestl.models.gaussian_process.matrix_free import MatrixFree
from bayestl.models.model import Diagnostics
from bayestl.models.state import State


@pytest.fixture
def exact(make_process) -> Conditioned:
    return make_process(50, 0)


@pytest.fixture
def free(exact, monkeypatch) -> Conditioned:
    """The same without a matrix, from as many landmarks as there are measurements."""
    monkeypatch.setattr(solvers, "DENSE_ROWS", 10)
    found = Conditioned.on(exact.hyperparameters, exact.x, exact.z, exact.extra)
    assert isinstance(found.solver, MatrixFree)
    return found


@pytest.fixture
def asked(make_features) -> torch.Tensor:
    return torch.cat([make_features(12, 9), torch.zeros(12, 1)], -1)


def assert_alike(found: object, expected: object) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=3e-6)


def test_without_a_matrix_it_answers_the_same(free, exact, asked):
    assert_alike(free.marginals(asked), exact.marginals(asked))
    with torch.no_grad():
        assert_alike(free.joint(asked), exact.joint(asked))
    rows = torch.tensor([1, 48])
    assert_alike(free.leave_one_out(rows), exact.leave_one_out(rows))


def test_noise_may_differ_from_row_to_row(exact, asked):
    relative = torch.linspace(1.0, 6.0, 50, dtype=torch.float64)
    given = exact.hyperparameters, exact.x, exact.z
    found = Conditioned.on(*given, None, relative)
    expected = Conditioned.on(*given, exact.noise(exact.x) * (relative - 1.0))
    assert_alike(found.marginals(asked), expected.marginals(asked))
    rows = torch.tensor([1, 48])
    assert_alike(found.leave_one_out(rows), expected.leave_one_out(rows))
    assert_alike(found.noise_of(rows), exact.noise(exact.x[rows]) * relative[rows])
    assert_alike(found.noise(asked), exact.noise(asked))  # of a new measurement


def test_both_are_differentiable_in_what_is_asked(free, exact, asked):
    slopes = []
    for process in (free, exact):
        x = asked[:3].clone().requires_grad_()
        mean, covariance = process.joint(x)
        slopes.append(torch.autograd.grad(mean.sum() + covariance.sum(), x)[0])
    torch.testing.assert_close(*slopes, rtol=1e-4, atol=1e-4)


def test_tiles_change_nothing(exact, asked, monkeypatch):
    monkeypatch.setitem(matrix_free.TILES, "cpu", 70)
    tiled = Conditioned.on(exact.hyperparameters, exact.x, exact.z, exact.extra)
    assert_alike(tiled.marginals(asked), exact.marginals(asked))
    assert_alike(tiled.towards(asked)[1], exact.solver.half(_cross(exact, asked)))


def test_it_tells_how_it_was_solved(exact, free, monkeypatch):
    told = {"device": "cpu", "rows": 50, "method": "dense", "jitter": 0.0}
    assert exact.solved == told
    assert exact.warning is None
    assert free.solved["method"] == "matrix-free"
    assert free.solved["residual"] <= matrix_free.TOLERANCE
    assert free.warning is None
    monkeypatch.setattr(matrix_free, "ITERATIONS", 1)
    monkeypatch.setattr(solvers, "RANK", 2)
    hasty = Conditioned.on(exact.hyperparameters, exact.x, exact.z)
    assert (hasty.solved["iterations"], hasty.solved["rank"]) == (1, 2)
    assert hasty.warning is not None
    assert hasty.warning.startswith("conjugate gradients did not converge: after 1 iterations")


def test_without_a_matrix_it_is_kept_to_the_last_bit(free, asked, groups):
    state = State({}, free.to_arrays())
    like = Hyperparameters(CoregionalizedKernel(groups, 1), EnvironmentNoise(1))
    found = Conditioned.from_arrays(state, like, free.x, free.z, free.extra, free.relative)
    assert all(map(torch.equal, found.marginals(asked), free.marginals(asked)))
    assert found.solved == free.solved
    rows = torch.tensor([0, 30])
    assert all(map(torch.equal, found.leave_one_out(rows), free.leave_one_out(rows)))
    assert Diagnostics("", 0, 0, details={"solved": found.solved}).to_dict()


def test_it_takes_and_gives_tensors_on_the_cpu(exact, asked, monkeypatch):
    """As far as torch's `meta` device shows, which has no numbers and refuses to meet the CPU."""
    meta = torch.device("meta")
    monkeypatch.setitem(matrix_free.TILES, "meta", 100)
    factor = exact.solver.factor.to(meta)
    away = Conditioned(
        exact.hyperparameters,
        exact.x,
        exact.z,
        exact.extra,
        exact.relative,
        solvers.Dense(factor, 0.0),
        exact.alpha,
        meta,
    )
    assert away._there[0].loadings.device == meta
    monkeypatch.setattr(conditioning, "CPU", meta)  # nothing comes back from there
    assert [found.shape for found in away.towards(asked)] == [(12,), (50, 12)]
    with torch.no_grad():
        assert [found.shape for found in away.joint(asked)] == [(12,), (12, 12)]
    assert exact.hyperparameters.kernel.loadings.device.type == "cpu"


def _cross(process: Conditioned, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return process.hyperparameters.kernel.forward(process.x, x)


def test_no_measurements_leave_the_prior(exact, asked):
    none = Conditioned.on(exact.hyperparameters, exact.x[:0], exact.z[:0])
    mean, variance = none.marginals(asked)
    assert np.all(mean.numpy() == 0)
    with torch.no_grad():
        prior = exact.hyperparameters.kernel.forward(asked, asked, diag=True)
    assert_alike(variance, prior)

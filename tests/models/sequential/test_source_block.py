"""What sources say: each its own process, and what it measured beyond its smooth mean."""

import numpy as np
import pytest
import torch

from bayestl.models.gaussian_process.conditioning import Conditioned
from bayestl.models.gaussian_process.kernels import value
from bayestl.models.sequential.source_block import TRUST, SourceBlock, reliability, with_zero


@pytest.fixture
def block(make_process) -> SourceBlock:
    """Three sources of different size and lengthscales."""
    return SourceBlock.of([make_process(n, seed) for seed, n in enumerate((25, 12, 40))])


@pytest.fixture
def x(make_features) -> torch.Tensor:
    """Configurations that no source measured."""
    return make_features(9, seed=77)


def test_a_view_holds_each_process_own_marginals(block, x):
    view = block.at(x)
    assert view.means.shape == (9, 3)
    for s, process in enumerate(block.processes):
        mean, variance = process.marginals(with_zero(x))
        torch.testing.assert_close(view.means[:, s], mean)
        torch.testing.assert_close(block.variance(s, view), variance)


def test_covariances_are_those_of_the_process_jointly(block, x, make_features):
    other = make_features(5, seed=78)
    for s, process in enumerate(block.processes):
        with torch.no_grad():
            _, joint = process.joint(with_zero(torch.cat([x, other])))
        between = block.covariance(s, block.at(x), block.at(other))
        torch.testing.assert_close(between, joint[:9, 9:], atol=1e-10, rtol=1e-7)
        within = block.covariance(s, block.at(x), block.at(x))
        torch.testing.assert_close(within, joint[:9, :9], atol=1e-10, rtol=1e-7)
        torch.testing.assert_close(within.diagonal(), block.variance(s, block.at(x)))


def test_rows_of_a_view_are_the_view_of_rows(block, x):
    rows = torch.tensor([7, 0, 3])
    some, expected = block.at(x).rows(rows), block.at(x[rows])
    torch.testing.assert_close(some.means, expected.means)
    torch.testing.assert_close(some.odd, expected.odd)
    for half, other in zip(some.halves, expected.halves, strict=True):
        torch.testing.assert_close(half, other)
    torch.testing.assert_close(
        block.covariance(1, some, block.at(x)), block.covariance(1, expected, block.at(x))
    )


def test_what_is_odd_is_what_was_measured_beyond_the_smooth_mean(block):
    for s, process in enumerate(block.processes):
        smooth, _ = process.marginals(process.x)
        view = block.at(process.x[:, :-1])
        torch.testing.assert_close(view.odd[:, s], process.z - smooth, atol=1e-9, rtol=1e-7)
        assert view.odd[:, s].abs().min() > 0


def test_of_repeats_it_is_the_average_and_outliers_are_held_back(make_process):
    process = make_process(20, 0)
    repeats = torch.tensor([0, 0, 0, 1, *range(2, 20), 5])
    x, z = process.x[repeats], process.z[repeats] + 0.1 * torch.arange(len(repeats)) % 0.3
    extra = torch.zeros(len(z), dtype=z.dtype)
    z[6], extra[6] = z[6] + 30.0, 900.0  # an outlier that was measured once
    z[1], extra[1] = z[1] + 30.0, 900.0  # and one of three repeats
    repeated = Conditioned.on(process.hyperparameters, x, z, extra)
    block = SourceBlock.of([repeated])
    smooth, _ = repeated.marginals(x)
    noise = repeated.noise(x)
    left = (z - smooth) * noise / (noise + extra)  # all of it, but for outliers
    found = block.at(x[:, :-1]).odd[:, 0]
    for row in range(len(z)):
        same = (x == x[row]).all(-1)
        assert found[row].item() == pytest.approx(left[same].mean().item(), abs=1e-9)
    assert abs(found[6].item()) < 0.05 * abs((z - smooth)[6].item())


def test_noisy_configurations_are_held_back_as_far_as_they_are_noisy(make_process):
    process = make_process(20, 0)
    relative = torch.linspace(0.2, 8.0, 20, dtype=torch.float64)
    found = Conditioned.on(process.hyperparameters, process.x, process.z, None, relative)
    odd = SourceBlock.of([found]).at(found.x[:, :-1]).odd[:, 0]
    left = (found.z - found.marginals(found.x)[0]) / relative.clamp_min(1.0)
    torch.testing.assert_close(odd, left, atol=1e-9, rtol=1e-7)


def test_configurations_are_found_wherever_they_are_asked(block, x):
    process = block.processes[1]
    asked = torch.cat([x[:4], process.x[5:7, :-1], x[4:], process.x[:1, :-1]])
    odd = block.at(asked).odd[:, 1]
    own = block.odd[1]
    torch.testing.assert_close(odd[[4, 5, -1]], own[[5, 6, 0]])
    assert (odd[[*range(4), *range(6, 11)]] == 0).all()
    nearly = process.x[5:7, :-1] + torch.tensor([[1e-12], [-1e-12]])
    torch.testing.assert_close(block.at(nearly).odd[:, 1], own[5:7])  # rounded otherwise
    near = process.x[5:7, :-1] + 1e-6
    assert (block.at(near).odd[:, 1] == 0).all()


def test_every_configuration_of_a_grid_is_found(make_process):
    """Many of the same projections on one option, none of which are mixed up."""
    process = make_process(1, 0)
    axes = torch.meshgrid(*[torch.linspace(0, 1, 6, dtype=torch.float64)] * 2, indexing="ij")
    x = torch.cat([torch.stack([a.flatten() for a in axes], 1), torch.zeros(36, 1)], -1)
    x = x[np.random.default_rng(0).permutation(36)]
    z = torch.arange(36, dtype=torch.float64)
    block = SourceBlock.of([Conditioned.on(process.hyperparameters, x, z)])
    torch.testing.assert_close(block.at(x[:, :-1]).odd[:, 0], block.odd[0])


def test_no_configurations_are_no_error(block):
    view = block.at(torch.empty(0, 2, dtype=torch.float64))
    assert view.means.shape == view.odd.shape == (0, 3)
    assert block.covariance(0, view, view).shape == (0, 0)


def test_without_a_source_are_all_others(block, x):
    rest = block.without(1)
    assert len(block) == 3
    assert len(rest) == 2
    torch.testing.assert_close(rest.at(x).means, block.at(x).means[:, [0, 2]])
    torch.testing.assert_close(rest.reliability, block.reliability[[0, 2]], atol=0, rtol=0)
    torch.testing.assert_close(
        rest.at(block.processes[2].x[:, :-1]).odd[:, 1], block.odd[2], atol=0, rtol=0
    )


def test_reliability_is_what_measurements_say_of_those_left_out(make_process):
    process = make_process(20, 0)
    z, extra = process.z.clone(), torch.zeros(20, dtype=torch.float64)
    z[4], extra[4] = 30.0, 900.0  # an outlier does not count
    found = Conditioned.on(process.hyperparameters, process.x, z, extra)
    left, total = 0.0, 0.0
    for row in (row for row in range(20) if row != 4):
        rest = [other for other in range(20) if other != row]
        others = Conditioned.on(process.hyperparameters, process.x[rest], z[rest], extra[rest])
        left += (z[row] - others.marginals(process.x[row : row + 1])[0].item()).item() ** 2
        total += (z[row] - z[[r for r in rest if r != 4]].mean()).item() ** 2
    expected = (TRUST + 19 * (1.0 - left / total)) / (TRUST + 19)
    assert reliability([found]).item() == pytest.approx(expected, rel=1e-6)
    assert 0.5 < expected < 1.0


def test_noise_and_constants_are_not_reliable_and_little_is_believed(make_process):
    process = make_process(200, 0)
    order = torch.from_numpy(np.random.default_rng(0).permutation(200))

    def measured(z: torch.Tensor) -> float:
        rows = len(z)
        some = Conditioned.on(process.hyperparameters, process.x[:rows], z)
        return reliability([some]).item()

    assert measured(process.z) > 0.95
    assert measured(process.z[order]) < 0.1
    assert measured(torch.full_like(process.z, 2.0)) < 0.02
    assert measured(process.z[:1]) == pytest.approx(TRUST / (TRUST + 1.0))


def test_lengthscales_and_noise_are_geometric_means(block):
    scales = torch.stack(
        [value(p.hyperparameters.kernel.options[0], "lengthscales") for p in block.processes]
    ).detach()
    weights = torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64)
    expected = scales[0] ** 0.5 * scales[1] ** 0.25 * scales[2] ** 0.25
    torch.testing.assert_close(block.lengthscales(weights), expected)
    deviations = [p.hyperparameters.noise.variance.item() ** 0.5 for p in block.processes]
    assert block.noise() == pytest.approx(np.prod(deviations) ** (1 / 3))

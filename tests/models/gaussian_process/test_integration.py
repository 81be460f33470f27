import numpy as np
import pandas as pd
import pytest
import torch

from bayestl.data.options import Real
from bayestl.data.table import MeasurementTable
from bayestl.models.gaussian_process import integration
from bayestl.models.gaussian_process.integration import Mixture, integrate, spaced
from bayestl.models.gp import FittedGP, MultiTaskGP, TargetOnlyGP


@pytest.fixture
def fitted(make_table) -> FittedGP:
    table = make_table({"source": (40, 1.0, 0.0), "target": (6, 1.0, 1.0)})
    return MultiTaskGP().at_mode(table, metric="latency", target="target")


@pytest.fixture
def x(fitted, make_test) -> torch.Tensor:
    configs, _ = make_test(shift=1.0)
    return fitted.inputs(fitted.space.frame(configs))


def test_one_part_alone_is_that_part(fitted, x):
    alone = Mixture((fitted.belief,))
    for mixed, own in zip(alone.marginals(x), fitted.belief.marginals(x), strict=True):
        assert torch.allclose(mixed, own)


def test_moments_are_those_of_the_mixture(fitted, x):
    mixture = integrate(fitted.belief, seed=0)
    assert len(mixture.parts) == integration.DRAWS
    means, variances = zip(*(part.marginals(x) for part in mixture.parts), strict=True)
    draws = (
        np.random.default_rng(0)
        .normal(
            torch.stack(means).numpy(),
            torch.stack(variances).sqrt().numpy(),
            (20_000, len(means), len(x)),
        )
        .reshape(-1, len(x))
    )
    mean, variance = mixture.marginals(x)
    assert np.allclose(mean, draws.mean(0), atol=0.02)
    assert np.allclose(variance.sqrt(), draws.std(0), rtol=0.03)


def test_the_joint_agrees_with_the_marginals(fitted, x):
    mixture = integrate(fitted.belief, seed=0)
    with torch.no_grad():
        mean, covariance = mixture.joint(x)
    assert torch.allclose(mean, mixture.marginals(x)[0])
    assert torch.allclose(covariance.diagonal(), mixture.marginals(x)[1], atol=1e-8)
    assert float(torch.linalg.eigvalsh(covariance).min()) > -1e-8


def test_doubt_widens_the_intervals_and_the_seed_settles_it(fitted, make_test):
    configs, _ = make_test(shift=1.0)

    def width(model: FittedGP) -> float:
        predicted = model.predict(configs)
        return float(np.log(predicted["q95"] / predicted["q05"]).mean())

    assert width(fitted.integrated(0)) > 1.02 * width(fitted)
    assert fitted.integrated(0).predict(configs).equals(fitted.integrated(0).predict(configs))
    assert not fitted.integrated(0).predict(configs).equals(fitted.integrated(1).predict(configs))


def test_the_best_process_is_left_as_it_was(fitted, x):
    before = fitted.belief.marginals(x)
    fitted.integrated(0)
    assert all(torch.equal(a, b) for a, b in zip(before, fitted.belief.marginals(x), strict=True))


@pytest.mark.parametrize("seed", [1, 2])
def test_of_what_has_no_noise_none_is_mixed_in_that_needs_some(seed):
    x = np.random.default_rng(seed).random(120)
    frame = pd.DataFrame({"x": x, "environment": "target", "y": np.exp(0.8 * np.sin(3.0 * x))})
    table = MeasurementTable.from_frame(frame, options={"x": Real(0.0, 1.0)}, metrics={"y": "ms"})
    fitted = TargetOnlyGP().fit(table, metric="y", target="target")
    assert {part.jitter for part in fitted.mixture.parts} == {0.0}
    asked = np.linspace(0.01, 0.99, 99)
    found = fitted.predict(pd.DataFrame({"x": asked}))["q50"]
    np.testing.assert_allclose(found, np.exp(0.8 * np.sin(3.0 * asked)), rtol=1e-3)


def test_what_would_cost_too_much_stands_alone_and_says_so(fitted, monkeypatch):
    monkeypatch.setattr(integration, "MAX_ELEMENTS", len(fitted.belief.z) ** 2)
    alone = fitted.integrated(0)
    assert alone.mixture.parts == (fitted.belief,)
    assert alone.diagnostics.details["mixed"] == 1


def test_curvature_takes_the_target_first(fitted, monkeypatch):
    monkeypatch.setattr(integration, "CURVATURE_ROWS", 16)
    assert len(integrate(fitted.belief, seed=0).parts) == integration.DRAWS


@pytest.mark.parametrize("most", [20, 256, 512, 700, 4_095])
def test_rows_of_a_grid_are_spaced_and_meet_every_level(most):
    rows = torch.arange(4_096)
    some = spaced(rows, most)
    assert torch.equal(some, spaced(rows, most))
    assert len(some) == len(some.unique()) == most
    assert (some.diff() > 0).all()
    assert some.diff().max() <= 2 * -(-4_096 // most)  # nowhere a gap
    bits = (some.unsqueeze(-1) >> torch.arange(12)) & 1
    half = 0.5 * np.sqrt(1 / most)  # a standard deviation of a share of one half
    for part in bits.double().tensor_split(2):
        assert (part.mean(0)[:11] - 0.5).abs().max() < 5 * half


def test_few_rows_are_all_taken():
    assert torch.equal(spaced(torch.tensor([3, 5, 9]), 3), torch.tensor([3, 5, 9]))

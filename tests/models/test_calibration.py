import json
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import binom, norm

from bayestl.models.calibration import calibration, miscalibration
from bayestl.models.gaussian_mixture import GaussianMixture
from bayestl.models.gp import MultiTaskGP, TargetOnlyGP
from bayestl.models.transfer_gp import TransferGP

Z = np.random.default_rng(0).normal(size=400)


def of(error: np.ndarray, variance: np.ndarray) -> dict[str, Any]:
    """`calibration` of Gaussian predictions, by their errors."""
    normal = GaussianMixture.normal(torch.zeros(len(error)).double(), torch.from_numpy(variance))
    return calibration(normal, torch.from_numpy(error))


def test_good_intervals_raise_no_warning():
    found = of(Z, np.ones(400))
    assert found["coverage90"] == pytest.approx(0.9, abs=0.03)
    assert sum(found["pit"]) == found["points"] == 400
    assert max(found["pit"]) < 65
    assert miscalibration(found) is None


@pytest.mark.parametrize(("scale", "word"), [(0.25, "wide"), (4.0, "narrow")])
def test_bad_intervals_are_named(scale, word):
    found = of(scale * Z, np.ones(400))
    held = round(400 * found["coverage90"])
    warning = miscalibration(found)
    assert warning is not None
    assert f"too {word}" in warning
    assert f"{held} of 400" in warning
    outer = found["pit"][0] + found["pit"][-1]
    assert (outer > 200) == (word == "narrow")


def test_density_and_odds_are_what_they_are_called():
    variance = np.array([0.5, 2.0, 1.0, 3.0])
    error = np.array([0.1, -9.0, 0.4, 8.0])
    found = of(error, variance)
    assert found["log_density"] == pytest.approx(norm.logpdf(error, scale=np.sqrt(variance)).mean())
    assert found["coverage90"] == 0.5
    assert found["p_value"] == pytest.approx(binom.cdf(2, 4, 0.9))  # no tail above is as unlikely


def test_a_rare_wide_component_leaves_narrow_intervals_as_they_are():
    """As a further outlier does, whatever it adds to the variance."""
    mixture = GaussianMixture(
        torch.tensor([0.99, 0.01]).double(),
        torch.zeros(2, 400).double(),
        torch.tensor([1.0, 1e4]).double().unsqueeze(-1).expand(2, 400),
    )
    found, ends = calibration(mixture, torch.from_numpy(Z)), mixture.quantile(0.95).numpy()
    assert found["coverage90"] == np.mean(np.abs(Z) <= ends) < 0.95
    assert miscalibration(found) is None


def test_too_few_points_prove_nothing():
    assert miscalibration(of(np.zeros(20), np.ones(20))) is None
    assert miscalibration(of(np.array([100.0]), np.ones(1))) is None


def test_it_is_the_same_in_every_unit_but_for_the_density():
    one, thousand = of(Z, np.ones(400)), of(1e3 * Z, np.full(400, 1e6))
    assert thousand["pit"] == one["pit"]
    assert thousand["log_density"] == pytest.approx(one["log_density"] - np.log(1e3))


def test_a_fitted_process_shows_its_calibration(make_table):
    table = make_table({"source": (40, 1.0, 0.0), "target": (12, 1.0, 0.5)})
    for recipe in (MultiTaskGP(), TransferGP()):
        fitted = recipe.fit(table, metric="latency", target="target")
        found = fitted.diagnostics.details["calibration"]
        assert found["points"] == 12
        assert found["coverage90"] > 0.5
        json.dumps(found)


def test_without_a_target_measurement_there_is_nothing_to_judge(make_table):
    table = make_table({"source": (20, 1.0, 0.0), "target": (0, 1.0, 0.5)})
    fitted = MultiTaskGP().fit(table, metric="latency", target="target")
    assert "calibration" not in fitted.diagnostics.details


def test_the_calibration_is_of_predictions_without_each_point(make_table):
    table = make_table({"target": (15, 1.0, 0.0)})
    fitted = TargetOnlyGP().at_mode(table, metric="latency", target="target")
    found = fitted.leave_one_out_calibration()
    density = fitted.leave_one_out().log_density(fitted.target_z).mean().item()
    assert found["log_density"] == pytest.approx(density - np.log(fitted.scaling.spread))


def test_an_outlier_lies_outside_and_some_points_stand_for_many(make_table, monkeypatch):
    table = make_table({"target": (60, 1.0, 0.0)})
    table.frame.loc[4, "latency"] *= 100
    fitted = TargetOnlyGP().at_mode(table, metric="latency", target="target")
    assert sum(fitted.diagnostics.details["outliers"].values()) == 1
    found = fitted.leave_one_out_calibration()
    assert found["pit"][-1] >= 1
    assert found["log_density"] < -10  # with the outlier's own variance it would not stand out
    monkeypatch.setattr("bayestl.models.gp.JUDGED_ROWS", 7)
    assert fitted.leave_one_out_calibration()["points"] == 7


def test_intervals_that_are_too_narrow_are_warned_of(make_table, monkeypatch):
    table = make_table({"target": (20, 1.0, 0.0)})
    fitted = TargetOnlyGP().at_mode(table, metric="latency", target="target")
    monkeypatch.setattr(
        "bayestl.models.gp.calibration",
        lambda predicted, values: calibration(predicted, 100.0 * values),
    )
    assert any("too narrow" in warning for warning in fitted.integrated().diagnostics.warnings)

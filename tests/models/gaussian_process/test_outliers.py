from itertools import count

import numpy as np
import torch

from bayestl.data.table import MeasurementTable
from bayestl.models.gaussian_process import outliers
from bayestl.models.gp import MultiTaskGP, TargetOnlyGP


def spoiled(table: MeasurementTable, rows, factors) -> MeasurementTable:
    """The table with the latencies of some rows multiplied."""
    frame = table.frame.copy()
    frame.loc[rows, "latency"] *= factors
    return MeasurementTable(frame, table.space, table.environments, table.metrics)


def test_a_tenfold_value_is_found_and_does_not_move_the_fit(make_table, make_test):
    table = make_table({"source": (60, 1.0, 0.0), "target": (30, 1.0, 1.0)})
    configs, truth = make_test(shift=1.0)
    row = int(np.flatnonzero(table.frame["environment"] == "target")[3])
    clean = MultiTaskGP().fit(table, metric="latency", target="target")
    robust = MultiTaskGP().fit(spoiled(table, row, 20), metric="latency", target="target")
    assert clean.diagnostics.details["outliers"] == {"target": 0, "source": 0}
    assert robust.diagnostics.details["outliers"] == {"target": 1, "source": 0}
    assert any("outlier" in warning for warning in robust.diagnostics.warnings)
    errors = [np.abs(g.predict(configs)["q50"] / truth - 1).mean() for g in (clean, robust)]
    assert errors[1] < errors[0] + 0.02


def test_few_measurements_hold_no_outliers(make_table):
    table = make_table({"target": (8, 1.0, 0.0)})
    fitted = TargetOnlyGP().fit(spoiled(table, 0, 30), metric="latency", target="target")
    assert fitted.diagnostics.details["outliers"] == {"target": 0}


def test_outliers_that_the_worst_ones_hide_are_found(make_table):
    # twenty of 200 values are off by 15 % to a factor of 400, the others by 2 %
    table = make_table({"target": (200, 1.0, 0.0)})
    rng = np.random.default_rng(1)
    rows = rng.choice(200, 20, replace=False)
    factors = np.exp(np.geomspace(0.15, 6.0, 20) * rng.choice([-1.0, 1.0], 20))
    broken = spoiled(table, rows, factors)
    fitted = TargetOnlyGP().fit(broken, metric="latency", target="target")
    assert 17 <= fitted.diagnostics.details["outliers"]["target"] <= 20
    clean = TargetOnlyGP().fit(table, metric="latency", target="target")
    noise = [g.diagnostics.details["noise"]["target"] for g in (clean, fitted)]
    assert noise[1] < 1.5 * noise[0]


def test_outliers_that_are_never_settled_are_told(make_table, monkeypatch):
    table, found = make_table({"target": (40, 1.0, 0.0)}), count(1)

    def others_every_time(hyperparameters, x, z, given):
        extra = torch.zeros_like(z)
        extra[next(found) % 2] = 1.0
        return extra

    fitted = TargetOnlyGP().fit(table, metric="latency", target="target")
    assert "settled" not in fitted.diagnostics.details["optimizer"]
    monkeypatch.setattr(outliers, "extra_variance", others_every_time)
    fitted = TargetOnlyGP().fit(table, metric="latency", target="target")
    assert "not settled after 6 fits" in fitted.diagnostics.details["optimizer"]
    assert next(found) == 1 + outliers.FITS

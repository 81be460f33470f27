import numpy as np
import pandas as pd
import pytest
import torch

from bayestl.data.environment import Environment
from bayestl.data.table import MeasurementTable
from bayestl.errors import FitError, UnknownEnvironment
from bayestl.models.gp import LMCGP, MultiTaskGP, TargetOnlyGP
from bayestl.models.model import HasPosterior
from bayestl.models.persistence import load
from bayestl.models.posterior import Posterior

TRANSFER = pytest.mark.parametrize("recipe", [MultiTaskGP(), LMCGP()], ids=["icm", "lmc"])


def mape(fitted, configs, truth, environment=None) -> float:
    return float(100 * np.abs(fitted.predict(configs, environment)["q50"] / truth - 1).mean())


@TRANSFER
@pytest.mark.parametrize("n_target", [0, 1, 2, 3])
def test_no_or_few_target_points(recipe, n_target, make_table, make_test):
    table = make_table({"source": (60, 1.0, 0.0), "target": (n_target, 1.0, 2.0)})
    fitted = recipe.fit(table, metric="latency", target="target")
    configs, truth = make_test(shift=2.0)
    prediction = fitted.predict(configs)
    assert np.isfinite(prediction.to_numpy()).all()
    assert fitted.diagnostics.n_target == n_target
    inside = (truth > prediction["q05"]) & (truth < prediction["q95"])
    if n_target == 0:  # the level is unknown, and the intervals say so
        assert inside.all()
    else:  # the shift is seen, and the source tells the rest
        assert mape(fitted, configs, truth) < 40
    rank = pd.Series(prediction["q50"].to_numpy()).corr(pd.Series(truth), method="spearman")
    # a few draws of loadings that no point of the target narrows down blur what the source tells
    assert rank > (0.9 if n_target else 0.8)


@TRANSFER
@pytest.mark.parametrize(("n_source", "n_target"), [(1, 0), (0, 1)])
def test_one_measurement_is_enough_among_several_environments(
    recipe, n_source, n_target, make_table, make_test
):
    table = make_table({"source": (n_source, 1.0, 0.0), "target": (n_target, 1.0, 2.0)})
    prediction = recipe.fit(table, metric="latency", target="target").predict(make_test()[0])
    assert (prediction["q05"] < prediction["q95"]).all()


@pytest.mark.parametrize("n_source", [0, 4])
@pytest.mark.parametrize("most", [1, 8])
def test_however_few_rows_are_allowed_there_are_some_of_the_target(
    n_source, most, make_table, make_test
):
    table = make_table({"source": (n_source, 1.0, 0.0), "target": (12, 1.0, 2.0)})
    fitted = MultiTaskGP(most_rows=most).fit(table, metric="latency", target="target")
    assert fitted.diagnostics.details["conditioned_on"] == most
    assert len(fitted.target_z) == (most if not n_source else max(most * 3 // 4, 1))
    assert np.isfinite(fitted.predict(make_test()[0])).all(axis=None)


def test_transfer_beats_the_target_alone(make_table, make_test):
    table = make_table({"source": (80, 1.0, 0.0), "target": (8, 1.3, 1.0)})
    configs, truth = make_test(slope=1.3, shift=1.0)
    errors = [
        mape(recipe.fit(table, metric="latency", target="target"), configs, truth)
        for recipe in (MultiTaskGP(), TargetOnlyGP())
    ]
    assert errors[0] < 0.5 * errors[1]


def test_a_source_that_runs_the_other_way_is_still_a_source(make_table, make_test):
    table = make_table({"source": (80, -1.0, 0.0), "target": (12, 1.0, 0.0)})
    fitted = MultiTaskGP().fit(table, metric="latency", target="target")
    assert fitted.environment_correlation().loc["source", "target"] < -0.5
    assert mape(fitted, *make_test()) < 15


def test_every_environment_of_the_table_can_be_asked(make_table, make_test):
    table = make_table({"a": (40, 1.0, 0.0), "b": (40, 0.8, 1.0), "target": (5, 1.0, 2.0)})
    table = table.knowing(Environment("unseen"))
    fitted = MultiTaskGP().fit(table, metric="latency", target="target")
    configs, truth = make_test(slope=0.8, shift=1.0)
    assert mape(fitted, configs, truth, "b") < 10
    unseen, known = fitted.predict(configs, "unseen"), fitted.predict(configs, "b")
    assert ((unseen["q95"] / unseen["q05"]) > (known["q95"] / known["q05"])).all()
    correlation = fitted.environment_correlation()
    assert list(correlation.index) == list(correlation.columns) == ["a", "b", "target", "unseen"]
    assert np.diag(correlation) == pytest.approx(1)
    with pytest.raises(UnknownEnvironment, match="elsewhere"):
        fitted.predict(configs, "elsewhere")


def test_prediction_keeps_the_index_and_orders_the_quantiles(make_table, make_test):
    table = make_table({"source": (30, 1.0, 0.0), "target": (5, 1.0, 0.0)})
    fitted = MultiTaskGP().fit(table, metric="latency", target="target")
    configs = make_test()[0].set_index(pd.Index([f"c{i}" for i in range(150)]))
    prediction = fitted.predict(configs, quantiles=(0.01, 0.5, 0.99))
    assert list(prediction.columns) == ["mean", "std", "q01", "q50", "q99"]
    assert prediction.index.equals(configs.index)
    assert (prediction["q01"] < prediction["q50"]).all()
    assert (prediction["q50"] < prediction["q99"]).all()
    assert fitted.predict(fitted.space.records(configs)[:3])["mean"].to_numpy() == pytest.approx(
        fitted.predict(configs)["mean"].to_numpy()[:3]
    )


def test_the_joint_posterior_agrees_with_the_marginals(make_table, make_test):
    table = make_table({"source": (30, 1.0, 0.0), "target": (5, 1.0, 0.0)})
    fitted = MultiTaskGP().fit(table, metric="latency", target="target")
    assert isinstance(fitted, HasPosterior)
    configs, _ = make_test()
    posterior, prediction = fitted.posterior(configs), fitted.predict(configs)
    assert np.exp(posterior.mean) == pytest.approx(prediction["q50"].to_numpy())
    spread = np.sqrt(posterior.variance + posterior.noise_variance)
    assert np.log(prediction["q95"] / prediction["q50"]).to_numpy() == pytest.approx(
        1.6448536 * spread, rel=1e-5
    )
    shrunk = posterior.measured(3)
    assert (shrunk.variance <= posterior.variance + 1e-12).all()


def test_what_is_known_beyond_doubt_is_not_learned_by_measuring_it():
    known = Posterior(np.zeros(2), np.diag([0.0, 1.0]), np.zeros(2))
    assert known.measured(0) == known
    assert (known.measured(1).covariance == 0.0).all()


def test_blocks_do_not_show(make_table, make_test, monkeypatch):
    table = make_table({"source": (30, 1.0, 0.0), "target": (5, 1.0, 0.0)})
    fitted = LMCGP().fit(table, metric="latency", target="target")
    configs, _ = make_test()
    whole = fitted.predict(configs)
    monkeypatch.setattr("bayestl.models.gaussian_process.conditioning.BLOCK", 7)
    pd.testing.assert_frame_equal(fitted.predict(configs), whole)


def test_repeats_say_how_large_the_noise_is(make_table):
    table = make_table({"target": (12, 1.0, 0.0)})
    rows = np.repeat(np.arange(12), 4)
    noise = np.exp(0.1 * np.random.default_rng(0).normal(size=48))
    repeated = table.select(rows)
    repeated = MeasurementTable(
        repeated.frame.assign(latency=repeated.frame["latency"] * noise),
        table.space,
        table.environments,
        table.metrics,
    )
    fitted = TargetOnlyGP().fit(repeated, metric="latency", target="target")
    assert fitted.diagnostics.details["noise"]["target"] == pytest.approx(0.1, rel=0.3)


@pytest.mark.parametrize("value", [1.0, 0.0, -2.0])
def test_a_constant_metric(value, make_table, make_test):
    table = make_table({"source": (20, 0.0, 0.0), "target": (4, 0.0, 0.0)})
    constant = MeasurementTable(
        table.frame.assign(latency=value), table.space, table.environments, table.metrics
    )
    prediction = (
        MultiTaskGP().fit(constant, metric="latency", target="target").predict(make_test()[0])
    )
    assert prediction["q50"].to_numpy() == pytest.approx(value, abs=0.05)


def test_constant_columns_change_nothing(make_table, make_test):
    table = make_table({"source": (30, 1.0, 0.0), "target": (6, 1.0, 0.0)})
    frame = table.frame.assign(idle=1, name="x")
    wider = MeasurementTable.from_frame(
        frame,
        options={**table.space.options, "idle": None, "name": None},
        metrics={"latency": "ms"},
    )
    configs, _ = make_test()
    a = MultiTaskGP().fit(table, metric="latency", target="target").predict(configs)
    b = (
        MultiTaskGP()
        .fit(wider, metric="latency", target="target")
        .predict(configs.assign(idle=1, name="x"))
    )
    pd.testing.assert_frame_equal(a, b)


def test_levels_that_the_source_never_had(make_table, make_test):
    table = make_table({"source": (60, 1.0, 0.0), "target": (10, 1.0, 0.0)})
    frame = table.frame
    kept = (frame["environment"] == "target") | (frame["threads"] != 8)
    fitted = MultiTaskGP().fit(table.select(kept.to_numpy()), metric="latency", target="target")
    assert mape(fitted, *make_test()) < 30


def test_many_source_rows_are_fitted_on_some_and_conditioned_on_all(make_table, make_test):
    table = make_table({"source": (1500, 1.0, 0.0), "target": (20, 1.2, 1.0)})
    fitted = MultiTaskGP().fit(table, metric="latency", target="target")
    details = fitted.diagnostics.details
    assert details["fitted_on"] == 500
    assert details["conditioned_on"] == 1520
    assert mape(fitted, *make_test(slope=1.2, shift=1.0)) < 3


def test_failed_rows_are_counted(make_table):
    table = make_table({"source": (10, 1.0, 0.0), "target": (5, 1.0, 0.0)})
    frame = table.frame.copy()
    frame.loc[0, ["status", "latency"]] = ["timeout", np.nan]
    broken = MeasurementTable(frame, table.space, table.environments, table.metrics)
    fitted = MultiTaskGP().fit(broken, metric="latency", target="target")
    assert fitted.diagnostics.dropped == {"timeout": 1}
    assert fitted.diagnostics.n_source == 9


def test_what_cannot_be_fitted_is_said(make_table):
    table = make_table({"source": (10, 1.0, 0.0), "target": (0, 1.0, 0.0)})
    with pytest.raises(FitError, match="none; measure some"):
        TargetOnlyGP().fit(table, metric="latency", target="target")
    negative = MeasurementTable(
        table.frame.assign(latency=-1.0), table.space, table.environments, table.metrics
    )
    with pytest.raises(FitError, match="'source' is -1"):
        MultiTaskGP(transform="log").fit(negative, metric="latency", target="target")
    plain = MultiTaskGP().fit(negative, metric="latency", target="target")
    assert any("without a log" in warning for warning in plain.diagnostics.warnings)


def test_the_fit_leaves_the_threads_as_they_were(make_table):
    before = torch.get_num_threads()
    MultiTaskGP().fit(make_table({"target": (5, 1.0, 0.0)}), metric="latency", target="target")
    assert torch.get_num_threads() == before


def test_a_posterior_may_be_joint_over_environments(make_table, make_test):
    table = make_table({"source": (40, 1.0, 0.0), "target": (6, 1.0, 1.0)})
    fitted = MultiTaskGP().fit(table, metric="latency", target="target")
    configs = make_test()[0].head(10)
    both = pd.concat([configs, configs])
    joint = fitted.posterior(both, ["source"] * 10 + ["target"] * 10)
    for name, part in (("source", slice(10)), ("target", slice(10, 20))):
        alone = fitted.posterior(configs, name)
        np.testing.assert_allclose(joint.mean[part], alone.mean)
        np.testing.assert_allclose(joint.covariance[part, part], alone.covariance, atol=1e-12)
        np.testing.assert_allclose(joint.noise_variance[part], alone.noise_variance)
    shared = np.diag(joint.covariance[:10, 10:])
    assert (np.diag(joint.covariance)[10:] > shared).all()
    assert (shared > 0).all()  # what they share cancels in the difference
    with pytest.raises(ValueError, match="one for each of 10 configurations"):
        fitted.posterior(configs, ["source", "target"])


@pytest.mark.parametrize("latents", ["a", None, 1.5, True, 0])
def test_what_is_no_number_of_latent_functions_is_refused(latents):
    with pytest.raises(FitError, match=r"from 1 on, such as LMCGP\(2\), got"):
        LMCGP(latents)


@pytest.mark.parametrize("recipe", [MultiTaskGP, LMCGP], ids=["icm", "lmc"])
def test_most_rows_says_how_many_rows_count(recipe, make_table):
    table = make_table({"source": (30, 1.0, 0.0), "target": (6, 1.0, 1.0)})
    fitted = recipe(most_rows=20).at_mode(table, metric="latency", target="target")
    assert fitted.diagnostics.details["conditioned_on"] == len(fitted.belief.z) == 20
    assert any("20 of 36 measurements" in warning for warning in fitted.diagnostics.warnings)
    with pytest.raises(FitError, match="expected most_rows as a positive number or None, got 0"):
        recipe(most_rows=0).fit(table, metric="latency", target="target")


@pytest.mark.parametrize("recipe", [MultiTaskGP(), TargetOnlyGP()], ids=["icm", "alone"])
def test_without_a_matrix_it_answers_nearly_the_same(
    recipe, make_table, make_test, monkeypatch, tmp_path
):
    table = make_table({"source": (40, 1.0, 0.0), "target": (25, 0.8, 1.0)})
    exact = recipe.fit(table, metric="latency", target="target")
    monkeypatch.setattr("bayestl.models.gaussian_process.solver.DENSE_ROWS", 20)
    free = recipe.fit(table, metric="latency", target="target")
    assert free.diagnostics.details["solved"]["method"] == "matrix-free"
    assert exact.diagnostics.details["solved"]["method"] == "dense"
    configs = make_test()[0]
    np.testing.assert_allclose(free.predict(configs), exact.predict(configs), rtol=1e-3)
    for found, expected in zip(
        free.leave_one_out().moments(), exact.leave_one_out().moments(), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    free.save(tmp_path / "free.bayestl")
    kept = load(tmp_path / "free.bayestl")
    pd.testing.assert_frame_equal(kept.predict(configs), free.predict(configs), check_exact=True)

"""The sources fitted once, the target on top of them."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from bayestl.data.environment import Environment
from bayestl.data.table import MeasurementTable
from bayestl.errors import ConfigurationError, FitError, UnknownEnvironment
from bayestl.models.gp import TargetOnlyGP
from bayestl.models.model import HasPosterior
from bayestl.models.observations import LEAST_SPREAD
from bayestl.models.persistence import load
from bayestl.models.scaling import TYPICAL_SPREAD
from bayestl.models.sequential import sequential_gp
from bayestl.models.sequential.hypotheses import UNKNOWN_NOISE
from bayestl.models.sequential.sequential_gp import FittedSequentialGP, SequentialGP
from bayestl.models.sequential.template import Part
from bayestl.models.transfer_gp import TransferGP

TWO = {"a": (30, 1.0, 0.0), "b": (20, 0.7, 0.5), "target": (9, 1.0, 1.0)}


def fit(table, **arguments) -> FittedSequentialGP:
    return SequentialGP(**arguments).fit(table, metric="latency", target="target")


def mape(fitted, configs, truth, environment=None) -> float:
    return float(100 * np.abs(fitted.predict(configs, environment)["q50"] / truth - 1).mean())


def same(one: FittedSequentialGP, other: FittedSequentialGP, configs: pd.DataFrame) -> bool:
    """Whether two fits are equal to the last bit, in all that they say."""
    pd.testing.assert_frame_equal(one.predict(configs), other.predict(configs), check_exact=True)
    for name in one.environments[1:]:
        pd.testing.assert_frame_equal(
            one.predict(configs, name), other.predict(configs, name), check_exact=True
        )
    belief, expected = (m.posterior(configs.head(9)).covariance for m in (one, other))
    np.testing.assert_array_equal(belief, expected)
    assert json.dumps(one.diagnostics.to_dict()) == json.dumps(other.diagnostics.to_dict())
    return one.environments == other.environments


def with_values(table: MeasurementTable, values) -> MeasurementTable:
    """The table with other measurements."""
    frame = table.frame.assign(latency=values)
    return MeasurementTable(frame, table.space, table.environments, table.metrics)


@pytest.fixture(scope="module")
def table(measure) -> MeasurementTable:
    """Two sources, one of which runs like the target."""
    return measure(TWO)


@pytest.fixture(scope="module")
def fitted(table) -> FittedSequentialGP:
    """It, fitted."""
    return fit(table)


def spied(monkeypatch) -> list[int]:
    """The number of rows of every source that is fitted from here on."""

    counts, original = [], sequential_gp.infer

    def infer(seen, *arguments):
        counts.append(len(seen.z))
        return original(seen, *arguments)

    monkeypatch.setattr(sequential_gp, "infer", infer)
    return counts


@pytest.mark.parametrize("n_target", [0, 1, 2, 3])
def test_no_or_few_target_points(n_target, make_table, make_test):
    table = make_table({"source": (60, 1.0, 0.0), "target": (n_target, 1.0, 2.0)})
    fitted = fit(table)
    configs, truth = make_test(shift=2.0)
    prediction = fitted.predict(configs)
    assert np.isfinite(prediction.to_numpy()).all()
    assert fitted.diagnostics.n_target == n_target
    assert ("calibration" in fitted.diagnostics.details) == (n_target > 0)
    inside = (truth > prediction["q05"]) & (truth < prediction["q95"])
    if n_target == 0:  # the level is unknown, and the intervals say so
        assert inside.all()
    else:  # the shift is seen, and the source tells the rest
        assert mape(fitted, configs, truth) < 30
    rank = pd.Series(prediction["q50"].to_numpy()).corr(pd.Series(truth), method="spearman")
    assert rank > 0.9


def test_transfer_beats_the_target_alone(make_table, make_test):
    table = make_table({"source": (80, 1.0, 0.0), "target": (8, 1.3, 1.0)})
    test = make_test(slope=1.3, shift=1.0)
    alone = TargetOnlyGP().fit(table, metric="latency", target="target")
    assert mape(fit(table), *test) < 0.5 * mape(alone, *test)


@pytest.mark.parametrize("longer", ["target", "source"])
def test_what_takes_the_same_time_whatever_the_options_is_found(longer, make_table, make_test):
    """With an overhead, neither a factor nor a power leads from one to the other."""
    table = make_table({"source": (80, 1.0, 0.0), "target": (6, 1.0, 0.0)})
    overhead = 0.5 * float(table.frame["latency"].median())
    values = table.frame["latency"] + overhead * (table.frame["environment"] == longer)
    fitted = fit(with_values(table, values))
    with_overhead = fitted.block.related[fitted.block.prior.related.overhead != 0].sum()
    assert with_overhead > 0.9
    configs, truth = make_test()
    assert mape(fitted, configs, truth + overhead * (longer == "target")) < 2.0
    plain = fit(with_values(table, values), transform="identity")  # there an offset is all it takes
    assert not plain.block.prior.related.overhead.any()
    assert plain.diagnostics.details["relation"]["overhead"] == 0.0


def test_a_fit_depends_on_nothing_but_the_table(table, fitted, make_test):
    configs = make_test()[0]
    again = SequentialGP().fit(table, metric="latency", target="target", seed=7)
    assert same(again, fitted, configs)


def test_refitting_to_more_of_the_target_is_fitting(measure, make_test, monkeypatch):
    configs = make_test()[0]
    whole = measure(TWO)
    target = np.flatnonzero((whole.frame["environment"] == "target").to_numpy())
    sources = np.flatnonzero((whole.frame["environment"] != "target").to_numpy())
    for before, after in ((0, 1), (1, 4), (4, 9), (9, 2)):
        few, more = (whole.select(np.sort(np.r_[sources, target[:n]])) for n in (before, after))
        first = fit(few)
        with monkeypatch.context() as patch:
            counts = spied(patch)
            refitted = first.refit(more)
            assert counts == []  # the sources stay
        assert refitted.block.prior is first.block.prior
        assert same(refitted, fit(more), configs)


def test_refitting_to_other_sources_is_fitting_too(table, fitted, measure, make_test, monkeypatch):
    configs = make_test()[0]
    values = table.frame["latency"].to_numpy()
    changed = values.copy()
    changed[3] *= 1.01
    unit = with_values(table, 1e3 * values)
    failed = table.frame.copy()
    failed.loc[4, ["status", "latency"]] = ["timeout", np.nan]
    others = {
        "one value of a source": with_values(table, changed),
        "another unit": unit,
        "one row less": MeasurementTable(failed, table.space, table.environments, table.metrics),
        "another source": measure({**TWO, "c": (12, 1.0, 0.0)}),
        "one source less": table.select(table.frame["environment"] != "b"),
        "a value that is not positive": with_values(
            table, np.where(table.frame["environment"] == "target", 0.0, values)
        ),
    }
    for why, other in others.items():
        with monkeypatch.context() as patch:
            counts = spied(patch)
            refitted = fitted.refit(other)
            assert counts, why
        assert same(refitted, fit(other), configs), why


def test_a_large_source_is_cut_to_the_same_rows_whatever_the_seed(make_table, monkeypatch):
    monkeypatch.setattr("bayestl.models.sequential.sequential_gp.LARGEST_SOURCE", 40)
    monkeypatch.setattr("bayestl.models.sequential.sequential_gp.FITTED_ROWS", 25)
    table = make_table({"source": (60, 1.0, 0.0), "target": (6, 1.0, 1.0)})
    fitted = fit(table)
    assert fitted.diagnostics.details["conditioned_on"] == {"source": 40}
    assert any("40 of 60 measurements" in w for w in fitted.diagnostics.warnings)
    fewer = table.select(np.arange(65))
    counts = spied(monkeypatch)
    refitted = fitted.refit(fewer, seed=3)
    assert counts == []
    assert same(refitted, fit(fewer), table.configurations())


def test_memory_is_bounded_for_all_sources_together(make_table, monkeypatch):
    monkeypatch.setattr("bayestl.models.sequential.sequential_gp.MAX_ELEMENTS", 2 * 15**2)
    fitted = fit(make_table(TWO))
    assert fitted.diagnostics.details["conditioned_on"] == {"a": 15, "b": 15}


def test_most_rows_says_how_many_rows_of_a_source_count(make_table, monkeypatch, tmp_path):
    monkeypatch.setattr("bayestl.models.sequential.sequential_gp.LARGEST_SOURCE", 10)
    fitted = fit(table := make_table(TWO), most_rows=25)
    assert fitted.diagnostics.details["conditioned_on"] == {"a": 25, "b": 20}
    assert any("45 of 50 measurements of sources" in w for w in fitted.diagnostics.warnings)
    fitted.save(tmp_path / "fitted.bayestl")
    kept = load(tmp_path / "fitted.bayestl")
    counts = spied(monkeypatch)
    assert same(kept.refit(table), fitted, table.configurations())
    assert counts == []
    for wrong in (0, -1, 2.5, True):
        with pytest.raises(FitError, match="expected most_rows as a positive number or None"):
            fit(table, most_rows=wrong)


def test_without_matrices_it_answers_nearly_the_same(
    table, make_test, monkeypatch, tmp_path, unsampled
):
    fitted = fit(table)
    monkeypatch.setattr(
        "bayestl.models.gaussian_process.solver.DENSE_ROWS", 25
    )  # of source a, not of b
    configs = make_test()[0]
    free = fit(table)
    methods = {name: told["method"] for name, told in free.diagnostics.details["solved"].items()}
    assert methods == {"a": "matrix-free", "b": "dense"}
    for environment in ("target", "a"):
        expected = fitted.predict(configs, environment)
        np.testing.assert_allclose(free.predict(configs, environment), expected, rtol=1e-3)
    np.testing.assert_allclose(
        free.posterior(configs.head(9)).covariance,
        fitted.posterior(configs.head(9)).covariance,
        atol=1e-4,
    )
    assert same(free.refit(table), free, configs)
    free.save(tmp_path / "free.bayestl")
    assert same(load(tmp_path / "free.bayestl"), free, configs)
    many = pd.concat([configs] * 3, ignore_index=True)  # where sources could be prepared for them
    answer = free.predict(many).iloc[: len(configs)]
    pd.testing.assert_frame_equal(answer, free.predict(configs))


def test_iterations_that_do_not_converge_are_a_warning(table, monkeypatch):
    monkeypatch.setattr("bayestl.models.gaussian_process.solver.DENSE_ROWS", 25)
    monkeypatch.setattr("bayestl.models.gaussian_process.solver.RANK", 2)
    monkeypatch.setattr("bayestl.models.gaussian_process.matrix_free.ITERATIONS", 1)
    warnings = fit(table).diagnostics.warnings
    assert any(w.startswith("source 'a': conjugate gradients did not converge") for w in warnings)
    assert not any("source 'b'" in w for w in warnings)


def test_sources_are_predicted_by_their_own_processes(table, fitted, make_test):
    for name, slope, shift in (("a", 1.0, 0.0), ("b", 0.7, 0.5)):
        assert mape(fitted, *make_test(slope, shift), name) < 15
    alone = table.select(table.frame["environment"] != "b")
    configs = make_test()[0]
    scales = [m.scaling for m in (fitted, fit(alone))]
    assert scales[0] != scales[1]  # so that the fits are not the same numbers
    np.testing.assert_allclose(
        fit(alone).predict(configs, "a")["q50"], fitted.predict(configs, "a")["q50"], rtol=0.1
    )


def test_what_is_unknown_is_refused(table, fitted, make_test):
    configs = make_test()[0]
    with pytest.raises(UnknownEnvironment, match="'moon'; this model knows target, a, b"):
        fitted.predict(configs, "moon")
    with pytest.raises(UnknownEnvironment, match="moon"):
        fitted.posterior(configs, ["moon"] * len(configs))
    with pytest.raises(ValueError, match="one for each of 150 configurations"):
        fitted.posterior(configs, ["a"])
    with pytest.raises(ConfigurationError, match="mode"):
        fitted.predict(configs.assign(mode="z"))
    with pytest.raises(UnknownEnvironment, match="moon"):
        SequentialGP().fit(table, metric="latency", target="moon")


def test_environments_without_measurements_are_no_sources(table, fitted, make_test):
    configs = make_test()[0]
    more = fit(table.knowing(Environment("new")))
    assert same(more, fitted, configs)
    with pytest.raises(UnknownEnvironment, match=r"knowing.*'new'.* with target='new'"):
        more.predict(configs, "new")


def test_without_a_source_it_says_what_to_use(make_table):
    for rows in ({"target": (9, 1.0, 0.0)}, {"source": (0, 1.0, 0.0), "target": (9, 1.0, 0.0)}):
        with pytest.raises(FitError, match=r"in a source .* beside 'target'.*TargetOnlyGP"):
            fit(make_table(rows))


def test_values_that_are_not_positive_are_modelled_as_they_are(table, make_test):
    values = table.frame["latency"].to_numpy()
    shifted = with_values(table, values - values.mean())
    fitted = fit(shifted)
    assert not fitted.scaling.log
    assert fitted.diagnostics.details["transform"] == "identity"
    assert any("without a log" in warning for warning in fitted.diagnostics.warnings)
    assert not any(
        "without a log" in warning
        for warning in fit(shifted, transform="identity").diagnostics.warnings
    )
    prediction = fitted.predict(make_test()[0])
    assert np.isfinite(prediction.to_numpy()).all()
    assert (prediction["q05"] < 0).any()


def test_transforms_that_do_not_fit_are_refused(table):
    values = table.frame["latency"].to_numpy(copy=True)
    for row, where in ((0, "a"), (len(values) - 1, "target")):
        spoiled = values.copy()
        spoiled[row] = -3.0
        with pytest.raises(FitError, match=f"environment '{where}' is -3: .*identity"):
            fit(with_values(table, spoiled), transform="log")
    with pytest.raises(FitError, match="expected transform"):
        fit(table, transform="sqrt")


def test_the_joint_posterior_agrees_with_the_marginals(fitted, make_test):
    assert isinstance(fitted, HasPosterior)
    configs = make_test()[0].head(40)
    posterior = fitted.posterior(configs)
    mixture = fitted.measurements(fitted.space.frame(configs))
    k = len(fitted.block.weights)  # the component after them is that of outliers
    weights = mixture.weights[:k] / mixture.weights[:k].sum()
    mean = weights @ mixture.means[:k]
    variance = weights @ (mixture.variances[:k] + (mixture.means[:k] - mean).square())
    scaling = fitted.scaling
    np.testing.assert_allclose(posterior.mean, scaling.centre + scaling.spread * mean)
    total = posterior.variance + posterior.noise_variance
    np.testing.assert_allclose(total, scaling.spread**2 * variance, rtol=1e-6)


def test_a_posterior_may_be_joint_over_environments(fitted, make_test):
    configs = make_test()[0].head(8)
    joint = fitted.posterior(pd.concat([configs] * 3), ["b"] * 8 + ["target"] * 8 + ["a"] * 8)
    assert np.linalg.eigvalsh(joint.covariance).min() > -1e-10
    for name, part in (("b", slice(8)), ("target", slice(8, 16)), ("a", slice(16, 24))):
        alone = fitted.posterior(configs, name)
        np.testing.assert_allclose(joint.mean[part], alone.mean)
        np.testing.assert_allclose(joint.covariance[part, part], alone.covariance, atol=1e-9)
        np.testing.assert_allclose(joint.noise_variance[part], alone.noise_variance)
    assert (np.diag(joint.covariance[8:16, 16:]) > 0).all()  # what target and source share


def test_a_posterior_of_nothing(fitted, make_test):
    posterior = fitted.posterior(make_test()[0].head(0))
    assert posterior.mean.shape == (0,)
    assert posterior.covariance.shape == (0, 0)


def test_environments_that_run_alike_correlate(make_table):
    table = make_table(
        {"alike": (40, 1.0, 3.0), "opposed": (30, -1.0, 0.0), "target": (12, 1.0, 0.0)}
    )
    correlation = fit(table).environment_correlation()
    assert set(correlation.index) == set(correlation.columns) == set(table.environment_names)
    np.testing.assert_allclose(correlation, correlation.T)
    assert np.diag(correlation) == pytest.approx(1.0)
    assert correlation.loc["alike", "target"] > 0.9
    assert correlation.loc["opposed", "target"] < -0.9


def test_environments_compare_where_there_is_nothing_to_compare(make_table):
    table = make_table({"source": (12, 1.0, 0.0), "target": (3, 1.0, 1.0)})
    one = table.select(np.zeros(3, dtype=int))
    constant = with_values(table, 2.0)
    for odd in (one, constant):
        correlation = fit(odd).environment_correlation()
        assert np.isfinite(correlation.to_numpy()).all()
        assert np.diag(correlation) == pytest.approx(1.0)


@pytest.mark.parametrize("value", [1.0, 0.0, -2.0])
def test_a_constant_metric(value, make_table, make_test):
    table = with_values(make_table({"source": (20, 0.0, 0.0), "target": (4, 0.0, 0.0)}), value)
    prediction = fit(table).predict(make_test()[0])
    assert prediction["q50"].to_numpy() == pytest.approx(value, abs=0.05)


def test_diagnostics_say_what_the_target_follows(make_table):
    table = make_table(
        {"alike": (40, 1.0, 3.0), "other": (30, -0.3, 0.0), "target": (12, 1.0, 0.0)}
    )
    details = fit(table).diagnostics.details
    assert sum(details["relation"].values()) == pytest.approx(1.0)
    assert sum(details["follows"].values()) == pytest.approx(1.0)
    assert set(details["follows"]) == {"the mean of all", "alike", "other", "none"}
    assert max(details["follows"], key=details["follows"].get) == "alike"
    assert details["follows"]["none"] == details["relation"]["unrelated"] < 0.01
    assert details["conditioned_on"] == {"alike": 40, "other": 30}
    assert set(details["noise"]) == {"alike", "other", "target"}
    assert details["noise"]["alike"] == pytest.approx(0.02, rel=0.5)
    assert set(details["lengthscales"]) == set(details["source_fits"]) == {"alike", "other"}
    assert details["calibration"]["points"] == 12
    json.dumps(details)


def test_a_source_that_misleads_is_named(make_table):
    table = make_table({"source": (60, 1.0, 0.0), "target": (30, 1.0, 0.5)})
    frame = table.frame
    source = (frame["environment"] == "source").to_numpy()
    elsewhere = np.cos(7 * frame["share"].to_numpy(float)) + 1.5 * (frame["mode"] == "c")
    misled = with_values(table, np.where(source, np.exp(elsewhere), frame["latency"]))
    fitted = fit(misled)
    assert fitted.diagnostics.details["relation"]["unrelated"] > 0.5
    assert any("mislead" in warning for warning in fitted.diagnostics.warnings)
    plain = fit(table)
    assert plain.diagnostics.details["relation"]["unrelated"] < 0.01
    assert plain.diagnostics.warnings == ()


def test_a_source_without_order_is_named(make_table):
    table = make_table({"source": (200, 1.0, 0.0), "target": (5, 1.0, 0.5)})
    values = table.frame["latency"].to_numpy(copy=True)
    source = np.flatnonzero(table.frame["environment"] == "source")
    values[source] = values[np.random.default_rng(0).permutation(source)]
    fitted = fit(with_values(table, values))
    details = fitted.diagnostics.details
    assert details["reliability"]["source"] < 0.3
    assert details["relation"]["unrelated"] > 0.5
    assert any("'source' counts for little" in w for w in fitted.diagnostics.warnings)
    plain = fit(table).diagnostics
    assert plain.details["reliability"]["source"] > 0.9
    assert plain.warnings == ()


def test_outliers_are_counted_in_sources_and_target(make_table, make_test):
    table = make_table({"source": (40, 1.0, 0.0), "target": (12, 1.0, 0.5)})
    values = table.frame["latency"].to_numpy(copy=True)
    target = np.flatnonzero(table.frame["environment"] == "target")
    clean = mape(fit(table), *make_test(shift=0.5))
    values[[5, target[3]]] *= 30.0
    fitted = fit(with_values(table, values))
    outliers = fitted.diagnostics.details["outliers"]
    assert outliers["source"] == 1
    assert outliers["target"] == pytest.approx(1.0, abs=0.1)
    assert any(
        w.startswith("2 of 52 measurements are outliers") for w in fitted.diagnostics.warnings
    )
    assert mape(fitted, *make_test(shift=0.5)) < 1.5 * clean + 2


def test_a_row_of_a_source_counts_where_it_is_asked_for(make_table):
    """What is odd about one configuration in a source is odd in the target too."""
    table = make_table({"source": (60, 1.0, 0.0), "target": (15, 1.0, 0.5)})
    rng = np.random.default_rng(0)
    source = table.of("source").frame
    odd = np.exp(0.3 * rng.normal(size=60))
    own = source.assign(environment="target", latency=source["latency"] * odd * np.exp(0.5))
    both = MeasurementTable(
        pd.concat([source.assign(latency=source["latency"] * odd), own], ignore_index=True),
        table.space,
        table.environments,
        table.metrics,
    )
    known = np.r_[np.arange(60), 60 + np.arange(20)]
    fitted = fit(both.select(known))
    rest = own.iloc[20:]
    error = np.log(fitted.predict(rest[list(table.space.options)])["q50"].to_numpy())
    error = np.abs(error - np.log(rest["latency"].to_numpy(float)))
    assert error.mean() < 0.5 * np.abs(np.log(odd[20:])).mean()


def test_failed_rows_are_counted(table):
    frame = table.frame.copy()
    frame.loc[0, ["status", "latency"]] = ["timeout", np.nan]
    broken = MeasurementTable(frame, table.space, table.environments, table.metrics)
    diagnostics = fit(broken).diagnostics
    assert diagnostics.dropped == {"timeout": 1}
    assert (diagnostics.n_source, diagnostics.n_target) == (49, 9)


def test_the_unit_the_order_and_the_names_do_not_matter(table, fitted, make_test):
    configs = make_test()[0]
    expected = fitted.predict(configs)
    shuffled = table.select(np.random.default_rng(1).permutation(len(table)))
    pd.testing.assert_frame_equal(fit(shuffled).predict(configs), expected)
    milli = fit(with_values(table, 1e3 * table.frame["latency"].to_numpy()))
    pd.testing.assert_frame_equal(milli.predict(configs), 1e3 * expected)
    correlation = milli.environment_correlation()
    pd.testing.assert_frame_equal(correlation, fitted.environment_correlation(), rtol=1e-4)


def test_the_fit_leaves_the_threads_as_they_were(make_table):
    before = torch.get_num_threads()
    fit(make_table({"source": (5, 1.0, 0.0), "target": (2, 1.0, 0.0)}))
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("n_target", [0, 1, 9])
def test_a_kept_process_goes_on_as_before(n_target, measure, make_test, tmp_path):
    rows = {**TWO, "target": (n_target, 1.0, 1.0)}
    table, configs = measure(rows), make_test()[0]
    fitted = fit(table)
    fitted.save(tmp_path / "m.bayestl")
    found = load(tmp_path / "m.bayestl")
    assert same(found, fitted, configs)
    more = measure({**rows, "target": (12, 1.0, 1.0)})
    assert same(found.refit(more), fitted.refit(more), configs)
    assert found.refit(table).block.prior is found.block.prior  # the sources are taken over


def test_a_target_with_too_many_rows_is_conditioned_on_some(measure, make_test, monkeypatch):
    table = measure({"source": (20, 1.0, 0.0), "target": (45, 1.0, 1.0)})
    monkeypatch.setattr("bayestl.models.sequential.sequential_gp.LARGEST_SOURCE", 25)
    fitted = fit(table)
    assert len(fitted.target_z) == len(fitted.leave_one_out().means[0]) == 25
    assert fitted.diagnostics.n_target == 45
    assert any("25 of 45 measurements of the target" in w for w in fitted.diagnostics.warnings)
    assert mape(fitted, *make_test(shift=1.0)) < 10
    assert same(fitted.refit(table), fitted, make_test()[0])


def test_the_unrelated_relation_knows_no_noise_of_the_sources(fitted):
    prior = fitted.block.prior
    assert prior.unrelated.noise.median().item() == pytest.approx(UNKNOWN_NOISE, rel=0.1)
    assert prior.related.noise.min().item() < prior.sources.noise() < UNKNOWN_NOISE / 2


def test_sources_that_hardly_vary_leave_the_target_a_scale(measure):
    table = measure({"source": (60, 0.0, 0.0), "target": (8, 1.0, 0.5)})
    source = (table.frame["environment"] == "source").to_numpy()
    values = np.where(source, 3.0, table.frame["latency"].to_numpy(float))
    scaling = fit(with_values(table, values)).scaling
    assert scaling.spread == pytest.approx(LEAST_SPREAD * TYPICAL_SPREAD)


@pytest.mark.parametrize("recipe", [SequentialGP(), TransferGP()], ids=["sequential", "transfer"])
@pytest.mark.parametrize(("configurations", "most"), [(1, 0.2), (4, 0.08)])
@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_measuring_again_does_no_harm(recipe, configurations, most, noise, table, make_test):
    """The target is half the source everywhere; repeats tell that no worse than one measurement."""
    asked, latency = make_test()
    rng = np.random.default_rng(0)
    source = asked.head(40).assign(environment="a", latency=latency[:40])
    source["latency"] *= np.exp(0.03 * rng.normal(size=40))

    def error(times: int) -> float:
        rows = np.tile(np.arange(50, 50 + configurations), times)
        target = asked.iloc[rows].assign(environment="target", latency=0.5 * latency[rows])
        target["latency"] *= np.exp(noise * rng.normal(size=len(target)))
        measured = MeasurementTable.from_frame(
            pd.concat([source, target], ignore_index=True),
            options=table.space,
            metrics={"latency": "ms"},
        )
        fitted = recipe.fit(measured, metric="latency", target="target")
        predicted = fitted.predict(asked.tail(90))
        true = 0.5 * latency[-90:]
        assert ((predicted["q05"] <= true) & (true <= predicted["q95"])).mean() > 0.8
        return float(np.abs(predicted["q50"] / true - 1.0).mean())

    assert error(5) < most
    assert error(20) < most


def test_jitter_is_a_warning(make_table, monkeypatch):
    of = Part.of
    monkeypatch.setattr(Part, "of", lambda *given: replace(of(*given), jitter=1e-6))
    table = make_table({"target": (5, 1.0, 0.2), "source": (20, 1.0, 0.0)})
    fitted = SequentialGP().fit(table, metric="latency", target="target")
    assert any("needed 1e-06 added to its diagonal" in w for w in fitted.diagnostics.warnings)

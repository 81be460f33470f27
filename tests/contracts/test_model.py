"""Laws that every Model keeps, whatever is behind it."""

import numpy as np
import pandas as pd
import pytest

from bayestl.data.environment import Environment
from bayestl.data.options import Boolean, Categorical, Ordinal
from bayestl.data.space import ConfigSpace
from bayestl.data.table import MeasurementTable
from bayestl.errors import ConfigurationError, FitError, TableError, UnknownEnvironment
from bayestl.models.gp import LMCGP, MultiTaskGP, TargetOnlyGP
from bayestl.models.model import HasPosterior
from bayestl.models.sequential import SequentialGP
from bayestl.models.transfer_gp import TransferGP
from bayestl.transfer.guided_sampling import GuidedSampling
from bayestl.transfer.model_shift import DirectTransfer, LinearShift, NonlinearShift, OffsetShift

PROCESSES = [TransferGP(), SequentialGP(), MultiTaskGP(), LMCGP(), TargetOnlyGP()]
STRATEGIES = [DirectTransfer(), OffsetShift(), LinearShift(), NonlinearShift(), GuidedSampling()]


def each(recipes):
    return pytest.mark.parametrize("recipe", recipes, ids=lambda recipe: type(recipe).__name__)


EVERY = each([*PROCESSES, *STRATEGIES])

SPACE = ConfigSpace(
    {
        "batch": Ordinal((1, 2, 4, 8)),
        "mode": Categorical(("a", "b", "c")),
        "arena": Boolean(),
        "spin": Boolean(),
    },
    conditions={"spin": "mode == 'a'"},
)


def table(n_source=20, n_target=10, seed=0, names=("laptop", "board")) -> MeasurementTable:
    rng = np.random.default_rng(seed)
    rows = []
    for name, n, factor in ((names[0], n_source, 1.0), (names[1], n_target, 3.0)):
        for _ in range(n):
            values = {k: o.at(rng.random()) for k, o in SPACE.options.items() if k != "spin"}
            if values["mode"] == "a":
                values["spin"] = bool(rng.random() < 0.5)
            y = factor * float(values["batch"]) ** 0.8 * (1 + values["arena"])
            y *= np.exp(0.03 * rng.normal())
            rows.append({**SPACE.configuration(values), "environment": name, "latency": y})
    return MeasurementTable.from_frame(
        pd.DataFrame(rows),
        options=SPACE,
        metrics={"latency": "ms"},
        environments=[Environment(name) for name in names],
    )


def fit(recipe, data, target="board"):
    return recipe.fit(data, metric="latency", target=target)


@EVERY
def test_a_fitted_model_knows_what_it_is_of(recipe):
    data = table()
    fitted = fit(recipe, data)
    assert fitted.space == data.space
    assert fitted.metric == data.metric("latency")
    assert fitted.target == "board"
    assert fitted.diagnostics.n_target == 10


@EVERY
def test_predictions_are_ordered_positive_and_indexed(recipe):
    data = table()
    configs = data.configurations().iloc[::-1]
    prediction = fit(recipe, data).predict(configs)
    assert list(prediction.columns) == ["mean", "std", "q05", "q50", "q95"]
    assert prediction.index.equals(configs.index)
    assert (prediction.to_numpy() > 0).all()
    assert ((prediction["q05"] < prediction["q50"]) & (prediction["q50"] < prediction["q95"])).all()


@EVERY
def test_no_configurations_give_an_empty_prediction(recipe):
    data = table()
    assert fit(recipe, data).predict(data.configurations().iloc[:0]).shape == (0, 5)


@EVERY
def test_the_order_of_rows_and_names_of_environments_do_not_matter(recipe):
    data, configs = table(), table(seed=5).configurations()
    expected = fit(recipe, data).predict(configs)
    shuffled = data.select(np.random.default_rng(1).permutation(len(data)))
    renamed = table(names=("zebra", "aardvark"))
    for other, target in ((shuffled, "board"), (renamed, "aardvark")):
        pd.testing.assert_frame_equal(fit(recipe, other, target).predict(configs), expected)


@EVERY
def test_what_is_unknown_is_refused(recipe):
    data = table()
    with pytest.raises(UnknownEnvironment, match="moon"):
        fit(recipe, data, "moon")
    with pytest.raises(TableError, match="energy"):
        recipe.fit(data, metric="energy", target="board")
    fitted = fit(recipe, data)
    with pytest.raises(UnknownEnvironment, match="moon"):
        fitted.predict(data.configurations(), "moon")
    with pytest.raises(ConfigurationError, match="batch"):
        fitted.predict(data.configurations().assign(batch=3))
    with pytest.raises(ConfigurationError, match="missing"):
        fitted.predict(data.configurations()[["batch"]])


@EVERY
def test_a_frame_is_no_table(recipe):
    with pytest.raises(
        TableError, match=r"expected a MeasurementTable, got a DataFrame; .*from_frame"
    ):
        fit(recipe, table().frame)


@EVERY
def test_a_prediction_is_for_one_environment(recipe):
    data = table(n_source=6, n_target=3)
    fitted, configs = fit(recipe, data), data.configurations().head(2)
    with pytest.raises(UnknownEnvironment, match=r"one environment's name, got \['board', 'board'"):
        fitted.predict(configs, ["board", "board"])
    with pytest.raises(UnknownEnvironment, match="expected one environment's name, got 5"):
        fitted.predict(configs, 5)


@each(PROCESSES)
def test_a_seed_is_any_whole_number(recipe):
    data = table(n_source=6, n_target=3)
    configs = data.configurations()
    expected, found = (
        recipe.fit(data, metric="latency", target="board", seed=seed).predict(configs)
        for seed in (3, np.int64(3))
    )
    pd.testing.assert_frame_equal(found, expected, check_exact=True)
    for seed in (1.5, None, "a", True, -1, 2**64):
        with pytest.raises(FitError, match="expected a seed as a whole number from 0 to"):
            recipe.fit(data, metric="latency", target="board", seed=seed)


@each([TransferGP(), SequentialGP()])
def test_no_other_seed_is_taken_to_fit_again(recipe):
    data = table(n_source=6, n_target=3)
    with pytest.raises(FitError, match="expected a seed as a whole number"):
        fit(recipe, data).refit(data, seed=1.5)


@each([TransferGP(), SequentialGP(), MultiTaskGP()])
def test_a_posterior_takes_lists_of_any_kind(recipe):
    data = table(n_source=6, n_target=6)
    fitted, configs = fit(recipe, data), data.configurations().head(3)
    names = ["board", "laptop", "board"]
    expected = fitted.posterior(configs, names)
    for of_a_kind in (np.array(names), pd.Series(names)):
        found = fitted.posterior(configs, of_a_kind)
        np.testing.assert_array_equal(found.covariance, expected.covariance)
    rows = data.space.records(configs)
    np.testing.assert_array_equal(
        fitted.posterior(row for row in rows).covariance, fitted.posterior(configs).covariance
    )
    for environment in (5, [5, 5, 5]):
        with pytest.raises(UnknownEnvironment, match="a list of one for each configuration, got"):
            fitted.posterior(configs, environment)


@each(PROCESSES)
def test_the_posterior_is_a_joint_gaussian(recipe):
    data = table()
    fitted = fit(recipe, data)
    assert isinstance(fitted, HasPosterior)
    posterior = fitted.posterior(table(seed=2).configurations())
    assert np.allclose(posterior.covariance, posterior.covariance.T)
    assert np.linalg.eigvalsh(posterior.covariance).min() > -1e-8
    assert (posterior.noise_variance > 0).all()


@each(PROCESSES)
def test_a_process_says_what_it_knows_where_no_option_varies(recipe):
    rows = [
        {"mode": "only", "environment": name, "latency": level + 0.1 * repeat}
        for name, level in (("laptop", 5.0), ("board", 9.0))
        for repeat in range(4)
    ]
    data = MeasurementTable.from_frame(
        pd.DataFrame(rows),
        options=ConfigSpace({"mode": Categorical(("only",))}),
        metrics={"latency": "ms"},
    )
    fitted = fit(recipe, data)
    assert fitted.predict([{"mode": "only"}])["q50"].item() == pytest.approx(9.15, rel=0.02)
    correlation = fitted.environment_correlation().to_numpy()
    assert np.isfinite(correlation).all()
    assert np.diag(correlation) == pytest.approx(1.0)

"""The stack: what each member is worth, and that no source makes it clearly worse."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from bayestl.data.space import ConfigSpace
from bayestl.data.table import MeasurementTable
from bayestl.errors import FitError, UnknownEnvironment
from bayestl.models.gp import TargetOnlyGP
from bayestl.models.persistence import load
from bayestl.models.scaling import NO_LOG
from bayestl.models.sequential.sequential_gp import FittedSequentialGP
from bayestl.models.transfer_gp import (
    FIRST,
    MINOR,
    OTHERS,
    FittedTransferGP,
    Stack,
    TransferGP,
    _prior,
    _stack,
)
from tests.models.conftest import configurations

ROWS = {"source": (40, 1.0, 0.0), "target": (12, 1.0, 0.5)}
BOTH = ["SequentialGP", "TargetOnlyGP"]


def fit(table, **arguments) -> FittedTransferGP:
    return TransferGP(**arguments).fit(table, metric="latency", target="target")


def with_values(table: MeasurementTable, values) -> MeasurementTable:
    """The table with other measurements."""
    frame = table.frame.assign(latency=values)
    return MeasurementTable(frame, table.space, table.environments, table.metrics)


def error(fitted, configs, truth) -> float:
    """The mean size of the logarithm of predicted by true."""
    return float(np.abs(np.log(fitted.predict(configs)["q50"] / truth)).mean())


@pytest.fixture(scope="module")
def fitted(measure) -> FittedTransferGP:
    """With a source that runs like the target."""
    return fit(measure(ROWS))


def weighed(fitted: FittedTransferGP, *weights: float) -> FittedTransferGP:
    """The same members with other weights."""
    stack = Stack(dict(zip(fitted.members, weights, strict=True)), "staged", fitted.stack.scores)
    return FittedTransferGP(fitted.members, stack, fitted.recipe)


def test_configurations_are_read_once_for_all_members(fitted, monkeypatch):
    halves, configs = weighed(fitted, 0.5, 0.5), configurations(7, 3)
    read, frame = [], ConfigSpace.frame
    monkeypatch.setattr(ConfigSpace, "frame", lambda s, c: read.append(len(c)) or frame(s, c))
    halves.predict(configs)
    assert read == [7]


def test_the_weights_are_reported(fitted):
    details = fitted.diagnostics.details
    assert list(details["weights"]) == list(details["leave_one_out"]) == BOTH
    assert sum(details["weights"].values()) == pytest.approx(1.0)
    assert details["chosen"] == "SequentialGP"
    assert details["weights"]["SequentialGP"] > 0.8
    assert details["leave_one_out"]["SequentialGP"] < details["leave_one_out"]["TargetOnlyGP"]
    assert "SequentialGP has" in details["reason"]
    assert details["transform"] == "log"
    assert fitted.diagnostics.n_source == 40
    assert fitted.diagnostics.n_target == 12
    assert "TransferGP" in fitted.diagnostics.model
    json.dumps(fitted.diagnostics.to_dict())


def test_the_score_is_the_ranked_probability_score_of_what_was_left_out(measure, fitted):
    """By its definition, twice the mean quantile loss (Gneiting and Raftery, 2007, eq. 19)."""
    alone = TargetOnlyGP().at_mode(measure(ROWS), metric="latency", target="target")
    for name, member in ((BOTH[0], fitted.first), (BOTH[1], alone)):
        mixture = member.leave_one_out().affine(member.scaling.centre, member.scaling.spread)
        values = member.scaling.centre + member.scaling.spread * member.target_z
        levels = (np.arange(250) + 0.5) / 250
        quantiles = np.stack([mixture.quantile(level).numpy() for level in levels])
        below = (values.numpy() < quantiles).astype(float)
        loss = (below - levels[:, None]) * (quantiles - values.numpy())
        assert fitted.stack.scores[name] == pytest.approx(2 * loss.mean(), rel=0.02)


def test_a_stack_predicts_the_mixture(fitted, make_test):
    configs = make_test()[0]
    stacked = weighed(fitted, 0.25, 0.75)
    found = stacked.predict(configs)
    members = [m.predict(configs) for m in fitted.members.values()]
    np.testing.assert_allclose(found["mean"], 0.25 * members[0]["mean"] + 0.75 * members[1]["mean"])
    squares = [m["std"] ** 2 + m["mean"] ** 2 for m in members]
    np.testing.assert_allclose(
        found["std"] ** 2, 0.25 * squares[0] + 0.75 * squares[1] - found["mean"] ** 2, rtol=1e-6
    )
    for column in ("q05", "q50", "q95"):
        low, high = np.sort([m[column] for m in members], axis=0)
        assert (found[column] >= low - 1e-9).all()
        assert (found[column] <= high + 1e-9).all()
    one = weighed(fitted, 0.0, 1.0)
    pd.testing.assert_frame_equal(one.predict(configs), members[1])


def test_a_stack_has_the_posterior_of_the_mixture(fitted, make_test):
    configs = make_test()[0].head(10)
    posterior = weighed(fitted, 0.25, 0.75).posterior(configs)
    first, second = (m.posterior(configs) for m in fitted.members.values())
    np.testing.assert_allclose(posterior.mean, 0.25 * first.mean + 0.75 * second.mean)
    apart = first.mean - second.mean
    expected = 0.25 * first.covariance + 0.75 * second.covariance
    expected += 0.25 * 0.75 * np.outer(apart, apart)
    np.testing.assert_allclose(posterior.covariance, expected, atol=1e-12)


def test_one_process_answers_for_several_environments_at_once(fitted, make_test):
    configs = make_test()[0].head(2)
    alone = weighed(fitted, 0.0, 1.0)
    preferred = fitted.members["SequentialGP"]
    for names in (["source", "target"], ["source", "source"]):
        joint, expected = (m.posterior(configs, names) for m in (alone, preferred))
        np.testing.assert_array_equal(joint.covariance, expected.covariance)
    pd.testing.assert_frame_equal(
        alone.predict(configs, "source"), preferred.predict(configs, "source")
    )
    target = alone.posterior(configs, ["target", "target"])
    np.testing.assert_array_equal(target.mean, alone.posterior(configs).mean)
    with pytest.raises(UnknownEnvironment, match="moon"):
        alone.predict(configs, "moon")


@pytest.mark.parametrize("n", [0, 1, 4])
def test_few_target_points_leave_the_prior_weights(n, make_table):
    fitted = fit(make_table({"source": (30, 1.0, 0.0), "target": (n, 1.0, 0.5)}))
    unrelated = sequential(fitted).block.unrelated
    expected = FIRST - unrelated * (FIRST - OTHERS) if n else FIRST + OTHERS
    assert fitted.stack.weights["SequentialGP"] == pytest.approx(expected / (FIRST + OTHERS))
    assert fitted.chosen is fitted.first
    assert fitted.stack.reason
    assert list(fitted.members) == (BOTH if n else BOTH[:1])


def sequential(fitted: FittedTransferGP) -> FittedSequentialGP:
    """The first member."""
    assert isinstance(fitted.first, FittedSequentialGP)
    return fitted.first


def doubting(fitted: FittedTransferGP, unrelated: float) -> dict:
    """The members, were the first so sure that the target has nothing to do with its sources."""
    first = sequential(fitted)
    block = replace(first.block, unrelated=unrelated)
    return {**fitted.members, "SequentialGP": replace(first, block=block)}


def test_the_prior_follows_what_the_sequential_model_finds(fitted):
    for unrelated in (0.0, 0.3, 1.0):
        moved = unrelated * (FIRST - OTHERS)
        np.testing.assert_allclose(
            _prior(doubting(fitted, unrelated)), [FIRST - moved, OTHERS + moved]
        )
    alone = [_stack(doubting(fitted, u)).weights["TargetOnlyGP"] for u in (0.0, 0.5, 1.0)]
    assert alone == sorted(alone)
    assert alone[2] > 2.0 * alone[0]


def test_members_that_stand_on_different_measurements_are_not_compared(fitted, measure):
    first, alone = (fitted.members[name] for name in BOTH)
    whole = measure(ROWS)
    frame = whole.frame
    fewer = whole.select(np.sort(frame.index[frame["environment"] == "target"])[:-1])
    others = measure(ROWS, 1)  # as many, but not the same
    for table in (fewer, others):
        stranger = TargetOnlyGP().at_mode(table, metric="latency", target="target")
        stack = _stack({"SequentialGP": first, "TargetOnlyGP": stranger})
        assert "different measurements" in stack.reason
        worth = _prior({"SequentialGP": first, "TargetOnlyGP": stranger})
        np.testing.assert_allclose(list(stack.weights.values()), worth / worth.sum())
    assert "different" not in _stack({"SequentialGP": first, "TargetOnlyGP": alone}).reason


def test_a_minor_member_answers_with_its_best_hyperparameters_alone(fitted, misled):
    for stack in (fitted, misled):
        alone = stack.members["TargetOnlyGP"]
        assert (stack.stack.weights["TargetOnlyGP"] > MINOR) == (len(alone.mixture.parts) > 1)
    assert fitted.stack.weights["TargetOnlyGP"] <= MINOR < misled.stack.weights["TargetOnlyGP"]


def test_without_a_source_the_target_is_all_there_is(make_table, make_test):
    fitted = fit(make_table({"target": (20, 1.0, 0.0)}))
    assert fitted.stack.weights == {"TargetOnlyGP": 1.0}
    assert fitted.diagnostics.warnings == ()
    assert error(fitted, *make_test()) < 0.3


def test_joint_models_are_weighed_when_asked(make_table, make_test, tmp_path):
    table = make_table({"source": (20, 1.0, 0.0), "target": (8, 1.3, 0.5)})
    fitted = fit(table, latents=[1, 2])
    names = ["SequentialGP", "MultiTaskGP", "LMCGP(2)", "TargetOnlyGP"]
    assert list(fitted.members) == list(fitted.stack.weights) == names
    assert sum(fitted.stack.weights.values()) == pytest.approx(1.0)
    assert fitted.recipe == TransferGP(latents=(1, 2))
    assert error(fitted, *make_test(1.3, 0.5)) < 0.1
    fitted.save(tmp_path / "m.bayestl")
    found = load(tmp_path / "m.bayestl")
    assert found.recipe == fitted.recipe
    assert list(found.members) == names
    pd.testing.assert_frame_equal(
        found.predict(make_test()[0]), fitted.predict(make_test()[0]), check_exact=True
    )


@pytest.mark.parametrize("latents", [(0,), 3, "12", (1.5,)])
def test_what_is_no_list_of_latents_is_refused(latents):
    with pytest.raises(FitError, match=r"from 1 on, such as \(1, 2\)"):
        TransferGP(latents=latents)


def test_refitting_is_fitting(measure, make_test):
    configs, whole = make_test()[0], measure(ROWS)
    source = (whole.frame["environment"] == "source").to_numpy()
    target = np.flatnonzero(~source)
    few, more = (whole.select(np.sort(np.r_[np.flatnonzero(source), target[:n]])) for n in (4, 12))
    first = fit(few)
    refitted = first.refit(more)
    assert sequential(refitted).block.prior is sequential(first).block.prior  # the source stays
    fresh = fit(more)
    pd.testing.assert_frame_equal(
        refitted.predict(configs), fresh.predict(configs), check_exact=True
    )
    assert refitted.stack == fresh.stack
    alone = fit(whole.select(~source))  # what knows no source learns of one
    assert list(alone.refit(more).members) == BOTH


def test_a_fit_depends_on_nothing_but_its_arguments(make_table, make_test):
    table = make_table({"source": (30, 1.0, 0.0), "target": (8, 1.0, 0.5)})
    configs, _ = make_test()
    first, second = (
        TransferGP().fit(table, metric="latency", target="target", seed=3).predict(configs)
        for _ in range(2)
    )
    assert first.equals(second)


@pytest.mark.parametrize("row", [0, -1])
def test_members_are_compared_on_one_scale(row, make_table):
    table = make_table({"source": (20, 1.0, 0.0), "target": (8, 1.0, 0.5)})
    values = table.frame["latency"].to_numpy(copy=True)
    values[row] = 0.0
    fitted = fit(with_values(table, values))
    assert {member.scaling.log for member in fitted.members.values()} == {False}
    for weights in ((0.9, 0.1), (0.1, 0.9)):  # whichever member counts most
        warnings = weighed(fitted, *weights).diagnostics.warnings
        assert warnings.count(NO_LOG) == 1
    recipe = replace(fitted.recipe, transform="identity")
    assert NO_LOG not in weighed(replace(fitted, recipe=recipe), 0.1, 0.9).diagnostics.warnings


@pytest.fixture(scope="module")
def misled(measure) -> FittedTransferGP:
    """With a source that has nothing to do with the target."""
    table = measure({"source": (60, 1.0, 0.0), "target": (30, 1.0, 0.5)})
    source = (table.frame["environment"] == "source").to_numpy()
    return fit(with_values(table, np.where(source, staged(table, "unrelated"), table_of(table))))


def test_a_misleading_source_is_left_and_named(misled):
    assert sequential(misled).block.unrelated > 0.5
    assert misled.diagnostics.details["chosen"] == "TargetOnlyGP"
    assert any("mislead" in warning for warning in misled.diagnostics.warnings)


def table_of(table: MeasurementTable) -> np.ndarray:
    return table.frame["latency"].to_numpy(float)


def staged(table: MeasurementTable, how: str, seed: int = 0) -> np.ndarray:
    """What a source would say that misleads."""
    frame, rng = table.frame, np.random.default_rng(seed)
    values = table_of(table)
    share = frame["share"].to_numpy(float)
    match how:
        case "unrelated":
            other = np.cos(7 * share) + 1.5 * (frame["mode"] == "c") - 0.8 * frame["fused"]
            return np.exp(other.to_numpy(float) + 0.02 * rng.normal(size=len(frame)))
        case "flipped":
            return 1.0 / values
        case "constant":
            return np.full(len(frame), 3.0)
        case "outliers":
            return np.where(rng.random(len(frame)) < 0.05, 10.0 * values, values)
    raise ValueError(how)


SEEDS = range(3)


@pytest.mark.parametrize("how", ["unrelated", "flipped", "constant", "outliers"])
@pytest.mark.parametrize("n", [5, 20])
def test_no_source_makes_it_clearly_worse_than_the_target_alone(how, n, make_table, make_test):
    ratios = []
    for seed in SEEDS:
        table = make_table({"source": (50, 1.0, 0.0), "target": (n, 1.0, 0.5)}, seed)
        source = (table.frame["environment"] == "source").to_numpy()
        values = np.where(source, staged(table, how, seed), table_of(table))
        test = make_test(shift=0.5)
        alone = error(TargetOnlyGP().fit(table, metric="latency", target="target"), *test)
        ratios.append((error(fit(with_values(table, values)), *test) + 0.01) / (alone + 0.01))
    assert max(ratios) < {5: 1.15, 20: 1.1}[n]
    if how == "flipped":  # what runs the other way round says as much
        assert max(ratios) < {5: 0.15, 20: 0.45}[n]


def test_of_ten_sources_the_one_that_helps_is_found(make_table, make_test):
    slopes = [-1.0, 0.1, -0.4, 0.0, -0.7, 0.2, -0.2, -1.3, 0.05]
    rows = {name: (25, slope, 0.0) for name, slope in zip("abcdefghi", slopes, strict=True)}
    for seed in SEEDS[:2]:
        table = make_table({**rows, "helps": (25, 1.0, 1.0), "target": (8, 1.0, 0.5)}, seed)
        fitted, test = fit(table), make_test(shift=0.5)
        alone = TargetOnlyGP().fit(table, metric="latency", target="target")
        assert error(fitted, *test) < 0.5 * error(alone, *test)
        assert fitted.stack.weights["SequentialGP"] > 0.8

import numpy as np
import pytest

from bayestl.models.gp import TargetOnlyGP
from bayestl.models.transfer_gp import Choice, FittedTransferGP, TransferGP


def error(fitted, configs, truth) -> float:
    return float(np.abs(fitted.predict(configs)["q50"] / truth - 1).mean())


@pytest.mark.parametrize("slope", [-1.0, 0.0, 1.0])
def test_no_source_makes_it_much_worse_than_the_target_alone(slope, make_table, make_test):
    rows = {"source": (60, slope, 0.0), "target": (20, 1.0, 0.5)}
    table = make_table(rows)
    test = make_test(shift=0.5)
    transfer, alone = (
        recipe.fit(table, metric="latency", target="target")
        for recipe in (TransferGP(), TargetOnlyGP())
    )
    assert error(transfer, *test) < 1.25 * error(alone, *test) + 0.005


def test_the_choice_is_reported(make_table):
    table = make_table({"source": (40, 1.0, 0.0), "target": (12, 1.0, 0.5)})
    fitted = TransferGP().fit(table, metric="latency", target="target")
    details = fitted.diagnostics.details
    assert details["chosen"] in {"MultiTaskGP", "LMCGP"}
    assert set(details["leave_one_out"]) == {"MultiTaskGP", "LMCGP", "TargetOnlyGP"}
    assert details["leave_one_out"]["TargetOnlyGP"] < details["leave_one_out"]["MultiTaskGP"]
    assert details["reason"]
    assert fitted.diagnostics.n_source == 40
    assert "TransferGP" in fitted.diagnostics.model


def test_a_misleading_source_is_left_and_named(make_table):
    table = make_table({"source": (60, 1.0, 0.0), "target": (30, 1.0, 0.5)})
    frame = table.frame.copy()
    source = (frame["environment"] == "source").to_numpy()
    rng = np.random.default_rng(0)  # rough noise that no smooth function explains
    frame.loc[source, "latency"] = np.exp(3 * rng.normal(size=int(source.sum())))
    misled = type(table)(frame, table.space, table.environments, table.metrics)
    fitted = TransferGP().fit(misled, metric="latency", target="target")
    if fitted.choice.name == "TargetOnlyGP":
        assert any("mislead" in warning for warning in fitted.diagnostics.warnings)
    scores = fitted.choice.scores
    assert scores[fitted.choice.name] >= scores["TargetOnlyGP"] - 0.2


def test_few_target_points_trust_the_sources(make_table):
    for n in (0, 2):
        table = make_table({"source": (30, 1.0, 0.0), "target": (n, 1.0, 0.5)})
        fitted = TransferGP().fit(table, metric="latency", target="target")
        assert fitted.choice.name == "MultiTaskGP"


def test_without_a_source_the_target_is_all_there_is(make_table, make_test):
    table = make_table({"target": (20, 1.0, 0.0)})
    fitted = TransferGP().fit(table, metric="latency", target="target")
    assert fitted.choice.name == "TargetOnlyGP"
    assert fitted.diagnostics.warnings == ()
    assert error(fitted, *make_test()) < 0.3


def test_a_fit_depends_on_nothing_but_its_arguments(make_table, make_test):
    table = make_table({"source": (30, 1.0, 0.0), "target": (8, 1.0, 0.5)})
    configs, _ = make_test()
    first, second = (
        TransferGP().fit(table, metric="latency", target="target", seed=3).predict(configs)
        for _ in range(2)
    )
    assert first.equals(second)


def test_members_are_compared_on_one_scale(make_table):
    table = make_table({"source": (20, 1.0, 0.0), "target": (8, 1.0, 0.5)})
    frame = table.frame.copy()
    frame.loc[0, "latency"] = 0.0
    zero = type(table)(frame, table.space, table.environments, table.metrics)
    fitted = TransferGP().fit(zero, metric="latency", target="target")
    assert {member.scaling.log for member in fitted.members.values()} == {False}


def test_one_process_answers_for_several_environments_at_once(make_table, make_test):
    table = make_table({"source": (30, 1.0, 0.0), "target": (8, 1.0, 0.5)})
    fitted = TransferGP().fit(table, metric="latency", target="target")
    configs = make_test()[0].head(2)
    alone = FittedTransferGP(
        fitted.members, Choice("TargetOnlyGP", "staged", fitted.choice.scores), fitted.recipe
    )
    joint = alone.posterior(configs, ["source", "target"])
    preferred = fitted.members["MultiTaskGP"].posterior(configs, ["source", "target"])
    np.testing.assert_array_equal(joint.covariance, preferred.covariance)
    target = alone.posterior(configs, ["target", "target"])
    np.testing.assert_array_equal(target.mean, alone.posterior(configs).mean)

"""Fits that are kept: they belong to the very measurements, and change nothing."""

import numpy as np
import pandas as pd
import pytest

from bayestl.baselines.trees import RandomForest
from bayestl.data.options import Categorical, Integer
from bayestl.data.space import ConfigSpace
from bayestl.data.table import ENVIRONMENT, MeasurementTable
from bayestl.models.gp import TargetOnlyGP
from bayestl.models.transfer_gp import TransferGP
from bayestl.transfer.model_shift import LinearShift
from experiments import remembered
from experiments.remembered import Remembered, RememberedSources

MODE = Categorical(("eager", "lazy"))
PLAIN = ConfigSpace({"threads": Integer(1, 8), "mode": MODE})
WIDER = ConfigSpace({"threads": Integer(1, 8), "mode": MODE, "double": Integer(2, 16)})


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch):
    for kept in ("_FITS", "_REFITTABLE"):
        monkeypatch.setattr(remembered, kept, type(getattr(remembered, kept))())


def measured(space, name, count, seed=0):
    """Random configurations; a wider space tells more about the same ones, and no other value."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"threads": rng.integers(1, 9, count), ENVIRONMENT: name})
    frame["mode"] = rng.choice(["eager", "lazy"], count)
    frame["double"] = 2 * frame["threads"]
    frame["latency"] = 5.0 + 20 / frame["threads"] + (frame["mode"] == "lazy")
    return MeasurementTable.from_frame(frame, options=space, metrics={"latency": "ms"})


def transfer(space, rows=6):
    return MeasurementTable.concat(
        [measured(space, "source", 25), measured(space, "target", 12, 1).select(list(range(rows)))]
    )


def fit(recipe, table, target="target", seed=0):
    return recipe.fit(table, metric="latency", target=target, seed=seed)


@pytest.mark.parametrize(
    ("kept", "plain"),
    [
        (LinearShift(Remembered(TargetOnlyGP())), LinearShift(TargetOnlyGP())),
        (RememberedSources(TransferGP()), TransferGP()),
    ],
    ids=["Remembered", "RememberedSources"],
)
def test_the_same_values_of_two_spaces_are_two_fits(kept, plain):
    for space in (WIDER, PLAIN):
        train = transfer(space)
        asked = measured(space, "target", 5, seed=2).configurations()
        assert fit(kept, train).predict(asked).equals(fit(plain, train).predict(asked))


def test_the_same_values_of_other_configurations_are_another_fit():
    table = measured(PLAIN, "target", 12)
    frame = table.frame.assign(threads=9 - table.frame["threads"])
    other = MeasurementTable.from_frame(frame, options=PLAIN, metrics=table.metrics)
    asked = table.configurations()
    for each in (table, other):
        kept, fresh = fit(Remembered(RandomForest()), each), fit(RandomForest(), each)
        assert kept.predict(asked).equals(fresh.predict(asked))


def test_a_fit_is_made_once():
    recipe = Remembered(RandomForest())
    first = fit(recipe, measured(PLAIN, "target", 12))
    assert fit(recipe, measured(PLAIN, "target", 12)) is first
    assert fit(recipe, measured(PLAIN, "target", 12), seed=1) is not first


def test_taking_over_sources_changes_nothing():
    recipe = RememberedSources(TransferGP())
    for rows in (3, 6):
        train = transfer(PLAIN, rows)
        asked = measured(PLAIN, "target", 12, seed=1).configurations()
        assert fit(recipe, train).predict(asked).equals(fit(TransferGP(), train).predict(asked))
    assert len(remembered._REFITTABLE) == 1

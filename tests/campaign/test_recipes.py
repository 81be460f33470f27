"""Recipes by name: each is built, written as plain values, and read back the same."""

import json

import pytest

from bayestl.baselines.trees import RandomForest
from bayestl.campaign.recipes import (
    ACQUISITIONS,
    MODELS,
    acquisition_recipe,
    model_recipe,
    recipe_to_dict,
)
from bayestl.errors import SpecificationError
from bayestl.models.conformalized import Conformal
from bayestl.models.transfer_gp import TransferGP
from bayestl.transfer.bellwether import Bellwether
from bayestl.transfer.model_shift import LinearShift, OffsetShift


@pytest.mark.parametrize("name", sorted(set(MODELS) - {"Conformal"}))
def test_every_model_is_named_and_read_back(name):
    recipe = model_recipe(name)
    assert type(recipe).__name__ == name
    assert callable(recipe.fit)
    assert model_recipe(json.loads(json.dumps(recipe_to_dict(recipe)))) == recipe


@pytest.mark.parametrize("name", ACQUISITIONS)
def test_every_acquisition_is_named_and_read_back(name):
    recipe = acquisition_recipe(name)
    assert acquisition_recipe(json.loads(json.dumps(recipe_to_dict(recipe)))) == recipe


@pytest.mark.parametrize(
    ("description", "recipe"),
    [
        ({"name": "LinearShift", "base": "TransferGP"}, LinearShift(TransferGP())),
        ({"name": "TransferGP", "latents": [1, 2]}, TransferGP(latents=(1, 2))),
        ({"name": "TransferGP", "latents": 2}, TransferGP(latents=(2,))),
        (
            {"name": "Conformal", "model": {"name": "RandomForest", "trees": 9}, "folds": 4},
            Conformal(RandomForest(trees=9), folds=4),
        ),
        (
            {
                "name": "Bellwether",
                "strategy": {"name": "OffsetShift", "base": "RandomForest"},
                "judge": {"name": "RandomForest", "trees": 9},
            },
            Bellwether(OffsetShift(RandomForest()), RandomForest(trees=9)),
        ),
    ],
)
def test_a_model_around_another_names_it(description, recipe):
    assert model_recipe(description) == recipe
    assert model_recipe(json.loads(json.dumps(recipe_to_dict(recipe)))) == recipe


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ("Forest", "unknown model 'Forest'; expected one of SequentialGP"),
        ({"name": "LinearShift", "base": "Forest"}, "unknown model 'Forest'"),
        ({"name": "LinearShift", "base": 3}, "unknown model 3"),
        ({"name": "LinearShift", "base": {"name": "Mean", "trees": 3}}, "Mean has no parameter"),
        ("Conformal", "Conformal needs the parameter 'model'"),
        ({"name": "RandomForest", "trees": "many"}, "trees must be like 200"),
        ({"name": "TransferGP", "latents": "many"}, r"latents must be a list.* \[1, 2\]"),
    ],
)
def test_what_is_no_recipe_is_refused(description, message):
    with pytest.raises(SpecificationError, match=message):
        model_recipe(description)


def test_a_recipe_without_fields_to_keep_is_refused():
    class Plain:
        """No dataclass: what it was made with, a store would not know."""

    with pytest.raises(SpecificationError, match=r"that is a dataclass, .*Plain"):
        recipe_to_dict(Plain())

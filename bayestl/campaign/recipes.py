"""Recipes by name: the closed lists that files and stores may name, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from importlib import import_module
from typing import Any

from bayestl.acquisition.acquisition import Acquisition
from bayestl.errors import SpecificationError
from bayestl.models.model import Model

MODELS = {
    "SequentialGP": "bayestl.models.sequential.sequential_gp",
    "TransferGP": "bayestl.models.transfer_gp",
    "MultiTaskGP": "bayestl.models.gp",
    "LMCGP": "bayestl.models.gp",
    "TargetOnlyGP": "bayestl.models.gp",
    "Mean": "bayestl.baselines.mean",
    "RandomForest": "bayestl.baselines.trees",
    "BoostedTrees": "bayestl.baselines.trees",
    "PooledBoostedTrees": "bayestl.baselines.trees",
    "RidgeInteractions": "bayestl.baselines.ridge",
    "SparseNetwork": "bayestl.baselines.sparse_network",
    "Conformal": "bayestl.models.conformalized",
    "DirectTransfer": "bayestl.transfer.model_shift",
    "OffsetShift": "bayestl.transfer.model_shift",
    "LinearShift": "bayestl.transfer.model_shift",
    "NonlinearShift": "bayestl.transfer.model_shift",
    "GuidedSampling": "bayestl.transfer.guided_sampling",
    "SourceValuesRidge": "bayestl.transfer.source_values",
    "Bellwether": "bayestl.transfer.bellwether",
    "RankingWeightedEnsemble": "bayestl.transfer.source_ensemble",
    "SequentialMetaLearning": "bayestl.transfer.sequential_network",
}
ACQUISITIONS = {
    "IntegratedVariance": "bayestl.acquisition.variance",
    "PosteriorVariance": "bayestl.acquisition.variance",
    "ExpectedImprovement": "bayestl.acquisition.improvement",
    "RandomSampling": "bayestl.acquisition.uninformed",
}

_NESTED = Model.__name__  # the annotation of a parameter that is a recipe itself


def model_recipe(description: str | Mapping[str, Any]) -> Model:
    """The model of that name, with parameters: ``{"name": "LMCGP", "latents": 2}``.

    A model around another names it likewise: ``{"name": "LinearShift", "base": "RandomForest"}``.

    Raises
    ------
    SpecificationError
        For an unknown name or parameter, one that is missing, or a value of another kind than
        the default.
    """
    return _recipe("model", MODELS, description)


def acquisition_recipe(description: str | Mapping[str, Any]) -> Acquisition:
    """The acquisition of that name, with parameters; raises as `model_recipe`."""
    return _recipe("acquisition", ACQUISITIONS, description)


def recipe_to_dict(recipe: Any) -> dict[str, Any]:
    """A recipe's name and parameters as plain JSON values.

    Raises
    ------
    SpecificationError
        If it is no dataclass, whose fields are its parameters.
    """
    if not is_dataclass(recipe):
        raise SpecificationError(
            f"expected a recipe that is a dataclass, whose fields a store can keep, got {recipe!r}"
        )
    values = {f.name: getattr(recipe, f.name) for f in fields(recipe) if f.init}
    return {"name": type(recipe).__name__, **{name: _plain(v) for name, v in values.items()}}


def _recipe(what: str, homes: Mapping[str, str], description: str | Mapping[str, Any]) -> Any:
    given = description if isinstance(description, Mapping) else {"name": description}
    values: dict[str, Any] = dict(given)
    name = values.pop("name", None)
    if not isinstance(name, str) or name not in homes:
        raise SpecificationError(
            f"unknown {what} {name!r}; expected one of {', '.join(homes)}. A recipe of your own "
            "is handed over in Python: run(Campaign(...), ...)"
        )
    kind = getattr(import_module(homes[name]), name)
    known = {f.name: f for f in fields(kind) if f.init}
    for key, value in values.items():
        if key not in known:
            raise SpecificationError(
                f"{what} {name} has no parameter {key!r}; expected one of "
                f"{', '.join(known) or 'none'}"
            )
        if known[key].type == _NESTED:
            values[key] = model_recipe(value)
        else:
            values[key] = _checked(f"{what} {name}: {key}", value, known[key])
    for key, parameter in known.items():
        if key not in values and parameter.default is parameter.default_factory is MISSING:
            raise SpecificationError(f"{what} {name} needs the parameter {key!r}")
    return kind(**values)


def _checked(what: str, value: Any, parameter: Field[Any]) -> Any:
    """The value, if it is of the kind of the parameter's default; a list becomes a tuple.

    Where a list is expected, one number is a list of one.
    """
    default = parameter.default
    value = tuple(value) if isinstance(value, list) else value
    if isinstance(default, tuple) and isinstance(value, int) and not isinstance(value, bool):
        value = (value,)
    if default is MISSING or default is None or value is None:
        fits = isinstance(value, (bool, int, float, str, tuple, type(None)))
    elif isinstance(default, float):
        fits = isinstance(value, (int, float)) and not isinstance(value, bool)
    else:
        fits = type(value) is type(default)
    if not fits:
        example = "a list of numbers, such as [1, 2]" if default == () else f"like {default!r}"
        raise SpecificationError(f"{what} must be {example}, got {value!r}")
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if type(value).__name__ in MODELS:
        return recipe_to_dict(value)
    return value if isinstance(value, (bool, int, float, str, type(None))) else repr(value)

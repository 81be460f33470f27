"""The one socket: a `Model` is a frozen recipe, `fit` returns a `Fitted` that predicts.

Baselines, Gaussian processes and transfer strategies all fit it; campaigns, studies
and the command line know nothing else. What a fitted model can do beyond `predict`
is a further protocol (`HasPosterior`), never a flag.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import index
from reprlib import repr as shortened
from typing import Any, Protocol, runtime_checkable

import pandas as pd

from bayestl.data.measurement import Metric
from bayestl.data.space import ConfigSpace, Configuration
from bayestl.data.table import MeasurementTable
from bayestl.errors import FitError, TableError, UnknownEnvironment
from bayestl.models.posterior import Posterior

Configs = pd.DataFrame | Sequence[Mapping[str, Any]] | Sequence[Configuration]
"""Configurations as a frame with a column an option, or as dicts, completed by defaults."""

Where = str | Sequence[str] | None
"""An environment's name, or one for each configuration; the target unless named."""

QUANTILES = (0.05, 0.5, 0.95)
"""What `predict` reports unless told: the median and a 90 % interval."""


def positions_of(
    environment: Where, count: int, *, target: str, environments: Sequence[str]
) -> list[int]:
    """The position among `environments` of each of `count` configurations' environment.

    Raises
    ------
    UnknownEnvironment
        If the model does not know one of them.
    ValueError
        If there are not as many names as configurations.
    """
    if environment is None or isinstance(environment, str):
        names = [target if environment is None else environment] * count
    elif len(names := several(environment)) != count:
        raise ValueError(
            f"expected one environment, or one for each of {count} configurations, got "
            f"{len(names)} names"
        )
    for name in dict.fromkeys(names):
        if name not in environments:
            raise UnknownEnvironment(
                f"unknown environment {name!r}; this model knows {', '.join(environments)}; "
                "to predict where nothing was measured, fit a table that knows it "
                f"(table.knowing(Environment({name!r}))) with target={name!r}"
            )
    position = {name: place for place, name in enumerate(environments)}
    return [position[name] for name in names]


def several(environment: Sequence[str]) -> list[str]:
    """The names in a list of environments.

    Raises
    ------
    UnknownEnvironment
        If it is no list, or not of names.
    """
    names: list[Any] = list(environment) if isinstance(environment, Iterable) else [None]
    if not all(isinstance(name, str) for name in names):
        raise UnknownEnvironment(
            "expected an environment's name, or a list of one for each configuration, got "
            f"{shortened(environment)}"
        )
    return names


def expect_one(environment: Where) -> None:
    """Refuse what is no single environment's name, where one is predicted.

    Raises
    ------
    UnknownEnvironment
        For a list or anything else.
    """
    if not (environment is None or isinstance(environment, str)):
        raise UnknownEnvironment(
            f"predict expected one environment's name, got {shortened(environment)}; only a "
            "posterior takes a list of them, one for each configuration"
        )


SEEDS = 2**64
"""How many seeds there are that every generator takes."""


def checked_seed(seed: Any) -> int:
    """The seed as Python's integer, whichever kind of integer it is.

    Raises
    ------
    FitError
        If it is none, or not one that every generator takes.
    """
    try:
        number = -1 if isinstance(seed, bool) else index(seed)
    except TypeError:
        number = -1
    if not 0 <= number < SEEDS:
        raise FitError(f"expected a seed as a whole number from 0 to 2**64 - 1, got {seed!r}")
    return number


def is_recipe(value: Any) -> bool:
    """Whether a value looks like a `Model`: no class, nor what scikit-learn fits to arrays."""
    fits = hasattr(value, "fit") and not isinstance(value, type)
    return fits and not hasattr(value, "get_params")


def expect_recipe(value: Any) -> None:
    """Refuse what no recipe can be made around.

    Raises
    ------
    FitError
        If it is no `Model`.
    """
    if not is_recipe(value):
        raise FitError(
            "expected a recipe, such as TransferGP(), or a scikit-learn regressor in one, such as "
            f"Estimator(SVR()), got {value!r}"
        )


@dataclass(frozen=True)
class Diagnostics:
    """What happened in a fit, so that no fallback is silent.

    Parameters
    ----------
    model : the recipe that was fitted, in words
    n_source, n_target : usable rows that the fit stood on
    dropped : reason -> rows left out, such as ``{"timeout": 3}``
    warnings : one sentence each, for people
    details : further plain values, such as evidence, hyperparameters, leave-one-out scores
    """

    model: str
    n_source: int
    n_target: int
    dropped: Mapping[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The diagnostics as plain JSON values."""
        return {
            "model": self.model,
            "n_source": self.n_source,
            "n_target": self.n_target,
            "dropped": dict(self.dropped),
            "warnings": list(self.warnings),
            "details": dict(self.details),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Diagnostics:
        """The diagnostics that `to_dict` wrote."""
        return cls(**{**values, "warnings": tuple(values["warnings"])})


class Fitted(Protocol):
    """A model that has seen a table."""

    @property
    def space(self) -> ConfigSpace: ...
    @property
    def metric(self) -> Metric: ...
    @property
    def target(self) -> str: ...
    @property
    def diagnostics(self) -> Diagnostics: ...

    def predict(
        self,
        configs: Configs,
        environment: str | None = None,
        quantiles: Sequence[float] = QUANTILES,
    ) -> pd.DataFrame:
        """What a new measurement would give: `mean`, `std` and a column `qNN` a quantile.

        In the metric's unit, the index of `configs` kept; the noise of one measurement
        is included. `environment` is the target unless named. A frame needs a column for
        every option; in a list of dicts, options left out have their defaults.
        """
        ...


def expect_table(table: MeasurementTable) -> MeasurementTable:
    """The table that a recipe is fitted to, or that is looked at; every recipe begins here.

    Raises
    ------
    TableError
        If it is no `MeasurementTable`.
    """
    if not isinstance(table, MeasurementTable):
        raise TableError(
            f"expected a MeasurementTable, got a {type(table).__name__}; "
            "MeasurementTable.from_frame makes one of a pandas frame"
        )
    return table


def expect_target(fitted: Fitted, environment: Where) -> None:
    """Refuse another environment than the one that a model was fitted for alone.

    Raises
    ------
    UnknownEnvironment
        If another one is named.
    """
    expect_one(environment)
    if environment not in (None, fitted.target):
        raise UnknownEnvironment(
            f"{fitted.diagnostics.model} was fitted for {fitted.target!r} alone; fit it with "
            f"target={environment!r} to predict there"
        )


@runtime_checkable
class HasPosterior(Protocol):
    """A fitted model whose belief about several configurations is jointly Gaussian."""

    def posterior(self, configs: Configs, environment: Where = None) -> Posterior:
        """The joint posterior of the noise-free metric on its transformed scale.

        Given one name a configuration it is joint over environments, so that what two of them
        share cancels in their difference. So the target's measurements tell something of the
        sources too, even where `predict` answers for a source with that source's own process.

        Raises
        ------
        ConfigurationError
            For a configuration that the space does not know.
        UnknownEnvironment
            For an environment that the fit did not see.
        ValueError
            If there are not as many names as configurations.
        """
        ...


@runtime_checkable
class Refits(Protocol):
    """A fitted model that learns from a table with more of the target faster than its recipe."""

    def refit(self, table: MeasurementTable, seed: int = 0) -> Fitted:
        """What the recipe's `fit` gives for the same metric and target, to the last bit."""
        ...


class Model(Protocol):
    """A frozen recipe."""

    def fit(self, table: MeasurementTable, *, metric: str, target: str, seed: int = 0) -> Fitted:
        """The model fitted to every usable row of the table.

        Raises
        ------
        FitError
            If there is nothing to fit, or a value does not fit the metric's transform.
        UnknownEnvironment, TableError
            For a target or a metric that the table does not know. A target without
            rows is known when the table describes its environment.
        """
        ...

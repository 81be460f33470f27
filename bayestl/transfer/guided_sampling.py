"""Guided sampling: the source says which options and interactions matter, the target how much.

The strategy of the seed study (Iqbal, Kotthoff and Jamshidi, OpML 2019) after L2S (Jamshidi,
Velez, Kaestner and Siegmund, FSE 2018, "Learning to sample: exploiting similarities across
environments"): options and pairs of options are selected on the source step by step, the
target is measured where just those vary, and their effects are estimated anew.

Departures: options may have any number of levels, on the features that the Gaussian
processes see; terms are added by an information criterion and dropped by
significance; effects are estimated with a ridge penalty, so that fewer measurements than
terms do; and with `prior="source"`, the Bayesian counterpart, they are shrunk to the
source's effects instead of to none. L2S also explores: one measurement in ten is where a
Gaussian process is most in doubt. The design here is without that, for which there are the
acquisitions. The study's public code trains on the first rows instead of the sampled ones; here
it is the rows of the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy.stats import t as student

from bayestl.data.sampling import candidates
from bayestl.data.space import ConfigSpace
from bayestl.data.table import MeasurementTable
from bayestl.errors import FitError
from bayestl.models.conformal import Regressor
from bayestl.models.encoding import Encoding
from bayestl.models.model import checked_seed
from bayestl.models.observations import Observations
from bayestl.models.regression import FittedRegression, Trained, cross_validated
from bayestl.models.scaling import TransformName
from bayestl.transfer.sources import Transfer, few_points

MOST_TERMS = 40
SIGNIFICANCE = 0.05
PENALTIES = tuple(np.logspace(-3, 4, 22))
"""What the penalty is chosen from, by leave-one-out error."""

FIRM_PENALTY = 10.0
"""The penalty where one or two measurements cannot choose it."""

Term = tuple[int, ...]
"""One or two columns of the encoding, multiplied."""


@dataclass(frozen=True)
class TermFeatures:
    """The selected terms of a configuration, centred and scaled as in the sources.

    Parameters
    ----------
    encoding : of the options
    terms : the selected ones
    centre, spread : (p,) of every column, in the sources
    effects : (k,) standardised effects in the sources
    """

    encoding: Encoding
    terms: tuple[Term, ...]
    centre: np.ndarray
    spread: np.ndarray
    effects: np.ndarray

    @property
    def space(self) -> ConfigSpace:
        """The union space of the table."""
        return self.encoding.space

    def of(self, configurations: pd.DataFrame) -> np.ndarray:
        """(n, k) features of canonical configurations."""
        encoded = self.encoding.encode(configurations).numpy()
        return _products((encoded - self.centre) / self.spread, self.terms)

    def options(self, among: Sequence[Term] | None = None) -> tuple[str, ...]:
        """The options that the terms speak of, in the order of the space."""
        columns = {column for term in among or self.terms for column in term}
        named, start = set(), 0
        for group in self.encoding.groups:
            if columns & set(range(start, start + group.width)):
                named.add(group.option)
            start += group.width
        return tuple(name for name in self.space.names if name in named)


@dataclass(frozen=True)
class GuidedSampling:
    """Recipe: the sources' influential options and interactions, estimated on the target.

    Parameters
    ----------
    prior : what effects are shrunk to: ``"none"``, as the seed study knows nothing of their
        size, or ``"source"``, to what they are in the sources
    transform : `log` for a positive metric, `identity`, or `auto`
    """

    prior: Literal["none", "source"] = "none"
    transform: TransformName = "auto"

    def __post_init__(self) -> None:
        if self.prior not in ("none", "source"):
            raise FitError(f"expected prior 'none' or 'source', got {self.prior!r}")

    def fit(
        self, table: MeasurementTable, *, metric: str, target: str, seed: int = 0
    ) -> FittedRegression:
        """The terms selected on the sources' rows, fitted to the target's; see `Model.fit`.

        Raises
        ------
        FitError
            If no source has a usable row, or the seed is none.
        """
        seed = checked_seed(seed)
        transfer = Transfer.of(self, table, metric, target)
        features = _selected(transfer.observations)
        examples = transfer.examples(features)
        around = features.effects if self.prior == "source" else np.zeros(len(features.terms))
        train = partial(cross_validated, fit=partial(_estimated, around), seed=seed)
        level = float(transfer.observations.z[~transfer.observations.is_target].mean())
        return transfer.fitted(
            features,
            examples,
            train(examples) if len(examples.z) else _unmeasured(level, features.effects),
            warnings=few_points(len(examples.z)),
            details={
                "sources": transfer.names,
                "options": features.options(),
                "terms": tuple(" * ".join(features.options([term])) for term in features.terms),
            },
        )

    def design(
        self, table: MeasurementTable, *, metric: str, target: str, n: int, seed: int = 0
    ) -> pd.DataFrame:
        """n configurations to measure in the target: where the influential options vary.

        The others stay at their default, also where they become active. Fewer where there are not
        so many; the default configuration is always one of them.

        Raises
        ------
        FitError
            If no source has a usable row, or the seed is none.
        SpaceError
            If valid ones are too rare to be found.
        """
        seed = checked_seed(seed)
        influential = _selected(Transfer.of(self, table, metric, target).observations).options()
        space = table.space_of(target) if len(table.of(target)) else table.space
        fixed = {n: o.default for n, o in space.options.items() if n not in influential}
        return candidates(space.subspace(**fixed), max(n, 1), seed).head(n)


def _selected(observations: Observations) -> TermFeatures:
    """The terms that matter in the sources, with their effects there."""
    from_sources = ~observations.is_target.numpy()
    x = observations.x.numpy()[from_sources]
    z, places = observations.z.numpy()[from_sources], x[:, -1]
    x = x[:, :-1]
    for place in np.unique(places):  # each source's own level is no option's effect
        z = np.where(places == place, z - z[places == place].mean(), z)
    centre, spread = x.mean(axis=0), x.std(axis=0)
    spread = np.where(spread > 1e-9, spread, 1.0)
    standard = (x - centre) / spread
    terms = stepwise(standard, z)
    effects = _least_squares(_products(standard, terms), z)[0] if terms else np.empty(0)
    return TermFeatures(observations.encoding, terms, centre, spread, effects)


def stepwise(x: np.ndarray, z: np.ndarray) -> tuple[Term, ...]:
    """The columns and pairs of columns that explain z: forward by EBIC, backward by significance.

    A pair may enter once one of its columns has (weak heredity), as L2S does.

    Parameters
    ----------
    x : (n, p), standardised
    z : (n,), centred

    Source: Efroymson (1960); the criterion of Chen and Chen (2008), which does not find terms
    in noise because there are many to try: n log(RSS / n) + k log(n) + 2 k log(p (p + 1) / 2).
    """
    n, p = x.shape
    chosen: list[Term] = []
    possible: list[Term] = [(column,) for column in range(p) if x[:, column].std() > 1e-9]
    residual, best = z, _criterion(z, p, 0)
    most = min(MOST_TERMS, n // 3)
    while len(chosen) < most and possible:
        products = _products(x, possible)
        basis = _products(x, chosen)
        if chosen:  # what a term adds is the part that the others do not have
            products = products - basis @ np.linalg.lstsq(basis, products, rcond=None)[0]
        norms = np.sqrt((products**2).sum(axis=0))
        gains = np.where(norms > 1e-6, np.abs(products.T @ residual) / np.maximum(norms, 1e-6), 0)
        term = possible[int(gains.argmax())]
        _, left, _ = _least_squares(_products(x, [*chosen, term]), z)
        criterion = _criterion(left, p, len(chosen) + 1)
        if criterion >= best:
            break
        chosen.append(term)
        residual, best = left, criterion
        possible.remove(term)
        if len(term) == 1:
            known = set(possible) | set(chosen)
            pairs = (tuple(sorted((term[0], other))) for other in range(p) if other != term[0])
            possible += [pair for pair in pairs if pair not in known]
    return _significant(x, z, chosen)


def _significant(x: np.ndarray, z: np.ndarray, terms: list[Term]) -> tuple[Term, ...]:
    """The terms without those, one by one, whose t-test says that they might be none."""
    while terms:
        _, _, p_values = _least_squares(_products(x, terms), z)
        worst = int(p_values.argmax())
        if p_values[worst] <= SIGNIFICANCE:
            break
        terms = [term for position, term in enumerate(terms) if position != worst]
    return tuple(terms)


def _products(x: np.ndarray, terms: Sequence[Term]) -> np.ndarray:
    if not terms:
        return np.zeros((len(x), 0))
    return np.column_stack([x[:, list(term)].prod(axis=1) for term in terms])


def _least_squares(terms: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(k,) effects, (n,) residuals, (k,) p-values; the constant is not among the effects."""
    n, k = terms.shape
    full = np.column_stack([np.ones(n), terms])
    inverse = np.linalg.pinv(full.T @ full)
    effects = inverse @ full.T @ z
    residual = z - full @ effects
    freedom = max(n - k - 1, 1)
    errors = np.sqrt(np.maximum(np.diag(inverse) * (residual @ residual) / freedom, 1e-24))
    p_values = 2 * student.sf(np.abs(effects / errors), freedom)
    return effects[1:], residual, p_values[1:]


def _criterion(residual: np.ndarray, columns: int, terms: int) -> float:
    n, possible = len(residual), max(columns * (columns + 1) / 2, 1)
    misfit = n * np.log(max(residual @ residual / n, 1e-24))
    return float(misfit + terms * (np.log(n) + 2 * np.log(possible)))


@dataclass(frozen=True)
class _Effects:
    """constant + terms @ effects"""

    constant: float
    effects: np.ndarray

    def predict(self, X: np.ndarray, /) -> np.ndarray:
        return self.constant + X @ self.effects


def _estimated(around: np.ndarray, x: np.ndarray, z: np.ndarray, weights: np.ndarray) -> Regressor:
    """Effects by ridge regression around given ones; the constant is not shrunk."""
    from sklearn.linear_model import Ridge, RidgeCV

    rest = z - x @ around
    if not x.shape[1]:
        return _Effects(float(np.average(rest, weights=weights)), around)
    ridge: Any = RidgeCV(PENALTIES) if len(z) >= 3 else Ridge(FIRM_PENALTY)
    ridge.fit(x, rest, sample_weight=weights)
    return _Effects(float(ridge.intercept_), around + ridge.coef_)


def _unmeasured(level: float, effects: np.ndarray) -> Trained:
    """Without a measurement in the target, the sources' effects and level."""
    return Trained(_Effects(level, effects), [], np.zeros((0, 0), dtype=bool))

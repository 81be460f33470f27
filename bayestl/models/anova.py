"""Functional ANOVA: how much of a function's variance each option and each pair explains.

A function of independent options is a constant, plus one function of each option, plus one of
each pair, and so on, all orthogonal (Hoeffding, 1948); the shares of its variance are Sobol's
indices (1993),

    S_i = Var(E[f | x_i]) / Var(f),    S_ij = Var(E[f | x_i, x_j]) / Var(f) - S_i - S_j

They are found by least squares on the values at a pool of configurations: on one indicator a
level where the pool is the whole space, which is exact, and where it is a sample on
polynomials of the rank for options of many numbers. All options are fitted at once, then each
pair beside them, so that what options have in common in a sample by chance does no harm.

Where constraints or conditions tie options to one another, there is no such decomposition.
S_i keeps its meaning, so that options of which one switches the other off both have their
share; a pair has the share of what no sum of functions of single options can say.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.polynomial import legendre

MOST_LEVELS = 8
"""In a sample, a number with more distinct values than this is seen by its rank."""

CONFOUNDED = 0.3
"""Of a direction that a sample shows no better than this, as a cosine, nothing is said."""

DEGREE = 6
DEGREE_IN_PAIRS = 4
"""Of the polynomials of the rank."""

Term = tuple[str, ...]
"""The names of an option, or of two."""


@dataclass(frozen=True)
class Functions:
    """k functions at the n configurations of a pool.

    Parameters
    ----------
    centred : (k, n) values, each function's mean subtracted
    squares : (k,) sum of squares
    beyond : (k,) sum of squares of what single options do not explain
    """

    centred: np.ndarray
    squares: np.ndarray
    beyond: np.ndarray


@dataclass(frozen=True)
class Anova:
    """The functional ANOVA over a pool of configurations.

    Parameters
    ----------
    pool : one configuration a row
    sampled : whether the pool is a sample of the space, and not all of it
    tied : whether constraints or conditions tie options to one another
    order : 1 for options alone, 2 for pairs as well
    """

    pool: pd.DataFrame
    sampled: bool
    tied: bool = False
    order: int = 2
    _options: dict[str, np.ndarray] = field(init=False, repr=False, compare=False)
    _additive: np.ndarray = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.order not in (1, 2):
            raise ValueError(f"expected order 1 (options) or 2 (and pairs), got {self.order!r}")
        options = {name: self._option(name, DEGREE) for name in self.pool.columns}
        object.__setattr__(self, "_options", options)
        object.__setattr__(self, "_additive", _orthonormal(np.hstack([*options.values()])))

    def functions(self, values: np.ndarray) -> Functions:
        """(k, n) values made ready; a function that is constant up to rounding is zero."""
        centred = values - values.mean(axis=1, keepdims=True)
        squares = np.square(centred).sum(axis=1)
        flat = squares <= 1e-12 * np.maximum(1.0, np.square(values).sum(axis=1))
        centred[flat], squares[flat] = 0.0, 0.0
        return Functions(
            centred, squares, squares - np.square(centred @ self._additive).sum(axis=1)
        )

    def terms(self) -> Iterator[tuple[Term, np.ndarray]]:
        """Each option, then each pair, with the weights (n, r) that give its coefficients.

        The coefficients of a function f are f^T weights; their sum of squares is that of the
        part of f that the term explains.
        """
        bases = list(self._options.values())
        weights = np.hstack(bases) if self.tied else _least_squares(np.hstack(bases))
        ends = np.cumsum([basis.shape[1] for basis in bases])[:-1]
        for name, block in zip(self._options, np.split(weights, ends, axis=1), strict=True):
            yield (name,), block
        if self.order == 1:
            return
        factors = {name: self._option(name, DEGREE_IN_PAIRS) for name in self._options}
        for (one, a), (other, b) in combinations(factors.items(), 2):
            products = np.sqrt(len(a)) * (a[:, :, None] * b[:, None, :]).reshape(len(a), -1)
            products -= products.mean(axis=0)
            if not self.tied:
                yield (one, other), _least_squares(self._beyond(_orthonormal(products)))
            else:
                yield (one, other), _orthonormal(self._beyond(products))

    def shares(self, functions: Functions, term: Term, weights: np.ndarray) -> np.ndarray:
        """(k,) the share in [0, 1] of each function's variance that a term explains.

        What it seems to explain of a sample by chance is subtracted (as in epsilon squared,
        Kelley, 1935).
        """
        explained = np.square(functions.centred @ weights).sum(axis=1)
        if self.sampled:
            explained = explained - np.square(weights).sum() * self.chance(functions, term, weights)
        flat = functions.squares == 0
        return np.where(
            flat, 0.0, np.clip(explained / np.where(flat, 1.0, functions.squares), 0.0, 1.0)
        )

    def sizes(self, functions: Functions, term: Term, basis: np.ndarray) -> np.ndarray:
        """(k,) the standard deviation of the part of each function that a term explains."""
        shares = self.shares(functions, term, basis)
        return np.sqrt(shares * functions.squares / len(self.pool))

    def chance(self, functions: Functions, term: Term, weights: np.ndarray) -> np.ndarray:
        """(k,) the variance that what is not fitted adds to a coefficient of unit weights."""
        explained = np.square(functions.centred @ weights).sum(axis=1)
        fitted = 1 + self._additive.shape[1]
        if len(term) > 1:
            left, fitted = functions.beyond - explained, fitted + weights.shape[1]
        elif self.tied:
            left, fitted = functions.squares - explained, 1 + weights.shape[1]
        else:
            left = functions.beyond
        return np.maximum(left, 0.0) / max(len(self.pool) - fitted, 1)

    def _beyond(self, columns: np.ndarray) -> np.ndarray:
        """Columns without what single options explain of them."""
        for _ in range(2):  # once leaves rounding behind, which a basis would blow up
            columns = columns - self._additive @ (self._additive.T @ columns)
        return columns

    def _option(self, name: str, degree: int) -> np.ndarray:
        """(n, r) an orthonormal basis of the functions of one option, without the constant."""
        columns = _columns(self.pool[name], degree if self.sampled else None)
        return _orthonormal((columns - columns.mean(axis=0)) / np.sqrt(len(columns)))


def _columns(column: pd.Series, degree: int | None) -> np.ndarray:
    """(n, k) functions of one option: an indicator a level, or polynomials of a number's rank."""
    active = column.notna().to_numpy()
    values = column[active]
    by_rank = values.nunique() > MOST_LEVELS and bool(values.map(is_number).all())
    if degree is None or not by_rank:
        codes, levels = pd.factorize(column, use_na_sentinel=False)
        return np.eye(len(levels))[codes]
    rank = values.astype(float).rank().to_numpy()
    result = np.zeros((len(column), degree + 1))
    result[:, 0] = ~active
    result[active, 1:] = legendre.legvander(2 * (rank - 0.5) / len(rank) - 1, degree)[:, 1:]
    return result


def _orthonormal(columns: np.ndarray) -> np.ndarray:
    """(n, r) an orthonormal basis of columns whose norms are of the order of one."""
    basis, sizes, _ = np.linalg.svd(columns, full_matrices=False)
    return basis[:, sizes > 1e-8]


def _least_squares(columns: np.ndarray) -> np.ndarray:
    """(n, r) weights that give the coefficients of columns whose norms are one or less."""
    basis, sizes, mix = np.linalg.svd(columns, full_matrices=False)
    kept = sizes > CONFOUNDED
    return (basis[:, kept] / sizes[kept]) @ mix[kept]


def is_number(value: object) -> bool:
    """Whether a value of an option is a number, and not a truth value."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)

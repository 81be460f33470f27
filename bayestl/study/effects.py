"""What each option does to a metric by itself, as a fitted model sees it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from bayestl.data.sampling import candidates
from bayestl.data.space import ConfigSpace
from bayestl.models.model import Fitted, HasPosterior

CONFIGURATIONS = 512
DRAWS = 200
MOST_GROUPS = 8
"""An option with more numbers than this is cut into as many groups of equal size."""


def option_effects(
    fitted: Fitted,
    space: ConfigSpace | None = None,
    *,
    environment: str | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """The share of the variance that each option explains alone, the largest first.

    The first-order index of Sobol (1993) over a sample of the space,

        S_i = Var(E[f | x_i]) / Var(f)

    of the noise-free metric on its transformed scale (the logarithm for positive metrics).
    Groups of a sample differ by chance; that share is subtracted (epsilon squared, Kelley,
    1935). What the shares lack to 1 comes from options that act together; options of which one
    switches the other off share theirs, so that the sum may also exceed 1.

    Parameters
    ----------
    fitted : the model
    space : where to look; all that the model knows unless given
    environment : the target unless named

    Returns
    -------
    `option`, `effect`; `low` and `high`, a 90 % interval over draws from the posterior (NaN for
    a model without one); `best`, the level or range that is best on average, and `ratio`, how
    many times worse the worst is (NaN if a value is not positive)
    """
    space = fitted.space if space is None else space
    pool = candidates(space, CONFIGURATIONS, seed=seed)
    functions, log = _functions(fitted, pool, environment, seed)
    sampled = len(pool) == CONFIGURATIONS
    rows = []
    for name in space.names:
        groups, labels = _groups(pool[name])
        shares = _shares(functions, groups, correct=sampled)
        low, high = np.quantile(shares, [0.05, 0.95]) if len(shares) > 1 else (np.nan, np.nan)
        means = fitted.metric.sign * _means(functions.mean(axis=0, keepdims=True), groups)[0]
        ratio = float(np.exp(means.max() - means.min())) if log else np.nan
        rows.append(
            (name, float(np.median(shares)), low, high, labels[int(np.argmin(means))], ratio)
        )
    columns = ["option", "effect", "low", "high", "best", "ratio"]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.sort_values("effect", ascending=False, kind="stable", ignore_index=True)


def _functions(
    fitted: Fitted, pool: pd.DataFrame, environment: str | None, seed: int
) -> tuple[np.ndarray, bool]:
    """(draws, n) functions that the model believes in, or its one prediction; and if on a log."""
    median = fitted.predict(pool, environment)["q50"].to_numpy(float)
    log = bool((median > 0).all())
    if not isinstance(fitted, HasPosterior):
        return (np.log(median) if log else median)[None, :], log
    posterior = fitted.posterior(pool, environment)
    rng = np.random.default_rng(seed)
    draws = rng.multivariate_normal(
        posterior.mean, posterior.covariance, DRAWS, method="eigh", check_valid="ignore"
    )
    return draws, fitted.diagnostics.details.get("transform") == "log"


def _groups(column: pd.Series) -> tuple[np.ndarray, Sequence[str]]:
    """(n,) the group of each configuration, and the groups' names."""
    numeric = column.map(lambda v: isinstance(v, (int, float)) and not isinstance(v, bool)).all()
    if numeric and column.nunique() > MOST_GROUPS:
        numbers = column.astype(float)
        cuts = pd.qcut(numbers, MOST_GROUPS, duplicates="drop")
        return cuts.cat.codes.to_numpy(), [
            f"{c.left:.3g}–{c.right:.3g}" for c in cuts.cat.categories
        ]
    levels = {_name(value): None for value in column}
    order = {name: position for position, name in enumerate(levels)}
    return column.map(lambda value: order[_name(value)]).to_numpy(int), list(levels)


def _name(value: object) -> str:
    if value is None:
        return "not active"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _means(functions: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """(draws, groups) the mean of each function in each group."""
    member = (groups[:, None] == np.arange(groups.max() + 1)).astype(float)
    return functions @ member / member.sum(axis=0)


def _shares(functions: np.ndarray, groups: np.ndarray, *, correct: bool) -> np.ndarray:
    """(draws,) the share of each function's variance that lies between the groups."""
    n, count = len(groups), int(groups.max()) + 1
    grand = functions.mean(axis=1, keepdims=True)
    total = np.square(functions - grand).sum(axis=1)
    between = np.square(_means(functions, groups) - grand) @ np.bincount(groups)
    if correct and n > count:
        between = between - (count - 1) * (total - between) / (n - count)
    flat = total <= 1e-12 * np.maximum(1.0, np.square(functions).sum(axis=1))
    return np.where(flat, 0.0, np.clip(between / np.where(flat, 1.0, total), 0.0, 1.0))

"""What options do to a metric, alone and in pairs, and what changed between environments.

All of it is of the noise-free metric on its transformed scale (the logarithm for positive
metrics), over a pool of configurations, with the doubt of the model's posterior.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import chi2

from bayestl.data.sampling import candidates, sample
from bayestl.data.space import ConfigSpace
from bayestl.models.anova import Anova, Functions, Term, is_number
from bayestl.models.model import Fitted, HasPosterior

CONFIGURATIONS = 1024
"""Of a larger space as many are sampled, over all environments asked for."""

DRAWS = 200
MOST_GROUPS = 8
"""An option with more numbers than this is cut into as many groups of equal size."""

NEGLIGIBLE = 0.01
"""A difference this small, in standard deviations of the source's function, counts as none."""


def option_effects(
    fitted: Fitted,
    space: ConfigSpace | None = None,
    *,
    environment: str | None = None,
    order: int = 2,
    seed: int = 0,
) -> pd.DataFrame:
    """The share of the variance that each option and each pair explains, the largest first.

    First-order and pairwise indices of Sobol (1993); see `anova`. What they lack to 1 comes from
    more than two options together.

    Parameters
    ----------
    fitted : the model
    space : where to look; all that the model knows unless given
    environment : the target unless named
    order : 1 for options alone, 2 for pairs as well

    Returns
    -------
    `option` and `other`, the pair's second option or empty
    `effect` : the share; for a pair, of what the two do together and neither does alone
    `low`, `high` : a 90 % interval over draws from the posterior (NaN for a model without one);
    a sample of a large space adds an error of a few hundredths
    `best` : the level, range or combination that is best on average
    `ratio` : how many times worse the worst is (NaN if a value is not positive)
    """
    pool, anova = _anova(fitted, space, CONFIGURATIONS, order, seed)
    mean, covariance, log = _belief(fitted, pool, [environment])
    functions = anova.functions(_draws(mean, covariance, seed))
    groups = {name: _groups(pool[name]) for name in pool.columns}
    loss = fitted.metric.sign * mean
    rows = [
        (
            *_names(term),
            *_interval(anova.shares(functions, term, weights)),
            *_best(loss, term, groups, log),
        )
        for term, weights in anova.terms()
    ]
    columns = ["option", "other", "effect", "low", "high", "best", "ratio"]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.sort_values("effect", ascending=False, kind="stable", ignore_index=True)


def what_changed(
    fitted: Fitted,
    source: str,
    target: str | None = None,
    *,
    space: ConfigSpace | None = None,
    order: int = 2,
    seed: int = 0,
) -> pd.DataFrame:
    """Which options and pairs act differently in two environments, the largest change first.

    The functional ANOVA of both functions and of their difference f_target - f_source, which
    under the logarithm is that of the ratio of the two metrics: how much slower one of them is
    throughout does not appear in it, nor an option that does the same in both. Draws are joint
    over the two environments where the model has a posterior, so that doubt which they share
    cancels.

    Parameters
    ----------
    fitted : the model
    source, target : the environments; the target that was fitted unless named
    space : where to look; all that the model knows unless given
    order : 1 for options alone, 2 for pairs as well

    Returns
    -------
    `option` and `other`, the pair's second option or empty
    `source`, `target` : the size of the effect in each, a standard deviation over the
    configurations on the transformed scale; under the logarithm 0.1 is about 10 %
    `difference`, `low`, `high` : target minus source, with a 90 % interval; an effect that
    turned round has no other size, and is seen in what follows
    `change` : the share of the variance of the difference that it explains: what changed
    `factor` : by how many times it typically moves the ratio of the two environments away
    from its average, exp of a standard deviation (NaN without a logarithm)
    `probability` : how surely it differs: the largest credible level at which the region of
    highest posterior density leaves out no difference (Box and Tiao, 1973), where what a
    sample shows by chance and what is `NEGLIGIBLE` count as none (NaN without a posterior)

    Raises
    ------
    UnknownEnvironment
        For an environment that the model does not know.
    """
    pool, anova = _anova(fitted, space, CONFIGURATIONS // 2, order, seed)
    n, target = len(pool), fitted.target if target is None else target
    mean, covariance, log = _belief(fitted, pool, [source, target])
    draws = _draws(mean, covariance, seed)
    before, after = (anova.functions(draws[:, part]) for part in (slice(n), slice(n, None)))
    between = anova.functions(draws[:, n:] - draws[:, :n])
    expected = anova.functions((mean[n:] - mean[:n])[None])
    doubt = None if covariance is None else _of_difference(covariance)
    least = NEGLIGIBLE**2 * np.square(mean[:n] - mean[:n].mean()).sum()
    rows = []
    for term, weights in anova.terms():
        old, new = (anova.sizes(functions, term, weights) for functions in (before, after))
        size = float(anova.sizes(expected, term, weights)[0])
        rows.append(
            (
                *_names(term),
                float(np.median(old)),
                float(np.median(new)),
                *_interval(new - old),
                float(np.median(anova.shares(between, term, weights))),
                float(np.exp(size)) if log else np.nan,
                _sureness(anova, expected, term, weights, doubt, least),
            )
        )
    columns = ["option", "other", "source", "target", "difference", "low", "high"]
    frame = pd.DataFrame(rows, columns=[*columns, "change", "factor", "probability"])
    return frame.sort_values("change", ascending=False, kind="stable", ignore_index=True)


class Explained:
    """What a fitted model can say of its own effects."""

    def option_effects(
        self: Fitted, environment: str | None = None, *, order: int = 2, seed: int = 0
    ) -> pd.DataFrame:
        """What each option and each pair explains; see `effects.option_effects`."""
        return option_effects(self, environment=environment, order=order, seed=seed)

    def what_changed(
        self: Fitted, source: str, target: str | None = None, *, order: int = 2, seed: int = 0
    ) -> pd.DataFrame:
        """Which effects differ between two environments; see `effects.what_changed`."""
        return what_changed(self, source, target, order=order, seed=seed)


def _anova(
    fitted: Fitted, space: ConfigSpace | None, limit: int, order: int, seed: int
) -> tuple[pd.DataFrame, Anova]:
    space = fitted.space if space is None else space
    pool = candidates(space, limit + 1, seed=seed)
    sampled = len(pool) > limit
    if sampled:  # in a Sobol sequence some pairs of two-level options are the same as others
        pool = sample(space, limit, method="latin_hypercube", seed=seed)
    return pool, Anova(pool, sampled, bool(space.constraints or space.conditions), order)


def _belief(
    fitted: Fitted, pool: pd.DataFrame, environments: Sequence[str | None]
) -> tuple[np.ndarray, np.ndarray | None, bool]:
    """The mean and covariance, None if there is none, of the pool in each environment in turn.

    The last says whether they are of a logarithm.
    """
    if isinstance(fitted, HasPosterior):
        log = fitted.diagnostics.details.get("transform") == "log"
        if len(environments) == 1:
            posterior = fitted.posterior(pool, environments[0])
        else:
            names = np.repeat(np.array(environments, dtype=object), len(pool)).tolist()
            posterior = fitted.posterior(pd.concat([pool] * len(environments)), names)
        return posterior.mean, posterior.covariance, log
    medians = np.concatenate(
        [fitted.predict(pool, name)["q50"].to_numpy(float) for name in environments]
    )
    log = bool((medians > 0).all())
    return np.log(medians) if log else medians, None, log


def _draws(mean: np.ndarray, covariance: np.ndarray | None, seed: int) -> np.ndarray:
    """(draws, n) functions that the model believes in, or its one prediction."""
    if covariance is None:
        return mean[None]
    rng = np.random.default_rng(seed)
    return rng.multivariate_normal(mean, covariance, DRAWS, method="eigh", check_valid="ignore")


def _of_difference(covariance: np.ndarray) -> np.ndarray:
    """(n, n) of the second half minus the first, from that (2n, 2n) of both."""
    n = len(covariance) // 2
    shared = covariance[:n, n:]
    return covariance[:n, :n] + covariance[n:, n:] - shared - shared.T


def _sureness(
    anova: Anova,
    expected: Functions,
    term: Term,
    weights: np.ndarray,
    covariance: np.ndarray | None,
    least: float,
) -> float:
    """The largest credible level at which a term's part of the difference is not zero."""
    if covariance is None:
        return np.nan
    if not weights.shape[1]:
        return 0.0
    noise = float(anova.chance(expected, term, weights)[0]) if anova.sampled else 0.0
    doubt = weights.T @ covariance @ weights + noise * weights.T @ weights
    coefficients = expected.centred[0] @ weights
    # no surer than rounding allows, where there is no doubt and nothing to compare with
    rounding = np.square(np.finfo(float).eps * coefficients).max()
    doubt += max(least, rounding, np.finfo(float).tiny) * np.eye(len(doubt))
    distance = float(coefficients @ np.linalg.solve(doubt, coefficients))
    return float(chi2.cdf(distance, weights.shape[1]))


def _names(term: Term) -> tuple[str, str]:
    return term[0], term[1] if len(term) > 1 else ""


def _interval(shares: np.ndarray) -> tuple[float, float, float]:
    """The median and a 90 % interval, NaN where there is but one."""
    low, high = np.quantile(shares, [0.05, 0.95]) if len(shares) > 1 else (np.nan, np.nan)
    return float(np.median(shares)), float(low), float(high)


def _best(
    loss: np.ndarray, term: Term, groups: dict[str, tuple[np.ndarray, list[str]]], log: bool
) -> tuple[str, float]:
    """The group, or pair of groups, with the least mean loss; how many times worse the worst is."""
    codes = np.stack([groups[name][0] for name in term])
    cells, cell = np.unique(codes, axis=1, return_inverse=True)
    means = np.bincount(cell.ravel(), loss) / np.bincount(cell.ravel())
    best = zip(term, cells[:, means.argmin()], strict=True)
    label = ", ".join(groups[name][1][code] for name, code in best)
    return label, float(np.exp(np.ptp(means))) if log else np.nan


def _groups(column: pd.Series) -> tuple[np.ndarray, list[str]]:
    """(n,) the group of each configuration, and the groups' names."""
    if column.map(is_number).all() and column.nunique() > MOST_GROUPS:
        numbers = column.astype(float)
        cuts = pd.qcut(numbers, MOST_GROUPS, duplicates="drop")
        return cuts.cat.codes.to_numpy(int), [
            f"{max(c.left, numbers.min()):.3g}–{c.right:.3g}" for c in cuts.cat.categories
        ]
    codes, levels = pd.factorize(column, use_na_sentinel=False)
    return codes, [_name(level) for level in levels]


def _name(value: object) -> str:
    if value is None or value is pd.NA or value != value:
        return "not active"
    return str(value).lower() if isinstance(value, (bool, np.bool_)) else str(value)

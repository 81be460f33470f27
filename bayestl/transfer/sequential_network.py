"""A network that has learnt one source after another, and then learns the target.

Gong and Chen (FSE 2024, "Predicting configuration performance in multiple environments with
sequential meta-learning", SeMPL): what is learnt last is remembered best, so the sources are
put in a sequence by how well a linear model of each predicts the others, the least useful
first; the network is that of DeepPerf, see `SparseNetwork`.

Departures: the usefulness is a mean error of one linear model a source, without the repeated
samples and the Scott-Knott test; depth and penalty are searched for on the first source and
kept, the rate at which the target is learnt is searched for on the target, where the original
searches for rate and penalty in every environment; the network's level is moved to each
environment's mean before it is trained there, where the original divides every environment
by its maximum; and, so that a study can fit it thousands of times, layers are half as wide
and steps fewer, in batches.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from bayestl.data.table import MeasurementTable
from bayestl.errors import FitError
from bayestl.models.model import checked_seed
from bayestl.models.network import DEPTHS, ENOUGH_TO_SEARCH, Networks, Settings, Shape
from bayestl.models.observations import Observations
from bayestl.models.regression import (
    Examples,
    FittedRegression,
    OptionFeatures,
    Trained,
    cross_validated_together,
    regressor_inputs,
)
from bayestl.models.scaling import TransformName
from bayestl.transfer.sources import Transfer, few_points

FINE_RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
"""At which the target may be learnt: from hardly more than its level, to all but anew."""

CAREFUL_RATE = FINE_RATES[1]
"""Where the target has too few configurations to choose by."""


@dataclass(frozen=True)
class SequentialMetaLearning:
    """Recipe: a network trained on the sources in sequence, then on the target, as SeMPL.

    Intervals are those of CV+ over the target's configurations: each fold learns the target anew,
    from the same network of the sources.

    Parameters
    ----------
    width : of each layer; the original's is 128
    steps : of gradient descent in each environment
    transform : `log` for a positive metric, `identity`, or `auto`
    """

    width: int = 64
    steps: int = 400
    transform: TransformName = "auto"

    def __post_init__(self) -> None:
        if self.width < 1 or self.steps < 1:
            raise FitError(f"expected at least one neuron and one step, got {self}")

    def fit(
        self, table: MeasurementTable, *, metric: str, target: str, seed: int = 0
    ) -> FittedRegression:
        """The sources in sequence, then the target's usable rows; see `Model.fit`.

        Raises
        ------
        FitError
            If no source has a usable row, a value does not fit the transform, or the seed is
            none.
        """
        seed = checked_seed(seed)
        transfer = Transfer.of(self, table, metric, target)
        rows = {name: _rows(transfer.observations, name) for name in transfer.names}
        errors = _errors(rows)
        sequence = sorted(transfer.names, key=lambda name: -errors.get(name, 0.0))
        learnt, settings = self._meta(rows, sequence, seed)
        features = OptionFeatures(transfer.observations.encoding, 1)
        examples = transfer.examples(features)
        rate = self._rate(learnt, examples, settings.penalty, seed)
        return transfer.fitted(
            features,
            examples,
            self._trained(learnt, examples, settings.penalty, rate, seed),
            warnings=few_points(len(examples.z)),
            details={
                "sequence": tuple(sequence),
                "errors": errors,
                "depth": settings.depth,
                "penalty": settings.penalty,
                "rate": rate,
            },
        )

    def _meta(
        self, rows: dict[str, tuple[np.ndarray, np.ndarray]], sequence: list[str], seed: int
    ) -> tuple[Networks, Settings]:
        """The network that has learnt the sources, and what was found on the first of them."""
        x, z = rows[sequence[0]]

        def fresh(depth: int, count: int) -> Networks:
            return Networks.fresh(Shape(x.shape[1], depth, self.width), count, seed)

        found = Settings.searched(
            fresh, x, z, np.ones(len(z)), depths=DEPTHS, steps=self.steps, seed=seed
        )
        network = fresh(found.depth, 1)
        for name in sequence:
            x, z = rows[name]
            network = self._on(network, x, z, np.ones((1, len(z))), found.penalty, found.rate, seed)
        return network, found

    def _rate(self, learnt: Networks, examples: Examples, penalty: float, seed: int) -> float:
        """The rate at which two thirds of the target's configurations best predict the third."""
        x, z, weights = examples.x, examples.z, examples.weights
        if len(z) < ENOUGH_TO_SEARCH:
            return CAREFUL_RATE
        held = np.random.default_rng(seed).permutation(len(z)) < len(z) // 3
        given = np.tile(np.where(held, 0.0, weights), (len(FINE_RATES), 1))
        networks = self._on(learnt, x, z, given, penalty, FINE_RATES, seed)
        off = np.abs(networks.predict(x[held]) - z[held])
        return FINE_RATES[int(np.average(off, 1, weights[held]).argmin())]

    def _trained(
        self, learnt: Networks, examples: Examples, penalty: float, rate: float, seed: int
    ) -> Trained:
        """The network that has learnt the target, and one for each fold that it left out."""
        if not len(examples.z):
            return Trained(learnt[0], [], np.zeros((0, 0), dtype=bool))
        fit = partial(
            self._on, learnt, examples.x, examples.z, penalty=penalty, rates=rate, seed=seed
        )
        return cross_validated_together(examples, fit=fit, seed=seed)

    def _on(
        self,
        network: Networks,
        x: np.ndarray,
        z: np.ndarray,
        weights: np.ndarray,
        penalty: float,
        rates: float | tuple[float, ...],
        seed: int,
    ) -> Networks:
        """A copy of the network for each row of the weights, after further rows."""
        count = len(weights)
        return (
            network.copies(count)
            .levelled(x, z, weights)
            .trained(
                x,
                z,
                weights,
                penalties=[penalty] * count,
                rates=rates if isinstance(rates, tuple) else [rates] * count,
                steps=self.steps,
                seed=seed,
            )
        )


def _rows(observations: Observations, name: str) -> tuple[np.ndarray, np.ndarray]:
    """(n, p) encoded options and (n,) values of one environment."""
    seen = observations.source(observations.environments.index(name))
    x = seen.x.numpy()
    return regressor_inputs(x[:, :-1], x[:, -1], 1), np.round(seen.z.numpy(), 9)


def _errors(rows: dict[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    """How much a linear model of each source errs about the others; nothing of a single one.

    The share of the deviation that it leaves, the mean aside, averaged over the others.
    """
    from sklearn.linear_model import Ridge

    if len(rows) < 2:
        return {}
    errors = {}
    for name, (x, z) in rows.items():
        linear = Ridge(1.0).fit(x, z)
        left = [
            np.std(values - linear.predict(inputs)) / max(np.std(values), 1e-9)
            for other, (inputs, values) in rows.items()
            if other != name
        ]
        errors[name] = float(np.mean(left))
    return errors

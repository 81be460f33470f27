"""A sparse network: what deep learning makes of a few measurements of many options.

Ha and Zhang (ICSE 2019, "DeepPerf: performance prediction for configurable software with deep
sparse neural network"): ReLU layers with an L1 penalty on the first one's weights, whose depth,
rate and penalty are searched for with a third of the rows held back. With the environment as
a feature it is the "+e" of Gong and Chen (FSE 2024).

Departures, so that a study can fit it thousands of times: layers half as wide; fewer, falling
steps, in batches where there are many rows; coarser grids, searched on a few hundred rows at
most; no five further layers after the search, as the public code adds; and
values on the transformed scale, on which a squared error is a relative one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayestl.data.table import MeasurementTable
from bayestl.errors import FitError
from bayestl.models.network import DEPTHS, Networks, Settings, Shape
from bayestl.models.regression import (
    Examples,
    FittedRegression,
    Trained,
    cross_validated_together,
    fit_regression,
)
from bayestl.models.scaling import TransformName


@dataclass(frozen=True)
class SparseNetwork:
    """Recipe: a network with an L1 penalty on its first layer, in the manner of DeepPerf.

    Intervals are those of CV+, each fold with the settings that were found with all rows.

    Parameters
    ----------
    pooled : also learn from the sources' rows, the environment being a feature
    width : of each layer; DeepPerf's is 128
    steps : of gradient descent, for each of the networks that are compared and kept
    transform : `log` for a positive metric, `identity`, or `auto`
    """

    pooled: bool = False
    width: int = 64
    steps: int = 600
    transform: TransformName = "auto"

    def __post_init__(self) -> None:
        if self.width < 1 or self.steps < 1:
            raise FitError(f"expected at least one neuron and one step, got {self}")

    def fit(
        self, table: MeasurementTable, *, metric: str, target: str, seed: int = 0
    ) -> FittedRegression:
        """The network fitted to the usable rows; see `Model.fit`."""
        return fit_regression(self, self._train, table, metric, target, seed, pooled=self.pooled)

    def _train(self, examples: Examples, *, seed: int) -> Trained:
        x, z = examples.x, examples.z

        def fresh(depth: int, count: int) -> Networks:
            return Networks.fresh(Shape(x.shape[1], depth, self.width), count, seed)

        found = Settings.searched(
            fresh, x, z, examples.weights, depths=DEPTHS, steps=self.steps, seed=seed
        )

        def trained(weights: np.ndarray) -> Networks:
            count = len(weights)
            return fresh(found.depth, count).trained(
                x,
                z,
                weights,
                penalties=[found.penalty] * count,
                rates=[found.rate] * count,
                steps=self.steps,
                seed=seed,
            )

        return cross_validated_together(examples, fit=trained, seed=seed)

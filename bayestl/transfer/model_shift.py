"""A model of the source, shifted to the target: the strategies of the seed study.

Iqbal, Kotthoff and Jamshidi (OpML 2019, "Transfer learning for performance modeling of
deep neural network systems"); the linear map is that of Valov, Petkovich, Guo, Fischmeister
and Czarnecki (ICPE 2017, "Transferring performance prediction models across different
hardware platforms"). Both work on the metric itself and fit one source; here the shift
is fitted on the transformed scale, and the best of several sources is kept. The study's
public code fits the shift on the rows on which it is tested; here it sees the rows of
the table alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from bayestl.data.table import MeasurementTable
from bayestl.errors import FitError
from bayestl.models.conformal import PRIOR_SIZE
from bayestl.models.gp import TargetOnlyGP
from bayestl.models.model import Model, expect_recipe
from bayestl.models.regression import Examples, FittedRegression, Trained, cross_validated
from bayestl.models.scaling import TransformName
from bayestl.transfer.shift import (
    ENOUGH_TO_CHOOSE,
    FitLine,
    forests,
    line,
    offset,
    straight,
    unchanged,
)
from bayestl.transfer.sources import fit_shift


@dataclass(frozen=True)
class DirectTransfer:
    """Recipe: the source's model, asked about the target and believed.

    The target's measurements choose among several sources and give the intervals (CV+).

    Parameters
    ----------
    base : the recipe fitted to each source as if it were the target; `TargetOnlyGP` unless given
    transform : `log` for a positive metric, `identity`, or `auto`
    """

    base: Model = field(default_factory=TargetOnlyGP)
    transform: TransformName = "auto"

    def __post_init__(self) -> None:
        expect_recipe(self.base)

    def fit(
        self, table: MeasurementTable, *, metric: str, target: str, seed: int = 0
    ) -> FittedRegression:
        """The base fitted to each source; see `Model.fit`. No target row is needed."""
        train = partial(_straight, unchanged, unchanged)
        return fit_shift(self, train, table, metric, target, seed, size=PRIOR_SIZE)


@dataclass(frozen=True)
class OffsetShift:
    """Recipe: the source's model and a constant, a factor under the logarithm.

    Of several sources, the one whose shift has the least leave-one-out error on the
    target's configurations; with fewer than three of them, the mean of all sources.
    Intervals are those of CV+, the choice of the source included.

    Parameters
    ----------
    base, transform : as for `DirectTransfer`
    """

    base: Model = field(default_factory=TargetOnlyGP)
    transform: TransformName = "auto"

    def __post_init__(self) -> None:
        expect_recipe(self.base)

    def fit(
        self, table: MeasurementTable, *, metric: str, target: str, seed: int = 0
    ) -> FittedRegression:
        """The offset fitted to the target's usable rows; see `Model.fit`."""
        train = partial(_straight, offset, offset)
        return fit_shift(self, train, table, metric, target, seed)


@dataclass(frozen=True)
class LinearShift:
    """Recipe: a line from the source's prediction to the target's value (Valov et al., 2017).

    Sources and intervals as for `OffsetShift`, which also stands in where fewer than
    three configurations of the target leave no slope to fit.

    Parameters
    ----------
    base, transform : as for `DirectTransfer`
    """

    base: Model = field(default_factory=TargetOnlyGP)
    transform: TransformName = "auto"

    def __post_init__(self) -> None:
        expect_recipe(self.base)

    def fit(
        self, table: MeasurementTable, *, metric: str, target: str, seed: int = 0
    ) -> FittedRegression:
        """The line fitted to the target's usable rows; see `Model.fit`."""
        train = partial(_straight, line, offset)
        return fit_shift(self, train, table, metric, target, seed, aim="a slope")


@dataclass(frozen=True)
class NonlinearShift:
    """Recipe: a random forest from the source's prediction to the target's value.

    As in the seed study. Sources as for `OffsetShift`, judged by trees that did not draw
    a point, which also give the intervals (jackknife+-after-bootstrap). With fewer than
    three configurations of the target, an `OffsetShift`.

    Parameters
    ----------
    base, transform : as for `DirectTransfer`
    trees : how many
    """

    base: Model = field(default_factory=TargetOnlyGP)
    transform: TransformName = "auto"
    trees: int = 100

    def __post_init__(self) -> None:
        expect_recipe(self.base)
        if self.trees < 1:
            raise FitError(f"expected at least one tree, got {self.trees}")

    def fit(
        self, table: MeasurementTable, *, metric: str, target: str, seed: int = 0
    ) -> FittedRegression:
        """The forest fitted to the target's usable rows; see `Model.fit`."""
        return fit_shift(self, self._train, table, metric, target, seed, aim="a forest")

    def _train(self, examples: Examples, *, seed: int) -> Trained:
        if len(examples.z) < ENOUGH_TO_CHOOSE:
            return _straight(offset, offset, examples, seed=seed)
        return forests(examples, self.trees, seed)


def _straight(fit: FitLine, few: FitLine, examples: Examples, *, seed: int) -> Trained:
    return cross_validated(examples, fit=partial(straight, fit, few), seed=seed)

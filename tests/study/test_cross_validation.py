from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from bayestl.data.measurement import Metric
from bayestl.data.options import Integer
from bayestl.data.space import ConfigSpace
from bayestl.data.table import ENVIRONMENT, MeasurementTable
from bayestl.errors import TableError
from bayestl.models.model import Diagnostics
from bayestl.study.cross_validation import cross_validate

SPACE = ConfigSpace({"x": Integer(0, 20)})


@dataclass(frozen=True)
class Memory:
    """Predicts what it has seen of a configuration in the target, and -1 for what it has not."""

    space: ConfigSpace
    metric: Metric
    target: str
    seen: dict
    n_source: int

    @property
    def diagnostics(self):
        return Diagnostics("Memory", self.n_source, len(self.seen))

    def predict(self, configs, environment=None, quantiles=(0.05, 0.5, 0.95)):
        values = [self.seen.get(x, -1.0) for x in configs["x"]]
        return pd.DataFrame({"q50": values, "n_source": self.n_source}, index=configs.index)


@dataclass(frozen=True)
class Remember:
    def fit(self, table, *, metric, target, seed=0):
        mine = table.frame[table.frame[ENVIRONMENT] == target]
        seen = dict(zip(mine["x"], mine[metric], strict=True))
        return Memory(table.space, table.metric(metric), target, seen, len(table) - len(mine))


def table(target: list[tuple[int, float]]) -> MeasurementTable:
    rows = [{"x": x, "environment": "source", "latency": 1.0} for x in range(10)]
    rows += [{"x": x, "environment": "target", "latency": y} for x, y in target]
    return MeasurementTable.from_frame(pd.DataFrame(rows), options=SPACE, metrics={"latency": "ms"})


def validate(data: MeasurementTable, **settings) -> pd.DataFrame:
    return cross_validate(Remember(), data, metric="latency", target="target", **settings)


def test_no_configuration_is_predicted_by_a_model_that_saw_it():
    values = [(x % 4, float(x)) for x in range(1, 13)]  # four configurations, each three times
    predictions = validate(table(values))
    assert list(predictions["measured"]) == [y for _, y in values]
    assert (predictions["q50"] == -1).all()


def test_every_source_row_is_always_given():
    predictions = validate(table([(x, 1.0 + x) for x in range(6)]), folds=3)
    assert (predictions["n_source"] == 10).all()


def test_failures_are_left_out():
    data = table([(x, 1.0 + x) for x in range(6)])
    data.frame.loc[11, ["status", "latency"]] = "oom", np.nan
    assert len(validate(data)) == 5


def test_what_cannot_be_split_is_refused():
    with pytest.raises(TableError, match="at least two"):
        validate(table([(1, 1.0), (1, 2.0)]))
    with pytest.raises(TableError, match="at least two"):
        validate(table([(1, 1.0), (2, 2.0)]), folds=1)

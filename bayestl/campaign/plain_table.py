"""A measurement table as plain JSON values and back, so that a store explains itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from bayestl.data.environment import Environment
from bayestl.data.measurement import Metric
from bayestl.data.space import ConfigSpace
from bayestl.data.table import MeasurementTable


def table_to_dict(table: MeasurementTable) -> dict[str, Any]:
    """The table as plain values, a list a column; a missing value is None."""
    metrics = {metric.name for metric in table.metrics}
    columns = {
        str(name): [None if name in metrics and np.isnan(v) else v for v in column.tolist()]
        for name, column in table.frame.items()
    }
    return {
        "space": table.space.to_dict(),
        "environments": [environment.to_dict() for environment in table.environments],
        "metrics": [asdict(metric) for metric in table.metrics],
        "columns": columns,
    }


def table_from_dict(values: Mapping[str, Any]) -> MeasurementTable:
    """The table that `table_to_dict` wrote."""
    metrics = tuple(Metric(**metric) for metric in values["metrics"])
    frame = pd.DataFrame(
        {name: pd.Series(column, dtype=object) for name, column in values["columns"].items()}
    )
    return MeasurementTable(
        frame.astype({metric.name: float for metric in metrics}),
        ConfigSpace.from_dict(values["space"]),
        tuple(map(Environment.from_dict, values["environments"])),
        metrics,
    )

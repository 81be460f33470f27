"""A measurement table as plain JSON values and back, so that a store explains itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from bayestl.data.table import MeasurementTable, Schema


def table_to_dict(table: MeasurementTable) -> dict[str, Any]:
    """The table as plain values, a list a column; a missing value is None."""
    metrics = {metric.name for metric in table.metrics}
    columns = {
        str(name): [None if name in metrics and np.isnan(v) else v for v in column.tolist()]
        for name, column in table.frame.items()
    }
    return {**table.schema.to_dict(), "columns": columns}


def table_from_dict(values: Mapping[str, Any]) -> MeasurementTable:
    """The table that `table_to_dict` wrote."""
    schema = Schema.from_dict(values)
    frame = pd.DataFrame(
        {name: pd.Series(column, dtype=object) for name, column in values["columns"].items()}
    )
    numbers = frame.astype({metric.name: float for metric in schema.metrics})
    return MeasurementTable(numbers, schema.space, schema.environments, schema.metrics)

"""Spaces and tables as plain JSON values and back, so that a store explains itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

import numpy as np
import pandas as pd

from bayestl.data.environment import Environment
from bayestl.data.measurement import Metric
from bayestl.data.options import Boolean, Categorical, Integer, Option, Ordinal, Real
from bayestl.data.space import ConfigSpace
from bayestl.data.table import MeasurementTable

_KINDS = {kind.kind: kind for kind in (Real, Integer, Ordinal, Categorical, Boolean)}


def space_to_dict(space: ConfigSpace) -> dict[str, Any]:
    """The space as plain values."""
    return {
        "options": {name: _option_to_dict(option) for name, option in space.options.items()},
        "constraints": [getattr(c, "text", c) for c in space.constraints],
        "conditions": {name: getattr(c, "text", c) for name, c in space.conditions.items()},
    }


def space_from_dict(values: Mapping[str, Any]) -> ConfigSpace:
    """The space that `space_to_dict` wrote."""
    options = {
        name: _KINDS[option["kind"]](**{k: v for k, v in option.items() if k != "kind"})
        for name, option in values["options"].items()
    }
    return ConfigSpace(options, values["constraints"], values["conditions"])


def table_to_dict(table: MeasurementTable) -> dict[str, Any]:
    """The table as plain values, a list a column; a missing value is None."""
    metrics = {metric.name for metric in table.metrics}
    columns = {
        name: [None if name in metrics and np.isnan(v) else v for v in column.tolist()]
        for name, column in table.frame.items()
    }
    return {
        "space": space_to_dict(table.space),
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
        space_from_dict(values["space"]),
        tuple(map(Environment.from_dict, values["environments"])),
        metrics,
    )


def _option_to_dict(option: Option) -> dict[str, Any]:
    values = {f.name: getattr(option, f.name) for f in fields(option) if f.init}
    plain = {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}
    return {"kind": option.kind, **plain}

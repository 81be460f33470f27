"""`ReplayRunner`: a runner over a recorded table, for machines without an engine and for tests."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bayestl.data.environment import Environment
from bayestl.data.measurement import Measurement, Metric, Status
from bayestl.data.table import ENVIRONMENT, STATUS, MeasurementTable
from bayestl.errors import ConfigurationError, EngineError

if TYPE_CHECKING:
    import pandas as pd

    from bayestl.data.space import ConfigSpace, Configuration, Key


@dataclass(frozen=True, eq=False)
class ReplayRunner:
    """Answers with recorded measurements; a configuration's repeats come in turn, then again.

    Only what was recorded can be replayed: `configurations` lists it, and is what a
    campaign should choose from. A fresh runner begins with the first repeats.
    """

    table: MeasurementTable
    _rows: Mapping[tuple[str, Key], list[int]] = field(init=False, repr=False)
    _replayed: Counter[tuple[str, Key]] = field(default_factory=Counter, init=False, repr=False)

    def __post_init__(self) -> None:
        space, rows = self.table.space, {}
        records = space.records(self.table.configurations())
        names = self.table.frame[ENVIRONMENT]
        for row, (name, record) in enumerate(zip(names, records, strict=True)):
            rows.setdefault((name, space.key(record)), []).append(row)
        object.__setattr__(self, "_rows", rows)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return self.table.metrics

    def space(self, environment: Environment) -> ConfigSpace:
        """The table's space; of its configurations only the recorded ones can be run."""
        self.describe(environment)  # an unknown environment has none
        return self.table.space

    def describe(self, environment: Environment) -> Environment:
        """The environment as it was recorded."""
        return self.table.environment(environment.name)

    def configurations(self, environment: Environment) -> pd.DataFrame:
        """The distinct configurations that can be run there, in the order of the table."""
        rows = self.table.of(environment.name).configurations()
        return rows.drop_duplicates(ignore_index=True)

    def run(self, configuration: Configuration, environment: Environment) -> Measurement:
        """The next recorded measurement of the configuration.

        Raises
        ------
        EngineError
            If the configuration is valid but was never measured there.
        UnknownEnvironment
            If the table has no environment of that name.
        """
        clock = time.perf_counter()
        name = self.describe(environment).name
        try:
            configuration = self.table.space.configuration(configuration)
        except ConfigurationError as error:
            return Measurement(dict(configuration), name, Status.INVALID, message=str(error))
        key = (name, self.table.space.key(configuration))
        rows = self._rows.get(key)
        if rows is None:
            raise EngineError(
                f"{configuration} was never measured in {name!r}; choose among the runner's "
                "configurations(environment), or measure with a local runner"
            )
        row = rows[self._replayed[key] % len(rows)]
        self._replayed[key] += 1
        return self._measurement(row, configuration, name, time.perf_counter() - clock)

    def _measurement(
        self, row: int, configuration: Configuration, name: str, seconds: float
    ) -> Measurement:
        record: Mapping[Any, Any] = self.table.frame.iloc[row].to_dict()
        status = Status(record[STATUS])
        recorded = {metric.name: float(record[metric.name]) for metric in self.metrics}
        values = {key: value for key, value in recorded.items() if value == value}  # NaN: none
        return Measurement(
            configuration,
            name,
            status,
            values=values if status is Status.OK else {},
            message="" if status is Status.OK else f"recorded as {status}",
            provenance={"replayed_row": row},
            seconds=seconds,
        )

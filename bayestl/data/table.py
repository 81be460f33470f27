"""`MeasurementTable`: configurations, environments and metrics as one checked frame.

The frame is canonical: one row a measurement, with the options' columns (canonical
values, None where not active), then `environment`, `status`, and one float column a
metric. A failed measurement is a row whose metrics are NaN.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from bayestl.data.environment import Environment
from bayestl.data.measurement import Measurement, Metric, Status
from bayestl.data.option_inference import infer_option
from bayestl.data.options import Integer, Option, Real, is_numeric
from bayestl.data.space import ConfigSpace, Key
from bayestl.errors import ConfigurationError, TableError, UnknownEnvironment

ENVIRONMENT = "environment"
STATUS = "status"
MISSED = 0.001
"""How likely the rows that show an environment's levels may be to lack one."""

_RESERVED = (ENVIRONMENT, STATUS)
_REFUSED = (Status.INVALID.value, Status.UNSUPPORTED.value)


@dataclass(frozen=True)
class Schema:
    """What a table's columns mean: everything that the table knows but its rows.

    Parameters
    ----------
    space, environments, metrics : as in `MeasurementTable`
    """

    space: ConfigSpace
    environments: tuple[Environment, ...]
    metrics: tuple[Metric, ...]

    def to_dict(self) -> dict[str, Any]:
        """The schema as plain JSON values, for files and stores that describe themselves."""
        return {
            "space": self.space.to_dict(),
            "environments": [environment.to_dict() for environment in self.environments],
            "metrics": [asdict(metric) for metric in self.metrics],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Schema:
        """The schema that `to_dict` wrote; further keys are left out.

        Raises
        ------
        BayestlError, LookupError, TypeError, AttributeError
            If the values are malformed.
        """
        return cls(
            ConfigSpace.from_dict(values["space"]),
            tuple(map(Environment.from_dict, values["environments"])),
            tuple(Metric(**metric) for metric in values["metrics"]),
        )


@dataclass(frozen=True)
class MeasurementTable:
    """Measurements of configurations in one or several environments.

    Build one with `from_frame`, `from_measurements` or `read_table`; the
    constructor trusts its arguments.

    Parameters
    ----------
    frame : the canonical frame described in the module
    space : every option with every level that any environment has
    environments : in order of appearance, then those that are known but have no row yet
    metrics : in order

    Examples
    --------
    >>> frame = pd.DataFrame(
    ...     {
    ...         "threads": [1, 2, 1, 2],
    ...         "board": ["tx2", "tx2", "xavier", "xavier"],
    ...         "latency": [40.0, 25.0, 20.0, 11.0],
    ...     }
    ... )
    >>> table = MeasurementTable.from_frame(
    ...     frame, options=["threads"], environment="board", metrics={"latency": "ms"}
    ... )
    >>> table.environment_names
    ('tx2', 'xavier')
    >>> table.of("xavier").frame
      threads environment status  latency
    0       1      xavier     ok     20.0
    1       2      xavier     ok     11.0
    """

    frame: pd.DataFrame
    space: ConfigSpace
    environments: tuple[Environment, ...]
    metrics: tuple[Metric, ...]

    @classmethod
    def from_frame(
        cls,
        frame: pd.DataFrame,
        *,
        options: ConfigSpace | Sequence[str] | Mapping[str, Option | None],
        metrics: Mapping[str, str] | Sequence[Metric],
        environment: str | Environment = ENVIRONMENT,
        environments: Sequence[Environment] = (),
        status: str | None = None,
    ) -> MeasurementTable:
        """The table in a pandas frame, one row a measurement.

        Parameters
        ----------
        frame : any frame; columns that are not named here are left out
        options : column names, whose kinds are inferred; or name -> kind, where None
            means inferred; or a `ConfigSpace`
        metrics : name -> unit (smaller is better), or `Metric` objects
        environment : the column that names the environment, or the one `Environment`
            of every row
        environments : descriptions of environments that the column names, or that have
            no measurement yet, such as a target that a model is asked about beforehand
        status : the column with each row's `Status`; without it every row is ok. The
            metrics of a failed row are not read.

        Raises
        ------
        TableError
            For what is no frame or an empty one, missing or duplicate columns, values that are
            no numbers or infinite, ok rows without any value, and an environment that is described
            in two ways.
        ConfigurationError
            For a value outside its option's domain or a violated constraint.
        UnknownEnvironment
            For levels of what is no numeric option.
        """
        metrics = _as_metrics(metrics)
        names = _option_names(options)
        _check_reserved([*names, *(metric.name for metric in metrics)])
        if not isinstance(environment, (str, Environment)):
            raise TableError(
                "expected the column that names the environment, or one Environment of every row, "
                f"got {environment!r}"
            )
        column = environment if isinstance(environment, str) else None
        wanted = [*names, *([column] if column else []), *([status] if status else [])]
        _check_columns(frame, [*wanted, *(metric.name for metric in metrics)])
        if isinstance(options, ConfigSpace):
            space = options
        else:
            kinds = options if isinstance(options, Mapping) else dict.fromkeys(options)
            space = ConfigSpace({n: kind or infer_option(n, frame[n]) for n, kind in kinds.items()})
        try:
            result = space.frame(frame).reset_index(drop=True)
        except ConfigurationError as error:
            raise ConfigurationError(f"measurements: {error}") from None
        states = _states(frame, status)
        ok = states == Status.OK.value
        values = {metric.name: _numbers(frame, metric, ok) for metric in metrics}
        _check_some_value(frame, values, ok)
        if isinstance(environment, Environment):
            result[ENVIRONMENT] = environment.name
            described = _each_once([*_by_name(environments).values(), environment])
        else:
            result[ENVIRONMENT] = _environment_names(frame[environment])
            described = _each_once(environments)
        result[STATUS] = states
        for name, column_values in values.items():
            result[name] = column_values
        return cls(result, space, _described(result, space, described), metrics)

    @classmethod
    def from_measurements(
        cls,
        measurements: Sequence[Measurement],
        *,
        space: ConfigSpace,
        metrics: Mapping[str, str] | Sequence[Metric],
        environments: Sequence[Environment] = (),
    ) -> MeasurementTable:
        """The table of `measurements`; a metric that one of them lacks is NaN there.

        Raises
        ------
        TableError
            If an option and a metric, or one of them and a column of every table, have one name,
            a value is infinite, or an environment is described in two ways.
        ConfigurationError
            For a configuration outside the space.
        """
        metrics = _as_metrics(metrics)
        names = [*space.names, *(metric.name for metric in metrics)]
        _check_reserved(names)
        _check_once(names)
        frame = space.frame([m.configuration for m in measurements])
        frame[ENVIRONMENT] = [m.environment for m in measurements]
        frame[STATUS] = [m.status.value for m in measurements]
        for metric in metrics:
            values = np.array(
                [m.values.get(metric.name, np.nan) if m.ok else np.nan for m in measurements], float
            )
            _check_finite(values, frame.index, metric)
            frame[metric.name] = values
        described = _each_once(environments)
        return cls(frame, space, _described(frame, space, described), metrics)

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def schema(self) -> Schema:
        """What the columns mean, without the rows."""
        return Schema(self.space, self.environments, self.metrics)

    @property
    def environment_names(self) -> tuple[str, ...]:
        """The environments' names, in order of appearance."""
        return tuple(e.name for e in self.environments)

    def environment(self, name: str) -> Environment:
        """The environment of that name.

        Raises
        ------
        UnknownEnvironment
            If the table has no such environment.
        """
        for environment in self.environments:
            if environment.name == name:
                return environment
        known = ", ".join(self.environment_names)
        raise UnknownEnvironment(f"unknown environment {name!r}; expected one of {known}")

    def metric(self, name: str) -> Metric:
        """The metric of that name.

        Raises
        ------
        TableError
            If the table has no such metric.
        """
        for metric in self.metrics:
            if metric.name == name:
                return metric
        known = ", ".join(metric.name for metric in self.metrics)
        raise TableError(f"unknown metric {name!r}; expected one of {known}")

    def configurations(self) -> pd.DataFrame:
        """The options' columns, one row a measurement."""
        return self.frame[list(self.space.names)]

    def space_of(self, environment: str) -> ConfigSpace:
        """The space restricted to the levels and ranges that an environment was measured at.

        Environments may offer different levels of one option, such as two boards'
        frequency tables; the table's space holds all of them. Rows which the environment
        refused (`invalid`, `unsupported`) do not count; an option without a row that
        counts keeps its domain. Where the default configuration falls outside, the first
        row that counts takes its place.

        Raises
        ------
        UnknownEnvironment
            If the table has no such environment.
        """
        self.environment(environment)
        refused = self.frame[STATUS].isin(_REFUSED)
        rows = self.frame[(self.frame[ENVIRONMENT] == environment) & ~refused]
        return self.space.restricted(rows)

    def levels_of(self, environment: str) -> dict[str, tuple[float, ...]]:
        """Numeric option -> the numbers that it can be set to in an environment, where known.

        Those that the environment declares. Otherwise those of its rows, whatever came of them
        unless it refused them (see `space_of`), if one more level, as common as the others, would
        have been missed in so many configurations with a probability of at most `MISSED`.

        Raises
        ------
        TableError
            If a row is outside the declared levels.
        """
        declared = self.environment(environment).levels
        here = self.frame[self.frame[ENVIRONMENT] == environment]
        rows = here[~here[STATUS].isin(_REFUSED)][list(self.space.names)].drop_duplicates()
        known: dict[str, tuple[float, ...]] = {}
        for name, option in self.space.options.items():
            if not is_numeric(option):
                continue
            values = rows[name].dropna().tolist()
            seen, table = tuple(sorted(set(values))), tuple(declared.get(name, ()))
            if table and seen and not table[0] <= seen[0] <= seen[-1] <= table[-1]:
                raise TableError(
                    f"environment {environment!r} declares levels of {name!r} from {table[0]:g} "
                    f"to {table[-1]:g} and was measured from {seen[0]:g} to {seen[-1]:g}; correct "
                    "the levels, in the unit of the option"
                )
            if table or _chance_of_one_more(len(seen), len(values)) <= MISSED:
                known[name] = table or seen
        return known

    def levels_may_differ(self) -> bool:
        """Whether `levels_of` may differ between environments; if not, this costs next to nothing.

        It counts rows where that counts configurations.
        """
        if any(environment.levels for environment in self.environments):
            return True
        where, names = pd.factorize(self.frame[ENVIRONMENT].to_numpy())
        accepted = ~self.frame[STATUS].isin(_REFUSED).to_numpy()
        for name, option in self.space.options.items():
            if not is_numeric(option):
                continue
            level, levels = pd.factorize(self.frame[name].to_numpy())
            rows = accepted & (level >= 0)
            count = np.bincount(where[rows], minlength=len(names))
            shown = np.zeros((len(names), len(levels)), dtype=bool)
            shown[where[rows], level[rows]] = True
            seen = shown.sum(axis=1)
            known = shown[_chance_of_one_more(seen, count) <= MISSED]
            if (known != known[:1]).any():
                return True
        return False

    def repeats(self, metric: str) -> dict[Key, list[float]]:
        """Each configuration's key -> its usable values in every environment, in order."""
        usable = self.usable(metric)
        values: dict[Key, list[float]] = {}
        records = self.space.records(usable.configurations())
        for configuration, value in zip(records, usable.frame[metric], strict=True):
            values.setdefault(self.space.key(configuration), []).append(value)
        return values

    def replicates(self, metric: str, *, log: bool = False) -> pd.DataFrame:
        """How often each configuration was measured in each environment, and what came out.

        Returns
        -------
        DataFrame
            `environment`, the options, then `count`, `mean` and `std` (n - 1 in the
            denominator, NaN for one value) of the usable values, in the metric's unit, or
            with `log` of their natural logarithm.

        Raises
        ------
        TableError
            For an unknown metric, or a value that has no logarithm.
        """
        frame = self.usable(metric).frame
        values = frame[metric].to_numpy(dtype=float)
        if log and (values <= 0).any():
            raise TableError(
                f"metric {metric!r}: expected positive values for a logarithm, got {values.min():g}"
            )
        keys = [ENVIRONMENT, *self.space.names]
        groups = frame.groupby(keys, dropna=False, sort=False).ngroup()
        scaled = pd.Series(np.log(values) if log else values, index=frame.index)
        statistics = scaled.groupby(groups).agg(["count", "mean", "std"])
        first = frame[keys].groupby(groups).head(1).reset_index(drop=True)
        return pd.concat([first, statistics.reset_index(drop=True)], axis=1)

    def select(self, rows: Any) -> MeasurementTable:
        """The table of some rows, by boolean mask or positions; every environment stays known."""
        mask = np.asarray(rows)
        frame = self.frame[mask] if mask.dtype == bool else self.frame.iloc[mask.astype(int)]
        return replace(self, frame=frame.reset_index(drop=True))

    def of(self, *environments: str) -> MeasurementTable:
        """The rows of the named environments alone."""
        kept = tuple(self.environment(name) for name in dict.fromkeys(environments))
        rows = self.frame[ENVIRONMENT].isin(environments).to_numpy()
        return replace(self.select(rows), environments=kept)

    def without(self, *environments: str) -> MeasurementTable:
        """The rows of every other environment."""
        for name in environments:
            self.environment(name)
        return self.of(*(name for name in self.environment_names if name not in environments))

    def knowing(self, *environments: Environment) -> MeasurementTable:
        """The table with further environments described, such as a target not yet measured."""
        known = _by_name((*self.environments, *environments))
        _check_levels(self.space, environments)
        return replace(self, environments=tuple(known.values()))

    def usable(self, metric: str) -> MeasurementTable:
        """The rows that are ok and have a value of the metric; every environment stays known."""
        self.metric(metric)
        ok = (self.frame[STATUS] == Status.OK.value) & self.frame[metric].notna()
        return self.select(ok.to_numpy())

    def failures(self) -> MeasurementTable:
        """The rows that are not ok."""
        return self.select((self.frame[STATUS] != Status.OK.value).to_numpy())

    @staticmethod
    def concat(tables: Sequence[MeasurementTable]) -> MeasurementTable:
        """All rows of `tables`, over the union of their spaces.

        Raises
        ------
        TableError
            Without a table, if a metric has two units or directions, or if one environment
            has two descriptions.
        SpaceError
            If the options differ in name, kind, unit or condition.
        """
        if not tables:
            raise TableError("expected at least one table, got none")
        metrics: dict[str, Metric] = {}
        environments: dict[str, Environment] = {}
        for table in tables:
            for metric in table.metrics:
                known = metrics.setdefault(metric.name, metric)
                if known.unit != metric.unit:
                    raise TableError(
                        f"mixed units: {metric.name!r} is {known} in one table and {metric} in "
                        "another; convert one of them"
                    )
                if known != metric:
                    raise TableError(
                        f"mixed directions: {metric.name!r} is to {known.direction} in one table "
                        f"and to {metric.direction} in another; describe one of them anew"
                    )
            for environment in table.environments:
                _check_same(environments.setdefault(environment.name, environment), environment)
        space = ConfigSpace.union([table.space for table in tables])
        columns = [*space.names, *_RESERVED, *metrics]
        frame = pd.concat(
            [table.frame.reindex(columns=columns) for table in tables], ignore_index=True
        )
        frame[list(space.names)] = space.frame(frame)  # 1.0 in one table is 1 in another
        return MeasurementTable(frame, space, tuple(environments.values()), tuple(metrics.values()))


def _by_name(environments: Sequence[Environment]) -> dict[str, Environment]:
    every: list[Any] = list(environments) if isinstance(environments, Iterable) else [None]
    if not all(isinstance(environment, Environment) for environment in every):
        raise TableError(
            "expected a list of environments, such as [Environment('xavier')], got "
            f"{environments!r}"
        )
    return {environment.name: environment for environment in every}


def _each_once(environments: Sequence[Environment]) -> dict[str, Environment]:
    by_name = _by_name(environments)
    for environment in environments:
        _check_same(by_name[environment.name], environment)
    return by_name


def _check_same(one: Environment, other: Environment) -> None:
    if one != other:
        raise TableError(f"environment {one.name!r} is described in two ways; rename one of them")


def _described(
    frame: pd.DataFrame, space: ConfigSpace, described: Mapping[str, Environment]
) -> tuple[Environment, ...]:
    _check_levels(space, described.values())
    names = dict.fromkeys([*frame[ENVIRONMENT], *described])
    return tuple(described.get(name) or Environment(name) for name in names)


def _chance_of_one_more(levels: Any, configurations: Any) -> Any:
    """That so many configurations missed a level as common as those that they show; elementwise."""
    return (levels / (levels + 1)) ** configurations


def _check_levels(space: ConfigSpace, environments: Iterable[Environment]) -> None:
    for environment in environments:
        for name, levels in environment.levels.items():
            option = space.options.get(name)
            where = f"environment {environment.name!r}: levels of {name!r}"
            if option is None or not is_numeric(option):
                known = ", ".join(n for n, o in space.options.items() if is_numeric(o))
                raise UnknownEnvironment(
                    f"{where}: expected a numeric option, one of {known or 'none'}"
                )
            low = float(option.low if isinstance(option, (Real, Integer)) else option.levels[0])
            if np.sign(levels[0]) < np.sign(low):  # a log scale could not place it
                raise UnknownEnvironment(
                    f"{where}: got {levels[0]:g}, but the option starts at {low:g}"
                )


def _as_metrics(metrics: Mapping[str, str] | Sequence[Metric]) -> tuple[Metric, ...]:
    if isinstance(metrics, Mapping):
        result = tuple(Metric(name, unit) for name, unit in metrics.items())
    else:
        result = tuple(metrics)
    if not result or not all(isinstance(metric, Metric) for metric in result):
        raise TableError(
            f"expected at least one metric, such as {{'latency': 'ms'}}, got {metrics!r}"
        )
    return result


def _option_names(options: ConfigSpace | Sequence[str] | Mapping[str, Option | None]) -> list[str]:
    if isinstance(options, str):
        raise TableError(f"expected a list of columns as options, got the text {options!r}")
    return list(options.names if isinstance(options, ConfigSpace) else options)


def _check_reserved(names: Sequence[str]) -> None:
    for name in names:
        if name in _RESERVED:
            raise TableError(
                f"{name!r} is a column of every table; rename the option or metric of that name"
            )


def _check_once(names: Sequence[str]) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise TableError(
            f"duplicate column {', '.join(map(repr, repeated))}: each may appear once, in one role"
        )


def _check_columns(frame: pd.DataFrame, wanted: Sequence[str]) -> None:
    if not isinstance(frame, pd.DataFrame):
        raise TableError(
            f"expected a pandas DataFrame, got a {type(frame).__name__}; read_table reads files"
        )
    if frame.columns.nlevels > 1:
        raise TableError(
            f"expected columns with one name each, got {frame.columns.nlevels} lines of names, as "
            "after a pivot; name the columns anew"
        )
    if frame.empty:
        raise TableError("expected at least one measurement, got an empty table")
    _check_once(wanted)
    _check_once([name for name in frame.columns if name in wanted])
    missing = [name for name in wanted if name not in frame.columns]
    if missing:
        hint = "; say which column names the environment" if ENVIRONMENT in missing else ""
        raise TableError(
            f"missing column {', '.join(map(repr, missing))}; the table has {list(frame.columns)}"
            f"{hint}"
        )


def _numbers(frame: pd.DataFrame, metric: Metric, ok: np.ndarray) -> np.ndarray:
    """The metric's values, NaN in rows that are not ok."""
    values = np.full(len(frame), np.nan)
    kind = frame[metric.name].dtype
    if kind.kind in "mMc":  # numpy would convert them without a word
        raise TableError(
            f"metric {metric.name!r}: expected numbers, got a column of {kind}; convert it to "
            "numbers in the metric's unit"
        )
    try:
        values[ok] = frame[metric.name][ok].to_numpy(dtype=float, na_value=np.nan)
    except OverflowError:
        raise TableError(
            f"metric {metric.name!r}: expected numbers up to {np.finfo(float).max:.1e}, got a "
            "larger one; convert the column to a larger unit"
        ) from None
    except (TypeError, ValueError):
        cells = frame[metric.name][ok]
        row = int(np.argmax(pd.to_numeric(cells, errors="coerce").isna() & cells.notna()))
        raise TableError(
            f"metric {metric.name!r}: expected numbers, got {cells.tolist()[row]!r} in row "
            f"{cells.index.tolist()[row]!r}"
        ) from None
    _check_finite(values, frame.index, metric)
    return values


def _check_finite(values: np.ndarray, index: pd.Index, metric: Metric) -> None:
    infinite = np.isinf(values)
    if infinite.any():
        raise TableError(
            f"metric {metric.name!r}: infinite value in row "
            f"{index.tolist()[int(np.argmax(infinite))]!r}; mark it as a failure by its status"
        )


def _states(frame: pd.DataFrame, status: str | None) -> np.ndarray:
    if status is None:
        return np.full(len(frame), Status.OK.value, dtype=object)
    try:
        return np.array([Status(value).value for value in frame[status]], dtype=object)
    except ValueError as error:
        raise TableError(
            f"column {status!r}: {error}; expected one of {', '.join(Status)}"
        ) from None


def _check_some_value(
    frame: pd.DataFrame, values: Mapping[str, np.ndarray], ok: np.ndarray
) -> None:
    hollow = ok & np.all([np.isnan(column) for column in values.values()], axis=0)
    if hollow.any():
        row = frame.index.tolist()[int(np.argmax(hollow))]
        raise TableError(
            f"row {row!r} is NaN in {', '.join(map(repr, values))}; drop it, or name a status "
            "column that says how it failed"
        )


def _environment_names(column: pd.Series) -> list[str]:
    if column.isna().any():
        raise TableError(
            f"row {column.index.tolist()[int(np.argmax(column.isna()))]!r} names no environment"
        )
    return [str(value) for value in column]

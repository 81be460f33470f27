"""A campaign in a TOML file, for people to write.

    [campaign]
    name = "all-cores"
    target = "all-cores"
    metric = "latency"
    model = "TransferGP"                    # or a table: {name = "LMCGP", latents = 2}
    acquisition = "IntegratedVariance"
    initial = 3
    seed = 0
    fixed = {precision = "fp32"}

    [budget]                                # the first limit that is reached ends it
    measurements = 25
    seconds = 600
    error_percent = 5

    [environments.one-core]
    engine = "onnxruntime"
    network = "squeezenet"
    settings = {cores = "0"}

    [environments.all-cores]
    engine = "onnxruntime"
    network = "squeezenet"

    [source]                                # either: measure an environment first
    environment = "one-core"
    measurements = 50

    [source]                                # or: a table, by a path relative to this file
    table = "one-core.parquet"

`[options]`, `constraints` and `[conditions]` describe the space; without them it is what
the runner offers in each environment. A table in CSV also says `environment_column`,
perhaps `status_column`, and `metrics` with their units.

`[program]` names a program to measure, and `[runner]` says how networks are measured, such
as with which meters, see `bayestl.measure.specification`; `read_runner` returns what measures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from bayestl.campaign.budget import Budget
from bayestl.campaign.campaign import Campaign
from bayestl.campaign.recipes import acquisition_recipe, model_recipe
from bayestl.campaign.survey import Survey
from bayestl.data.environment import Environment
from bayestl.data.readers import read_table
from bayestl.data.sampling import candidates
from bayestl.data.space import ConfigSpace
from bayestl.data.specification import (
    ENVIRONMENTS_KEY,
    SPACE_KEYS,
    Specification,
    specification_in,
)
from bayestl.data.table import ENVIRONMENT, MeasurementTable
from bayestl.data.toml import Document
from bayestl.errors import BayestlError
from bayestl.measure.program import ProgramRunner
from bayestl.measure.runner import Runner
from bayestl.measure.specification import PROGRAM_KEY, RUNNER_KEY, program_in, runner_in

_PLAIN = ("initial", "batch", "candidates", "replicates", "seed")
_CAMPAIGN_KEYS = ("name", "target", "metric", "model", "acquisition", "fixed", *_PLAIN)
_TABLE_KEYS = ("table", "environment_column", "status_column", "metrics")
_SURVEY_KEYS = ("environment", "measurements")
_TOP_KEYS = (
    *("campaign", "budget", "source"),
    *(PROGRAM_KEY, RUNNER_KEY, ENVIRONMENTS_KEY),
    *SPACE_KEYS,
)


def read_campaign(path: str | Path, runner: Runner) -> tuple[str, Campaign]:
    """The name and the campaign in a TOML file, its environments as the runner finds them.

    Raises
    ------
    FileError
        If the file, or the table that it names, cannot be read.
    SpecificationError
        If it is malformed, naming the line.
    EngineError, NetworkError, UnknownEnvironment
        If the runner cannot measure an environment.
    """
    return _Reader(Document.read(path), Path(path).parent, runner).campaign()


def read_program(path: str | Path) -> tuple[ProgramRunner | None, tuple[Environment, ...]]:
    """The program in a TOML file, None where it has none, and the environments there.

    The file may be a campaign's: whatever else belongs to one is passed over.

    Raises
    ------
    FileError
        If the file cannot be read.
    SpecificationError
        If it is malformed, naming the line.
    """
    document = Document.read(path)
    document.table(known=_TOP_KEYS)
    program = program_in(document, Path(path).parent)
    return program, specification_in(document).environments


def read_runner(path: str | Path) -> Runner:
    """What measures the campaign in a TOML file: its program, or this machine's engines.

    Raises
    ------
    FileError
        If the file cannot be read.
    SpecificationError
        If it is malformed, naming the line, or has both.
    """
    document = Document.read(path)
    program, _ = read_program(path)
    if program is None:
        return runner_in(document)
    if RUNNER_KEY in document.values:
        raise document.error("expected [program] or [runner], got both", RUNNER_KEY)
    return program


T = TypeVar("T")


class _Reader:
    """One pass over a document."""

    def __init__(self, document: Document, folder: Path, runner: Runner) -> None:
        document.table(known=_TOP_KEYS)
        self.document = document
        self.folder = folder
        self.runner = runner
        self.given: Specification = specification_in(document)
        self.values = document.table("campaign", known=_CAMPAIGN_KEYS)

    def campaign(self) -> tuple[str, Campaign]:
        name, metric = self.text("campaign", "name"), self.text("campaign", "metric")
        target = self.environment("campaign", "target")
        space = self.space(target)
        recipes = {"model": model_recipe, "acquisition": acquisition_recipe}
        parts: dict[str, Any] = {key: self.values[key] for key in _PLAIN if key in self.values}
        for key, recipe in recipes.items():
            if key in self.values:
                parts[key] = self.located(lambda k=key, r=recipe: r(self.values[k]), key)
        source = self.source(space, metric)
        budget = self.budget()
        return name, self.located(
            lambda: Campaign(
                space, target, metric, self.runner.metrics, source=source, budget=budget, **parts
            )
        )

    def budget(self) -> Budget:
        values = self.document.table("budget", known=[f.name for f in fields(Budget)])
        limits = {"measurements": None, **values} if values else {}
        return self.located(lambda: Budget(**limits), table="budget")

    def source(self, space: ConfigSpace, metric: str) -> MeasurementTable | Survey | None:
        values = self.document.table("source", known=(*_TABLE_KEYS, *_SURVEY_KEYS))
        if not values:
            return None
        if ("table" in values) == ("environment" in values):
            raise self.document.error("expected either a table or an environment", "source")
        foreign = _SURVEY_KEYS if "table" in values else _TABLE_KEYS
        for key in values.keys() & set(foreign):
            what = "table" if "table" in values else "environment"
            raise self.document.error(f"{key} does not go with {what}", "source", key)
        return self.table(values, space, metric) if "table" in values else self.survey()

    def table(self, values: Mapping[str, Any], space: ConfigSpace, metric: str) -> MeasurementTable:
        path = self.folder / self.text("source", "table")
        if path.suffix == ".parquet":
            return self.located(lambda: read_table(path), "table", table="source")
        units = {m.name: m.unit for m in self.runner.metrics if m.name == metric}
        return self.located(
            lambda: read_table(
                path,
                options=space,
                metrics=values.get("metrics", units),
                environment=values.get("environment_column", ENVIRONMENT),
                status=values.get("status_column"),
            ),
            "table",
            table="source",
        )

    def survey(self) -> Survey:
        environment = self.environment("source", "environment")
        count = self.whole("source", "measurements", default=50, least=1)
        seed = self.whole("campaign", "seed", default=0, least=0)
        space = self.space(environment)
        sample = space.records(candidates(space, count, seed=seed))
        return Survey(space, environment, self.runner.metrics, sample)

    def space(self, environment: Environment) -> ConfigSpace:
        """The described space, or what the runner offers there, with the fixed options."""
        space = offered = self.runner.space(environment)
        if self.given.space is not None:
            space = self.given.space
            for name in space.names:
                if name not in offered.names:
                    known = ", ".join(offered.names)
                    message = f"unknown option {name!r}; {environment.name} has {known}"
                    raise self.document.error(message, "options", name)
        fixed = self.document.table("campaign", "fixed")
        return self.located(lambda: space.subspace(**fixed), "fixed") if fixed else space

    def environment(self, table: str, key: str) -> Environment:
        """The environment of that name, as the runner finds it."""
        name = self.text(table, key)
        known = {e.name: e for e in self.given.environments}
        if name not in known:
            message = f"unknown environment {name!r}; expected one of {', '.join(known) or 'none'}"
            raise self.document.error(message, table, key)
        return self.runner.describe(known[name])

    def text(self, table: str, key: str) -> str:
        value = self.document.table(table).get(key)
        if not isinstance(value, str) or not value.strip():
            raise self.document.error(
                f"[{table}]: expected {key} as text, got {value!r}", table, key
            )
        return value

    def whole(self, table: str, key: str, *, default: int, least: int) -> int:
        value = self.document.table(table).get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            message = f"[{table}]: {key} must be a whole number >= {least}, got {value!r}"
            raise self.document.error(message, table, key)
        return value

    def located(self, build: Callable[[], T], *keys: str, table: str = "campaign") -> T:
        """What `build` returns; its complaints with the line of `keys`, or of what they name."""
        try:
            return build()
        except BayestlError as error:
            named = (key for key in self.document.table(table) if key in str(error).split())
            keys = keys or tuple(named)[:1]
            raise self.document.error(str(error), table, *keys) from None

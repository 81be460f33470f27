"""The options with which a command is told what a table's columns are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from bayestl.data.table import MeasurementTable
    from bayestl.models.model import Fitted

TablePath = Annotated[Path, typer.Argument(help="Measurements: .parquet, .csv or .csv.gz.")]
MetricName = Annotated[str, typer.Option(help="The metric to model.")]
Target = Annotated[str, typer.Option(help="The environment to predict.")]
Metrics = Annotated[
    str | None, typer.Option(help="For CSV: columns with units, such as latency:ms,energy:J.")
]
Options = Annotated[
    str | None, typer.Option(help="For CSV: the options' columns, comma-separated.")
]
EnvironmentColumn = Annotated[
    str | None, typer.Option(help="For CSV: the column that names the environment.")
]
StatusColumn = Annotated[
    str | None, typer.Option(help="For CSV: the column that says how a measurement ended.")
]
ModelName = Annotated[str, typer.Option(help="TransferGP, MultiTaskGP, LMCGP, RandomForest, ...")]
Seed = Annotated[int, typer.Option(help="Of the fit.", min=0)]


def read(
    path: Path,
    metric: str,
    metrics: str | None,
    options: str | None,
    environment: str | None,
    status: str | None,
) -> MeasurementTable:
    """The table; a Parquet file that describes itself needs nothing else.

    Raises
    ------
    typer.BadParameter
        If a CSV file comes without the names of its options, or a metric without a name.
    """
    from bayestl.data.readers import read_table
    from bayestl.data.table import ENVIRONMENT

    if options is None:
        if path.suffix != ".parquet":
            raise typer.BadParameter(f"{path} is no .parquet file: name its columns with --options")
        return read_table(path)
    units = dict(_metric(text) for text in (metrics or metric).split(","))
    names = [name.strip() for name in options.split(",")]
    return read_table(
        path, options=names, metrics=units, environment=environment or ENVIRONMENT, status=status
    )


def fitted(table: MeasurementTable, model: str, metric: str, target: str, seed: int) -> Fitted:
    """The model of that name, fitted to the table."""
    from bayestl.campaign.recipes import model_recipe

    table.metric(metric)
    table.environment(target)
    return model_recipe(model).fit(table, metric=metric, target=target, seed=seed)


def _metric(text: str) -> tuple[str, str]:
    name, _, unit = text.strip().partition(":")
    if not name:
        raise typer.BadParameter(f"expected --metrics name:unit,name:unit, got {text!r}")
    return name, unit

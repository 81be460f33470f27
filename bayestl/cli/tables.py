"""What `fit`, `predict` and `lint` share: the table that they read and the model that they fit."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from bayestl.data.table import MeasurementTable
    from bayestl.models.model import Model

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
ModelName = Annotated[str, typer.Option(help="TransferGP, LMCGP, LinearShift, RandomForest, ...")]
Parameters = Annotated[
    list[str] | None,
    typer.Option(
        "--parameter", help="key=value of the model, repeatable, such as latents=3 or latents=1,2."
    ),
]
Seed = Annotated[int, typer.Option(help="Of the fit.", min=0)]


def read(
    path: Path,
    metric: str | None,
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
        if path.suffix != ".parquet" and path.exists():
            raise typer.BadParameter(f"{path} is no .parquet file: name its columns with --options")
        return read_table(path)
    named = metrics or metric
    if named is None:
        raise typer.BadParameter(f"{path} does not say which columns are metrics: use --metrics")
    units = dict(_metric(text) for text in named.split(","))
    names = [name.strip() for name in options.split(",")]
    return read_table(
        path, options=names, metrics=units, environment=environment or ENVIRONMENT, status=status
    )


def recipe(model: str, parameters: Sequence[str] | None) -> Model:
    """The model of that name, with `key=value` parameters.

    Raises
    ------
    SpecificationError
        For an unknown name or parameter, or a value of the wrong kind.
    """
    from bayestl.campaign.recipes import model_recipe

    pairs = [text.partition("=") for text in parameters or ()]
    return model_recipe({"name": model, **{key: _value(text) for key, _, text in pairs}})


def _value(text: str) -> Any:
    """The number or boolean that a text is, a list of such with commas, or the text."""
    if "," in text:
        return [_value(part) for part in text.split(",")]
    if text in ("true", "false"):
        return text == "true"
    for read in (int, float):
        with suppress(ValueError):
            return read(text)
    return text


def _metric(text: str) -> tuple[str, str]:
    name, _, unit = text.strip().partition(":")
    if not name:
        raise typer.BadParameter(f"expected --metrics name:unit,name:unit, got {text!r}")
    return name, unit

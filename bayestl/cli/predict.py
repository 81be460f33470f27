"""`bayestl predict`: what configurations would give, with intervals."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bayestl.cli import tables
from bayestl.cli.console import JsonFlag, show, table, warn

if TYPE_CHECKING:
    import pandas as pd

    from bayestl.models.model import Fitted

MOST_SHOWN = 50

SAVED = ".bayestl"
"""How the name of a saved model ends."""


def predict(
    path: Annotated[
        Path,
        typer.Argument(
            help="Measurements: .parquet, .csv or .csv.gz; or a model of fit --save: .bayestl."
        ),
    ],
    configs: Annotated[Path, typer.Argument(help="Configurations, a column for every option.")],
    metric: Annotated[str | None, typer.Option(help="The metric to model.")] = None,
    target: Annotated[
        str | None, typer.Option(help="The environment to predict; a saved model knows its own.")
    ] = None,
    metrics: tables.Metrics = None,
    options: tables.Options = None,
    environment: tables.EnvironmentColumn = None,
    status: tables.StatusColumn = None,
    model: tables.ModelName = "TransferGP",
    parameters: tables.Parameters = None,
    quantiles: Annotated[str, typer.Option(help="Which, comma-separated.")] = "0.05,0.5,0.95",
    output: Annotated[Path | None, typer.Option(help="A CSV file for the predictions.")] = None,
    seed: tables.Seed = 0,
    as_json: JsonFlag = False,
) -> None:
    """Predict configurations in the target environment, by a saved model or one fitted to a table.

    \b
    bayestl predict measured.parquet candidates.csv --metric latency --target 2-cores
    bayestl predict measured.parquet candidates.csv --metric latency --target 2-cores \\
        --quantiles 0.01,0.99 --output predictions.csv
    bayestl predict 2-cores.bayestl candidates.csv
    """
    from bayestl.data.files import write_whole
    from bayestl.data.readers import read_configurations

    wanted = _quantiles(quantiles)
    if path.suffix == SAVED:
        told = (metric, metrics, options, environment, status, parameters)
        fitted, frame = _loaded(path, configs, any(told))
    elif metric is None or target is None:
        raise typer.BadParameter(f"{path} is no saved model ({SAVED}): give --metric and --target")
    else:
        data = tables.read(path, metric, metrics, options, environment, status)
        frame = read_configurations(configs, data.space)
        recipe = tables.recipe(model, parameters)
        fitted = recipe.fit(data, metric=metric, target=target, seed=seed)
    warn(fitted.diagnostics.warnings)
    prediction = fitted.predict(frame, target, quantiles=wanted)
    together = frame.join(prediction)
    if output is not None:
        text = together.to_csv(index=False).encode()
        write_whole(output, lambda file: file.write(text))
    values = {
        "metric": fitted.metric.name,
        "unit": fitted.metric.unit,
        "target": target or fitted.target,
        "output": None if output is None else str(output),
        "predictions": together.to_dict("records"),
    }
    shown = together.head(MOST_SHOWN)
    left = len(together) - len(shown)
    show(
        as_json,
        values,
        table(list(shown.columns), shown.itertuples(index=False), title=str(fitted.metric)),
        f"and {left} more" if left else "",
    )


def _loaded(path: Path, configs: Path, told: bool) -> tuple[Fitted, pd.DataFrame]:
    """The saved model, and the configurations in its space."""
    from bayestl.data.readers import read_configurations
    from bayestl.models.persistence import load

    if told:
        raise typer.BadParameter(f"{path} is fitted already: give --target and --quantiles alone")
    fitted = load(path)
    return fitted, read_configurations(configs, fitted.space)


def _quantiles(text: str) -> list[float]:
    from bayestl.models.scaling import quantile_columns

    try:
        return list(quantile_columns([float(part) for part in text.split(",")]).values())
    except ValueError as error:
        raise typer.BadParameter(
            f"expected --quantiles such as 0.05,0.5,0.95, got {text!r}: {error}"
        ) from None

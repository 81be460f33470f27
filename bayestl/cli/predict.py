"""`bayestl predict`: what configurations would give, with intervals."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bayestl.cli import tables
from bayestl.cli.console import JsonFlag, show, table, warn

MOST_SHOWN = 50


def predict(
    path: tables.TablePath,
    configs: Annotated[Path, typer.Argument(help="Configurations, a column for every option.")],
    metric: tables.MetricName,
    target: tables.Target,
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
    """Fit a model to a table and predict configurations in the target environment.

    \b
    bayestl predict measured.parquet candidates.csv --metric latency --target 2-cores
    bayestl predict measured.parquet candidates.csv --metric latency --target 2-cores \\
        --quantiles 0.01,0.99 --output predictions.csv
    """
    from bayestl.data.files import write_whole
    from bayestl.data.readers import read_configurations

    wanted = _quantiles(quantiles)
    data = tables.read(path, metric, metrics, options, environment, status)
    frame = read_configurations(configs, data.space)
    recipe = tables.recipe(model, parameters)
    fitted = recipe.fit(data, metric=metric, target=target, seed=seed)
    warn(fitted.diagnostics.warnings)
    prediction = fitted.predict(frame, quantiles=wanted)
    together = frame.join(prediction)
    if output is not None:
        text = together.to_csv(index=False).encode()
        write_whole(output, lambda file: file.write(text))
    values = {
        "metric": metric,
        "unit": fitted.metric.unit,
        "target": target,
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


def _quantiles(text: str) -> list[float]:
    try:
        quantiles = [float(part) for part in text.split(",")]
    except ValueError:
        quantiles = []
    if not quantiles or not all(0 < quantile < 1 for quantile in quantiles):
        raise typer.BadParameter(f"expected --quantiles such as 0.05,0.5,0.95, got {text!r}")
    return quantiles

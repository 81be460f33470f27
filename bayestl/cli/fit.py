"""`bayestl fit`: how well a model explains a table, and what it learnt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bayestl.cli import tables
from bayestl.cli.console import JsonFlag, facts, plain, show, table, warn

if TYPE_CHECKING:
    import pandas as pd

    from bayestl.data.table import MeasurementTable
    from bayestl.models.model import Model

FOLDS_NEED = 5
"""Target configurations below which nothing is held out."""

MOST_SHOWN = 12
"""Options that are listed, those with the largest effects."""


def fit(
    path: tables.TablePath,
    metric: tables.MetricName,
    target: tables.Target,
    metrics: tables.Metrics = None,
    options: tables.Options = None,
    environment: tables.EnvironmentColumn = None,
    status: tables.StatusColumn = None,
    model: tables.ModelName = "TransferGP",
    parameters: tables.Parameters = None,
    folds: Annotated[int, typer.Option(help="Of the cross-validation; 0 for none.", min=0)] = 5,
    seed: tables.Seed = 0,
    save: Annotated[
        Path | None, typer.Option(help="A file for the fitted model, such as xavier.bayestl.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Fit a model to a table; show what it learnt and how well it predicts what it did not see.

    \b
    bayestl fit measured.parquet --metric latency --target 2-cores
    bayestl fit runs.csv --options threads,precision --metrics latency:ms,energy:J \\
        --environment board --metric latency --target xavier --model LMCGP
    bayestl fit measured.parquet --metric latency --target 2-cores --save 2-cores.bayestl
    """
    from bayestl.models import persistence
    from bayestl.models.effects import option_effects

    if folds == 1:
        raise typer.BadParameter("expected --folds 0 for none, or 2 or more, got 1")
    data = tables.read(path, metric, metrics, options, environment, status)
    recipe = tables.recipe(model, parameters)
    fitted = recipe.fit(data, metric=metric, target=target, seed=seed)
    if save is not None:
        persistence.save(fitted, save)
    diagnostics = fitted.diagnostics
    held_out = _held_out(data, recipe, metric, target, folds, seed)
    effects = option_effects(fitted, order=1)
    know = getattr(fitted, "environment_correlation", None)
    correlation: pd.DataFrame | None = None if know is None else know()
    warn(diagnostics.warnings)
    values = {
        "model": diagnostics.model,
        "metric": metric,
        "unit": fitted.metric.unit,
        "target": target,
        "n_source": diagnostics.n_source,
        "n_target": diagnostics.n_target,
        "dropped": diagnostics.dropped,
        "warnings": diagnostics.warnings,
        "saved": None if save is None else str(save),
        "cross_validation": held_out,
        "effects": effects.to_dict("records"),
        "environment_correlation": None if correlation is None else correlation.to_dict(),
        "details": diagnostics.details,
    }
    rows = [
        ("model", diagnostics.model),
        ("measurements", f"{diagnostics.n_target} of {target}, {diagnostics.n_source} of others"),
        ("left out", ", ".join(f"{n} {why}" for why, n in diagnostics.dropped.items()) or "none"),
        *_scores(held_out),
        *((key, plain(diagnostics.details[key])) for key in ("chosen", "reason")
          if key in diagnostics.details),
        *([("saved", str(save))] if save is not None else []),
    ]  # fmt: skip
    shown = [facts(rows), "", _effects(effects)]
    if correlation is not None and len(correlation) > 1:
        cells = [
            [name, *row] for name, row in zip(correlation.index, correlation.values, strict=True)
        ]
        shown += ["", table(["correlation", *correlation.columns], cells)]
    show(as_json, values, *shown)


def _held_out(
    data: MeasurementTable, recipe: Model, metric: str, target: str, folds: int, seed: int
) -> dict[str, Any] | None:
    """The scores of predictions of held-out target measurements, if there are enough."""
    from bayestl.study.cross_validation import cross_validate
    from bayestl.study.metrics import score

    rows = data.of(target).usable(metric)
    if folds < 2 or len(rows.configurations().drop_duplicates()) < FOLDS_NEED:
        return None
    predictions = cross_validate(recipe, data, metric=metric, target=target, folds=folds, seed=seed)
    if not predictions["measured"].all():
        return None
    return {"folds": folds, **score(predictions["measured"], predictions)}


def _scores(held_out: dict[str, Any] | None) -> list[tuple[str, str]]:
    if held_out is None:
        return [("cross-validation", "none: too few target measurements, or not asked for")]
    return [
        (
            "held-out error",
            f"{held_out['mape']:.3g} % (mean), {held_out['median_ape']:.3g} % (median)",
        ),
        ("rank correlation", f"{held_out['spearman']:.3f}"),
        ("in 90 % interval", f"{100 * held_out['coverage90']:.0f} %"),
    ]


def _effects(effects: pd.DataFrame) -> Any:
    rows = [
        (e["option"], f"{100 * e['effect']:.1f} %", e["best"], float(e["ratio"]))
        for e in effects.head(MOST_SHOWN).to_dict("records")
    ]
    return table(["option", "share of variance", "best", "worst is times worse"], rows)

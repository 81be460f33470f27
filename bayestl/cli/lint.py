"""`bayestl lint`: what looks wrong with a table of measurements."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from bayestl.cli import tables
from bayestl.cli.console import JsonFlag, show, table


def lint(
    path: tables.TablePath,
    metric: Annotated[
        str | None, typer.Option(help="The metric to look at; all if left out.")
    ] = None,
    metrics: tables.Metrics = None,
    options: tables.Options = None,
    environment: tables.EnvironmentColumn = None,
    status: tables.StatusColumn = None,
    seed: tables.Seed = 0,
    as_json: JsonFlag = False,
) -> None:
    """Show what looks wrong with a table: copies, limits, aborted runs, outliers, units, repeats.

    \b
    bayestl lint measured.parquet
    bayestl lint runs.csv --options threads,precision --metrics latency:ms --environment board
    """
    from bayestl.study.linting import lint as findings_of

    measured = tables.read(path, metric, metrics, options, environment, status)
    findings = findings_of(measured, metric, seed=seed)
    rows = [(f.kind, ", ".join(f.environments), f.subject, f.message) for f in findings]
    shown = table(["", "environments", "in", "what was seen"], rows) if rows else "Nothing found."
    show(as_json, {"findings": [asdict(finding) for finding in findings]}, shown)

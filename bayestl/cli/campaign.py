"""`bayestl campaign`: run one from a specification, go on with it, or look at it."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bayestl.cli.console import Interrupted, JsonFlag, facts, show, table
from bayestl.cli.progress import progress

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bayestl.campaign.campaign import Campaign
    from bayestl.campaign.history import History
    from bayestl.campaign.loop import Result
    from bayestl.campaign.store import Store
    from bayestl.data.environment import Environment
    from bayestl.data.measurement import Metric
    from bayestl.measure.program import ProgramRunner

StorePath = Annotated[Path, typer.Argument(help="The store of a campaign.")]
ProgramPath = Annotated[
    Path | None, typer.Option(help="A specification with the [program] to measure.")
]
Name = Annotated[str | None, typer.Option(help="Which campaign, where the store has several.")]


def run(
    specification: Annotated[Path, typer.Argument(help="A campaign in TOML.")],
    store: Annotated[Path | None, typer.Option(help="Where it is kept; SPECIFICATION.db.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Run a campaign; the same command again goes on where it was interrupted.

    \b
    bayestl campaign run campaign.toml
    bayestl campaign run campaign.toml --store boards/xavier.db --json

    \b
    A specification:
        [campaign]
        name = "two-cores"
        target = "two-cores"
        metric = "latency"
        [budget]
        measurements = 25
        [environments.one-core]
        engine = "onnxruntime"
        network = "squeezenet"
        settings = {cores = "0"}
        [environments.two-cores]
        engine = "onnxruntime"
        network = "squeezenet"
        settings = {cores = "0-1"}
        [source]
        environment = "one-core"
        measurements = 50

    With [program] it measures a program of yours, which running it starts; [runner] says
    how networks are measured, such as meters = {nvml = {device = 0}}.
    """
    from bayestl.campaign import loop
    from bayestl.campaign.specification import read_campaign, read_runner
    from bayestl.campaign.store import SQLiteStore

    runner = read_runner(specification)
    name, campaign = read_campaign(specification, runner)
    kept = SQLiteStore(store or specification.with_suffix(".db"))
    with progress(f"campaign {name}", _metric(campaign)) as display:
        result = loop.run(campaign, runner, kept, name=name, observer=display)
    _finish(as_json, name, campaign, result, kept.path, specification)


def resume(
    store: StorePath,
    name: Name = None,
    measurements: Annotated[
        int | None, typer.Option(help="A new limit of target measurements.", min=1)
    ] = None,
    specification: Annotated[
        Path | None,
        typer.Option(
            "--specification", "--program", help="Needed where it has a [program] or a [runner]."
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Go on with a campaign from its store, perhaps with a larger budget.

    A store names no program to run, and no meter: where one is needed, give the specification.

    \b
    bayestl campaign resume campaign.db
    bayestl campaign resume campaign.db --measurements 40
    bayestl campaign resume campaign.db --specification campaign.toml
    """
    from dataclasses import replace

    from bayestl.campaign import loop
    from bayestl.campaign.specification import read_runner
    from bayestl.campaign.store import SQLiteStore
    from bayestl.errors import UnknownEnvironment
    from bayestl.measure.runner import LocalRunner

    runner = LocalRunner() if specification is None else read_runner(specification)
    kept = SQLiteStore(store)
    name, campaign, _ = read_stored(kept, name)
    larger = measurements is not None
    budget = replace(campaign.budget, measurements=measurements) if larger else None
    try:
        with progress(f"campaign {name}", _metric(campaign)) as display:
            result = loop.resume(runner, kept, name=name, budget=budget, observer=display)
    except UnknownEnvironment as error:
        if specification is None:
            raise UnknownEnvironment(
                f"{error}; give a program's specification as --specification"
            ) from None
        raise
    _finish(as_json, name, campaign, result, store, specification)


def status(store: StorePath, as_json: JsonFlag = False) -> None:
    """Show how far the campaigns and surveys of a store have come.

    \b
    bayestl campaign status campaign.db
    """
    from bayestl.campaign.store import SQLiteStore

    kept = SQLiteStore(store)
    logs = [_summary(name, _history(kept, name)) for name in kept.names()]
    columns = ["name", "kind", "measured", "of", "pending", "failed", "sessions", "seconds"]
    rows = [[log[column] for column in columns] for log in logs]
    show(as_json, {"store": str(store), "logs": logs}, table(columns, rows, title=str(store)))


def read_stored(store: Store, name: str | None) -> tuple[str, Campaign, History]:
    """The campaign of that name, or the only one, with its history.

    Raises
    ------
    StoreError
        If there is none, or several and no name; and as `Store.load`.
    SpecificationError
        If its model or acquisition is no recipe of bayestl.
    """
    from bayestl.campaign.campaign import Campaign
    from bayestl.errors import StoreError

    histories = {known: _history(store, known) for known in store.names()}
    plans = {n: h.plans[-1] for n, h in histories.items() if h.plans}
    campaigns = {n: plan for n, plan in plans.items() if plan["kind"] == "campaign"}
    known = ", ".join(map(repr, campaigns)) or "none"
    if name is None and len(campaigns) == 1:
        (name,) = campaigns
    if name is None:
        raise StoreError(f"expected one campaign in the store, got {known}; choose with --name")
    if name not in campaigns:
        raise StoreError(f"the store has no campaign named {name!r}; expected one of {known}")
    return name, Campaign.from_dict(campaigns[name]), histories[name]


def _history(store: Store, name: str) -> History:
    from bayestl.campaign.history import fold

    return fold(store.load(name))


def _metric(campaign: Campaign) -> Metric:
    return next(metric for metric in campaign.metrics if metric.name == campaign.metric)


def _summary(name: str, history: History) -> dict[str, Any]:
    from bayestl.campaign.campaign import plan_from_dict

    stored, state = history.plans[-1], history.state
    # How far it has come hangs on no recipe, and one of a user's own does not come back.
    plan = plan_from_dict({**stored, "model": "Mean", "acquisition": "RandomSampling"})
    return {
        "name": name,
        "kind": stored["kind"],
        "measured": len(state.trials) - len(state.pending),
        "of": plan.total,
        "pending": len(state.pending),
        "failed": sum(len(state.failed_in(e.name)) for e in plan.environments),
        "sessions": len(history.sessions),
        "seconds": sum(attempt.measurement.seconds for attempt in state.attempts),
        "environments": [environment.name for environment in plan.environments],
    }


def program_of(path: Path) -> tuple[ProgramRunner, Mapping[str, Environment]]:
    """The program that a specification describes, and its environments by name.

    Raises
    ------
    FileError, SpecificationError
        As `read_program`; or if it describes no program.
    """
    from bayestl.campaign.specification import read_program
    from bayestl.errors import SpecificationError

    program, environments = read_program(path)
    if program is None:
        raise SpecificationError(f"{path}: expected a [program] to measure, found none")
    return program, {environment.name: environment for environment in environments}


def _finish(
    as_json: bool,
    name: str,
    campaign: Campaign,
    result: Result,
    store: Path,
    specification: Path | None,
) -> None:
    """The campaign's result, or how to go on where it was interrupted."""
    from bayestl.campaign.budget import Stop
    from bayestl.report.campaign import found_improvement
    from bayestl.report.text import setting

    target, state = campaign.target.name, result.state
    settled = len(state.settled_in(target))
    if result.reason is Stop.INTERRUPTED:
        raise Interrupted(
            f"interrupted; {settled} measurements of {target} are in {store}, go on with: "
            f"bayestl campaign resume {quote(str(store))}"
            + (f" --specification {quote(str(specification))}" if specification else "")
        )
    found = found_improvement(campaign, state, result.belief.fitted)
    failures = len(state.failed_in(target))
    tried = state.measurements_in(target)
    reasons = {m.status.value: m.message for m in tried if m.message and not m.ok}
    error, unit = result.belief.error_percent, _metric(campaign).unit
    values = {
        "name": name,
        "stopped": result.reason.value,
        "target": target,
        "measurements": settled,
        "failures": failures,
        "reasons": reasons,
        "seconds": state.seconds_in(target),
        "expected_error_percent": error,
        "metric": campaign.metric,
        "unit": unit,
        "default": None if found is None else found.default_value,
        "best": None if found is None else found.best_value,
        "best_configuration": None if found is None else found.best,
        "store": str(store),
    }
    rows = [
        ("stopped by", result.reason.value),
        ("measured", f"{settled} of {target}, {failures} failed"),
        *((f"last {status}", message) for status, message in reasons.items()),
        ("expected error", "unknown" if error is None else f"{error:.3g} %"),
    ]
    if found is not None:
        rows += [
            ("default", f"{found.default_value:.4g} {unit}"),
            ("best", f"{found.best_value:.4g} {unit}"),
            (
                "changed",
                ", ".join(f"{n} = {setting(found.best[n])}" for n in found.changed) or "nothing",
            ),
        ]
    rows += [("store", store), ("look closer", f"bayestl report {quote(str(store))}")]
    show(as_json, values, facts(rows))

"""`bayestl report`: the page of a campaign."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bayestl.cli.campaign import Name, StorePath, read_stored
from bayestl.cli.console import JsonFlag, facts, show


def report(
    store: StorePath,
    name: Name = None,
    output: Annotated[Path | None, typer.Option(help="A folder; STORE-report.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Write what a campaign found as one HTML page, its figures as PNG beside it.

    \b
    bayestl report campaign.db
    bayestl report campaign.db --output xavier-report
    """
    from importlib.metadata import version

    from bayestl.campaign.store import SQLiteStore
    from bayestl.report.campaign import campaign_report
    from bayestl.report.page import write

    name, campaign, history = read_stored(SQLiteStore(store), name)
    believed = campaign.believe(history.state)
    content = campaign_report(
        campaign,
        history.state,
        believed.fitted,
        title=f"{name}: {campaign.metric} in {campaign.target.name}",
        provenance={
            "bayestl": version("bayestl"),
            "store": store.name,
            "sessions": ", ".join(session.at for session in history.sessions),
        },
    )
    page = write(content, output or store.with_name(f"{store.stem}-report"))
    figures = sorted(str(path) for path in page.parent.glob("*.png"))
    values = {"name": name, "page": str(page), "figures": figures, "summary": dict(content.facts)}
    show(as_json, values, facts([*content.facts, ("page", page)]))

"""`bayestl demo`: the main job once through, on this machine or on a recorded table."""

from __future__ import annotations

from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bayestl.cli.console import Interrupted, JsonFlag, errors, facts, show, table, warn
from bayestl.cli.progress import LATENCY, progress

if TYPE_CHECKING:
    from bayestl.demo import Outcome


def demo(
    replay: Annotated[
        bool, typer.Option("--replay", help="Replay a recorded table; no engine is needed.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option(help="A folder, to go on there; else a new one.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of every sample and choice.", min=0)] = 0,
    as_json: JsonFlag = False,
) -> None:
    """Measure, model, choose, verify and report, in about three minutes.

    One core of this machine is the source, all of them are the target. The source is
    measured at 50 configurations of onnxruntime, a test of the target is set aside, and a
    campaign learns the target from 25 measurements. Every method is then given the same
    measurements and judged on the test.

    \b
    bayestl demo
    bayestl demo --replay --seed 3 --json
    """
    from bayestl import demo as road
    from bayestl.datasets.catalogue import load
    from bayestl.measure.probe import probe

    folder = output or _new_folder()
    folder.mkdir(parents=True, exist_ok=True)
    if not as_json:
        found = probe()
        show(False, {}, facts([("processor", found.processor), ("cores", found.cores)]))
        for advice in found.advice_on_time:
            errors.print(f"note: {advice}", markup=False)
    bench = road.recorded(load("demo"), seed) if replay else road.live(seed)
    if bench.note:
        warn([bench.note])
    with _Steps() as observer:
        try:
            outcome = road.run_demo(bench, folder, observer, seed)
        except road.Interrupted:
            raise Interrupted(
                f"interrupted; what was measured is in {folder / road.STORE}, "
                f"bayestl demo --output {folder} goes on"
            ) from None
    page = outcome.write_report(folder)
    _show(as_json, outcome, page)


def _new_folder() -> Path:
    """A folder that does not exist yet: every run of the demo measures anew."""
    names = (f"bayestl-demo-{number}" for number in count(1))
    return next(path for path in map(Path, names) if not path.exists())


class _Steps(ExitStack):
    """An observer with one progress bar for each step of the demo."""

    display: Any = None

    def __call__(self, event: Any) -> None:
        from bayestl.demo import Began

        if isinstance(event, Began):
            self.close()
            errors.print(f"{event.title} ...", markup=False)
            self.display = self.enter_context(progress(event.title, LATENCY))
        else:
            self.display(event)


def _show(as_json: bool, outcome: Outcome, page: Path) -> None:
    summary = {**outcome.summary(), "report": str(page)}
    final = outcome.comparison.final
    shown = final.assign(coverage90=100 * final["coverage90"])
    rows = shown[["method", "mape", "spearman", "coverage90"]].to_numpy().tolist()
    columns = ("method", "MAPE [%]", "Spearman", "in 90 % interval [%]")
    title = f"Error on {summary['n_test']} test configurations of {summary['target']}"
    improvement = outcome.improvement
    changed = ", ".join(f"{name} = {improvement.best[name]}" for name in improvement.changed)
    lines = [
        ("measured", f"{summary['n_source']} source, {summary['n_target']} target"),
        ("default", f"{improvement.default_value:.4g} ms"),
        ("best found", f"{improvement.best_value:.4g} ms with {changed or 'the default'}"),
        ("seconds", round(outcome.seconds)),
        ("report", page),
    ]
    show(as_json, summary, table(columns, rows, title), facts(lines))

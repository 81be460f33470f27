"""`bayestl doctor`: what can be measured here, and how far it can be trusted."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bayestl.cli.console import JsonFlag, facts, show, table
from bayestl.cli.progress import LATENCY, Display, progress

if TYPE_CHECKING:
    from bayestl.data.measurement import Measurement
    from bayestl.measure.probe import Probe, Repeats


def doctor(
    repeats: Annotated[
        int,
        typer.Option(help="How often to measure a default configuration; 0 skips it.", min=0),
    ] = 8,
    as_json: JsonFlag = False,
) -> None:
    """Show what can be measured on this machine, and how far it can be trusted.

    The default configuration of the first engine that works is measured several times,
    each time in a new process: how much it varies is the noise that no model can explain.

    \b
    bayestl doctor
    bayestl doctor --repeats 30
    bayestl doctor --repeats 0 --json | jq .advice
    """
    from bayestl.measure.probe import probe

    with _Counted(repeats) as observer:
        found = probe(repeats, observer)
    parts = [
        (kind, part.name, part.works, part.detail)
        for kind, group in (
            ("engine", found.engines),
            ("device", found.devices),
            ("meter", found.meters),
            ("network", found.networks),
        )
        for part in group
    ]
    advice = "\n".join(f"- {sentence}" for sentence in found.advice) or "Nothing to improve."
    show(
        as_json,
        found.to_dict(),
        facts([*_machine(found), *_noise(found)]),
        "",
        table(["", "name", "works", "detail"], parts),
        "",
        advice,
    )


class _Counted(ExitStack):
    """An observer whose progress bar begins with the first repeat: drawing it is noise before."""

    def __init__(self, total: int) -> None:
        super().__init__()
        self.total = total
        self.display: Display | None = None

    def __call__(self, measurement: Measurement, done: int) -> None:
        if self.display is None:
            self.display = self.enter_context(progress("repeats", LATENCY))
        value = measurement.values.get("latency")
        note = measurement.status.value if value is None else f"{value:.4g} ms"
        bar, task = self.display.bar, self.display.task
        bar.update(task, completed=done, total=self.total, note=note)


def _machine(found: Probe) -> list[tuple[str, Any]]:
    memory, load, stolen = found.memory_mib, found.load, found.stolen_percent
    pressure = load["cpu_pressure_percent"]
    seconds = "" if load["stolen_s"] is None else f" ({load['stolen_s']:,.0f} s since it started)"
    return [
        ("processor", found.processor),
        ("cores", f"{found.cores} ({found.physical_cores} physical)"),
        ("SMT", _shown(found.smt)),
        ("clock", _clock(found)),
        ("CPU quota", "none" if found.quota is None else f"{found.quota:g} cores"),
        ("autogroup", _shown(found.autogroup)
                      + (": nice does nothing between sessions" if found.autogroup else "")),
        ("memory", ", ".join(f"{k} {v:,.0f} MiB" for k, v in memory.items() if v is not None)),
        ("load", f"{load['load_average']:g}, pressure "
                 + _shown(pressure if pressure is None else f"{pressure:g} %")),
        ("stolen", _shown(stolen if stolen is None else f"{stolen:.1f} % of CPU time{seconds}")),
    ]  # fmt: skip


def _clock(found: Probe) -> str:
    between = found.frequency_mhz
    span = between if between is None else f"{between[0]:,.0f} to {between[1]:,.0f} MHz"
    return (
        f"governor {_shown(found.governor)}, turbo {_shown(found.turbo)}, frequency {_shown(span)}"
    )


def _noise(found: Probe) -> list[tuple[str, Any]]:
    noise, placement = found.noise, found.placement
    near = "" if placement.bounce_ns is None else f" ({placement.bounce_ns:.0f} ns a cache line)"
    return [
        ("fixed work", f"varies by {_percent(noise.wall_percent)}, its CPU time by "
                       f"{_percent(noise.cpu_percent)}"),
        ("placement", f"the first two cores are {placement.regime}{near}"
         if placement.cores else "one core"),
        *([] if found.repeats is None else _repeats(found.repeats)),
    ]  # fmt: skip


def _repeats(repeats: Repeats) -> list[tuple[str, Any]]:
    if not repeats.count:
        return [("repeats", f"none: {repeats.problem}")]
    typical = "" if repeats.latency_ms is None else f", {repeats.latency_ms:.4g} ms"
    seen = ", ".join(f"{regime} {times}" for regime, times in repeats.placements.items())
    return [
        ("repeats", f"{repeats.ok} of {repeats.count}: {repeats.network} on {repeats.engine}"
                    f"{typical}"),
        ("between processes", f"latency varies by {_percent(repeats.latency_percent)}, CPU time "
                              f"by {_percent(repeats.cpu_percent)}"),
        ("within a process", f"the median is known within {_percent(repeats.interval_percent)}"),
        ("disturbed", f"{len(repeats.disturbances)} of {repeats.attempts} attempts; "
                      f"{repeats.contaminated} measurements stayed contaminated"),
        ("regimes", seen),
    ]  # fmt: skip


def _percent(value: float | None) -> str:
    return "an unknown share" if value is None else f"{value:.1f} %"


def _shown(value: str | bool | None) -> str:
    """The text, or what there is to say of a switch or of what the kernel hides."""
    if value is None:
        return "not shown"
    return value if isinstance(value, str) else "on" if value else "off"

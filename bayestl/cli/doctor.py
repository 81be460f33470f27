"""`bayestl doctor`: what can be measured here, and how far it can be trusted."""

from __future__ import annotations

from bayestl.cli.console import JsonFlag, facts, show, table


def doctor(as_json: JsonFlag = False) -> None:
    """Show what can be measured on this machine, and how far it can be trusted.

    \b
    bayestl doctor
    bayestl doctor --json | jq .advice
    """
    from bayestl.measure.probe import probe

    found = probe()
    memory, noise, placement = found.memory_mib, found.noise, found.placement
    near = "" if placement.bounce_ns is None else f" ({placement.bounce_ns:.0f} ns a cache line)"
    machine = facts(
        [
            ("processor", found.processor),
            ("cores", f"{found.cores} ({found.physical_cores} physical)"),
            ("governor", found.governor or "not shown by this machine"),
            ("memory", ", ".join(f"{k} {v:,.0f} MiB" for k, v in memory.items() if v is not None)),
            ("load", f"{found.load['load_average']:g}"),
            ("noise", f"fixed work varies by {noise.wall_percent:.1f} %, its CPU time by "
                      f"{noise.cpu_percent:.1f} %"),
            ("placement", f"the first two cores are {placement.regime}{near}"
             if placement.cores else "one core"),
        ]
    )  # fmt: skip
    parts = [
        (kind, part.name, part.works, part.detail)
        for kind, group in (
            ("engine", found.engines),
            ("meter", found.meters),
            ("network", found.networks),
        )
        for part in group
    ]
    advice = "\n".join(f"- {sentence}" for sentence in found.advice) or "Nothing to improve."
    show(
        as_json,
        found.to_dict(),
        machine,
        "",
        table(["", "name", "works", "detail"], parts),
        "",
        advice,
    )

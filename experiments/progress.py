"""What a recording prints as it goes on."""

from __future__ import annotations

from bayestl.campaign.events import Event, Measured


def show(event: Event) -> None:
    """Print where something was measured, how it ended and what it took."""
    if isinstance(event, Measured):
        m = event.measurement
        print(m.environment, m.status.value, m.values.get("latency", m.message), flush=True)

"""How a page writes numbers, settings and names."""

from __future__ import annotations

import math
from typing import Any


def number(value: Any, digits: int = 3) -> str:
    """A number, thousands set apart; a float with so many significant digits; a dash for NaN."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, bool | str):
        return setting(value)
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if isinstance(value, int) or value == 0:
        return f"{int(value):,}"
    magnitude = math.floor(math.log10(abs(value)))
    if not -4 <= magnitude < 7:
        return f"{value:.{digits - 1}e}"
    return f"{value:,.{max(digits - 1 - magnitude, 0)}f}"


def tick(value: float) -> str:
    """A round number beside an axis."""
    return number(int(value)) if value == int(value) and abs(value) < 1e7 else f"{value:g}"


def setting(value: Any) -> str:
    """An option's value as a person would type it."""
    if value is None:
        return "not active"
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) else str(value)


def duration(seconds: float) -> str:
    """A time as people say it: 3.20 s, 2 min 14 s, 1 h 05 min."""
    if seconds < 60:
        return f"{number(float(seconds))} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def label(name: Any, longest: int = 28) -> str:
    """A name that fits beside an axis: signs that cannot be drawn replaced, the middle left out."""
    text = "".join(
        sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in str(name)
    )
    if len(text) <= longest:
        return text
    head = longest // 2
    return f"{text[:head]}…{text[len(text) - (longest - head - 1) :]}"

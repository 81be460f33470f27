"""The colours of a page and its figures, light and dark: one list for both.

The series are the hues of Okabe and Ito (2008), which people with colour-blindness tell
apart, darkened on light and lightened on dark ground until each has a contrast of at
least 3 : 1 to it (WCAG 2.2, 1.4.11); text has at least 4.5 : 1 (1.4.3).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Theme:
    """Colours as #rrggbb.

    Parameters
    ----------
    name : "light" or "dark"
    ground, panel : the page, and what stands out from it without a border
    ink, muted, rule : text; labels and axes; thin lines
    accent : links and what was changed
    good, bad : a gain; a failure
    series : one colour a method, in order
    low, high : the ends of a scale that runs through `ground`
    """

    name: str
    ground: str
    panel: str
    ink: str
    muted: str
    rule: str
    accent: str
    good: str
    bad: str
    series: tuple[str, ...]
    low: str
    high: str


LIGHT = Theme(
    name="light",
    ground="#fdfdfb",
    panel="#f3f3ee",
    ink="#1b1d21",
    muted="#5c626b",
    rule="#d9dad4",
    accent="#005f97",
    good="#00704f",
    bad="#b34700",
    series=("#0072b2", "#c65300", "#008a63", "#b4579a", "#8a6a00", "#5c626b", "#2b8fc4"),
    low="#c65300",
    high="#0072b2",
)

DARK = Theme(
    name="dark",
    ground="#14161a",
    panel="#1e2127",
    ink="#e9e9e4",
    muted="#a2a8b0",
    rule="#363b43",
    accent="#74c2f2",
    good="#4fd0a4",
    bad="#ff9a57",
    series=("#56b4e9", "#ff8c42", "#2fc39a", "#e59cc8", "#e0b030", "#a2a8b0", "#9bd4f5"),
    low="#c96a2b",
    high="#3f9bd1",
)


def contrast(a: str, b: str) -> float:
    """The contrast ratio of two colours, 1 to 21 (WCAG 2.2, relative luminance)."""
    light, dark = sorted((_luminance(a), _luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue

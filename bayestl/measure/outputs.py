"""Whether a configuration computes what the default configuration computes.

A failed configuration can look many times faster than a right one. The outputs of the
default configuration are kept as a small digest, and every child compares its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

MAX_ELEMENTS = 256


def digest(outputs: Mapping[str, Any]) -> dict[str, Any]:
    """Each output's shape, root mean square and up to 256 of its elements, as JSON values."""
    return {name: _digest(np.asarray(value)) for name, value in outputs.items()}


def _digest(output: np.ndarray) -> dict[str, Any]:
    if output.dtype.kind not in "fiub":
        return {"shape": list(output.shape), "text": repr(output.tolist())[:10_000]}
    flat = output.astype(float).ravel()
    positions = np.linspace(0, max(flat.size - 1, 0), min(flat.size, MAX_ELEMENTS)).astype(int)
    finite = flat[np.isfinite(flat)]
    return {
        "shape": list(output.shape),
        "finite": int(finite.size),
        "rms": float(np.sqrt(np.mean(finite**2))) if finite.size else 0.0,
        "elements": np.nan_to_num(flat[positions]).tolist(),
    }


def difference(
    outputs: Mapping[str, Any], reference: Mapping[str, Any], tolerance: float
) -> str | None:
    """How the outputs differ from the reference's digest, in words; None where they agree.

    Elements may differ by `tolerance` times the root mean square of the output.
    """
    found = digest(outputs)
    if list(found) != list(reference):
        return f"outputs {list(found)} instead of {list(reference)}"
    for name, expected in reference.items():
        reason = _difference(found[name], expected, tolerance)
        if reason is not None:
            return f"output {name!r}: {reason}"
    return None


def _difference(
    found: Mapping[str, Any], expected: Mapping[str, Any], tolerance: float
) -> str | None:
    if found["shape"] != expected["shape"]:
        return f"shape {found['shape']} instead of {expected['shape']}"
    if "text" in expected or "text" in found:
        same = found.get("text") == expected.get("text")
        return None if same else "other values than the default configuration's"
    if found["finite"] != expected["finite"]:
        size = int(np.prod(expected["shape"]))
        return f"{size - found['finite']} values are NaN or infinite"
    allowed = tolerance * expected["rms"]
    values, wanted = np.array(found["elements"]), np.array(expected["elements"])
    worst = float(np.abs(values - wanted).max(initial=abs(found["rms"] - expected["rms"])))
    if worst > allowed:
        return (
            f"differs by {worst:.3g} from the default configuration's, more than "
            f"{tolerance:g} of its root mean square {expected['rms']:.3g}"
        )
    return None

"""Which code a stored result is of, an experiment's or a benchmark's."""

from __future__ import annotations

import subprocess
from pathlib import Path


def commit_of(top: Path) -> str:
    """The commit of a working tree, marked where more than stored results differs from it."""
    code = [":(top)", ":(top,exclude)experiments/results", ":(top,exclude)benchmarks/results"]
    try:
        head = _git(top, "rev-parse", "--short=12", "HEAD").strip()
        changed = _git(top, "status", "--porcelain", "--untracked-files=no", "--", *code)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{head}-dirty" if changed else head


def _git(folder: Path, *words: str) -> str:
    return subprocess.run(
        ["git", *words], cwd=folder, capture_output=True, text=True, check=True
    ).stdout

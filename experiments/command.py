"""What every experiment's command line shares: its options, and how its result is stored."""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import sys
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from bayestl.data.files import write_whole
from bayestl.measure import machine
from bayestl.study.statistics import failure_counts
from experiments.commit import commit_of


def parser(description: str | None) -> argparse.ArgumentParser:
    """The options that every experiment knows.

    Parameters
    ----------
    description : the experiment's docstring
    """
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--quick", action="store_true", help="a small part of it")
    made.add_argument(
        "--json",
        nargs="?",
        const="-",
        metavar="FILE",
        help="write the result to a file; without a name print it, on the last line",
    )
    return made


def study_parser(description: str | None, *, seeds: int) -> argparse.ArgumentParser:
    """Those, and the options of an experiment that is a study.

    Parameters
    ----------
    seeds : how many draws it takes unless told
    """
    made = parser(description)
    made.add_argument("--seeds", type=int, default=seeds, help=f"draws; {seeds} unless given")
    made.add_argument("--workers", type=int, default=1, help="processes of one thread each")
    made.add_argument("--cache", type=Path, help="folder that keeps every cell")
    made.add_argument("--fresh", action="append", default=[], help="a method's cells to forget")
    made.add_argument(
        "--figure", type=Path, help="file that the figure is written to, .svg or .png"
    )
    return made


def execution(
    arguments: argparse.Namespace, methods: Collection[str] | None = None
) -> dict[str, Any]:
    """The arguments of `Study.run`.

    Parameters
    ----------
    methods : those of the study, where an experiment has several with methods of their own
    """
    fresh = [name for name in arguments.fresh if methods is None or name in methods]
    return {
        "cache": arguments.cache,
        "executor": "serial" if arguments.workers == 1 else "processes",
        "workers": arguments.workers,
        "fresh": fresh,
    }


def failures(frame: pd.DataFrame) -> dict[str, int]:
    """Method -> how many of its fits failed, where one did; a result's `failures`."""
    return {str(name): int(count) for name, count in failure_counts(frame).items() if count}


def show_failures(frame: pd.DataFrame) -> None:
    """Print every way in which a method's fits failed, and how often; nothing if none did."""
    failed = frame.loc[frame["error"] != "", ["method", "error"]]
    for (method, error), rows in failed.groupby(["method", "error"], sort=False):
        print(f"{len(rows)} of {method}'s fits failed: {error}")


def publish(result: Mapping[str, Any], arguments: argparse.Namespace) -> None:
    """Write the result where `--json` says, with the command, the commit and the machine.

    What is no finite number is null: JSON has no other, and a failure no ratio.
    """
    if not arguments.json:
        return
    known = {
        "command": _command(),
        "commit": commit_of(Path(__file__).parents[1]),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{machine.processor()}, {os.cpu_count()} cores",
        "bayestl": version("bayestl"),
        "python": platform.python_version(),
    }
    told = _finite({**known, **result})
    if arguments.json == "-":
        print(json.dumps(told, allow_nan=False))
        return
    text = json.dumps(told, indent=1, allow_nan=False) + "\n"
    write_whole(arguments.json, lambda file: file.write(text.encode()))


def publish_figure(figure: Figure, arguments: argparse.Namespace) -> None:
    """Write the figure where `--figure` says; the same figure gives the same file."""
    if arguments.figure:
        from bayestl.report.drawing import write_figure

        write_figure(figure, arguments.figure)


def _command() -> str:
    """What was asked for, without where results go, which does not change them."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    words = [spec.name if spec else Path(sys.argv[0]).stem]
    rest = iter(sys.argv[1:])
    for word in rest:
        if word in ("--json", "--figure", "--cache"):
            following = next(rest, None)
            if word == "--json" and following and following.startswith("-"):
                words.append(following)
        else:
            words.append(word)
    return " ".join(["python -m", *words])


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

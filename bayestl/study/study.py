"""`Study`: every method on every scenario, at every budget, with every seed.

A cell is one fit and its judgement. Cells are cached under a hash of what they depend on,
so a study that was stopped goes on, and gives the table that it would have given.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from io import BytesIO
from numbers import Integral
from pathlib import Path
from typing import Any

import pandas as pd

from bayestl.data.files import read_bounded, write_whole
from bayestl.errors import FileError, StudyError
from bayestl.models.model import Model, is_recipe
from bayestl.study.execution import Executor, execute
from bayestl.study.judgement import SCORES, judge
from bayestl.study.method import Method
from bayestl.study.progress import reporting
from bayestl.study.scenario import Scenario, Split

KEYS = ("scenario", "group", "method", "budget", "seed")
"""The columns that name a cell."""

COLUMNS = (*KEYS, "error", *SCORES, "fit_seconds", "seconds")
"""The columns of `Results.frame`; `seconds` of CPU time hold choice, fit and judgement."""

_PROTOCOL = 1  # of what a stored cell means
_MOST_BYTES = 1 << 30
_LONGEST_NAME = 200  # of a folder; file systems allow 255 bytes
_FUNCTION = re.compile(r"<function ([\w.]+) at 0x[0-9a-f]+>")


@dataclass(frozen=True)
class Study:
    """What is compared, declared: over transfers and draws. One table is for `compare`.

    Parameters
    ----------
    scenarios : the transfers, each with a name of its own
    methods : name -> a `Method`, or a recipe, which is given the pool's rows in order
    budgets : numbers of target measurements
    seeds : one draw of every scenario each; also given to every fit
    """

    scenarios: Sequence[Scenario]
    methods: Mapping[str, Method | Model]
    budgets: Sequence[int]
    seeds: Sequence[int]

    def __post_init__(self) -> None:
        named = isinstance(self.methods, Mapping)
        if not named or not all(isinstance(name, str) and name for name in self.methods):
            raise StudyError(
                f"expected methods by their names, such as {{'forest': RandomForest()}}, got "
                f"{self.methods!r}"
            )
        for what in ("budgets", "seeds"):
            if isinstance(getattr(self, what), (int, str)):
                raise StudyError(
                    f"expected a list of {what}, such as (5, 20), got {getattr(self, what)!r}"
                )
        if not hasattr(self.scenarios, "__len__"):
            raise StudyError(f"expected a list of scenarios, got {self.scenarios!r}")
        names = [scenario.name for scenario in self.scenarios]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise StudyError(f"expected scenarios with a name of their own, got {twice[0]!r} twice")
        for what in ("scenarios", "methods", "budgets", "seeds"):
            if not len(getattr(self, what)):
                raise StudyError(f"expected at least one of the {what}, got none")
        for name, method in self.methods.items():
            if not is_recipe(method.model if isinstance(method, Method) else method):
                raise StudyError(
                    f"method {name!r}: expected a recipe, such as TransferGP(), or a Method, got "
                    f"{method!r}"
                )
            if " at 0x" in _text(method):
                raise StudyError(
                    f"method {name!r}: expected a recipe whose repr says what it depends on, so "
                    f"that its results can be kept, got {method!r}"
                )
        for what in ("budgets", "seeds"):  # a cell's are JSON, which NumPy's are not
            object.__setattr__(self, what, tuple(map(_count, getattr(self, what))))

    def run(
        self,
        cache: str | Path | None = None,
        *,
        executor: Executor = "serial",
        workers: int = 2,
        fresh: Sequence[str] = (),
        progress: bool = True,
    ) -> Results:
        """Every cell, computed or read from the cache, in an order that does not depend on that.

        A fit that fails is a cell with an `error` and no scores: it ends no study. Where a worker
        dies, what it was doing is tried again; see `execution`.

        Parameters
        ----------
        cache : folder that keeps every cell; without it the study cannot be continued
            A cell depends on the split's values, the recipe's repr, the budget, the
            seed and bayestl's version, not on your own code behind a recipe: name
            a method in `fresh` when that has changed.
        executor : ``"serial"``, ``"processes"``, ``"dask"`` (a local cluster; needs the extra
            `dask`), or a ``distributed.Client`` that is connected to yours
        workers : how many processes, of one thread each
        fresh : methods whose cached cells are forgotten first
        progress : whether to tell on standard error how far it is

        Raises
        ------
        StudyError
            If a scenario cannot be split, or a budget is larger than its pool.
        """
        unknown = sorted(set(fresh) - set(self.methods))
        if unknown:
            raise StudyError(f"unknown method {unknown[0]!r}; expected some of {[*self.methods]}")
        with _folder(cache) as folder:
            for name in fresh:
                shutil.rmtree(folder / _slug(name), ignore_errors=True)
            return self._run(folder, executor, workers, progress)

    def _run(self, folder: Path, executor: Executor, workers: int, progress: bool) -> Results:
        rows: dict[tuple[str, str, int, int], Mapping[str, Any] | None] = {}
        paths: dict[tuple[str, str, int, int], Path] = {}
        total = len(self.scenarios) * len(self.seeds) * len(self.methods) * len(self.budgets)
        with reporting(total, progress) as report:

            def missing() -> Iterator[Task]:
                for scenario in self.scenarios:
                    for seed in self.seeds:
                        split = _split(scenario, seed, max(self.budgets))
                        for name, method in self._methods().items():
                            lacking = []
                            for budget in self.budgets:
                                cell = Cell(scenario.name, scenario.group, name, budget, seed)
                                path = folder / cell.place(split, method)
                                rows[cell.key], paths[cell.key] = _stored(path), path
                                if rows[cell.key] is None:
                                    lacking.append(cell)
                                else:
                                    report(cell.method, cell.scenario, False)
                            if lacking:
                                yield Task(scenario, seed, method, tuple(lacking))

            def keep(row: dict[str, Any]) -> None:
                key = row["scenario"], row["method"], row["budget"], row["seed"]
                rows[key] = row
                if not row["error"]:  # what failed is tried again: it may have lacked a library
                    path = paths[key]
                    path.parent.mkdir(parents=True, exist_ok=True)
                    write_whole(path, lambda file: file.write(json.dumps(row).encode()))
                report(row["method"], row["scenario"], True)

            execute(missing(), keep, executor, workers)
        return Results.of([row for row in rows.values() if row is not None])

    def _methods(self) -> dict[str, Method]:
        return {
            name: method if isinstance(method, Method) else Method(method)
            for name, method in self.methods.items()
        }


@dataclass(frozen=True)
class Cell:
    """One fit and its judgement."""

    scenario: str
    group: str
    method: str
    budget: int
    seed: int

    def place(self, split: Split, method: Method) -> Path:
        """Where its row is kept; another recipe, split or version is another file."""
        what = f"{_PROTOCOL} {version('bayestl')} {split.digest} {_text(method)}"
        key = hashlib.sha256(what.encode()).hexdigest()[:16]
        folder = Path(_slug(self.method), _slug(self.scenario))
        return folder / f"{self.seed}-{self.budget}-{key}.json"

    @property
    def key(self) -> tuple[str, str, int, int]:
        """What tells it from every other."""
        return self.scenario, self.method, self.budget, self.seed

    def row(self, scores: Mapping[str, float] | None = None, error: str = "") -> dict[str, Any]:
        """The cell's row of `Results.frame`, as JSON values."""
        scores = scores or {}
        values = {name: float(scores.get(name, "nan")) for name in COLUMNS[len(KEYS) + 1 :]}
        return {**vars(self), "error": error, **values}


@dataclass(frozen=True)
class Task:
    """What one worker does at a time: a method's cells of one split, which share their choice."""

    scenario: Scenario
    seed: int
    method: Method
    cells: tuple[Cell, ...]

    def rows(self) -> Iterator[dict[str, Any]]:
        """Each cell's row, as soon as it is known."""
        split = self.scenario.split(self.seed)
        budgets = [cell.budget for cell in self.cells]
        began = time.process_time()
        try:
            chosen = self.method.choice.choose(self.method.model, split, budgets, self.seed)
        except Exception as error:  # whatever a recipe raises is its result
            yield from self.failed(_said(error))
            return
        share = (time.process_time() - began) / len(budgets)
        for cell, rows in zip(self.cells, chosen, strict=True):
            yield self._judged(cell, split, rows, share)

    def failed(self, reason: str) -> Iterator[dict[str, Any]]:
        """The rows of cells that cannot be computed."""
        for cell in self.cells:
            yield cell.row(error=reason)

    def _judged(
        self, cell: Cell, split: Split, rows: Sequence[int], chosen_in: float
    ) -> dict[str, Any]:
        began = time.process_time()
        try:
            fitted = self.method.model.fit(
                split.train(rows), metric=split.metric, target=split.target, seed=self.seed
            )
            fit_seconds = time.process_time() - began
            scores = judge(fitted, split.test)
        except Exception as error:
            return cell.row(error=_said(error))
        seconds = time.process_time() - began + chosen_in
        return cell.row({**scores, "fit_seconds": fit_seconds, "seconds": seconds})


@dataclass(frozen=True)
class Results:
    """A study's table.

    Parameters
    ----------
    frame : one row a cell, with the columns `COLUMNS`; `error` is empty where the fit went
        well, and scores are NaN where it did not
    """

    frame: pd.DataFrame

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]]) -> Results:
        """The table of cells' rows."""
        return cls(pd.DataFrame(list(rows), columns=list(COLUMNS)))

    @staticmethod
    def concat(several: Sequence[Results]) -> Results:
        """One table of several studies."""
        return Results(pd.concat([each.frame for each in several], ignore_index=True))

    @property
    def failures(self) -> pd.DataFrame:
        """The cells whose fit failed."""
        return self.frame[self.frame["error"] != ""]

    def write(self, path: str | Path) -> None:
        """Write the table as Parquet, whole or not at all.

        Raises
        ------
        FileError
            If it cannot be written.
        """
        write_whole(path, lambda file: self.frame.to_parquet(file, index=False))

    @classmethod
    def read(cls, path: str | Path) -> Results:
        """The table that `write` wrote.

        Raises
        ------
        FileError
            If the file cannot be read, or is no such table.
        """
        content = read_bounded(path, _MOST_BYTES)
        try:
            frame = pd.read_parquet(BytesIO(content))
        except (ValueError, OSError) as error:
            raise FileError(f"{path}: expected a study's results as Parquet: {error}") from None
        lacking = [name for name in COLUMNS if name not in frame.columns]
        if lacking:
            raise FileError(
                f"{path}: expected a study's results, without the column {lacking[0]!r}"
            )
        return cls(frame[list(COLUMNS)])


def _split(scenario: Scenario, seed: int, most: int) -> Split:
    split = scenario.split(seed)
    if most > len(split.pool):
        raise StudyError(
            f"{scenario.name}: expected budgets of at most {len(split.pool)}, the rows of its "
            f"pool, got {most}"
        )
    return split


def _count(value: Any) -> int:
    """A budget or a seed as an int."""
    if not isinstance(value, Integral) or value < 0:
        raise StudyError(f"expected budgets and seeds of zero or more, got {value!r}")
    return int(value)


def _text(method: Method | Model) -> str:
    """What a method depends on, in words; a function is its name."""
    return _FUNCTION.sub(r"\1", repr(method))


def _stored(path: Path) -> dict[str, Any] | None:
    """A cell's row, if it is in the cache; a damaged file is not."""
    try:
        row = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return row if isinstance(row, dict) and set(COLUMNS) <= row.keys() else None


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _slug(name: str) -> str:
    """A name as a folder's: readable, and another for another name."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip(".")[:_LONGEST_NAME]
    if plain == name:
        return plain
    return f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


@contextmanager
def _folder(cache: str | Path | None) -> Iterator[Path]:
    if cache is None:
        with tempfile.TemporaryDirectory(prefix="bayestl-study-") as folder:
            yield Path(folder)
        return
    folder = Path(cache)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"cannot use {folder} as a cache: {error.strerror or error}") from error
    yield folder

"""`ProgramRunner`: measures any program that is told its options and prints what it measured.

The program gets a configuration by its arguments, its environment variables or a JSON
file, and prints one JSON object:

    ./bench --threads 4 --precision fp16      ->      {"latency": [8.1, 8.3, 8.2]}
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bayestl.data.environment import Environment
from bayestl.data.measurement import Measurement, Metric, Status
from bayestl.data.options import Boolean, Value
from bayestl.errors import (
    ConfigurationError,
    EngineError,
    EngineUnavailable,
    SpecificationError,
    UnknownEnvironment,
)
from bayestl.measure import machine
from bayestl.measure.disturbance import DISTURBABLE, disturbance, use_of
from bayestl.measure.lock import device_lock
from bayestl.measure.meter import is_number
from bayestl.measure.process import Ended, run_process
from bayestl.measure.template import Template

if TYPE_CHECKING:  # pandas loads with the first space
    from bayestl.data.space import ConfigSpace, Configuration

USAGE = (Metric("wall_time", "ms"), Metric("cpu_time", "ms"), Metric("peak_memory", "MiB"))
"""What is measured of every program: the whole of it, from its start to its end."""

KEPT_TEXT = 2_000
"""Characters of what a program printed that the provenance keeps."""

MAX_ANSWER = 16 * 1024 * 1024
"""A result file may hold this many bytes."""

_SETTING = "setting:"
_FILES = ("config_file", "result_file")
_FACTS = ("environment", "network")


@dataclass(frozen=True, eq=False)
class ProgramRunner:
    """Measures a program on this machine, each configuration by a run of its own.

    Texts of `command` and `variables` may hold placeholders: ``{threads}`` an option's
    value, ``{setting:batch}`` a setting of the environment, ``{environment}`` and
    ``{network}`` its name and network, ``{config_file}`` the path of a JSON file with
    the configuration, ``{result_file}`` the path where the program writes its answer
    instead of printing it. Two braces stand for one. There is no shell.

    Values are written as in JSON: ``4``, ``0.5``, ``true``; text as it is. What speaks of
    an option that is not active is left out: an argument, a whole group of arguments
    where the list holds a list, a variable. In the JSON file such an option is null.

    The answer is the last line of standard output that is a JSON object. It has every
    metric of `reports`: a finite number, or a list of samples whose median counts. It may
    also say ``status`` (as in `Status`, or ``"error"`` for what is wrong whatever the
    configuration, which raises) and ``message``.

    Understands the setting ``cores`` (``"0"``, ``"0-3"``, ``"0,2"``; all unless set) and
    those that a placeholder names. `Environment.engine` is the program's name, or empty.

    Parameters
    ----------
    command : the program, and its arguments; a list within the list is a group
    options : the space of its options
    reports : the metrics that it prints; those of `USAGE` are measured besides
    variables : environment variable -> text, over those of this process
    flags : boolean option -> arguments that stand at the command's end where it is true
    name : what environments call it; the program's file name unless given
    files : further files that it consists of; when one changes, so does the environment
        The program's own file counts, and arguments before the first that begins with
        a dash that name a file, such as a script.
    folder : its working directory, where relative paths begin
    timeout_s : the deadline of one run
    memory_limit_mib : a limit on the address space of each of its processes
    disturbance_limit : share of the cores that others may use meanwhile, above which a run is
        `contaminated`; None does not look, as where a server works for the program
    lock_timeout_s : how long to wait for another measurement on this machine

    Raises
    ------
    SpecificationError
        If a placeholder means nothing, or an option does not reach the program.
    """

    command: Sequence[str | Sequence[str]]
    options: ConfigSpace
    reports: Sequence[Metric] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    flags: Mapping[str, Sequence[str]] = field(default_factory=dict)
    name: str = ""
    files: Sequence[str] = ()
    folder: str | Path = "."
    timeout_s: float = 60.0
    memory_limit_mib: float | None = None
    disturbance_limit: float | None = None
    lock_timeout_s: float = 600.0

    def __post_init__(self) -> None:
        _check_lists(self)
        object.__setattr__(self, "folder", Path(self.folder).absolute())
        if not self.name:
            object.__setattr__(self, "name", Path(self.command[0]).name)  # pyright: ignore[reportArgumentType]
        _check_reports(self.reports, self.options.names)
        for key, value in (
            ("timeout_s", self.timeout_s),
            ("memory_limit_mib", self.memory_limit_mib),
            ("disturbance_limit", self.disturbance_limit),
        ):
            if value is not None and not (is_number(value) and value > 0):
                raise SpecificationError(f"{key}: expected a positive number, got {value!r}")
        if not (is_number(self.lock_timeout_s) and self.lock_timeout_s >= 0):
            raise SpecificationError(
                f"lock_timeout_s: expected seconds, at least 0, got {self.lock_timeout_s!r}"
            )
        self._check_options_arrive()

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return (*self.reports, *USAGE)

    def space(self, environment: Environment) -> ConfigSpace:
        self._arrange(environment)
        return self.options

    def describe(self, environment: Environment) -> Environment:
        return _described(environment, self._arrange(environment))

    def run(self, configuration: Configuration, environment: Environment) -> Measurement:
        """The configuration, measured by one run of the program.

        Raises
        ------
        EngineError
            If the program cannot be started, or says ``"error"``.
        UnknownEnvironment
            If the environment is another program's, or a setting is unknown or missing.
        """
        plan = self._arrange(environment)
        started, clock = datetime.now(UTC), time.perf_counter()
        try:
            configuration = self.options.configuration(configuration)
        except ConfigurationError as error:
            return Measurement(
                dict(configuration), environment.name, Status.INVALID,
                message=str(error), seconds=time.perf_counter() - clock,
            )  # fmt: skip
        with device_lock(self.lock_timeout_s), _folder() as folder:
            clock = time.perf_counter()
            before, use, own = machine.load(), use_of(plan.cores), time.process_time()
            request = self._request(configuration, environment, folder)
            ended = run_process(
                [plan.program, *request.arguments],
                timeout_s=self.timeout_s,
                folder=self.folder,
                variables=request.applied(os.environ),
                cores=plan.cores,
                memory_limit_mib=self.memory_limit_mib,
            )
            own = time.process_time() - own + ended.own_s
            taken = disturbance(use, use_of(plan.cores), own)
            answer = _answer(ended, request.result_file)
            seconds = time.perf_counter() - clock
        status, message, samples = _verdict(ended, answer, self.reports)
        limit = math.inf if self.disturbance_limit is None else self.disturbance_limit
        if status in DISTURBABLE and taken is not None and taken.share > limit:
            status, message = Status.CONTAMINATED, str(taken)
        values = {name: statistics.median(series) for name, series in samples.items()}
        usage = (ended.seconds * 1e3, ended.cpu_s * 1e3, ended.peak_mib)
        return Measurement(
            configuration,
            environment.name,
            status,
            values=values | _named(usage) if status is Status.OK else {},
            samples={name: series for name, series in samples.items() if len(series) > 1},
            message=message,
            provenance={
                "requested": configuration,
                "started": started.isoformat(timespec="milliseconds"),
                "before": before,
                "after": machine.load(),
                "foreign_share": taken.foreign if taken else None,
                "stolen_share": taken.stolen if taken else None,
                "bayestl": version("bayestl"),
                "fingerprint": _described(environment, plan).fingerprint,
                "command": [plan.program, *request.arguments],
                "variables": {**machine.variables(), **request.variables},
                "folder": str(self.folder),
                "files": plan.files,
                "exit_code": ended.code,
                "stdout": ended.output[-KEPT_TEXT:].decode(errors="replace"),
                "stderr": ended.errors[-KEPT_TEXT:],
                "cores": machine.format_cores(plan.cores),
                "governor": machine.governor(plan.cores[0]),
                "turbo": machine.turbo(),
                "limits": machine.limits(),
                "timeout_s": self.timeout_s,
                "memory_limit_mib": self.memory_limit_mib,
                **machine.hardware(),
            },
            seconds=seconds,
        )

    @cached_property
    def _arguments(self) -> tuple[tuple[Template, ...], ...]:
        """The command after the program, by groups that are left out as one."""
        groups = [[part] if isinstance(part, str) else part for part in self.command[1:]]
        return tuple(
            tuple(self._template(text, f"command: {text!r}") for text in group) for group in groups
        )

    @cached_property
    def _variables(self) -> Mapping[str, Template]:
        return {
            name: self._template(text, f"variables: {name}")
            for name, text in self.variables.items()
        }

    def _template(self, text: str, where: str) -> Template:
        known = (*self.options.names, *_FILES, *_FACTS)
        try:
            template = Template.parse(text)
            template.check_known(known, prefix=_SETTING)
        except SpecificationError as error:
            raise SpecificationError(f"{where}: {error}") from None
        return template

    @cached_property
    def _placeholders(self) -> frozenset[str]:
        """Every placeholder in use."""
        templates = [t for group in self._arguments for t in group] + [*self._variables.values()]
        return frozenset(name for template in templates for name in template.placeholders)

    def _check_options_arrive(self) -> None:
        for name, option in self.options.options.items():
            if name in (*_FILES, *_FACTS) or name.startswith(_SETTING):
                raise SpecificationError(f"options: {name}: the name of another placeholder")
            if name in self.flags and not isinstance(option, Boolean):
                raise SpecificationError(
                    f"flags: {name}: expected a boolean option, got {option!r}"
                )
        for name in self.flags:
            if name not in self.options.options:
                known = ", ".join(self.options.names)
                raise SpecificationError(f"flags: {name}: unknown option; expected one of {known}")
        reached = self._placeholders | self.flags.keys()
        lost = [name for name in self.options.names if name not in reached]
        if lost and "config_file" not in reached:
            raise SpecificationError(
                f"command: option {lost[0]!r} does not reach the program; name {{{lost[0]}}} or "
                "{config_file} in an argument or a variable, or give it flags"
            )

    def _arrange(self, environment: Environment) -> _Plan:
        """What the environment asks for, checked against this machine."""
        program = self._program()
        files = {path: _sha256(path) for path in (program, *self._scripts())}
        digest = hashlib.sha256("".join(files.values()).encode()).hexdigest()
        engine = f"{self.name} {digest[:16]}"
        if environment.engine not in ("", self.name, engine):
            if environment.engine.startswith(f"{self.name} "):
                raise UnknownEnvironment(
                    f"environment {environment.name!r} was described with {environment.engine}, "
                    f"but the program is {engine} now; restore its files ({', '.join(files)}), "
                    "or describe it under a new name"
                )
            raise UnknownEnvironment(
                f"environment {environment.name!r}: unknown engine {environment.engine!r}; "
                f"expected {self.name!r}, or nothing"
            )
        self._check_settings(environment)
        cores = machine.cores_for(environment)
        return _Plan(program, files, engine, cores)

    def _check_settings(self, environment: Environment) -> None:
        named = {p.removeprefix(_SETTING) for p in self._placeholders if p.startswith(_SETTING)}
        for setting in environment.settings:
            if setting not in {"cores", *named}:
                expected = ", ".join(("cores", *sorted(named - {"cores"})))
                raise UnknownEnvironment(
                    f"environment {environment.name!r}: unknown setting {setting!r}; expected "
                    f"{expected}; a placeholder such as {{setting:{setting}}} would make it known"
                )
        if "network" in self._placeholders and not environment.network:
            raise UnknownEnvironment(
                f"environment {environment.name!r}: the program needs its network"
            )
        for setting in sorted(named):
            if setting not in environment.settings:
                raise UnknownEnvironment(
                    f"environment {environment.name!r}: the program needs the setting {setting!r}"
                )

    def _program(self) -> str:
        """The path of the program's file."""
        wanted = str(self.command[0])
        separate = os.sep in wanted
        found = shutil.which(os.path.join(self.folder, wanted) if separate else wanted)
        if found is None:
            where = f"in {self.folder}" if separate else "on the PATH"
            raise EngineUnavailable(f"there is no program {wanted!r} {where} that can be run")
        return os.path.abspath(found)

    def _scripts(self) -> Iterator[str]:
        """The files beside the program's own that it consists of."""
        for part in self.command[1:]:
            if not isinstance(part, str) or part.startswith("-") or "{" in part:
                break
            if Path(self.folder, part).is_file():
                yield str(Path(self.folder, part))
        yield from (str(Path(self.folder, file)) for file in self.files)

    def _request(
        self, configuration: Configuration, environment: Environment, folder: Path
    ) -> _Request:
        values: dict[str, Value | None] = {
            **configuration,
            **{_SETTING + name: value for name, value in environment.settings.items()},
            "environment": environment.name,
            "network": environment.network,
            **{name: str(folder / f"{name}.json") for name in _FILES},
        }
        arguments: list[str] = []
        for group in self._arguments:
            texts = [template.fill(values) for template in group]
            if None not in texts:
                arguments += [text for text in texts if text is not None]
        for option, flags in self.flags.items():
            arguments += flags if configuration[option] else ()
        if "config_file" in self._placeholders:
            path = folder / "config_file.json"
            path.write_text(json.dumps(configuration), encoding="utf-8")
        result = folder / "result_file.json" if "result_file" in self._placeholders else None
        variables = {name: template.fill(values) for name, template in self._variables.items()}
        return _Request(tuple(arguments), variables, result)


@dataclass(frozen=True)
class _Plan:
    """An environment in terms of this machine."""

    program: str
    files: Mapping[str, str]
    engine: str
    cores: tuple[int, ...]


def _described(environment: Environment, plan: _Plan) -> Environment:
    return replace(environment, hardware=machine.identity(plan.cores), engine=plan.engine)


@dataclass(frozen=True)
class _Request:
    """A configuration in terms of the program."""

    arguments: tuple[str, ...]
    variables: Mapping[str, str | None]
    result_file: Path | None

    def applied(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """The program's environment variables; one that is None is not there."""
        merged = {**inherited, **self.variables}
        return {name: text for name, text in merged.items() if text is not None}


def _check_lists(runner: ProgramRunner) -> None:
    """Raise unless there are lists where lists belong, and a program at the first place."""
    command, flags = runner.command, runner.flags
    if isinstance(command, str) or not isinstance(command, Sequence) or not command:
        raise SpecificationError(
            f"command: expected a list of a program and its arguments, got {command!r}"
        )
    program = command[0]
    if not isinstance(program, str) or not program or "{" in program:
        raise SpecificationError(
            f"command: expected a program without placeholders first, got {program!r}"
        )
    lists = [("command", part) for part in command if not isinstance(part, str)]
    lists += [
        *((f"flags: {name}", group) for name, group in flags.items()),
        ("files", runner.files),
    ]
    for where, group in lists:
        listed = isinstance(group, Sequence) and not isinstance(group, str)
        if not listed or not all(isinstance(text, str) for text in group):
            raise SpecificationError(f"{where}: expected a list of texts, got {group!r}")
    for name in runner.variables:
        if not re.fullmatch(r"[^=\0]+", name):
            raise SpecificationError(f"variables: expected a name, got {name!r}")


def _check_reports(reports: Sequence[Metric], options: Sequence[str]) -> None:
    names = [metric.name for metric in reports]
    usage = {metric.name for metric in USAGE}
    for name in options:
        if name in usage:
            raise SpecificationError(f"options: {name}: the name of a metric of every program")
    for name in names:
        if name in usage | {"environment", "status", "message"}:
            raise SpecificationError(
                f"metrics: {name}: has a meaning of its own; let the program print another name"
            )
        if name in options:
            raise SpecificationError(f"metrics: {name}: the name of an option")
        if names.count(name) > 1:
            raise SpecificationError(f"metrics: {name}: expected distinct names, got it twice")


@lru_cache(maxsize=256)
def _digest(path: str, _size: int, _modified_ns: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sha256(path: str) -> str:
    """The digest of a file's content, computed again only where the file has changed."""
    try:
        found = os.stat(path)
        return _digest(path, found.st_size, found.st_mtime_ns)
    except OSError as error:
        raise EngineUnavailable(f"cannot read {path}: {error.strerror}") from None


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="bayestl-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _named(usage: Sequence[float]) -> dict[str, float]:
    return {metric.name: value for metric, value in zip(USAGE, usage, strict=True)}


def _answer(ended: Ended, result_file: Path | None) -> Mapping[str, Any] | None:
    """The JSON object that the program answered with; None where there is none."""
    if result_file is not None:
        try:
            with open(result_file, "rb", opener=_open_at_once) as file:
                return _object(file.read(MAX_ANSWER + 1) or b"")
        except OSError:
            return None
    return next(filter(None, map(_object, reversed(ended.output.splitlines()))), None)


def _open_at_once(path: str, flags: int) -> int:
    """A descriptor that never waits, whatever the program has made of the path, such as a pipe."""
    return os.open(path, flags | os.O_NONBLOCK)


def _object(text: bytes) -> Mapping[str, Any] | None:
    text = text.strip()
    if not (text.startswith(b"{") and text.endswith(b"}")):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _verdict(
    ended: Ended, answer: Mapping[str, Any] | None, reports: Sequence[Metric]
) -> tuple[Status, str, dict[str, list[float]]]:
    """The status, the message, and the samples of each metric that the program reported."""
    said = "ok" if answer is None else answer.get("status", "ok")
    message = "" if answer is None else str(answer.get("message") or "")[:KEPT_TEXT]
    message = message.encode(errors="replace").decode()  # JSON can spell halves of characters
    if said == "error":
        raise EngineError(f"the program cannot measure any configuration: {message}")
    known, failure = said in list(Status), ended.failure()
    if known and said != Status.OK and not ended.timed_out:
        return Status(said), message or f"the program says {said}{ended.tail}", {}
    if failure is not None:
        return *failure, {}
    if not known:
        expected = ", ".join((*Status, "error"))
        return Status.BAD_OUTPUT, f"expected a status out of {expected}, got {said!r}", {}
    if answer is None and reports:
        names = ", ".join(metric.name for metric in reports)
        return Status.BAD_OUTPUT, f"expected a line of JSON with {names}, got none{ended.tail}", {}
    samples = {}
    for metric in reports:
        series = _series((answer or {}).get(metric.name))
        if series is None:
            found = json.dumps((answer or {}).get(metric.name, "nothing"))[:100]
            wanted = f"{metric.name}: expected a finite number, or a list of them"
            return Status.BAD_OUTPUT, f"{wanted}, got {found}", {}
        samples[metric.name] = series
    return Status.OK, message, samples


def _series(value: Any) -> list[float] | None:
    """The value as finite samples; None where it is anything else."""
    series = value if isinstance(value, list) else [value]
    if not series or any(isinstance(x, bool) or not isinstance(x, (int, float)) for x in series):
        return None
    try:
        numbers = [float(x) for x in series]
    except OverflowError:
        return None
    return numbers if all(map(math.isfinite, numbers)) else None

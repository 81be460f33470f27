"""`function_runner`: measures a Python function, each configuration in a process of its own.

The function is given a configuration, as a dict, and returns either

    a callable without arguments    one inference: built already, timed from now on
    a mapping                       what it measured itself: metric -> value or samples

It may raise `bayestl.measure.engine.Refusal` for what it does not support.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from bayestl.data.measurement import Metric
from bayestl.errors import EngineError
from bayestl.measure.engine import Refusal
from bayestl.measure.sampling import Sampling, sample
from bayestl.measure.template import Template

if TYPE_CHECKING:  # this file is in the child too, which stays light
    from bayestl.data.space import ConfigSpace
    from bayestl.measure.program import ProgramRunner

TIMED = (Metric("latency", "ms"), Metric("build_time", "ms"))
"""What is measured of a function that returns an inference."""


def function_runner(
    function: str | Callable[..., Any],
    options: ConfigSpace,
    reports: Sequence[Metric] = TIMED,
    *,
    sampling: Sampling | None = None,
    **settings: Any,
) -> ProgramRunner:
    """A runner that calls a function in a fresh interpreter for every measurement.

    Parameters
    ----------
    function : ``"package.module:function"``, or the function itself
    options : the space of its configurations
    reports : what is measured: `TIMED`, or the metrics in the mapping that it returns
    sampling : how long to warm up and to sample an inference
    settings : further parameters of `ProgramRunner`, such as `timeout_s` or `variables`

    Raises
    ------
    EngineError
        If another process cannot import the function.
    """
    from bayestl.measure.program import ProgramRunner
    from bayestl.measure.zygote import module_command

    reference = function if isinstance(function, str) else _reference(function)
    how = json.dumps((sampling or Sampling()).to_dict())
    (program, *arguments), environment = module_command(__name__, reference, how)
    path = Template.literal(environment["PYTHONPATH"])
    return ProgramRunner(
        [program, *map(Template.literal, arguments), "{config_file}"],
        options,
        reports,
        **{
            "name": reference,
            "files": (_file(reference),),
            **settings,
            "variables": {"PYTHONPATH": path, **settings.get("variables", {})},
        },
    )


def main(reference: str, sampling: str, path: str) -> None:
    """Call the function with the configuration in a file, and print what it measured."""
    with open(path, encoding="utf-8") as file:
        configuration = json.load(file)
    try:
        answer = _measured(_found(reference), configuration, Sampling(**json.loads(sampling)))
        text = json.dumps(answer, default=_plain)
    except Refusal as refusal:
        text = json.dumps({"status": refusal.status, "message": str(refusal)})
    except EngineError as error:
        text = json.dumps({"status": "error", "message": str(error)})
    print(f"\n{text}", flush=True)  # what was printed before may have left its line open


def _measured(
    function: Callable[..., Any], configuration: Mapping[str, Any], sampling: Sampling
) -> Mapping[str, Any]:
    start_ns = time.perf_counter_ns()
    made = function(configuration)
    if isinstance(made, Mapping):
        return made
    build_ms = (time.perf_counter_ns() - start_ns) / 1e6
    if not callable(made):
        raise EngineError(
            f"expected {function.__name__}(configuration) to return a callable that does one "
            f"inference, or a mapping of metrics, got {made!r}"
        )
    samples = sample(made, sampling, {})
    return {"latency": list(samples.latency_ms), "build_time": build_ms}


def _reference(function: Callable[..., Any]) -> str:
    """``module:function`` of a function that stands in a module."""
    module = getattr(function, "__module__", None)
    name = getattr(function, "__qualname__", "<unnamed>")
    if module in (None, "__main__") or "<" in name or "." in name:
        raise EngineError(
            f"{function!r} cannot be imported by another process; write it as a function of a "
            "module, not in a notebook, a class, another function or the script that runs, and "
            "import it from there"
        )
    return f"{module}:{name}"


def _file(reference: str) -> str:
    """The file of the module in a reference, found without importing it."""
    module, colon, name = reference.partition(":")
    try:
        found = find_spec(module) if colon and name and module != "__main__" else None
    except (ImportError, ValueError):
        found = None
    if found is None or not found.has_location or found.origin is None:
        raise EngineError(
            f"expected a function as 'package.module:function' whose module can be imported from "
            f"here, got {reference!r}; put its folder on PYTHONPATH, or install its package"
        )
    return found.origin


def _found(reference: str) -> Callable[..., Any]:
    module, _, name = reference.partition(":")
    function = getattr(import_module(module), name, None)
    if not callable(function):
        raise EngineError(f"expected a function {name!r} in module {module!r}, got {function!r}")
    return function


def _plain(value: Any) -> Any:
    """The JSON value of what numpy and torch return."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise EngineError(f"expected numbers, or lists of them, as metrics, got {value!r}")


if __name__ == "__main__":
    main(*sys.argv[1:])

"""bayestl: Bayesian transfer learning for the performance of DNN systems.

The public face. Every name is imported from its home when it is first used, so that
`import bayestl` costs nothing and a measuring child process never loads torch. Inside
the package nobody imports from here.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bayestl import datasets as datasets
    from bayestl.acquisition.improvement import ExpectedImprovement as ExpectedImprovement
    from bayestl.acquisition.variance import IntegratedVariance as IntegratedVariance
    from bayestl.acquisition.variance import PosteriorVariance as PosteriorVariance
    from bayestl.data.environment import Environment as Environment
    from bayestl.data.measurement import Measurement as Measurement
    from bayestl.data.measurement import Metric as Metric
    from bayestl.data.measurement import Status as Status
    from bayestl.data.options import Boolean as Boolean
    from bayestl.data.options import Categorical as Categorical
    from bayestl.data.options import Integer as Integer
    from bayestl.data.options import Ordinal as Ordinal
    from bayestl.data.options import Real as Real
    from bayestl.data.space import ConfigSpace as ConfigSpace
    from bayestl.data.table import MeasurementTable as MeasurementTable

_HOMES = {
    "Boolean": "data.options",
    "Categorical": "data.options",
    "ConfigSpace": "data.space",
    "Environment": "data.environment",
    "ExpectedImprovement": "acquisition.improvement",
    "Integer": "data.options",
    "IntegratedVariance": "acquisition.variance",
    "Measurement": "data.measurement",
    "MeasurementTable": "data.table",
    "Metric": "data.measurement",
    "Ordinal": "data.options",
    "PosteriorVariance": "acquisition.variance",
    "Real": "data.options",
    "Status": "data.measurement",
}

__version__ = version("bayestl")
__all__ = ["__version__", "datasets", *_HOMES]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name == "datasets":
        return import_module("bayestl.datasets")
    if name not in _HOMES:
        raise AttributeError(f"module 'bayestl' has no attribute {name!r}")
    return getattr(import_module(f"bayestl.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), "datasets", *_HOMES])

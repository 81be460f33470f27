"""DeepArch-Xplorer: inference time of time-series classifiers on machines and frameworks.

Every configuration of twelve two-valued options of a convolutional network was trained
and timed on the test set of a workload. The repository is
https://github.com/pooyanjamshidi/deeparch-xplorer (MIT); a file is
`<hardware>/exp_<workload>_<date>.csv`, and its `config_id` the 1-based row of
`configurations_exp.csv`. Known faults of the data:

- some files end early, so that the last configurations are missing; as those are in
  binary order, the first options do not vary in the shortest ones
- isolated values are 10 times too large and more: cloud machines are shared
- aws-nano is a burstable machine, whose speed depends on what it did before
- one run a configuration: there are no repeats
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd

from bayestl.data.environment import Environment
from bayestl.data.options import Boolean
from bayestl.data.space import ConfigSpace
from bayestl.data.table import ENVIRONMENT, MeasurementTable
from bayestl.datasets.repository import Repository, read_columns, select_environments
from bayestl.errors import TableError

REPOSITORY = Repository(
    "https://github.com/pooyanjamshidi/deeparch-xplorer",
    places=("experiments/measurements", "measurements"),
)

SPACE = ConfigSpace(
    {
        "batch_size": Boolean(doc="8 or 32, in training"),
        "conv_1_num_filters": Boolean(doc="32 or 256"),
        "conv_1_filter_size": Boolean(doc="2 or 10"),
        "conv_2_num_filters": Boolean(doc="32 or 256"),
        "conv_2_filter_size": Boolean(doc="2 or 10"),
        "conv_3_num_filters": Boolean(doc="32 or 256"),
        "conv_3_filter_size": Boolean(doc="2 or 10"),
        "log_lr": Boolean(doc="log(1e-10) or log(1)"),
        "log_beta_1": Boolean(doc="log(1e-2) or log(0.5)"),
        "log_beta_2": Boolean(doc="log(1e-6) or log(0.5)"),
        "log_epsilon": Boolean(doc="log(1e-10) or log(1e-6)"),
        "log_decay": Boolean(doc="log(1e-10) or log(1e-1)"),
    }
)
"""The options in the order and by the names of the repository's `mxplorer/config.py`."""

_COPIES = "selection"  # a folder of the repository with copies of some files
_DATE = re.compile(r"_\d{4}-\d{2}-\d{2} .*$")


def deeparch(
    folder: str | Path | None = None,
    *,
    environments: str | Collection[str] | None = None,
    hardware: str | Collection[str] | None = None,
    workload: str | Collection[str] | None = None,
) -> MeasurementTable:
    """The inference times [s], one environment a file, named like "azure/Coffee".

    Parameters
    ----------
    folder : a clone of the repository; `BAYESTL_DATA` names the folder that holds it
        unless given
    environments : names of those to read
    hardware : machine and framework, such as "feature3-tf": the part before the slash
    workload : data set that is classified, such as "Coffee": the part behind it
        What is not given does not restrict; together they must all hold.

    Returns
    -------
    A table of the metric `latency` [s]; environments sorted by name

    Raises
    ------
    FileError
        If there is no clone, or a file cannot be read.
    UnknownEnvironment
        If nothing fits, or `environments` names one that is not there.
    TableError
        If a file has another layout.
    """
    measurements = REPOSITORY.files(folder)
    configurations = _configurations(measurements / "configurations_exp.csv")
    files = _files(measurements)
    described = [Environment(f"{h}/{w}", hardware=h, workload=w) for h, w in files]
    wanted = select_environments(described, environments, hardware, workload)
    frames = [
        _measured(path, configurations).assign(**{ENVIRONMENT: environment.name})
        for environment in wanted
        for path in files[environment.hardware, environment.workload]
    ]
    return MeasurementTable.from_frame(
        pd.concat(frames, ignore_index=True),
        options=SPACE,
        metrics={"latency": "s"},
        environments=wanted,
    )


def _files(measurements: Path) -> dict[tuple[str, str], list[Path]]:
    """(hardware, workload) -> its files, sorted."""
    files: dict[tuple[str, str], list[Path]] = {}
    for path in sorted(measurements.glob("*/exp_*.csv")):
        if path.parent.name != _COPIES:
            workload = _DATE.sub("", path.stem.removeprefix("exp_"))
            files.setdefault((path.parent.name, workload), []).append(path)
    return dict(sorted(files.items()))


def _configurations(path: Path) -> pd.DataFrame:
    configurations = read_columns(path, header=False)
    if configurations.shape[1] != len(SPACE.names):
        raise TableError(
            f"{path}: expected {len(SPACE.names)} columns, got {configurations.shape[1]}"
        )
    return configurations.set_axis(list(SPACE.names), axis=1)


def _measured(path: Path, configurations: pd.DataFrame) -> pd.DataFrame:
    measured = read_columns(path, needed=("config_id", "inference_time"))
    rows = measured["config_id"].to_numpy() - 1
    if not np.isin(rows, np.arange(len(configurations))).all():
        raise TableError(f"{path}: expected a config_id from 1 to {len(configurations)}")
    latency = measured["inference_time"].to_numpy()
    return configurations.iloc[rows].assign(latency=latency)

"""Configurable systems in several environments, as studied by SeMPL.

Gong and Chen (2024), "Predicting Configuration Performance in Multiple Environments with
Sequential Meta-Learning" (FSE). The repository is https://github.com/ideas-labo/SeMPL
(CC-BY-4.0); a file holds the options and then one column an environment, so that every
configuration was measured in all of them. What their study calls target k is the column at
(last - k), here the environment "ek"; its header, often the same for all, is the
environment's workload. Known faults of the data:

- the metric is a time, in a unit that the files do not state and that differs between systems
- a configuration that failed is a zero; such rows are left out, as in the study
- `sac` holds times of exactly 1200, which look like a time limit
- categories are numbers, which say nothing about an order
- `deeparch` is three environments of DeepArch-Xplorer (workload DiatomSizeReduction; see
  `bayestl.datasets.deeparch`) and has its faults; its file does not name the options
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd

from bayestl.data.environment import Environment
from bayestl.data.table import ENVIRONMENT, MeasurementTable
from bayestl.datasets.deeparch import SPACE as DEEPARCH_SPACE
from bayestl.datasets.repository import Repository, read_columns
from bayestl.errors import TableError

REPOSITORY = Repository("https://github.com/ideas-labo/SeMPL", places=("data",))

SYSTEMS = {
    "deeparch": ("deeparch-SizeReduction-3environments.csv", 3),
    "exastencils": ("exastencils-4environments.csv", 4),
    "imagemagick": ("imagemagick-4environments.csv", 4),
    "sac": ("sac_srad_others-3environments.csv", 3),
    "x264": ("x264-diff_input-10environments.csv", 10),
}
"""System -> its file and how many environments it has."""


def sempl(system: str, folder: str | Path | None = None) -> MeasurementTable:
    """Every configuration of a system in each of its environments.

    Parameters
    ----------
    system : `deeparch`, `exastencils`, `imagemagick`, `sac` or `x264`
    folder : a clone of the repository; `BAYESTL_DATA` names the folder that holds it
        unless given

    Returns
    -------
    A table of the metric `time`; the environments in the order of the columns, the last
    being "e0"

    Raises
    ------
    FileError
        If there is no clone, or the file cannot be read.
    TableError
        For an unknown system, or a file of another layout.
    """
    if system not in SYSTEMS:
        raise TableError(f"unknown system {system!r}; expected one of {', '.join(SYSTEMS)}")
    name, count = SYSTEMS[system]
    path = REPOSITORY.files(folder) / name
    columns = read_columns(path)
    header = [str(column) for column in columns.columns]
    options, times = header[:-count], columns.iloc[:, -count:].to_numpy(dtype=float)
    if not options:
        raise TableError(f"{path}: expected options and {count} environments, got {header}")
    if system == "deeparch":
        options = list(DEEPARCH_SPACE.names)
    measured = np.flatnonzero((times != 0).all(axis=1))
    configurations = columns.iloc[measured, :-count].set_axis(options, axis=1)
    workloads = [re.sub(r"\.\d+$", "", name) for name in header[-count:]]  # pandas counts repeats
    environments = [
        Environment(f"e{count - 1 - column}", workload=f"{system} {workload}")
        for column, workload in enumerate(workloads)
    ]
    frames = [
        configurations.assign(**{ENVIRONMENT: environment.name, "time": times[measured, column]})
        for column, environment in enumerate(environments)
    ]
    return MeasurementTable.from_frame(
        pd.concat(frames, ignore_index=True),
        options=DEEPARCH_SPACE if system == "deeparch" else options,
        metrics={"time": ""},
        environments=environments,
    )

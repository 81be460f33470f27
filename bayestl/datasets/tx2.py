"""Xception on an NVIDIA Jetson TX2: the measurements of a study of transfer between image sizes.

Iqbal, Kotthoff and Jamshidi (2019), "Transfer Learning for Performance Modeling of Deep Neural
Network Systems" (OpML). The repository is
https://github.com/iqbal128855/OpML19-DNNPerfModeling; a file is
`output_xception_<size>.csv`, separated by blanks. Known faults of the data:

- columns that never vary (the first core, GPU and memory controller are always on) and
  are left out
- `power_consumption` is no power: it is the sum of the samples of a power monitor that was
  read while the inference ran, so it grows with the time as an energy does, in no stated
  unit; it is called `power_sum` here
- one image for each size, one row a configuration: there are no repeats
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pandas as pd

from bayestl.data.environment import Environment
from bayestl.data.measurement import Metric
from bayestl.data.options import Boolean, Ordinal
from bayestl.data.space import ConfigSpace
from bayestl.data.table import ENVIRONMENT, MeasurementTable
from bayestl.datasets.repository import Repository, read_columns, select_environments

REPOSITORY = Repository(
    "https://github.com/iqbal128855/OpML19-DNNPerfModeling",
    places=("ConfigLabyrinth/Data/Output/TX2", "TX2"),
)

SPACE = ConfigSpace(
    {
        "core1_status": Boolean(),
        "core2_status": Boolean(),
        "core3_status": Boolean(),
        "core_freq": Ordinal(tuple(range(345_600, 2_035_201, 153_600)), unit="kHz"),
        "gpu_freq": Ordinal((140_250_000, 497_250_000, 943_500_000, 1_300_500_000), unit="Hz"),
        "emc_freq": Ordinal(
            (1_062_400_000, 1_331_200_000, 1_600_000_000, 1_866_000_000),
            unit="Hz",
            doc="of the external memory controller",
        ),
    }
)
"""What varies: cores that are on beside the first, and three clocks."""

_NAMES = {"inference_time": "latency", "power_consumption": "power_sum"}


def tx2(
    folder: str | Path | None = None, *, environments: str | Collection[str] | None = None
) -> MeasurementTable:
    """768 configurations at each image size, the environments named like "200x200".

    Parameters
    ----------
    folder : a clone of the repository; `BAYESTL_DATA` names the folder that holds it
        unless given
    environments : names of those to read; all unless given

    Returns
    -------
    A table of the metrics `latency` [s] and `power_sum` (see the module); environments
    sorted by name

    Raises
    ------
    FileError
        If there is no clone, or a file cannot be read.
    UnknownEnvironment
        If `environments` names one that is not there, or there is none.
    TableError, ConfigurationError
        If a file has another layout.
    """
    measurements = REPOSITORY.files(folder)
    prefix = "output_xception_"
    files = {p.stem.removeprefix(prefix): p for p in sorted(measurements.glob(f"{prefix}*.csv"))}
    described = [Environment(n, hardware="TX2", network="xception", workload=n) for n in files]
    wanted = select_environments(described, environments)
    frames = [_measured(files[e.name]).assign(**{ENVIRONMENT: e.name}) for e in wanted]
    return MeasurementTable.from_frame(
        pd.concat(frames, ignore_index=True),
        options=SPACE,
        metrics=[Metric("latency", "s"), Metric("power_sum")],
        environments=wanted,
    )


def _measured(path: Path) -> pd.DataFrame:
    measured = read_columns(path, " ", needed=(*SPACE.names, *_NAMES))
    return measured.rename(columns=_NAMES)

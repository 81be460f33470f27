"""The command line in this process, over a runner that measures a formula."""

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bayestl.cli.app import main
from bayestl.data.environment import Environment
from bayestl.data.measurement import Measurement, Metric, Status
from bayestl.data.options import Boolean, Integer
from bayestl.data.readers import write_table
from bayestl.data.sampling import enumerate_space
from bayestl.data.space import ConfigSpace
from bayestl.data.table import MeasurementTable

METRICS = (Metric("latency", "ms"), Metric("energy", "J"))
SPACE = ConfigSpace(
    {"threads": Integer(1, 8), "batch": Integer(1, 4), "spin": Boolean()},
    constraints=["threads * batch <= 16"],
)
ENVIRONMENTS = {"one-core": 2.0, "all-cores": 1.0}


def latency(configuration, environment: str) -> float:
    threads, batch = configuration["threads"], configuration["batch"]
    return ENVIRONMENTS[environment] * (2 + batch + (0.2 if configuration["spin"] else 0)) / threads


@dataclass
class FormulaRunner:
    """Fails where threads are 7; raises Ctrl-C at the measurement number `interrupt_at`."""

    metrics = METRICS
    interrupt_at: int = 0
    count: int = field(default=0)

    def space(self, environment):
        return SPACE

    def describe(self, environment):
        return environment

    def run(self, configuration, environment):
        self.count += 1
        if self.count == self.interrupt_at:
            raise KeyboardInterrupt
        if configuration["threads"] == 7:
            return Measurement(configuration, environment.name, Status.OOM, message="too much")
        value = latency(configuration, environment.name)
        values = {"latency": value, "energy": 3 * value}
        return Measurement(configuration, environment.name, Status.OK, values, seconds=0.5)


@dataclass(frozen=True)
class Result:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The last line of standard output."""
        return json.loads(self.out.strip().splitlines()[-1])


@pytest.fixture
def bayestl(capsys):
    """A function that runs a command."""

    def run(*arguments: object) -> Result:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return run


@pytest.fixture
def refused(bayestl):
    """A function that runs a command that must fail with one clear message, and returns it."""

    def run(*arguments: object, code: int = 1) -> str:
        result = bayestl(*arguments)
        assert result.code == code
        assert result.out == ""
        assert "Traceback" not in result.err
        assert "bug" not in result.err
        *warnings, message = result.err.strip().splitlines()
        assert all(line.startswith("warning: ") for line in warnings)
        assert message.startswith("error: ")
        again = bayestl(*arguments, "--json")
        assert again.code == code
        assert again.json["error"]["exit_code"] == code
        assert again.json["error"]["message"] == message.removeprefix("error: ")
        return message

    return run


@pytest.fixture
def runner(monkeypatch):
    """The runner that commands find in place of this machine."""
    runner = FormulaRunner()
    for room in ("runner", "specification"):
        monkeypatch.setattr(f"bayestl.measure.{room}.LocalRunner", lambda **settings: runner)
    return runner


def frame() -> pd.DataFrame:
    """Every configuration in the source, every fifth in the target."""
    every = SPACE.records(enumerate_space(SPACE))
    rng = np.random.default_rng(0)
    rows = [
        {**c, "environment": name, "latency": latency(c, name) * np.exp(0.02 * rng.normal())}
        for name, step in (("one-core", 2), ("all-cores", 5))
        for c in every[::step]
    ]
    return pd.DataFrame(rows)


@pytest.fixture
def rows() -> pd.DataFrame:
    return frame()


@pytest.fixture
def parquet(tmp_path, rows):
    """A table that describes itself, with the space, its constraint and an unmeasured target."""
    table = MeasurementTable.from_frame(
        rows, options=SPACE, metrics=METRICS[:1], environments=[Environment("new")]
    )
    write_table(table, tmp_path / "table.parquet")
    return tmp_path / "table.parquet"


SPECIFICATION = """\
[campaign]
name = "all-cores"
target = "all-cores"
metric = "latency"
model = "RidgeInteractions"
acquisition = "RandomSampling"
candidates = 40

[budget]
measurements = 10

[environments.one-core]
engine = "onnxruntime"
network = "squeezenet"

[environments.all-cores]
engine = "onnxruntime"
network = "squeezenet"

[source]
environment = "one-core"
measurements = 8
"""


@pytest.fixture
def specification(tmp_path):
    """A function that writes the specification with some text replaced; its path."""

    def write(*changes: tuple[str, str]):
        text = SPECIFICATION
        for old, new in changes:
            assert old in text
            text = text.replace(old, new, 1)
        path = tmp_path / "campaign.toml"
        path.write_text(text)
        return path

    return write

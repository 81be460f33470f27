"""Laws of every Runner."""

import json
import math
import sys

import pandas as pd
import pytest

from bayestl.data.environment import Environment
from bayestl.data.measurement import Measurement, Metric, Status
from bayestl.data.options import Boolean, Integer
from bayestl.data.space import ConfigSpace
from bayestl.data.table import MeasurementTable
from bayestl.errors import UnknownEnvironment
from bayestl.measure.program import ProgramRunner
from bayestl.measure.replay import ReplayRunner
from bayestl.measure.runner import LocalRunner
from bayestl.measure.sampling import Sampling
from bayestl.measure.template import Template


def local():
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    sampling = Sampling(warmup_s=0.0, warmup_limit_s=0.05, min_samples=3, sample_s=0.01)
    environment = Environment(
        "one core", engine="onnxruntime", network="shufflenet", settings={"cores": "0"}
    )
    return LocalRunner(sampling=sampling, disturbance_limit=None), environment


def replay():
    frame = pd.DataFrame(
        {"threads": [1, 2, 1], "spin": [False, True, False], "latency": [3.0, 2.0, 3.1]}
    )
    environment = Environment("one core", hardware="recorded")
    options = {"threads": Integer(1, 4), "spin": Boolean()}
    table = MeasurementTable.from_frame(
        frame, options=options, metrics={"latency": "ms"}, environment=environment
    )
    return ReplayRunner(table), environment


def program():
    code = "import sys; print('{\"latency\": [%s, 2, 3]}' % sys.argv[1])"
    options = ConfigSpace({"threads": Integer(1, 4), "spin": Boolean()})
    runner = ProgramRunner(
        [sys.executable, "-c", Template.literal(code), "{threads}"],
        options,
        [Metric("latency", "ms")],
        flags={"spin": ["--spin"]},
    )
    return runner, Environment("one core", settings={"cores": "0"})


@pytest.fixture(scope="module", params=[local, replay, program])
def subject(request):
    return request.param()


@pytest.fixture(scope="module")
def measured(subject):
    runner, environment = subject
    return runner.run(runner.space(environment).default, environment)


def test_the_default_configuration_is_measured(subject, measured):
    runner, environment = subject
    assert measured.status is Status.OK
    assert measured.environment == environment.name
    assert measured.configuration == runner.space(environment).default
    assert "latency" in measured.values
    assert set(measured.values) <= {metric.name for metric in runner.metrics}
    assert all(math.isfinite(value) and value > 0 for value in measured.values.values())
    assert measured.seconds >= 0


def test_a_measurement_is_plain_values(measured):
    again = Measurement.from_dict(json.loads(json.dumps(measured.to_dict(), allow_nan=False)))
    assert again == measured


def test_measurements_make_a_table(subject, measured):
    runner, environment = subject
    table = MeasurementTable.from_measurements(
        [measured],
        space=runner.space(environment),
        metrics=runner.metrics,
        environments=[runner.describe(environment)],
    )
    assert len(table.usable("latency")) == 1


def test_a_description_keeps_the_name_and_can_be_run(subject):
    runner, environment = subject
    described = runner.describe(environment)
    assert described.name == environment.name
    assert described.hardware
    assert runner.describe(described) == described
    assert runner.space(described) == runner.space(environment)
    assert runner.run({}, described).ok


def test_the_metrics_are_distinct(subject):
    names = [metric.name for metric in subject[0].metrics]
    assert len(set(names)) == len(names) > 0


@pytest.mark.parametrize("nonsense", [{"no such option": 1}, {"first": "banana"}, {"first": -1}])
def test_a_configuration_outside_the_space_is_invalid_and_no_error(subject, nonsense):
    runner, environment = subject
    first = runner.space(environment).names[0]
    configuration = {first if name == "first" else name: v for name, v in nonsense.items()}
    result = runner.run(configuration, environment)
    assert result.status is Status.INVALID
    assert result.message
    assert not result.values


def test_an_environment_that_it_cannot_arrange_is_an_error(subject):
    runner, _ = subject
    nowhere = Environment("nowhere", engine="abacus", network="shufflenet")
    for ask in (runner.space, runner.describe, lambda e: runner.run({}, e)):
        with pytest.raises(UnknownEnvironment):
            ask(nowhere)

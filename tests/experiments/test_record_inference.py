from collections import Counter
from datetime import UTC, datetime

import numpy as np
import pytest

from bayestl.data.environment import Environment
from bayestl.data.measurement import Measurement, Metric, Status
from bayestl.data.options import Boolean, Categorical, Integer
from bayestl.data.space import ConfigSpace
from bayestl.data.table import MeasurementTable
from bayestl.measure.allocator import OPTIONS
from experiments import inference_card
from experiments.record_inference import THREADS, Place, combined, ordered, translated

ORT = ConfigSpace(
    {"intra_op_num_threads": Integer(1, 2), "spin": Boolean(), **OPTIONS},
    conditions={"spin": "intra_op_num_threads > 1"},
)
VINO = ConfigSpace(
    {"inference_num_threads": Integer(1, 4), "streams": Integer(1, 4), **OPTIONS},
    ["inference_num_threads % streams == 0"],
)


def test_one_space_holds_the_configurations_of_every_engine():
    space = combined({"onnxruntime": ORT, "openvino": VINO})
    assert space.names == (
        "engine", "threads", "spin", "malloc_mmap_threshold", "malloc_hugetlb", "streams",
    )  # fmt: skip
    assert space.options["threads"].high == 4
    one = translated(ORT.configuration({"intra_op_num_threads": 2}), "onnxruntime", space)
    assert one["threads"] == 2
    assert one["spin"] is not None
    assert one["streams"] is None
    alone = translated(ORT.configuration({"intra_op_num_threads": 1}), "onnxruntime", space)
    assert alone["spin"] is None
    other = translated(VINO.configuration({"inference_num_threads": 4}), "openvino", space)
    assert (other["threads"], other["streams"], other["spin"]) == (4, 1, None)
    wrong = {"engine": "openvino", "threads": 3, "streams": 2}
    assert not space.contains({**other, **wrong})


def test_the_order_has_common_ones_own_ones_and_late_repeats():
    space = ConfigSpace({f"x{k}": Categorical(tuple(range(5))) for k in range(5)})
    orders = [ordered(space, np.random.default_rng(k), 0, 1 + k, 0.4) for k in range(2)]
    keys = [[space.key(c) for c in order] for order in orders]
    assert all(len(set(k)) == 100 and len(k) == 120 for k in keys)
    assert len(set(keys[0]) & set(keys[1])) >= 34
    assert space.key(space.default) in keys[0]
    twice = [key for key, count in Counter(keys[0]).items() if count == 2]
    assert len(twice) == 20
    for key in twice:
        first, second = (i for i, k in enumerate(keys[0]) if k == key)
        assert first < 50 <= second


def test_a_small_space_is_measured_whole():
    space = ConfigSpace({"a": Boolean(), "b": Integer(1, 3)})
    order = ordered(space, np.random.default_rng(0), 0, 1, 1.0)
    assert {space.key(c) for c in order} == {(a, b) for a in (False, True) for b in (1, 2, 3)}
    assert len(order) == 12


@pytest.mark.parametrize(
    ("settings", "name"),
    [({}, "all-cores"), ({"cores": "0"}, "one-core"), ({"batch": 4}, "all-cores/batch-4")],
)
def test_an_environment_is_named_by_what_it_is(settings, name):
    assert Place("torch", "net", settings).on("box").name == f"box/torch/net/{name}"


@pytest.fixture
def recorded():
    space = combined({"onnxruntime": ORT, "openvino": VINO})
    measurements = []
    for place, factor in (("a", 1.0), ("b", 2.0)):
        for repeat in range(2):
            for threads in (1, 2):
                configuration = ORT.configuration({"intra_op_num_threads": threads})
                measurements.append(
                    Measurement(
                        translated(configuration, "onnxruntime", space), place, Status.OK,
                        values={"latency": factor * (10.0 / threads + repeat)},
                        provenance={
                            "sampling": {"warmup_limit_s": 0.3, "min_samples": 10,
                                         "interval": 0.01, "sample_s": 0.2},
                            "started": "2026-01-02T03:04:05", "engine": "onnxruntime 1.0",
                            "processor": "A chip", "flags": ["avx2"], "physical_cores": 2,
                            "kernel": "Linux 6", "governor": None, "python": "3.11",
                            "disturbed": ["a neighbour"] if repeat else [],
                            "sentinel": {"regime": 1},
                        },
                    )
                )  # fmt: skip
    failed = translated(ORT.default, "onnxruntime", space)
    measurements.append(Measurement(failed, "b", Status.CRASH, message="it fell"))
    environments = [Environment(n, engine="onnxruntime 1.0") for n in "ab"]
    table = MeasurementTable.from_measurements(
        measurements, space=space, metrics=[Metric("latency", "ms")], environments=environments
    )
    return table, measurements


def test_the_card_says_what_a_reviewer_asks(recorded):
    table, measurements = recorded
    text = inference_card.card(table, measurements, datetime(2026, 1, 2, 4, tzinfo=UTC))
    for part in ("A chip (avx2)", "onnxruntime 1.0", "2026-01-02T03:04", "1 crash", "| a |",
                 "4 rows needed", "| b | a | 2 | 1 |"):  # fmt: skip
        assert part in text, text


def test_noise_is_pooled_over_the_repeats(recorded):
    table, _ = recorded
    rows = inference_card.environments(table).set_index("environment")
    logs = np.log([[10, 11], [5, 6]])
    expected = 100 * np.sqrt(np.mean(logs.var(axis=1, ddof=1)))
    assert rows.loc["a", "noise %"] == pytest.approx(expected)
    assert rows.loc["a", "max/min"] == pytest.approx(10.5 / 5.5)
    assert rows.loc["b", "failed"] == 1


def test_every_engine_has_a_name_for_its_threads():
    assert set(THREADS) == {"onnxruntime", "openvino", "torch"}

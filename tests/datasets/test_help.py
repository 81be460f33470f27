"""HELP's NAS-Bench-201, from a small clone in the repository's layout and from the real one."""

import os
import pickle
from itertools import islice, product

import numpy as np
import pytest
from scipy.stats import spearmanr

from bayestl.data.options import Categorical
from bayestl.datasets.help import (
    COUNTS,
    EDGES,
    OPERATIONS,
    SPACE,
    SPACE_WITH_COUNTS,
    help_nasbench201,
)
from bayestl.errors import FileError, TableError, UnknownEnvironment

torch = pytest.importorskip("torch")

REAL = pytest.mark.skipif("BAYESTL_DATA" not in os.environ, reason="needs BAYESTL_DATA")


def name_of(operations):
    a, b, c, d, e, f = operations
    return f"|{a}~0|+|{b}~0|{c}~1|+|{d}~0|{e}~1|{f}~2|"


NETWORKS = list(islice(product(OPERATIONS[::-1], repeat=len(EDGES)), 0, 40, 4))


@pytest.fixture
def clone(tmp_path):
    data = tmp_path / "data" / "nasbench201"
    (data / "latency").mkdir(parents=True)
    places = {name_of(network): place for place, network in enumerate(NETWORKS)}
    torch.save(dict(reversed(places.items())), data / "str_arch2idx.pt")
    torch.save([float(place + 1) for place in range(len(NETWORKS))], data / "latency/pixel2.pt")
    torch.save([place + 2 for place in range(len(NETWORKS))], data / "latency/1080ti_32.pt")
    torch.save([0.5] * len(NETWORKS), data / "latency/essential_ph_1.pt")
    return tmp_path


def test_a_row_is_the_network_whose_position_it_has(clone):
    table = help_nasbench201(clone)
    assert table.environment_names == ("1080ti_32", "essential_ph_1", "pixel2")
    assert dict(table.space.options) == dict(SPACE.options)
    pixel2 = table.of("pixel2")
    assert list(map(tuple, pixel2.configurations().to_numpy())) == NETWORKS
    assert pixel2.frame["latency"].tolist() == list(range(1, 11))
    assert table.of("1080ti_32").frame["latency"].tolist() == list(range(2, 12))
    assert table.metric("latency").unit == "ms"


def test_a_batch_size_is_told_from_the_number_of_a_phone(clone):
    described = {e.name: (e.hardware, e.workload) for e in help_nasbench201(clone).environments}
    assert described["1080ti_32"] == ("1080ti", "batch 32")
    assert described["essential_ph_1"] == ("essential_ph_1", "")


def test_networks_and_environments_are_chosen(clone):
    table = help_nasbench201(clone, hardware="1080ti", networks=[3, 1])
    assert table.frame["latency"].tolist() == [5, 3]
    assert list(map(tuple, table.configurations().to_numpy())) == [NETWORKS[3], NETWORKS[1]]
    with pytest.raises(UnknownEnvironment, match="unknown environment pixel9"):
        help_nasbench201(clone, environments=["pixel9"])
    for networks in ([10], [-1], [0.5], [True, False], "ab", []):
        with pytest.raises(TableError, match="expected networks from 0 to 9"):
            help_nasbench201(clone, networks=networks)


def test_counts_are_options_that_follow_from_the_edges(clone):
    table = help_nasbench201(clone, hardware="pixel2", counts=True)
    assert table.space == SPACE_WITH_COUNTS
    rows = table.configurations()
    for operation, name in COUNTS.items():
        expected = [network.count(operation) for network in NETWORKS]
        assert rows[name].tolist() == expected
        assert len(set(expected)) > 1
    assert rows[list(SPACE.names)].equals(
        help_nasbench201(clone, hardware="pixel2").configurations()
    )


class Malicious:
    """What a pickle would run."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("where", ["str_arch2idx.pt", "latency/pixel2.pt"])
@pytest.mark.parametrize(
    "write", [torch.save, lambda what, path: path.write_bytes(pickle.dumps(what))]
)
def test_a_file_that_would_run_something_is_refused(clone, where, write, tmp_path):
    trace = tmp_path / "trace"
    write([Malicious(trace)], clone / "data" / "nasbench201" / where)
    with pytest.raises(FileError, match=f"{where}: .* would have to be run .* refused"):
        help_nasbench201(clone, environments=["pixel2"])
    assert not trace.exists()


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ([1.0], "expected a list of 10 latencies"),
        ({"a": 1}, "expected a list of 10 latencies"),
        (["slow"] * 10, "expected a list of numbers"),
        ([1.0] * 9 + [0.0], "expected finite positive"),
        ([1.0] * 9 + [float("nan")], "expected finite positive"),
    ],
)
def test_a_file_of_another_layout_is_refused(clone, values, error):
    torch.save(values, clone / "data/nasbench201/latency/pixel2.pt")
    with pytest.raises(TableError, match=error):
        help_nasbench201(clone, environments=["pixel2"])


@pytest.mark.parametrize(
    "places",
    [
        {name_of(NETWORKS[0]): 1},
        {"|none~0|": 0},
        {name_of(NETWORKS[0]).replace("~2", "~1"): 0},
        {name_of(["conv", *NETWORKS[0][1:]]): 0},
        {name_of(NETWORKS[0]): 0, name_of(NETWORKS[1]): "1"},
        [0, 1],
    ],
)
def test_networks_of_another_layout_are_refused(clone, places):
    torch.save(places, clone / "data/nasbench201/str_arch2idx.pt")
    with pytest.raises(TableError, match=r"str_arch2idx.pt: expected a"):
        help_nasbench201(clone)


def test_what_is_no_such_file_or_is_not_there_is_one_error(clone):
    latency = clone / "data/nasbench201/latency/pixel2.pt"
    latency.write_text("")
    with pytest.raises(FileError, match="torch's format"):
        help_nasbench201(clone)
    (clone / "data/nasbench201/str_arch2idx.pt").unlink()
    with pytest.raises(FileError, match=r"cannot read .*str_arch2idx.pt"):
        help_nasbench201(clone)
    with pytest.raises(FileError, match=r"git clone https://github\.com/HayeonLee/HELP"):
        help_nasbench201(clone / "elsewhere")


@REAL
def test_the_real_files_hold_the_whole_space_in_the_right_order():
    table = help_nasbench201(environments=["fpga", "pixel3", "raspi4"])
    configurations = table.of("fpga").configurations()
    assert len(configurations.drop_duplicates()) == 5**6
    assert set(map(type, table.space.options.values())) == {Categorical}
    # a shuffled order would correlate with nothing: here a network's time is its convolutions
    convolutions = 9 * (configurations == "nor_conv_3x3").sum(axis=1)
    convolutions += (configurations == "nor_conv_1x1").sum(axis=1)
    assert spearmanr(convolutions, table.of("fpga").frame["latency"]).statistic > 0.9


@REAL
def test_latencies_near_zero_belong_to_networks_without_a_path_through_the_cell():
    table = help_nasbench201(environments=["pixel3", "raspi4"])
    open_ = (table.of("pixel3").configurations() != "none").to_numpy()
    a, b, c, d, e, f = open_.T
    through = d | (a & e) | (b & f) | (a & c & f)
    for name, count in (("pixel3", 274), ("raspi4", 243)):
        low = table.of(name).frame["latency"].to_numpy() < 0.6
        assert low.sum() == count
        assert not (low & through).any()
    assert np.count_nonzero(~through) == 341

"""SeMPL's systems, from a small clone in the repository's layout and from the real one."""

import os

import pytest

from bayestl.data.options import Boolean
from bayestl.datasets.sempl import SYSTEMS, sempl
from bayestl.errors import FileError, TableError

REAL = pytest.mark.skipif("BAYESTL_DATA" not in os.environ, reason="needs BAYESTL_DATA")


@pytest.fixture
def clone(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (data / "sac_srad_others-3environments.csv").write_text(
        "a,b-c,kmeans,time,time\n0,5,1,2,3\n1,5,4,0,6\n1,7,7,8,9\n"
    )
    row = ",".join(["0"] * 11 + ["1", "0.5", "0.6", "0.7"])
    header = ",".join([""] * 12 + ["inference_time"] * 3)
    (data / "deeparch-SizeReduction-3environments.csv").write_text(f"{header}\n{row}\n")
    return tmp_path


def test_target_k_is_the_column_k_before_the_last(clone):
    table = sempl("sac", clone)
    assert table.environment_names == ("e2", "e1", "e0")
    assert [e.workload for e in table.environments] == ["sac kmeans", "sac time", "sac time"]
    assert table.space.names == ("a", "b-c")
    assert table.of("e2").frame["time"].tolist() == [1, 7]
    assert table.of("e0").frame["time"].tolist() == [3, 9]


def test_a_row_with_a_zero_in_any_environment_is_left_out(clone):
    table = sempl("sac", clone)
    assert len(table) == 2 * 3
    assert table.of("e0").configurations().to_numpy().tolist() == [[0, 5], [1, 7]]


def test_the_options_that_a_file_does_not_name_are_those_of_deeparch(clone):
    table = sempl("deeparch", clone)
    assert set(map(type, table.space.options.values())) == {Boolean}
    assert table.frame.iloc[0]["log_decay"] is True
    assert table.frame["time"].tolist() == [0.5, 0.6, 0.7]


def test_errors_say_what_was_expected(clone):
    with pytest.raises(TableError, match="unknown system 'spear'; expected one of deeparch, exast"):
        sempl("spear", clone)
    with pytest.raises(FileError, match="imagemagick-4environments"):
        sempl("imagemagick", clone)
    (clone / "data" / "x264-diff_input-10environments.csv").write_text("a,b\n1,2\n")
    with pytest.raises(TableError, match="expected options and 10 environments"):
        sempl("x264", clone)


@REAL
@pytest.mark.parametrize("system", SYSTEMS)
def test_the_real_files_measure_every_configuration_in_every_environment(system):
    table = sempl(system)
    assert len(table.environments) == SYSTEMS[system][1]
    first = table.of("e0").configurations()
    assert not first.duplicated().any()
    for name in table.environment_names:
        assert table.of(name).configurations().equals(first)

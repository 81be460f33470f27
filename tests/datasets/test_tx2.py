"""The TX2 measurements, from a small clone in the repository's layout and from the real one."""

import os

import pytest

from bayestl.datasets.tx2 import tx2
from bayestl.errors import TableError, UnknownEnvironment

REAL = pytest.mark.skipif("BAYESTL_DATA" not in os.environ, reason="needs BAYESTL_DATA")
HEADER = (
    "model_name sample size system_name config_name core0_status core1_status core2_status "
    "core3_status core_freq gpu_status gpu_freq emc_status emc_freq inference_time "
    "power_consumption"
)


@pytest.fixture
def clone(tmp_path):
    folder = tmp_path / "ConfigLabyrinth" / "Data" / "Output" / "TX2"
    folder.mkdir(parents=True)
    for size, factor in (("200x200", 1), ("400x400", 2)):
        rows = [
            f"xception a.JPEG {size} TX2 Config{i} 1 1 {i} 0 {clock} 1 1300500000 1 1600000000 "
            f"{0.25 * factor} {1000.5 * factor}"
            for i, clock in enumerate((345600, 2035200))
        ]
        (folder / f"output_xception_{size}.csv").write_text("\n".join([HEADER, *rows]))
    return tmp_path


def test_options_and_metrics_have_their_units(clone):
    table = tx2(clone)
    assert table.environment_names == ("200x200", "400x400")
    assert [str(metric) for metric in table.metrics] == ["latency [s]", "power_sum"]
    assert table.of("400x400").frame.iloc[1].to_dict() == {
        "core1_status": True,
        "core2_status": True,
        "core3_status": False,
        "core_freq": 2_035_200,
        "gpu_freq": 1_300_500_000,
        "emc_freq": 1_600_000_000,
        "environment": "400x400",
        "status": "ok",
        "latency": 0.5,
        "power_sum": 2001.0,
    }
    assert table.space.options["core_freq"].unit == "kHz"


def test_image_sizes_can_be_selected(clone):
    assert tx2(clone, environments=["400x400"]).environment_names == ("400x400",)
    with pytest.raises(UnknownEnvironment, match="unknown environment 5x5; the clone has 200x200"):
        tx2(clone, environments=["5x5"])


def test_a_file_of_another_layout_is_an_error_that_names_it(clone):
    path = next(clone.rglob("*400x400.csv"))
    path.write_text(path.read_text().replace("inference_time", "time"))
    with pytest.raises(TableError, match=r"400x400\.csv: expected the columns inference_time"):
        tx2(clone)


@REAL
def test_the_real_files_hold_every_configuration():
    table = tx2()
    assert table.environment_names == ("200x200", "400x400", "600x600", "800x800")
    assert table.frame.groupby("environment").size().tolist() == [768] * 4
    assert len(table.configurations().drop_duplicates()) == 768
    used = table.configurations().nunique()
    assert used.to_dict() == {n: len(o.levels) for n, o in table.space.options.items()}

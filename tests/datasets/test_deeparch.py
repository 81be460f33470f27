"""DeepArch-Xplorer, from a small clone in the repository's layout and from the real one."""

import os

import numpy as np
import pytest

from bayestl.datasets.deeparch import SPACE, deeparch
from bayestl.errors import TableError, UnknownEnvironment

REAL = pytest.mark.skipif("BAYESTL_DATA" not in os.environ, reason="needs BAYESTL_DATA")


@pytest.fixture
def clone(tmp_path):
    """Four configurations in two places and two workloads; one file ends early."""
    measurements = tmp_path / "experiments" / "measurements"
    rows = [",".join(["0.0"] * 10 + [f"{i // 2}.0", f"{i % 2}.0"]) for i in range(4)]
    for name, ids in {
        "azure/exp_Coffee_2017-12-20 06:35:15.353266.csv": (1, 2, 3, 4),
        "azure/exp_uWave_X_2018-04-30 19:05:13.328975.csv": (4, 2),
        "aws-gpu-micro/exp_Coffee.csv": (1, 3),
        "selection/exp_Coffee-aws-theano.csv": (1, 2),
    }.items():
        path = measurements / name
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [f"{i},0.5,{i / 4}" for i in ids]
        path.write_text("\n".join(["config_id,val_acc,inference_time", *lines]))
    (measurements / "configurations_exp.csv").write_text("\n".join(rows))
    return tmp_path


def test_a_config_id_is_a_row_counted_from_one(clone):
    table = deeparch(clone)
    assert table.environment_names == ("aws-gpu-micro/Coffee", "azure/Coffee", "azure/uWave_X")
    rows = table.of("azure/uWave_X").frame
    assert rows["latency"].tolist() == [1.0, 0.5]
    assert rows[["log_lr", "log_epsilon", "log_decay"]].to_numpy().tolist() == [
        [False, True, True],
        [False, False, True],
    ]
    assert str(table.metric("latency")) == "latency [s]"
    assert table.space == SPACE


def test_an_environment_knows_its_hardware_and_workload(clone):
    environment = deeparch(clone, environments=["azure/uWave_X"]).environments[0]
    assert (environment.hardware, environment.workload) == ("azure", "uWave_X")


def test_environments_can_be_selected(clone):
    def names(**selection):
        return deeparch(clone, **selection).environment_names

    assert names(hardware="azure") == ("azure/Coffee", "azure/uWave_X")
    assert names(workload="Coffee") == ("aws-gpu-micro/Coffee", "azure/Coffee")
    assert names(hardware=["azure"], workload=["Coffee"]) == ("azure/Coffee",)
    with pytest.raises(UnknownEnvironment, match="unknown environment azure/Tea"):
        names(environments=["azure/Tea"])


def test_a_file_of_another_layout_is_an_error_that_names_it(clone):
    path = clone / "experiments" / "measurements" / "aws-gpu-micro" / "exp_Coffee.csv"
    path.write_text("config_id,val_acc,inference_time\n5,0.5,1.0\n")
    with pytest.raises(TableError, match=r"exp_Coffee\.csv: expected a config_id from 1 to 4"):
        deeparch(clone)
    path.write_text("config_id,val_acc\n1,0.5\n")
    with pytest.raises(TableError, match="expected the columns inference_time"):
        deeparch(clone)
    configurations = clone / "experiments" / "measurements" / "configurations_exp.csv"
    configurations.write_text("0,1\n1,0\n")
    with pytest.raises(TableError, match="expected 12 columns, got 2"):
        deeparch(clone)


@REAL
def test_the_real_files_hold_the_grid_and_what_is_known_of_it():
    table = deeparch(workload="Coffee", hardware=["azure", "aws-gpu-micro"])
    assert len(table) == 2 * 4096
    assert len(table.configurations().drop_duplicates()) == 4096
    latency = np.log(table.of("azure/Coffee").frame["latency"].to_numpy())
    options = table.of("azure/Coffee").configurations().to_numpy(dtype=float)
    effects = np.linalg.lstsq(np.column_stack([options, np.ones(4096)]), latency)[0][:12]
    # filters cost time, and the optimiser's settings cannot: the names are on their columns
    assert (effects[[1, 3, 5]] > 0.5).all()
    assert (np.abs(effects[[0, 7, 8, 9, 10, 11]]) < 0.05).all()


@REAL
def test_a_real_file_may_be_incomplete():
    assert len(deeparch(environments=["aws-gpu-micro/ShapesAll"])) < 4096

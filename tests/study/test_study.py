"""A study gives one table, whoever computes it and however often it was stopped."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from sklearn.svm import SVR

from bayestl.baselines.estimator import splines
from bayestl.baselines.mean import Mean
from bayestl.baselines.trees import RandomForest
from bayestl.errors import FileError, StudyError
from bayestl.study.execution import DEAD
from bayestl.study.method import Method
from bayestl.study.study import COLUMNS, Results, Study, _text
from tests.processes import wait_until
from tests.staged_study import Counted, scenario

METHODS = {"mean": Mean(), "forest": RandomForest(trees=5)}


def study(methods=METHODS, scenarios=None, budgets=(2, 6), seeds=(0, 1)):
    return Study(scenarios or [scenario("a"), scenario("b")], methods, budgets, seeds)


def scores(results):
    return results.frame.drop(columns=["fit_seconds", "seconds"])


def counted(path):
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_one_row_a_cell_in_the_declared_order():
    frame = study().run(progress=False).frame
    assert tuple(frame.columns) == COLUMNS
    cells = frame[["scenario", "seed", "method", "budget"]].to_records(index=False).tolist()
    assert cells == [
        (f"staged/{label}/new", seed, method, budget)
        for label in "ab"
        for seed in (0, 1)
        for method in METHODS
        for budget in (2, 6)
    ]
    assert (frame["error"] == "").all()
    assert frame["mape"].between(0, 1000).all()
    assert (frame["seconds"] >= frame["fit_seconds"]).all()


def test_processes_give_the_same_table():
    alone = study().run(progress=False)
    beside = study().run(executor="processes", progress=False)
    pd.testing.assert_frame_equal(scores(alone), scores(beside))


def test_nothing_is_computed_twice(tmp_path):
    log = tmp_path / "log"
    declared = study({"counted": Counted(str(log))})
    first = declared.run(tmp_path / "cells", progress=False)
    assert counted(log) == 8
    again = declared.run(tmp_path / "cells", progress=False)
    assert counted(log) == 8
    pd.testing.assert_frame_equal(first.frame, again.frame)
    more = study({"counted": Counted(str(log))}, seeds=(0, 1, 2))
    more.run(tmp_path / "cells", progress=False)
    assert counted(log) == 12
    declared.run(tmp_path / "cells", fresh=["counted"], progress=False)
    assert counted(log) == 20


def test_a_cell_depends_on_data_recipe_budget_and_seed(tmp_path):
    log = tmp_path / "log"
    for pool_rows in (12, 13):
        for fails in (False, True):
            declared = study(
                {"counted": Counted(str(log), fails=fails)},
                [scenario(pool_rows=pool_rows)],
                budgets=(2,),
                seeds=(0,),
            )
            declared.run(tmp_path / "cells", progress=False)
    assert counted(log) == 4


def test_a_damaged_cell_is_computed_again(tmp_path):
    expected = study().run(tmp_path, progress=False)
    files = sorted(tmp_path.rglob("*.json"))
    files[0].write_text("{")
    files[1].write_text("[]")
    pd.testing.assert_frame_equal(scores(expected), scores(study().run(tmp_path, progress=False)))


def test_a_failed_fit_is_a_row_and_is_tried_again(tmp_path):
    log = tmp_path / "log"
    declared = study({"mean": Mean(), "failing": Counted(str(log), fails=True)})
    results = declared.run(tmp_path / "cells", progress=False)
    assert len(results.failures) == 8
    assert set(results.failures["error"]) == {"RuntimeError: as staged"}
    assert results.failures["mape"].isna().all()
    declared.run(tmp_path / "cells", progress=False)
    assert counted(log) == 16


@pytest.mark.parametrize("executor", ["processes", "dask"])
def test_a_worker_that_dies_costs_nothing(tmp_path, executor):
    if executor == "dask":
        pytest.importorskip("distributed")
    log = tmp_path / "log"
    results = study({"mean": Mean(), "deadly": Counted(str(log), deaths=1)}).run(
        executor=executor, progress=False
    )
    expected = study({"mean": Mean(), "deadly": Mean()}).run(progress=False)
    pd.testing.assert_frame_equal(scores(results), scores(expected))


def test_a_task_that_kills_every_worker_is_told(tmp_path):
    declared = study(
        {"mean": Mean(), "deadly": Counted(str(tmp_path / "log"), deaths=99)},
        [scenario()],
        budgets=(2,),
        seeds=(0,),
    )
    results = declared.run(tmp_path / "cells", executor="processes", progress=False)
    assert results.failures["error"].to_list() == [DEAD]
    assert results.frame["error"].to_list() == ["", DEAD]


def test_budgets_and_seeds_may_be_numbers_of_numpy(tmp_path):
    declared = study({"mean": Mean()}, budgets=np.array([2, 6]), seeds=np.arange(2))
    expected = study({"mean": Mean()}).run(progress=False)
    for _ in range(2):
        results = declared.run(tmp_path / "cells", progress=False)
        pd.testing.assert_frame_equal(scores(results), scores(expected))


SCRIPT = """
import sys
from tests.staged_study import Counted, scenario
from bayestl.baselines.trees import RandomForest
from bayestl.study.study import Study
methods = {f"m{trees}": RandomForest(trees=trees) for trees in range(20, 32)}
if __name__ == "__main__":
    declared = Study([scenario()], methods, (2, 6), (0,))
    declared.run(sys.argv[1], executor="processes", progress=False).write(sys.argv[2])
"""


def test_a_killed_study_goes_on(tmp_path):
    """The same table as without the kill, and no process is left."""
    path = os.pathsep.join([str(Path(__file__).parent.parent), *filter(None, sys.path)])
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, str(tmp_path / "script.py"), str(tmp_path / "cells")]
    environment = {**os.environ, "PYTHONPATH": path}

    def cells():
        return len(list((tmp_path / "cells").rglob("*.json")))

    run = subprocess.Popen([*command, str(tmp_path / "no")], env=environment)
    assert wait_until(lambda: cells() >= 4)
    run.send_signal(signal.SIGKILL)
    run.wait()
    left = cells()
    assert 4 <= left < 24
    subprocess.run([*command, str(tmp_path / "table")], env=environment, check=True, timeout=120)
    methods = {f"m{trees}": RandomForest(trees=trees) for trees in range(20, 32)}
    expected = Study([scenario()], methods, (2, 6), (0,)).run(progress=False)
    pd.testing.assert_frame_equal(scores(Results.read(tmp_path / "table")), scores(expected))


def test_results_are_read_as_they_were_written(tmp_path):
    results = study().run(progress=False)
    results.write(tmp_path / "table.parquet")
    pd.testing.assert_frame_equal(Results.read(tmp_path / "table.parquet").frame, results.frame)
    both = Results.concat([results, results])
    assert len(both.frame) == 2 * len(results.frame)
    (tmp_path / "text").write_text("no table")
    pd.DataFrame({"mape": [1.0]}).to_parquet(tmp_path / "other")
    for name in ("text", "other", "missing"):
        with pytest.raises(FileError, match=name):
            Results.read(tmp_path / name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scenarios": [scenario(), scenario()]}, "name of their own"),
        ({"methods": {"f": SimpleNamespace(fit=object())}}, "repr"),
        ({"methods": {"f": "RandomForest"}}, "method 'f': expected a recipe, such as"),
        ({"methods": {"f": RandomForest}}, "method 'f': expected a recipe, such as"),
        ({"methods": {"f": Method(SVR())}}, "method 'f': expected a recipe, such as"),
        ({"methods": [Mean()]}, "expected methods by their names, such as"),
        ({"methods": {1: Mean()}}, "expected methods by their names, such as"),
        ({"methods": {"": Mean()}}, "expected methods by their names, such as"),
        ({"scenarios": scenario()}, "expected a list of scenarios, got"),
        ({"budgets": 5}, "expected a list of budgets"),
        ({"seeds": 3}, "expected a list of seeds"),
        ({"budgets": (-1,)}, "budgets"),
        ({"budgets": (2.5,)}, "budgets"),
        ({"seeds": (-1,)}, "seeds"),
        ({"budgets": ()}, "at least one"),
        ({"seeds": ()}, "at least one"),
    ],
)
def test_what_cannot_be_compared_is_refused(change, message):
    with pytest.raises(StudyError, match=message):
        study(**change)


def test_a_function_in_a_recipe_is_known_by_its_name(tmp_path):
    declared = study({"splines": splines()}, [scenario()], budgets=(6,), seeds=(0,))
    declared.run(tmp_path, progress=False)
    [file] = tmp_path.rglob("*.json")
    text = _text(splines())
    assert "_hinges" in text
    assert "0x" not in text
    assert file.stem.startswith("0-6-")


def test_requests_that_cannot_be_met_are_refused(tmp_path):
    with pytest.raises(StudyError, match="at most 12"):
        study(budgets=(13,)).run(progress=False)
    with pytest.raises(StudyError, match="executor"):
        study().run(executor="threads", progress=False)
    with pytest.raises(StudyError, match="worker"):
        study().run(executor="processes", workers=0, progress=False)
    with pytest.raises(StudyError, match="unknown method"):
        study().run(fresh=["other"], progress=False)
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="cache"):
        study().run(tmp_path / "file", progress=False)


def test_what_no_other_process_can_import_is_refused():
    local = replace(scenario(), table=lambda seed: scenario().table(seed))
    with pytest.raises(StudyError, match=r"other processes can import.*lambda"):
        study(scenarios=[local]).run(executor="processes", progress=False)


def test_a_name_may_be_longer_than_a_folders(tmp_path):
    names = ["m" * 300, "m" * 299]
    declared = study(dict.fromkeys(names, Mean()), [scenario("s" * 300)], budgets=(6,), seeds=(0,))
    frame = declared.run(tmp_path, progress=False).frame
    assert list(frame["method"]) == names
    assert len(list(tmp_path.rglob("*.json"))) == 2


def test_progress_is_told(capfd):
    study().run()
    assert "16 of 16 cells" in capfd.readouterr().err

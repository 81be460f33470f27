"""Several models on equal terms, on one table."""

from dataclasses import replace

import numpy as np
import pytest
from staged_study import table

from bayestl.baselines.mean import Mean
from bayestl.baselines.trees import RandomForest
from bayestl.data.measurement import Metric
from bayestl.errors import TableError
from bayestl.study.comparison import compare

MODELS = {"mean": Mean(), "forest": RandomForest(trees=5)}


def given_and_test():
    """Twenty rows of the target that are known, and the ten others."""
    both = table()
    target = both.of("new")
    where = (both.frame["environment"] == "known").to_numpy()
    known = np.flatnonzero(where)
    asked = np.flatnonzero(~where)
    return both.select(np.concatenate([known, asked[:20]])), target.select(np.arange(20, 30))


def compared(budgets=(), **changed):
    given, test = given_and_test()
    arguments = {"metric": "latency", "target": "new", "budgets": budgets, **changed}
    return compare(MODELS, given, test, **arguments)


def test_a_budget_is_the_first_measurements_of_the_target():
    found = compared((5, 20))
    given, test = given_and_test()
    first = given.select(np.arange(35))  # the source's 30, and five of the target
    alone = MODELS["forest"].fit(first, metric="latency", target="new")
    error = np.abs(alone.predict(test.configurations())["q50"] / test.frame["latency"] - 1).mean()
    scores = found.scores.set_index(["method", "n_target"])["mape"]
    assert scores["forest", 5] == pytest.approx(100 * error)
    assert found.fitted["forest"].diagnostics.n_target == 20


def test_the_last_budget_is_final_and_the_best_method_first():
    found = compared((5, 20))
    assert list(found.final["n_target"]) == [20, 20]
    assert list(found.final["method"]) == ["forest", "mean"]
    assert found.final["mape"].is_monotonic_increasing
    rows = found.predictions[found.predictions["method"] == "mean"]
    assert list(rows["measured"]) == list(given_and_test()[1].frame["latency"])
    assert {"mean", "std", "q05", "q50", "q95"} <= set(rows)


@pytest.mark.parametrize("budgets", [(20, 5), np.array([5, 20])])
def test_budgets_may_come_in_any_order(budgets):
    found, ascending = compared(budgets), compared((5, 20))
    assert found.scores.equals(ascending.scores)
    assert found.predictions.equals(ascending.predictions)
    assert found.fitted["forest"].diagnostics.n_target == 20


def test_a_test_in_another_unit_is_refused():
    given, test = given_and_test()
    seconds = replace(test, metrics=(Metric("latency", "s"),))
    with pytest.raises(TableError, match=r"test has latency \[s\], the table latency \[ms\]"):
        compare(MODELS, given, seconds, metric="latency", target="new")


def test_without_budgets_everything_is_given():
    assert list(compared().scores["n_target"]) == [20, 20]


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(TableError, match="at most 20 target rows"):
        compared((5, 21))
    with pytest.raises(TableError, match="at most 20 target rows"):
        compared((-1, 5))
    given, test = given_and_test()
    with pytest.raises(TableError, match="expected test measurements of 'latency' in 'new'"):
        compare(MODELS, given, test.select([]), metric="latency", target="new")

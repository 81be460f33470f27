"""Every task is done, whenever a worker dies."""

from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

import pytest

from bayestl.study import execution
from bayestl.study.execution import DEAD, execute


@dataclass(frozen=True)
class Named:
    """A task of one row."""

    name: str

    def rows(self):
        yield {"name": self.name, "error": ""}

    def failed(self, reason):
        yield {"name": self.name, "error": reason}


@pytest.fixture
def pools(monkeypatch):
    """Executors in place of processes, and for each pool the tasks that it was given."""
    given = []

    class Pool:
        """It does its tasks at once; `deaths` says when a worker dies."""

        deaths = "none"

        def __init__(self, *_, **__):
            self.tasks = []
            given.append(self.tasks)
            self.first = len(given) == 1

        def submit(self, function, task):
            if self.deaths == "between" and self.first and len(self.tasks) == 2:
                raise BrokenProcessPool
            self.tasks.append(task.name)
            future = Future()
            if self.deaths == "always" or (self.deaths == "first" and self.tasks == ["a"]):
                future.set_exception(BrokenProcessPool())
            else:
                future.set_result(function(task))
            return future

        def shutdown(self, **_):
            pass

    monkeypatch.setattr(execution, "ProcessPoolExecutor", Pool)
    return Pool, given


def done(names="abcdef"):
    kept = []
    execute(map(Named, names), kept.append, "processes", 2)
    return sorted((row["name"], row["error"]) for row in kept)


def test_a_task_that_no_pool_took_since_a_worker_had_died_is_done(pools):
    pool, given = pools
    pool.deaths = "between"
    assert done() == [(name, "") for name in "abcdef"]
    assert given == [["a", "b"], ["c"], ["d", "e", "f"]]


def test_what_was_finished_beside_a_death_is_not_done_again(pools):
    pool, given = pools
    pool.deaths = "first"
    assert done("abc") == [("a", DEAD), ("b", ""), ("c", "")]
    assert given == [["a", "b", "c"], ["a"], []]


def test_a_task_that_ends_every_worker_is_a_failure_and_the_others_go_on(pools):
    pools[0].deaths = "always"
    assert done("ab") == [("a", DEAD), ("b", DEAD)]

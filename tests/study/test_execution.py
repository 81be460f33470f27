"""Every task is done, whenever a worker dies."""

from concurrent.futures import Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from types import SimpleNamespace

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


class Killed(Exception):
    """What a cluster raises that has given a task up."""


class Cluster:
    """A client of one worker, which dies of "a" and takes what waits there with it."""

    def __init__(self):
        self.given = []

    def scheduler_info(self, n_workers):
        return {"workers": {"one": {}}}

    def submit(self, function, task, pure):
        stood_by = task.name == "b" and "b" not in self.given
        self.given.append(task.name)
        future = Future()
        if task.name == "a" or stood_by:
            future.set_exception(Killed())
        else:
            future.set_result(function(task))
        return future

    def cancel(self, futures):
        assert not futures


def test_what_a_cluster_gave_up_is_done_again_alone(monkeypatch):
    library = SimpleNamespace(wait=wait, scheduler=SimpleNamespace(KilledWorker=Killed))
    monkeypatch.setattr(execution, "_distributed", lambda: library)
    cluster, kept = Cluster(), []
    execute(map(Named, "abcd"), kept.append, cluster, 1)
    assert sorted((row["name"], row["error"]) for row in kept) == [
        ("a", DEAD),
        ("b", ""),
        ("c", ""),
        ("d", ""),
    ]
    assert cluster.given[:4] == ["a", "b", "c", "d"]
    assert sorted(cluster.given[4:]) == ["a", "b"]

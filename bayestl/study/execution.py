"""Where a study's tasks are done: here, in processes of this machine, or on a Dask cluster.

Whoever does a task, its rows are kept by the process that asked for them, so that a
cluster needs no common file system. A worker that dies, by a signal or for want of memory,
takes no finished row with it: what was handed out is done again, each task alone, and one
that ends its worker even then is a failure that its rows tell.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from itertools import islice
from multiprocessing import get_context
from typing import Any, Protocol

from threadpoolctl import threadpool_limits

from bayestl.errors import StudyError

Executor = Any
"""``"serial"``, ``"processes"``, ``"dask"`` or a ``distributed.Client``."""

AHEAD = 2
"""Tasks a worker that are handed out: one that it does, and the next."""

DEAD = "its worker died: ended by a signal, or out of memory"
PR_SET_PDEATHSIG = 1
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

Row = dict[str, Any]
Keep = Callable[[Row], None]


class Work(Protocol):
    """A part of a study that can be sent to another process."""

    def rows(self) -> Iterator[Row]: ...
    def failed(self, reason: str) -> Iterator[Row]: ...


def execute(tasks: Iterable[Work], keep: Keep, executor: Executor, workers: int) -> None:
    """Do every task, and hand each row to `keep`.

    Raises
    ------
    StudyError
        For an unknown executor, fewer than one worker, a missing library, or a task that cannot
        be sent to another process.
    """
    if workers < 1:
        raise StudyError(f"expected at least one worker, got {workers!r}")
    match executor:
        case "serial":
            for task in tasks:
                for row in task.rows():
                    keep(row)
        case "processes":
            _in_processes(tasks, keep, workers)
        case "dask":
            with _local_cluster(workers) as client:
                _on_cluster(tasks, keep, client)
        case _ if hasattr(executor, "submit") and hasattr(executor, "scheduler_info"):
            _on_cluster(tasks, keep, executor)
        case _:
            raise StudyError(
                "expected executor 'serial', 'processes', 'dask' or a distributed.Client, got "
                f"{executor!r}"
            )


def _in_processes(tasks: Iterable[Work], keep: Keep, workers: int) -> None:
    tasks = iter(tasks)
    with _one_thread():
        while lost := _until_a_death(tasks, keep, workers):
            for task in lost:
                if _until_a_death(iter([task]), keep, 1):
                    for row in task.failed(DEAD):
                        keep(row)


def _until_a_death(tasks: Iterator[Work], keep: Keep, workers: int) -> list[Work]:
    """Do the tasks in fresh processes; what was handed out and not done when one of them dies."""
    running: dict[Future[list[Row]], Work] = {}
    lost: list[Work] = []
    pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=_end_with_parent)
    try:
        while True:
            for task in islice(tasks, 0 if lost else AHEAD * workers - len(running)):
                _check_sendable(task)
                try:
                    running[pool.submit(_all_rows, task)] = task
                except BrokenProcessPool:  # since the last answer
                    lost.append(task)
                    break
            if not running:
                return lost
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                task = running.pop(future)
                try:
                    rows = future.result()
                except BrokenProcessPool:
                    lost.append(task)
                    continue
                for row in rows:
                    keep(row)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _check_sendable(task: Work) -> None:
    try:
        pickle.dumps(task)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise StudyError(
            "expected scenarios and recipes that other processes can import, such as functions of "
            f"a module; {error}"
        ) from None


def _on_cluster(tasks: Iterable[Work], keep: Keep, client: Any) -> None:
    for task in _until_given_up(iter(tasks), keep, client):
        if _until_given_up(iter([task]), keep, client):
            for row in task.failed(DEAD):
                keep(row)


def _until_given_up(tasks: Iterator[Work], keep: Keep, client: Any) -> list[Work]:
    """Do the tasks; those that the cluster gave up, since they were on workers that died.

    Of such a worker it blames what waited there as well as what ran.
    """
    distributed = _distributed()
    running: dict[Any, Work] = {}
    lost: list[Work] = []
    try:
        while True:
            most = AHEAD * max(len(client.scheduler_info(n_workers=-1)["workers"]), 1)
            for task in islice(tasks, max(most - len(running), 0)):
                running[client.submit(_all_rows, task, pure=False)] = task
            if not running:
                return lost
            for future in distributed.wait(list(running), return_when="FIRST_COMPLETED").done:
                task = running.pop(future)
                try:
                    rows = future.result()
                except distributed.scheduler.KilledWorker:
                    lost.append(task)
                    continue
                for row in rows:
                    keep(row)
    finally:
        client.cancel(list(running))


@contextmanager
def _local_cluster(workers: int) -> Iterator[Any]:
    distributed = _distributed()
    with (
        _one_thread(),
        distributed.LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            scheduler_kwargs={"allowed_failures": 0},  # what is lost is done again here, alone
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def _distributed() -> Any:
    try:
        import distributed
    except ImportError:
        raise StudyError(
            'the executor "dask" expected distributed, which is not installed; '
            'in the checkout of bayestl: pip install ".[dask]"'
        ) from None
    return distributed


def _all_rows(task: Work) -> list[Row]:
    with threadpool_limits(1):
        return list(task.rows())


def _end_with_parent() -> None:
    """A worker whose parent is killed would wait for ever; Linux alone can be asked to end it."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Processes that start meanwhile use one thread each; read when their libraries load."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value

import multiprocessing
import time
from itertools import pairwise

import pytest

from bayestl.errors import EngineError
from bayestl.measure.lock import device_lock


def take_turns(path, names, name, count, both_started):
    both_started.wait(60)
    for _ in range(count):
        with device_lock(30.0, path):
            names.append(name)
            time.sleep(0.02)


def test_a_lock_that_cannot_be_opened_is_told(tmp_path):
    with (
        pytest.raises(EngineError, match="cannot open the lock"),
        device_lock(1.0, tmp_path / "nowhere" / "lock"),
    ):
        pass


def test_two_campaigns_take_turns(tmp_path):
    """One that takes the lock again at once must not keep another waiting for its end."""
    context = multiprocessing.get_context("spawn")
    path = tmp_path / "device.lock"
    with context.Manager() as manager:
        names, start = manager.list(), manager.Barrier(2)
        processes = [
            context.Process(target=take_turns, args=(path, names, name, 40, start)) for name in "ab"
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join(60)
            assert process.exitcode == 0
        order = list(names)
    assert sum(one != next_one for one, next_one in pairwise(order)) > 20, order

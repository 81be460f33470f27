"""A campaign in which a fifth of the measurements goes wrong, in every way that can be staged."""

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from bayestl.campaign.loop import run
from bayestl.campaign.store import SQLiteStore
from bayestl.campaign.survey import Survey
from bayestl.data.measurement import Status
from tests.processes import alive

FAULTS = {
    "abort": Status.CRASH, "segfault": Status.CRASH, "kill": Status.CRASH, "exit": Status.CRASH,
    "raise": Status.CRASH, "kill_server": Status.CRASH, "oom": Status.OOM,
    "bad_alloc": Status.OOM, "refuse": Status.UNSUPPORTED, "ignore": Status.UNSUPPORTED,
    "wrong": Status.BAD_OUTPUT, "nan": Status.BAD_OUTPUT, "shape": Status.BAD_OUTPUT,
    "nothing": Status.BAD_OUTPUT, "fast": Status.IMPLAUSIBLE, "stop_clock": Status.IMPLAUSIBLE,
    "hang_build": Status.TIMEOUT, "hang_run": Status.TIMEOUT, "offspring": Status.TIMEOUT,
    "lose": Status.DEVICE_LOST,
}  # fmt: skip


def descendants(pid):
    """The living processes below one."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if fields[0] not in "ZX":
            parents[int(path.parent.name)] = int(fields[1])
    found, new = set(), {pid}
    while new:
        new = {child for child, parent in parents.items() if parent in new} - found
        found |= new
    return found


@pytest.mark.timeout(240)
def test_a_campaign_of_faults_ends_with_every_row_typed(
    staged, staged_environment, tmp_path, monkeypatch
):
    monkeypatch.setenv("STAGED_PIDS", str(tmp_path / "pids"))
    before = descendants(os.getpid())
    brief = [act for act, status in FAULTS.items() if status is not Status.TIMEOUT]
    acts = [*FAULTS, *brief, *brief] + ["work"] * 246
    np.random.default_rng(0).shuffle(acts)
    runner = staged(timeout_s=4.0, implausible_speedup=20.0, sentinel_every=None)
    space = runner.space(staged_environment)
    plan = Survey(space, staged_environment, runner.metrics, [{"act": act} for act in acts])
    result = run(plan, runner, SQLiteStore(tmp_path / "faults.db"), name="faults")
    attempts = result.state.attempts
    assert len({attempt.number for attempt in attempts}) == 300
    for attempt in attempts:
        measurement = attempt.measurement
        expected = FAULTS.get(measurement.configuration["act"], Status.OK)
        assert measurement.status is expected, measurement
        assert bool(measurement.message) == (expected is not Status.OK)
    assert Counter(a.measurement.status for a in attempts)[Status.OK] == 246
    lost = [a for a in attempts if a.measurement.status is Status.DEVICE_LOST]
    assert len(lost) > 3  # worth another try, unlike the others
    runner.close()
    assert not any(alive(int(pid)) for pid in (tmp_path / "pids").read_text().split())
    assert descendants(os.getpid()) <= before

"""Whether measurements can be trusted, measured here.

    python -m experiments.measurement_quality [--quick] [--configurations 30]
        [--turns 7] [--json [FILE]]

Four questions, on squeezenet in onnxruntime on all cores:

- zygote: do forks of a clean process agree with fresh processes? Each configuration some times
  in both, in turn: rank correlation of the medians, and the median of their ratios; and, since
  repeats differ, the correlation of one turn with one turn beside that of two fresh turns.
- repeats: how much do repeats of a configuration differ with the protocol and with what a
  script does (a fresh process, one warm-up call, the mean of ten)? Both in turn, as the
  machine is and beside a staged neighbour that works for a second and rests for three.
- cost: seconds a configuration against 1.5 times its raw inference time plus 0.5 s.
- loadgen: does MLPerf LoadGen's single-stream median agree? As often, in turn.

On a shared machine everything is noisy, so each figure is of measurements in turn. With
`--quick` there are three configurations, and two repeats and turns.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import combinations, permutations

import numpy as np
import pandas as pd

from bayestl.data.environment import Environment
from bayestl.data.measurement import Measurement, Status
from bayestl.data.sampling import sample
from bayestl.data.space import Configuration
from bayestl.measure import machine
from bayestl.measure.networks import find_network
from bayestl.measure.runner import LocalRunner
from bayestl.measure.sampling import Sampling
from experiments import command

NETWORK = "squeezenet"
REPEATED, REPEATS = 6, 8
CHECKED = 20
WORK_S, REST_S = 1.0, 3.0

SCRIPT = Sampling(
    warmup_iterations=1, warmup_s=0.0, warmup_limit_s=0.0, min_samples=10, min_sample_s=0.0,
    interval=0.0, sample_s=0.0, max_samples=10,
)  # fmt: skip
"""What a script does: one call to warm up, ten to time."""

NEIGHBOUR = f"""
import os, time
from hashlib import sha256
while True:
    end = time.monotonic() + {WORK_S}
    while time.monotonic() < end and os.getppid() == PARENT:
        sha256(bytes(1 << 16)).digest()
    time.sleep({REST_S})
    if os.getppid() != PARENT:
        break
"""


@dataclass(frozen=True)
class Zygote:
    """Forks of a clean process against fresh processes.

    `one_turn` correlates single measurements of the two, `fresh_turns` those of fresh
    processes with each other: what the machine's noise allows.
    """

    configurations: int
    spearman: float
    median_ratio: float
    one_turn: float
    fresh_turns: float


@dataclass(frozen=True)
class Repeats:
    """Coefficients of variation between repeats, pooled, in %, without and with the protocol."""

    neighbour: bool
    script_percent: float
    protocol_percent: float
    contaminated: int
    repeated: int


@dataclass(frozen=True)
class Cost:
    """Seconds a configuration beyond its raw inference time."""

    configurations: int
    median_overhead_s: float
    worst_overhead_s: float
    within_goal: float


@dataclass(frozen=True)
class LoadGen:
    """bayestl's median latency over LoadGen's, by configuration."""

    configurations: int
    median_ratio: float
    within_5_percent: int
    within_10_percent: int
    spearman: float
    own_spread_percent: float


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--configurations", type=int, default=30)
    parser.add_argument("--turns", type=int, default=7, help="medians are of so many, from 2 on")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    environment = Environment("all cores", engine="onnxruntime", network=NETWORK)
    forked, fresh = LocalRunner(), LocalRunner(isolation="process")
    space = forked.space(environment)
    asked = (arguments.configurations, REPEATS, max(arguments.turns, 2))
    count, repeats_each, turns = (3, 2, 2) if arguments.quick else asked
    drawn = sample(space, count, method="uniform", seed=arguments.seed)
    configurations = space.records(drawn)
    print(f"{machine.processor()}, {len(machine.available_cores())} cores", flush=True)
    zygote, cost = compare_isolation(forked, fresh, environment, configurations, turns)
    print(zygote, cost, sep="\n", flush=True)
    few = configurations[:REPEATED]
    repeats = [
        repeat(forked, environment, few, neighbour, repeats_each) for neighbour in (False, True)
    ]
    print(*repeats, sep="\n", flush=True)
    loadgen = against_loadgen(forked, environment, configurations[:CHECKED], turns)
    print(loadgen, flush=True)
    result = {
        "machine": {
            "processor": machine.processor(),
            "cores": len(machine.available_cores()),
            "kernel": platform.release(),
        },
        "turns": turns,
        "zygote": asdict(zygote),
        "cost": asdict(cost),
        "repeats": [asdict(found) for found in repeats],
        "loadgen": None if loadgen is None else asdict(loadgen),
    }
    command.publish(result, arguments)


def compare_isolation(
    forked: LocalRunner,
    fresh: LocalRunner,
    environment: Environment,
    configurations: Sequence[Configuration],
    turns: int,
) -> tuple[Zygote, Cost]:
    latencies = np.full((2, turns, len(configurations)), np.nan)
    measured = []
    for turn in range(turns):
        for number, configuration in enumerate(configurations):
            for kind in (0, 1) if (turn + number) % 2 else (1, 0):
                m = (forked, fresh)[kind].run(configuration, environment)
                latencies[kind, turn, number] = m.values.get("latency", np.nan)
                measured += [m] if kind == 0 else []
    undisturbed = [m for m in measured if m.ok and not m.provenance["disturbed"]]
    if not undisturbed:
        sys.exit(f"all {len(measured)} measurements were disturbed; ask again on a quiet machine")
    ours, theirs = np.nanmedian(latencies, axis=1)
    mixed = [spearman(latencies[0, a], latencies[1, b]) for a, b in permutations(range(turns), 2)]
    same = [spearman(latencies[1, a], latencies[1, b]) for a, b in combinations(range(turns), 2)]
    zygote = Zygote(
        len(configurations),
        spearman(ours, theirs),
        float(np.nanmedian(ours / theirs)),
        float(np.mean(mixed)),
        float(np.mean(same)),
    )
    return zygote, cost_of(undisturbed)


def cost_of(measured: Sequence[Measurement]) -> Cost:
    overheads, within = [], []
    for m in measured:
        latencies = m.samples["latency"]
        warmup = m.provenance["warmup_ms"]
        warmup_s = sum(warmup) + (m.provenance["warmup_count"] - len(warmup)) * latencies[0]
        raw_s = (warmup_s + sum(latencies)) / 1e3
        overheads.append(m.seconds - raw_s)
        within.append(m.seconds <= 1.5 * raw_s + 0.5)
    return Cost(
        len(overheads), statistics.median(overheads), max(overheads), float(np.mean(within))
    )


def repeat(
    protocol: LocalRunner,
    environment: Environment,
    configurations: Sequence[Configuration],
    neighbour: bool,
    times: int,
) -> Repeats:
    script = LocalRunner(
        sampling=SCRIPT, isolation="process", disturbance_limit=None, sentinel_every=None
    )
    naive: dict[int, list[float]] = {}
    ours: dict[int, list[float]] = {}
    statuses, repeated = [], 0
    with beside(neighbour):
        for _ in range(times):
            for number, configuration in enumerate(configurations):
                m = script.run(configuration, environment)
                if m.ok:
                    naive.setdefault(number, []).append(statistics.mean(m.samples["latency"]))
                m = protocol.run(configuration, environment)
                statuses.append(m.status)
                repeated += bool(m.provenance.get("disturbed"))
                if m.ok:
                    ours.setdefault(number, []).append(m.values["latency"])
    contaminated = statuses.count(Status.CONTAMINATED)
    return Repeats(neighbour, pooled(naive), pooled(ours), contaminated, repeated)


def spearman(first: np.ndarray, second: np.ndarray) -> float:
    """The rank correlation of two series."""
    return float(pd.Series(first).corr(pd.Series(second), method="spearman"))


def pooled(repeats: dict[int, list[float]]) -> float:
    """The coefficient of variation in %, pooled over the configurations."""
    squares = [
        (np.var(values, ddof=1) / np.mean(values) ** 2, len(values) - 1)
        for values in repeats.values()
        if len(values) > 1
    ]
    variances, counts = np.array(squares).T
    return 100 * float(np.sqrt((variances * counts).sum() / counts.sum()))


@contextmanager
def beside(neighbour: bool) -> Iterator[None]:
    """A process on each core that works and rests, all at once; or none."""
    code = NEIGHBOUR.replace("PARENT", str(os.getpid()))
    count = len(machine.available_cores()) if neighbour else 0
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def against_loadgen(
    runner: LocalRunner,
    environment: Environment,
    configurations: Sequence[Configuration],
    turns: int,
) -> LoadGen | None:
    ours = np.empty((turns, len(configurations)))
    theirs = np.empty_like(ours)
    for turn in range(turns):
        for number, configuration in enumerate(configurations):
            m = runner.run(configuration, environment)
            ours[turn, number] = m.values.get("latency", np.nan)
            theirs[turn, number] = loadgen_ms(configuration)
    if np.isnan(theirs).all():
        print("LoadGen: pip install mlcommons-loadgen", flush=True)
        return None
    mine, other = np.nanmedian(ours, axis=0), np.nanmedian(theirs, axis=0)
    ratio = mine / other
    spread = np.nanstd(np.log(ours), axis=0, ddof=1)
    return LoadGen(
        len(configurations),
        float(np.median(ratio)),
        int((np.abs(ratio - 1) <= 0.05).sum()),
        int((np.abs(ratio - 1) <= 0.10).sum()),
        spearman(mine, other),
        100 * float(np.median(spread)),
    )


def loadgen_ms(configuration: Configuration) -> float:
    """LoadGen's median latency in a process of its own; NaN where it is not installed."""
    request = {
        "network": str(find_network(NETWORK).path),
        "configuration": configuration,
        "cores": list(machine.available_cores()),
    }
    words = [sys.executable, "-m", "experiments.loadgen_latency", json.dumps(request)]
    done = subprocess.run(words, capture_output=True, text=True)
    return float(done.stdout.splitlines()[-1]) if done.returncode == 0 else float("nan")


if __name__ == "__main__":
    main()

"""Record inference times of engines, networks and cores: `bayestl/datasets/inference.parquet`.

    python -m experiments.record_inference --output inference.parquet [--machine NAME]

Every environment of `PLACES` that this machine and what is installed allow, each at
`COUNT` configurations: the default, a third that all environments of an engine have in
common, and a random rest; a part of the common ones twice, far apart in time, so that the
noise is known. The order is random, and environments take turns in blocks, so that a drift
of the machine does not look like a difference between them. Each measurement is stored at
once: started again with the same store, the recording goes on where it was. Takes about
50 minutes on two cores. `--merge FILE ...` adds tables recorded elsewhere; environments of
another machine need another `--machine`. The data card is written beside the table.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from bayestl.campaign.loop import run
from bayestl.campaign.store import SQLiteStore
from bayestl.campaign.survey import Survey
from bayestl.data.environment import Environment
from bayestl.data.measurement import Measurement, Metric
from bayestl.data.options import Categorical, Option, Value
from bayestl.data.readers import read_table, write_table
from bayestl.data.sampling import enumerate_space, sample
from bayestl.data.space import ConfigSpace, Configuration
from bayestl.data.table import MeasurementTable
from bayestl.errors import EngineUnavailable, NetworkError, UnknownEnvironment
from bayestl.measure import allocator, machine
from bayestl.measure.engine import ENGINES, load_engine
from bayestl.measure.runner import LocalRunner
from bayestl.measure.sampling import Sampling
from experiments.inference_card import card
from experiments.progress import show

COUNT, COMMON, TWICE = 250, 84, 50
ENUMERABLE = 5_000
BLOCKS = 12
SAMPLING = Sampling(warmup_limit_s=0.3, sample_s=0.2)
ENGINE = "engine"
"""The option that tells engines apart: the others' own options are not active."""

THREADS: Mapping[str, str] = {
    "onnxruntime": "intra_op_num_threads",
    "openvino": "inference_num_threads",
    "torch": "threads",
}
"""Engine -> its name for what all engines have, the threads of one inference."""

FIXED: Mapping[str, Mapping[str, Value]] = {
    "torch": {
        "precision": "float32",
        "onednn": True,
        "malloc_mmap_threshold": "dynamic",
        "malloc_hugetlb": False,
    }
}
"""Engine -> options that are not varied: else torch takes seconds for an inference or a start."""

EXCLUDED: Mapping[str, str] = {"torch": "execution == 'eager' or execution == 'traced'"}
"""Engine -> a constraint: one compilation takes as long as a hundred measurements."""


@dataclass(frozen=True)
class Place:
    """An environment before this machine gives it its name; `share` of the configurations."""

    engine: str
    network: str
    settings: Mapping[str, Value] = field(default_factory=dict)
    share: float = 1.0

    def on(self, name: str) -> Environment:
        """The environment on the machine of that name."""
        cores = "one-core" if self.settings.get("cores") == "0" else "all-cores"
        parts = [name, self.engine, self.network, cores]
        parts += [f"batch-{self.settings['batch']}"] if "batch" in self.settings else []
        parts += [str(self.settings["isa"])] if "isa" in self.settings else []
        return Environment(
            "/".join(parts), engine=self.engine, network=self.network, settings=self.settings
        )


ONE: Mapping[str, Value] = {"cores": "0"}
PLACES = (
    Place("onnxruntime", "squeezenet"),
    Place("onnxruntime", "squeezenet", ONE),
    Place("onnxruntime", "squeezenet", {"batch": 4}),
    Place("onnxruntime", "shufflenet"),
    Place("onnxruntime", "mobilenet_v2"),
    Place("onnxruntime", "mobilenet_v2", ONE),
    Place("onnxruntime", "bert_mini"),
    Place("onnxruntime", "bert_mini", ONE),
    Place("torch", "mobilenet_v2", share=0.4),
    Place("torch", "bert_mini", share=0.4),
    Place("openvino", "squeezenet"),
    Place("openvino", "squeezenet", {"isa": "SSE41"}),
    Place("openvino", "mobilenet_v2"),
    Place("openvino", "bert_mini"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description="Record the inference data set")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--machine", default=machine_name(), help="begins every name")
    parser.add_argument("--store", type=Path, help="where measurements are kept; OUTPUT.db")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=COUNT, help="configurations of each")
    parser.add_argument("--merge", type=Path, nargs="*", default=[], help="tables to add")
    arguments = parser.parse_args()
    store = SQLiteStore(arguments.store or arguments.output.with_suffix(".db"))
    runner = LocalRunner(sampling=SAMPLING, allocator=True)
    scale = arguments.count / COUNT
    plans = planned(runner, arguments.machine, arguments.seed, scale)
    measurements: dict[str, list[Measurement]] = {name: [] for name in plans}
    for number in range(BLOCKS):
        for name, plan in plans.items():
            block = plan.block(number)
            if block is None:
                continue
            log = f"{name} block {number}"
            result = run(block, runner, store, name=log, observer=show)
            measurements[name] += result.state.measurements_in(name)
    tables = tables_of(plans, measurements, runner)
    tables += [read_table(path) for path in arguments.merge]
    table = MeasurementTable.concat(tables)
    write_table(table, arguments.output)
    text = card(table, [m for found in measurements.values() for m in found], datetime.now(UTC))
    arguments.output.with_suffix(".md").write_text(text)
    print(table.frame.groupby(["environment", "status"])["latency"].describe().to_string())


def machine_name() -> str:
    """A short name for this machine's processor and cores."""
    words = re.sub(r"\(.*?\)|CPU|Processor|@.*", " ", machine.processor())
    slug = re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")
    return f"{slug}-{len(machine.available_cores())}c"


@dataclass(frozen=True)
class Plan:
    """What is measured in one environment, in order."""

    environment: Environment
    space: ConfigSpace
    order: Sequence[Configuration]
    metrics: Sequence[Metric]

    def block(self, number: int) -> Survey | None:
        """The survey of one block; None where it is empty."""
        parts = np.array_split(np.arange(len(self.order)), BLOCKS)
        chosen = [self.order[i] for i in parts[number]]
        if not chosen:
            return None
        return Survey(self.space, self.environment, self.metrics, chosen)


def planned(runner: LocalRunner, name: str, seed: int, scale: float) -> dict[str, Plan]:
    """The environments that can be arranged here, with what is measured in each."""
    plans = {}
    for number, place in enumerate(PLACES):
        environment = place.on(name)
        try:
            space = runner.space(environment)
            described = runner.describe(environment)
        except (EngineUnavailable, NetworkError, UnknownEnvironment) as error:
            print(f"left out: {environment.name}: {error}", flush=True)
            continue
        space = limited(space, place.engine)
        rng = np.random.default_rng([seed, number])
        order = ordered(space, rng, seed, 1 + number, scale * place.share)
        plans[environment.name] = Plan(described, space, order, runner.metrics)
    return plans


def ordered(
    space: ConfigSpace, rng: np.random.Generator, seed: int, own_seed: int, scale: float
) -> list[Configuration]:
    """Common and own configurations in random order, then some of the common ones again."""
    count, common, twice = (round(scale * number) for number in (COUNT, COMMON, TWICE))
    found = enumerate_space(space) if space.cardinality < ENUMERABLE else None
    if found is not None and len(found) <= count:
        shared, own = space.records(found), []
    else:
        shared = [space.default, *space.records(sample(space, common - 1, seed=seed))]
        drawn = space.records(sample(space, count, method="uniform", seed=own_seed))
        known = {space.key(configuration) for configuration in shared}
        own = [c for c in drawn if space.key(c) not in known][: count - common]
    first = [*shared, *own]
    again = [shared[i] for i in rng.permutation(len(shared))[: max(1, min(twice, len(shared)))]]
    middle = len(first) // 2  # so that a repeat is at least some minutes after the first
    order = [first[i] for i in rng.permutation(len(first))]
    keys = {space.key(c) for c in again}
    order.sort(key=lambda c: space.key(c) not in keys)
    head, tail = order[: len(again)], order[len(again) :]
    rest = max(0, middle - len(head))
    early, late = [*head, *tail[:rest]], [*tail[rest:], *again]
    return [half[i] for half in (early, late) for i in rng.permutation(len(half))]


def tables_of(
    plans: Mapping[str, Plan],
    measurements: Mapping[str, Sequence[Measurement]],
    runner: LocalRunner,
) -> list[MeasurementTable]:
    """A table an environment, all over the one space of all engines."""
    spaces = {}
    for engine in THREADS:  # also those that are not installed, so that tables can be merged
        found = [p.space for p in plans.values() if p.environment.engine.split()[0] == engine]
        spaces[engine] = ConfigSpace.union([basic_space(engine), *found])
    space = combined(spaces)
    tables = []
    for name, plan in plans.items():
        engine = plan.environment.engine.split()[0]
        rows = [
            replace(m, configuration=translated(m.configuration, engine, space))
            for m in measurements[name]
        ]
        tables.append(
            MeasurementTable.from_measurements(
                rows, space=space, metrics=runner.metrics, environments=(plan.environment,)
            )
        )
    return tables


def basic_space(engine: str) -> ConfigSpace:
    """An engine's options on this machine, and the allocator's."""
    found = load_engine(ENGINES[engine]).space(Environment("any"))
    space = ConfigSpace({**found.options, **allocator.OPTIONS}, found.constraints, found.conditions)
    return limited(space, engine)


def limited(space: ConfigSpace, engine: str) -> ConfigSpace:
    """The part of an engine's space that is recorded."""
    space = space.subspace(**FIXED.get(engine, {}))
    constraints = [*space.constraints, *filter(None, [EXCLUDED.get(engine)])]
    return ConfigSpace(space.options, constraints, space.conditions)


def combined(spaces: Mapping[str, ConfigSpace]) -> ConfigSpace:
    """One space: an option for the engine, shared ones once, the others active in their engine."""
    options: dict[str, Option] = {ENGINE: Categorical(tuple(spaces))}
    owners: dict[str, list[str]] = {}
    conditions: dict[str, str] = {}
    constraints: list[str] = []
    for engine, space in spaces.items():
        for name, option in space.options.items():
            shared = _renamed(name, engine)
            both = [options.get(shared, option), option]
            options[shared] = ConfigSpace.union([ConfigSpace({shared: o}) for o in both]).options[
                shared
            ]
            owners.setdefault(shared, []).append(engine)
        for name, condition in space.conditions.items():
            conditions[_renamed(name, engine)] = _renamed(condition.text, engine)
        for constraint in space.constraints:
            constraints.append(f"{ENGINE} != {engine!r} or ({_renamed(constraint.text, engine)})")
    for name, engines in owners.items():
        if len(engines) < len(spaces):
            where = " or ".join(f"{ENGINE} == {engine!r}" for engine in engines)
            known = conditions.get(name)
            conditions[name] = f"({where}) and ({known})" if known else where
    return ConfigSpace(options, constraints, conditions)


def translated(configuration: Configuration, engine: str, space: ConfigSpace) -> Configuration:
    """An engine's configuration as one of the common space."""
    values = {_renamed(name, engine): v for name, v in configuration.items() if v is not None}
    return space.configuration({ENGINE: engine, **values})


def _renamed(text: str, engine: str) -> str:
    return re.sub(rf"\b{THREADS[engine]}\b", "threads", text)


if __name__ == "__main__":
    main()

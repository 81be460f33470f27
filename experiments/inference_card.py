"""The data card of the inference data set: what a reader must know before trusting a row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

import numpy as np
import pandas as pd

from bayestl.data.measurement import Measurement
from bayestl.data.table import STATUS, MeasurementTable

METRIC = "latency"

TEXT = """# The bayestl inference data set

{rows} measurements of {configurations} configurations in {environments} environments:
latency, CPU time, peak memory and build time of DNN inference under the options of the
engine and of the memory allocator. Recorded {begin} to {end} (UTC) on

{machines}

with {software}, by `python -m experiments.record_inference`, which anyone can run on their
hardware; `--merge` joins tables of several machines.

## What a row is

One configuration, measured once in a process of its own, forked from one that had imported the
engine and built nothing; options of the allocator have a process started with them. Warm-up
until steady (at least three calls and 0.05 s, at most {warmup_limit} s), then at least
{min_samples} samples and until the 95 % interval of the median is within {interval} %, at most
{sample_s} s. `latency` is the median [ms], `cpu_time` the mean CPU time of one inference [ms],
`peak_memory` the highest resident memory of the process [MiB], `build_time` the time to load
and compile the network [ms]. Batch and size are part of the environment: a latency is that of
the whole batch. Outputs were compared with those of the default configuration.

Measurements were taken in random order, environments in turns of about
{block} measurements. A third of an engine's configurations is common to all its environments
(for OpenVINO, whose space is small on this processor, all of them). Rows that occur twice are
repeats in another process, some minutes later.

Options of one engine are not active (None) in another; `engine` tells them apart, and
`threads` is what onnxruntime calls intra_op_num_threads and OpenVINO inference_num_threads.
In torch, compilation (a minute each), short types and convolutions without oneDNN (seconds an
inference here) were left out, the allocator's options were not varied, and fewer configurations
were measured.

## Environments

{table}

`noise` is the coefficient of variation between repeats of a configuration, pooled [%]; `max/min`
the ratio of the slowest and the fastest configuration. Statuses other than ok: {failures}.

## Do environments agree?

Spearman correlation of latency at common configurations, within an engine:

{correlations}

## What to be careful about

- A shared virtual machine: others' load and the place of the virtual cores change. Measurements
  during which others used more than 15 % of the cores, or the cores changed their place, were
  repeated; {contaminated} stayed `contaminated` and have no values. {disturbed} rows needed more
  than one attempt. {regimes}
- The light networks of the onnx package (squeezenet, shufflenet) have constant weights, those of
  transformers (mobilenet_v2, bert_mini) seeded random ones: right for time, not for accuracy.
- One machine unless tables were merged: `one-core` restricts the process by affinity, which is
  not another processor; `SSE41` limits OpenVINO's instruction set on the same processor.
- No energy: this machine has no meter.

License: Apache-2.0, as bayestl.
"""


def card(table: MeasurementTable, measurements: Sequence[Measurement], written: datetime) -> str:
    """The card in Markdown, with what the measurements themselves say."""
    tried = [m for m in measurements if "sampling" in m.provenance]
    starts = sorted(m.provenance["started"] for m in tried)
    sampling = tried[0].provenance["sampling"]
    software = Counter(m.provenance["engine"] for m in tried)
    machines = Counter(
        f"- {m.provenance['processor']} ({', '.join(m.provenance['flags'])}), "
        f"{m.provenance['physical_cores']} cores, {m.provenance['kernel']}, "
        f"governor {m.provenance['governor'] or 'not shown'}, "
        f"Python {m.provenance['python']}"
        for m in tried
    )
    status = table.frame[STATUS].value_counts()
    regimes = Counter(m.environment for m in tried if m.provenance["sentinel"]["regime"] > 1)
    changed = (
        f"In {len(regimes)} environments the default configuration changed its level by more "
        "than a quarter during the recording."
        if regimes
        else "The default configuration kept its level, within a quarter, in every environment."
    )
    names = table.environment_names
    space = table.space
    keys = {space.key(record) for record in space.records(table.configurations())}
    return TEXT.format(
        rows=len(table), configurations=len(keys), environments=len(names),
        begin=starts[0][:16], end=written.isoformat()[:16], machines="\n".join(machines),
        software=", ".join(sorted(software)), warmup_limit=sampling["warmup_limit_s"],
        min_samples=sampling["min_samples"], interval=f"{100 * sampling['interval']:g}",
        sample_s=sampling["sample_s"], block=round(len(tried) / len(names) / 12),
        table=_markdown(environments(table)),
        failures=", ".join(f"{n} {s}" for s, n in status.items() if s != "ok") or "none",
        correlations=_markdown(correlations(table)),
        contaminated=int(status.get("contaminated", 0)),
        disturbed=sum(bool(m.provenance["disturbed"]) for m in tried), regimes=changed,
    )  # fmt: skip


def environments(table: MeasurementTable) -> pd.DataFrame:
    """One row an environment: how much was measured, and what came out."""
    rows = []
    for environment in table.environments:
        part = table.of(environment.name)
        latency = _latency(part)
        default = part.space.key(
            part.space.configuration({"engine": environment.engine.split()[0]})
        )
        medians = latency.groupby(level=0).median()
        rows.append(
            {
                "environment": environment.name,
                "rows": len(part),
                "configurations": latency.index.nunique(),
                "failed": int((part.frame[STATUS] != "ok").sum()),
                "best ms": medians.min(),
                "default ms": medians.get(str(default), np.nan),
                "worst ms": medians.max(),
                "max/min": medians.max() / medians.min(),
                "noise %": 100 * noise(latency),
            }
        )
    return pd.DataFrame(rows)


def noise(latency: pd.Series) -> float:
    """The coefficient of variation between repeats, pooled over the configurations."""
    logs = latency.map(np.log)
    groups = logs.groupby(level=0)
    repeated = groups.size() > 1
    if not repeated.any():
        return float("nan")
    variances, counts = groups.var()[repeated], groups.size()[repeated] - 1
    return float(np.sqrt((variances * counts).sum() / counts.sum()))


def correlations(table: MeasurementTable) -> pd.DataFrame:
    """Spearman correlation of each environment with the first of its engine."""
    rows, first = [], {}
    for environment in table.environments:
        latency = _latency(table.of(environment.name)).groupby(level=0).median()
        engine = environment.engine.split()[0]
        name, reference = first.setdefault(engine, (environment.name, latency))
        if name == environment.name:
            continue
        common = reference.index.intersection(latency.index)
        spearman = reference[common].corr(latency[common], method="spearman")
        rows.append({"environment": environment.name, "with": name,
                     "configurations": len(common), "spearman": spearman})  # fmt: skip
    return pd.DataFrame(rows)


def _latency(table: MeasurementTable) -> pd.Series:
    """Latencies that are there, indexed by configuration."""
    space = table.space
    keys = [str(space.key(record)) for record in space.records(table.configurations())]
    return pd.Series(table.frame[METRIC].to_numpy(), index=keys).dropna()


def _markdown(frame: pd.DataFrame) -> str:
    def text(value: object) -> str:
        return f"{value:.3g}" if isinstance(value, float) else str(value)

    lines = [list(frame.columns), ["---"] * len(frame.columns)]
    lines += [[text(v) for v in row] for row in frame.itertuples(index=False)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)

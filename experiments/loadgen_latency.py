"""Latency of one configuration by MLPerf LoadGen, an independent harness.

    python -m experiments.loadgen_latency '{"network": ..., "configuration": ..., ...}'

Prints the median latency [ms] of LoadGen's single-stream scenario: one query after another,
with LoadGen's own clock and statistics (Reddi et al., 2020, "MLPerf Inference Benchmark").
The session is onnxruntime's own, made from the configuration without bayestl's engine.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

MIN_DURATION_MS, MIN_QUERIES = 300, 30

LEVELS = {
    "disabled": "ORT_DISABLE_ALL", "basic": "ORT_ENABLE_BASIC", "extended": "ORT_ENABLE_EXTENDED",
    "layout": "ORT_ENABLE_LAYOUT", "all": "ORT_ENABLE_ALL",
}  # fmt: skip
ENTRIES = {
    "allow_spinning": "session.intra_op.allow_spinning",
    "dynamic_block_base": "session.dynamic_block_base",
    "set_denormal_as_zero": "session.set_denormal_as_zero",
    "disable_prepacking": "session.disable_prepacking",
}


def main() -> None:
    request = json.loads(sys.argv[1])
    os.sched_setaffinity(0, request["cores"])
    session, feed = _session(request)
    print(_median_ms(lambda: session.run(None, feed)))


def _session(request: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    import numpy as np
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    for name, value in request["configuration"].items():
        if value is None:
            continue
        if name == "execution_mode":
            options.execution_mode = getattr(ort.ExecutionMode, f"ORT_{value.upper()}")
        elif name == "graph_optimization_level":
            options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, LEVELS[value])
        elif name in ENTRIES:
            options.add_session_config_entry(ENTRIES[name], str(int(value)))
        else:
            setattr(options, name, value)
    session = ort.InferenceSession(request["network"], options, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    feed = {i.name: rng.random(i.shape).astype(np.float32) for i in session.get_inputs()}
    for _ in range(10):
        session.run(None, feed)
    return session, feed


def _median_ms(call: Any) -> float:
    import mlperf_loadgen as lg

    pending: list[Any] = []
    wake = threading.Condition()

    def serve() -> None:
        # LoadGen waits in another thread, as it does for any system under test
        while True:
            with wake:
                while not pending:
                    wake.wait()
                sample = pending.pop()
            if sample is None:
                return
            call()
            lg.QuerySamplesComplete([lg.QuerySampleResponse(sample.id, 0, 0)])

    def issue(samples: list[Any]) -> None:
        with wake:
            pending.extend(samples)
            wake.notify()

    worker = threading.Thread(target=serve)
    worker.start()
    settings = lg.TestSettings()
    settings.scenario = lg.TestScenario.SingleStream
    settings.mode = lg.TestMode.PerformanceOnly
    settings.min_duration_ms = MIN_DURATION_MS
    settings.min_query_count = MIN_QUERIES
    with tempfile.TemporaryDirectory() as folder:
        logs = lg.LogSettings()
        logs.log_output.outdir = folder
        system = lg.ConstructSUT(issue, lambda: None)
        library = lg.ConstructQSL(1, 1, lambda samples: None, lambda samples: None)
        lg.StartTestWithLogSettings(system, library, settings, logs)
        lg.DestroyQSL(library)
        lg.DestroySUT(system)
        summary = (Path(folder) / "mlperf_log_summary.txt").read_text()
    with wake:
        pending.append(None)
        wake.notify()
    worker.join()
    found = re.search(r"50\.00 percentile latency \(ns\)\s*:\s*(\d+)", summary)
    if found is None:
        raise SystemExit(f"no median in LoadGen's summary:\n{summary}")
    return int(found[1]) / 1e6


if __name__ == "__main__":
    main()

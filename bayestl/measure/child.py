"""The child process: one configuration, measured once, in a process that remembers nothing.

A request comes as JSON on standard input; the answer goes as JSON to the descriptor
that the command line names, so that whatever an engine prints cannot damage it.
Imports stay light: everything here is paid for by every measurement.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import resource
import signal
import statistics
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bayestl.data.measurement import Status
from bayestl.measure.engine import Engine, Refusal, Session, load_engine
from bayestl.measure.machine import MIB
from bayestl.measure.meter import Reading
from bayestl.measure.meters.process import CpuTime, PeakMemory, WallClock
from bayestl.measure.sampling import Samples, Sampling, sample

if TYPE_CHECKING:
    import numpy as np

PR_SET_PDEATHSIG = 1
OUT_OF_MEMORY = ("bad_alloc", "allocate memory", "failed to map segment", "out of memory")
KEPT_WARMUP = 50


def main(descriptor: int) -> None:
    """Answer the request and end at once: an engine's clean-up is no part of a measurement."""
    request = json.load(sys.stdin)
    _die_with(request["parent"])
    os.set_inheritable(descriptor, False)  # a program that an engine starts shall not hold it
    try:
        os.sched_setaffinity(0, request["cores"])
        if request["memory_limit_mib"] is not None:
            limit = int(request["memory_limit_mib"] * MIB)
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        answer = _measure(request)
    except Refusal as refusal:
        answer = {"status": refusal.status, "message": str(refusal)}
    except Exception as error:
        answer = _failure(error)
    with os.fdopen(descriptor, "w", encoding="utf-8") as pipe:
        json.dump(answer, pipe)
    os._exit(0)


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent dies."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above
        os._exit(1)


def _measure(request: Mapping[str, Any]) -> dict[str, Any]:
    engine = load_engine(request["engine"])
    engine.prepare()
    network = Path(request["network"])
    if request["rebatched"] is not None:
        from bayestl.measure.rebatch import rebatched

        network = rebatched(network, request["batch"], Path(request["rebatched"]))
    session, build = _open(engine, str(network), request)
    _check_effective(session, request["configuration"])
    session.feed(_inputs(request["inputs"], request["seed"]))
    meters = {"cpu_time": CpuTime(), "peak_memory": PeakMemory()}
    samples = sample(session.run, Sampling(**request["sampling"]), meters)
    outputs = session.outputs()
    if request["rebatched"] is not None:
        _check_batch(outputs, request["batch"])
    answer = _answer(samples, build, session)
    return answer | _verdict(samples, outputs, request)


def _open(engine: Engine, network: str, request: Mapping[str, Any]) -> tuple[Session, Reading]:
    clock = WallClock()
    clock.open()
    clock.begin()
    session = engine.open(network, request["configuration"], request["settings"])
    return session, clock.end()


def _check_effective(session: Session, configuration: Mapping[str, Any]) -> None:
    effective = session.effective
    for name, value in configuration.items():
        if name in effective and effective[name] != value:
            raise Refusal(
                Status.UNSUPPORTED,
                f"option {name!r}: asked for {value!r}, the engine uses {effective[name]!r}",
            )


def _inputs(descriptions: list[dict[str, Any]], seed: int) -> dict[str, np.ndarray]:
    """Random inputs: floats uniform in [0, 1), integers 0 or 1, which any vocabulary has."""
    import numpy as np

    rng = np.random.default_rng(seed)
    inputs = {}
    for item in descriptions:
        dtype = np.dtype(item["dtype"])
        if dtype.kind == "f":
            values = rng.random(item["shape"])
        else:
            values = rng.integers(0, 2, item["shape"])
        inputs[item["name"]] = np.asarray(values).astype(dtype)
    return inputs


def _check_batch(outputs: Mapping[str, Any], batch: int) -> None:
    for name, value in outputs.items():
        if value.shape[:1] != (batch,):
            raise Refusal(
                Status.UNSUPPORTED, f"output {name!r} has shape {value.shape} at batch {batch}"
            )


def _answer(samples: Samples, build: Reading, session: Session) -> dict[str, Any]:
    count = len(samples.latency_ms)
    readings = {**samples.readings, "build_time": build}
    values = {"latency": statistics.median(samples.latency_ms)}
    for name, reading in readings.items():
        if reading.value is not None:  # unavailable is left out, never zero
            values[name] = reading.value / count if name == "cpu_time" else reading.value
    return {
        "values": values,
        "samples": {"latency": list(samples.latency_ms)},
        "provenance": {
            "effective": dict(session.effective),
            "session": dict(session.details),
            "python": platform.python_version(),
            "numpy": sys.modules["numpy"].__version__,
            "affinity": sorted(os.sched_getaffinity(0)),
            "warmup_ms": list(samples.warmup_ms)[:KEPT_WARMUP],
            "warmup_count": len(samples.warmup_ms),
            "steady": samples.steady,
            "readings": {name: reading.to_dict() for name, reading in readings.items()},
        },
    }


def _verdict(
    samples: Samples, outputs: Mapping[str, Any], request: Mapping[str, Any]
) -> dict[str, Any]:
    """The status of a measurement that ran to its end."""
    from bayestl.measure.outputs import difference, digest

    reference, latency = request["reference"], statistics.median(samples.latency_ms)
    resolution_ms = time.get_clock_info("perf_counter").resolution * 1e3
    if not outputs:
        return {"status": Status.BAD_OUTPUT, "message": "the network gave no output"}
    if latency <= resolution_ms:
        return {"status": Status.IMPLAUSIBLE, "message": "the clock stood still"}
    if reference is None:
        return {"status": Status.OK, "digest": digest(outputs)}
    reason = difference(outputs, reference["digest"], request["tolerance"])
    if reason is not None:
        return {"status": Status.BAD_OUTPUT, "message": reason}
    if latency * request["implausible_speedup"] < reference["latency_ms"]:
        message = (
            f"{latency:.4g} ms, more than {request['implausible_speedup']:g} times faster than the "
            f"default configuration's {reference['latency_ms']:.4g} ms"
        )
        return {"status": Status.IMPLAUSIBLE, "message": message}
    return {"status": Status.OK}


def _failure(error: Exception) -> dict[str, Any]:
    """An exception that no engine foresaw: out of memory, or a crash."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    message = f"{type(error).__name__}: {error} ({Path(last.filename).name}:{last.lineno})"
    exhausted = isinstance(error, MemoryError) or any(t in str(error) for t in OUT_OF_MEMORY)
    return {"status": Status.OOM if exhausted else Status.CRASH, "message": message}


if __name__ == "__main__":
    main(int(sys.argv[1]))

"""The process that serves: it imports an engine once, and forks a child for each measurement.

A process remembers what it did: an allocator that has grown, threads that were started.
So nothing is ever measured in the process that serves: it has imported the engine and
built nothing, and each measurement is a fork of it that ends with its answer. (Measured:
the forks of such a process agree with fresh processes; forks of a used one do not.)

A request comes as JSON over the socket that the command line names, with the descriptors
for the answer, for standard output and for standard error. A child answers at its own
descriptor, so that whatever an engine prints cannot damage the answer.
Imports stay light: they are paid for before the first measurement.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import platform
import resource
import signal
import socket
import statistics
import struct
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from bayestl.data.measurement import Status
from bayestl.measure.death import status_of
from bayestl.measure.engine import Engine, Refusal, Session, load_engine
from bayestl.measure.machine import MIB
from bayestl.measure.meter import Meter, Reading, load_meter
from bayestl.measure.meters.process import CpuTime, PeakMemory, WallClock
from bayestl.measure.placement import bounce_ns, typical_ns
from bayestl.measure.sampling import Samples, Sampling, sample
from bayestl.measure.supervisor import (
    PR_SET_CHILD_SUBREAPER,
    PR_SET_PDEATHSIG,
    children_s,
    end_offspring,
)

if TYPE_CHECKING:
    import numpy as np

KEPT_WARMUP = 50
MAX_REQUEST = 4 * MIB
LENGTH = struct.Struct("!I")


def main(descriptor: int) -> None:
    """Serve requests until the other end of the socket closes."""
    with socket.socket(fileno=descriptor) as parent:
        parent.set_inheritable(False)  # a program that an engine starts shall not hold it
        _Server(parent).serve()


class _Server:
    """Answers requests over a socket; at most one child lives at a time."""

    def __init__(self, parent: socket.socket) -> None:
        self.parent = parent
        self.child: int | None = None
        self.reaped_s = 0.0

    def serve(self) -> None:
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)  # of a child's own offspring
        try:
            while (received := receive(self.parent)) is not None:
                request, descriptors = received
                match request["do"]:
                    case "prepare":
                        send(self.parent, _prepare(request))
                    case "start":
                        self._start(request, descriptors)
                    case "end":
                        send(self.parent, self._end())
        finally:
            self._end()

    def _start(self, request: Mapping[str, Any], descriptors: Sequence[int]) -> None:
        server = os.getpid()
        pid = os.fork()
        if pid == 0:
            os.setsid()
            die_with(server)
            self.parent.close()
            _answer_to(request, descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        self.child = pid
        send(self.parent, {"pid": pid})

    def _end(self) -> dict[str, Any]:
        """Kill what is left of the child and its offspring, reap it; how it ended, its CPU time."""
        if self.child is None:
            return {"code": None, "cpu_s": 0.0}
        pid, self.child = self.child, None
        for kill in (os.killpg, os.kill):  # not reaped yet, so the number is still the child's
            with suppress(ProcessLookupError):
                kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        end_offspring()  # those that had left the group
        before_s, self.reaped_s = self.reaped_s, children_s()
        return {"code": os.waitstatus_to_exitcode(status), "cpu_s": self.reaped_s - before_s}


def send(
    channel: socket.socket, message: Mapping[str, Any], descriptors: Sequence[int] = ()
) -> None:
    """Send a message, and descriptors that the receiver shall hold as well."""
    data = json.dumps(message).encode()
    head = LENGTH.pack(len(data))
    if descriptors:
        socket.send_fds(channel, [head], list(descriptors))
    else:
        channel.sendall(head)
    channel.sendall(data)


def receive(channel: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """The next message with its descriptors; None where the other end has closed."""
    head, descriptors, _, _ = socket.recv_fds(channel, LENGTH.size, 4, socket.MSG_WAITALL)
    if len(head) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(head)
    if length > MAX_REQUEST:
        raise ValueError(f"a message of {length} bytes")
    data = b""
    while len(data) < length:
        chunk = channel.recv(length - len(data))
        if not chunk:
            return None
        data += chunk
    return json.loads(data), descriptors


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent dies."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above
        os._exit(1)


def _prepare(request: Mapping[str, Any]) -> dict[str, Any]:
    """Import what every measurement with this engine needs."""
    try:
        if request["cores"] is not None:
            os.sched_setaffinity(0, request["cores"])
        if request["engine"] is not None:
            load_engine(request["engine"]).prepare()
            for module in ("numpy", "bayestl.measure.outputs"):
                importlib.import_module(module)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
    gc.collect()
    gc.freeze()  # a child's collection need not touch, and so copy, what is here
    return {"python": platform.python_version(), "pid": os.getpid()}


def _answer_to(request: Mapping[str, Any], descriptors: Sequence[int]) -> NoReturn:
    """Do the job, answer, and end at once: an engine's clean-up is no part of a measurement."""
    answers, output, errors = descriptors
    os.set_inheritable(answers, False)
    for descriptor, standard in ((output, 1), (errors, 2)):
        os.dup2(descriptor, standard)
        os.close(descriptor)
    try:
        if request["folder"] is not None:
            os.environ["TMPDIR"] = request["folder"]
        if request["cores"] is not None:
            os.sched_setaffinity(0, request["cores"])
        if request["memory_limit_mib"] is not None:
            limit = int(request["memory_limit_mib"] * MIB)
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        answer = JOBS[request["job"]](request)
    except Refusal as refusal:
        answer = {"status": refusal.status, "message": str(refusal)}
    except Exception as error:
        answer = _failure(error)
    with os.fdopen(answers, "w", encoding="utf-8") as pipe:
        json.dump(answer, pipe)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _measure(request: Mapping[str, Any]) -> dict[str, Any]:
    engine = load_engine(request["engine"])
    engine.prepare()
    inputs = _inputs(request["inputs"], request["seed"])
    session, build = _build(engine, request, inputs)
    _check_effective(session, request["configuration"])
    asked = [load_meter(reference, arguments) for reference, arguments in request["meters"]]
    meters: dict[str, Meter] = {m.metric.name: m for m in (CpuTime(), PeakMemory(), *asked)}
    samples = sample(session.run, Sampling(**request["sampling"]), meters)
    outputs = session.outputs()
    _check_batch(outputs, request)
    return _answer(samples, build, session) | _verdict(samples, outputs, request)


def _build(
    engine: Engine, request: Mapping[str, Any], inputs: Mapping[str, np.ndarray]
) -> tuple[Session, Reading]:
    """The session with its inputs; some engines compile only once they see those."""
    clock = WallClock()
    clock.open()
    clock.begin()
    session = engine.open(request["network"], request["configuration"], request["settings"])
    session.feed(inputs)
    return session, clock.end()


def _check_effective(session: Session, configuration: Mapping[str, Any]) -> None:
    effective = session.effective
    for name, value in configuration.items():
        if name in effective and effective[name] != value:
            raise Refusal(
                Status.UNSUPPORTED,
                f"option {name!r}: asked for {value!r}, the engine uses {effective[name]!r}",
            )


def _inputs(descriptions: Sequence[Mapping[str, Any]], seed: int) -> dict[str, np.ndarray]:
    """Random inputs: floats uniform in [0, 1), integers within the input's bounds."""
    import numpy as np

    rng = np.random.default_rng(seed)
    inputs = {}
    for item in descriptions:
        dtype = np.dtype(item["dtype"])
        if dtype.kind == "f":
            values = rng.random(item["shape"])
        else:
            values = rng.integers(item["low"], item["below"], item["shape"])
        inputs[item["name"]] = np.asarray(values).astype(dtype)
    return inputs


def _check_batch(outputs: Mapping[str, Any], request: Mapping[str, Any]) -> None:
    """A file that was rewritten for another batch must compute one."""
    if not request["rewritten"]:
        return
    for name, value in outputs.items():
        if value.shape[:1] != (request["batch"],):
            raise Refusal(
                Status.UNSUPPORTED,
                f"output {name!r} has shape {value.shape} at batch {request['batch']}",
            )


def _answer(samples: Samples, build: Reading, session: Session) -> dict[str, Any]:
    values = {"latency": statistics.median(samples.latency_ms)}
    readings = {**samples.readings, "build_time": build}
    for name, reading in readings.items():
        if reading.value is not None:  # unavailable is left out, never zero
            values[name] = reading.value / samples.calls.get(name, 1)
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
            "interval": samples.interval,
            "disturbance": samples.disturbance,
            "readings": {name: reading.to_dict() for name, reading in readings.items()},
        },
    }


def _verdict(
    samples: Samples, outputs: Mapping[str, Any], request: Mapping[str, Any]
) -> dict[str, Any]:
    """The status of a measurement that ran to its end."""
    from bayestl.measure.outputs import difference, digest

    reference, fastest_ms = request["reference"], request["fastest_ms"]
    latency = statistics.median(samples.latency_ms)
    resolution_ms = time.get_clock_info("perf_counter").resolution * 1e3
    if not outputs:
        return {"status": Status.BAD_OUTPUT, "message": "the network gave no output"}
    if latency <= resolution_ms:
        return {"status": Status.IMPLAUSIBLE, "message": "the clock stood still"}
    if reference is None:
        return {"status": Status.OK, "digest": digest(outputs)}
    reason = difference(outputs, reference, request["tolerance"])
    if reason is not None:
        return {"status": Status.BAD_OUTPUT, "message": reason}
    if fastest_ms is not None and latency * request["implausible_speedup"] < fastest_ms:
        message = (
            f"{latency:.4g} ms, more than {request['implausible_speedup']:g} times faster than the "
            f"default configuration's best, {fastest_ms:.4g} ms"
        )
        return {"status": Status.IMPLAUSIBLE, "message": message}
    return {"status": Status.OK}


def _rebatch(request: Mapping[str, Any]) -> dict[str, Any]:
    from bayestl.measure.rebatch import rebatched

    rebatched(Path(request["network"]), request["batch"], Path(request["target"]))
    return {"status": Status.OK}


def _export(request: Mapping[str, Any]) -> dict[str, Any]:
    from bayestl.measure.architectures import export_onnx

    shape = {"batch": request["batch"], "size": request["size"]}
    export_onnx(request["network"], Path(request["target"]), **shape)
    return {"status": Status.OK}


def _place(request: Mapping[str, Any]) -> dict[str, Any]:
    first, second = request["pair"]
    return {"status": Status.OK, "bounce_ns": typical_ns(bounce_ns(first, second))}


def _failure(error: Exception) -> dict[str, Any]:
    """An exception that no engine foresaw: out of memory, a lost device, or a crash."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    message = f"{type(error).__name__}: {error} ({Path(last.filename).name}:{last.lineno})"
    return {"status": status_of(message, isinstance(error, MemoryError)), "message": message}


JOBS: Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "measure": _measure,
    "rebatch": _rebatch,
    "export": _export,
    "place": _place,
}

if __name__ == "__main__":
    main(int(sys.argv[1]))

"""An engine whose only option is what goes wrong."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from bayestl.data.measurement import Status
from bayestl.data.options import Categorical
from bayestl.data.space import ConfigSpace
from bayestl.errors import EngineUnavailable
from bayestl.measure.engine import Refusal, Scope

ACTS = (
    *("work", "hang_build", "hang_run", "abort", "segfault", "kill", "exit", "raise", "oom"),
    *("bad_alloc", "refuse", "ignore", "wrong", "nan", "shape", "nothing", "fast", "chatter"),
    *("offspring", "lose", "stop_clock", "kill_server", "compile"),
)


IMPORTED_ON = sorted(os.sched_getaffinity(0))


class Staged:
    name = "staged"
    format = "onnx"
    settings = {}  # noqa: RUF012

    @property
    def scopes(self):
        return {"act": Scope.SESSION}

    def version(self):
        return "1.0"

    def space(self, environment):
        return ConfigSpace({"act": Categorical(ACTS)})

    def variables(self, environment, configuration):
        return {}

    def precision(self, configuration):
        return "float32"

    def prepare(self):
        pass

    def open(self, network, configuration, settings):
        act = configuration["act"]
        if act == "hang_build":
            time.sleep(600)
        if act == "refuse":
            raise Refusal(Status.UNSUPPORTED, "no such precision on this machine")
        return StagedSession(act)


class Missing(Staged):
    def version(self):
        raise EngineUnavailable(
            'staged is not installed; in the checkout of bayestl: pip install ".[staged]"'
        )


class Broken(Staged):
    """Even the default configuration fails."""

    def open(self, network, configuration, settings):
        raise Refusal(Status.INVALID, "no such operator")


class StagedSession:
    def __init__(self, act):
        self.act = act
        self.details = {
            "staged": True,
            "tunables": os.environ.get("GLIBC_TUNABLES"),
            "imported_on": IMPORTED_ON,
        }
        self.effective = {"act": "work" if act == "ignore" else act}

    def feed(self, inputs):
        self.inputs = inputs

    def outputs(self):
        return self.result

    def run(self):
        if self.act != "fast":
            time.sleep(0.002)
        outputs = {"y": np.linspace(0, 1, 1_000).reshape(1, -1)}
        match self.act:
            case "hang_run":
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                time.sleep(600)
            case "abort":
                print("terminate called", file=sys.stderr, flush=True)
                os.abort()
            case "segfault":
                ctypes.string_at(0)
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "exit":
                sys.exit(3)
            case "raise":
                raise RuntimeError("the kernel was lost")
            case "oom":
                np.ones(10**14)
            case "bad_alloc":
                print("what(): std::bad_alloc", file=sys.stderr, flush=True)
                os.abort()
            case "wrong":
                outputs["y"] = outputs["y"] * 1.05
            case "nan":
                outputs["y"][0, 3] = np.nan
            case "shape":
                outputs["y"] = outputs["y"].reshape(10, 100)
            case "nothing":
                outputs = {}
            case "lose":
                raise RuntimeError("CUDA error: unspecified launch failure")
            case "stop_clock":
                now = time.perf_counter_ns()
                time.perf_counter_ns = lambda: now
            case "kill_server":
                os.kill(os.getppid(), signal.SIGKILL)
                time.sleep(600)
            case "chatter":
                os.write(1, b"x" * 300_000)
                os.write(2, b'{"status": "ok"}\n' * 20_000)
            case "compile":
                subprocess.Popen([sys.executable, "-c", "while True: pass"])
                time.sleep(600)
            case "offspring":
                stays = subprocess.Popen(["sleep", "600"])
                leaves = subprocess.Popen(["sleep", "600"], start_new_session=True)
                pids = f"{os.getpid()} {stays.pid} {leaves.pid}"
                Path(os.environ["STAGED_PIDS"]).write_text(pids)
                time.sleep(600)
        self.result = outputs

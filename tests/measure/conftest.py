from pathlib import Path

import pytest

from bayestl.data.environment import Environment
from bayestl.measure.runner import LocalRunner
from bayestl.measure.sampling import Sampling

QUICK = Sampling(
    warmup_iterations=1,
    warmup_s=0.0,
    warmup_limit_s=0.02,
    min_samples=3,
    min_sample_s=0.0,
    sample_s=0.0,
)


@pytest.fixture(scope="session")
def staged():
    """A function that makes a runner with the staged engine, which children can import."""

    def make(engine="Staged", **settings):
        settings = {"sampling": QUICK, "timeout_s": 30.0, "disturbance_limit": None, **settings}
        return LocalRunner(engines={"staged": f"staged_engine:{engine}"}, **settings)

    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent))
        yield make


@pytest.fixture(scope="session")
def staged_runner(staged):
    """One runner for many outcomes: each must leave the next measurement right."""
    return staged(implausible_speedup=20.0)


@pytest.fixture(scope="session")
def staged_environment():
    """The network is real, so that it can be found; the staged engine never reads it."""
    pytest.importorskip("onnx")
    return Environment("stage", engine="staged", network="squeezenet")

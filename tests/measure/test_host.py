import json
import os
import signal
import subprocess
import sys

import pytest

from bayestl.data.measurement import Status
from bayestl.data.options import Boolean, Categorical, Integer, Ordinal
from bayestl.errors import EngineError
from bayestl.measure import guard, host, machine
from bayestl.measure.bench import Bench
from bayestl.measure.engine import Refusal
from bayestl.measure.machine import available_cores
from tests.processes import started, wait_until

TABLE = "3000000 2000000 1000000"


class Tree:
    """A recorded /sys: cores that share a policy two by two, as root may set them."""

    def __init__(self, root):
        self.root = root
        self.cpu = root / "devices/system/cpu"
        self.cpu.mkdir(parents=True)

    def policy(self, number, cores, **files):
        folder = self.cpu / f"cpufreq/policy{number}"
        recorded = {
            "scaling_governor": "powersave",
            "scaling_available_governors": "performance powersave",
            "scaling_max_freq": "3000000",
            "cpuinfo_min_freq": "1000000",
            "cpuinfo_max_freq": "3600000",
            **files,
        }
        for name, text in recorded.items():
            self.write(folder / name, text)
        for core in cores:
            (self.cpu / f"cpu{core}").mkdir()
            (self.cpu / f"cpu{core}/cpufreq").symlink_to(folder)
        return folder

    def write(self, path, text):
        path = self.root / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
        return path


@pytest.fixture
def tree(tmp_path, monkeypatch):
    monkeypatch.setattr(host, "SYS", tmp_path / "sys")
    return Tree(tmp_path / "sys")


@pytest.fixture
def laptop(tree):
    """Two policies that list their frequencies, and a switch of the boost."""
    for number in (0, 1):
        cores = (2 * number, 2 * number + 1)
        tree.policy(number, cores, scaling_available_frequencies=TABLE)
    tree.write(tree.cpu / "cpufreq/boost", "1")
    return tree


STUB = """
import json
from pathlib import Path

NVML_CLOCK_GRAPHICS = 0
STATE = Path(__file__).with_name("gpu.json")


class NVMLError(Exception):
    pass


def __getattr__(name):
    def answer(*arguments):
        state = json.loads(STATE.read_text())
        match name:
            case "nvmlDeviceGetCount":
                return 1
            case "nvmlDeviceGetUUID":
                return "GPU-8f2a0000-1111"
            case "nvmlDeviceGetPowerManagementLimitConstraints":
                return [100_500, 700_000]
            case "nvmlDeviceGetSupportedMemoryClocks":
                return [2600, 1500]
            case "nvmlDeviceGetSupportedGraphicsClocks":
                return [1980, 1500, 210] if arguments[1] == 2600 else [345]
            case "nvmlDeviceGetPowerManagementLimit":
                return state["power"]
            case "nvmlDeviceGetClockInfo":
                return state["clock"]
            case "nvmlDeviceSetPowerManagementLimit":
                if state.get("denied"):
                    raise NVMLError("Insufficient Permissions")
                state["power"] = min(arguments[1], state["most"])
            case "nvmlDeviceSetGpuLockedClocks":
                state["locks"].append(arguments[1:])
                state["clock"] = state["deaf"] or arguments[2]
            case "nvmlDeviceResetGpuLockedClocks":
                state["locks"].append(None)
        STATE.write_text(json.dumps(state))
        return "handle"
    if name.startswith("__"):
        raise AttributeError(name)
    return answer
"""


class Gpu:
    """The state of a stub of pynvml, which the guard imports as well."""

    def __init__(self, folder):
        self.path = folder / "gpu.json"
        self.set(power=500_000, most=700_000, clock=1980, locks=[], deaf=None)

    def set(self, **state):
        self.path.write_text(json.dumps({**(self.state if self.path.exists() else {}), **state}))

    @property
    def state(self):
        return json.loads(self.path.read_text())


@pytest.fixture
def gpu(tmp_path, monkeypatch):
    folder = tmp_path / "stub"
    folder.mkdir()
    (folder / "pynvml.py").write_text(STUB)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "pynvml", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(host.os, "geteuid", lambda: 0)
    yield Gpu(folder)
    sys.modules.pop("pynvml", None)


def texts(tree, name):
    return [path.read_text().strip() for path in sorted(tree.cpu.glob(f"cpufreq/policy*/{name}"))]


def defaults(knobs):
    return {name: knob.option.default for name, knob in knobs.items()}


def test_what_the_cores_offer(laptop):
    knobs = host.offered([0, 1, 2])
    assert {name: knob.option for name, knob in knobs.items()} == {
        "cpu_boost": Boolean(True, doc="whether the cores may exceed their base clock"),
        "cpu_governor": Categorical(
            ("performance", "powersave"), "powersave", doc="how the cores' clock is chosen"
        ),
        "cpu_max_khz": Ordinal(
            (1_000_000, 2_000_000, 3_000_000), 3_000_000, "kHz", "highest clock of the cores"
        ),
    }
    assert len(knobs["cpu_governor"].control.read()) == 2  # one a policy, not one a core
    assert set(host.offered([0, 1, 2])) <= set(host.SCOPES)


def test_boosted_frequencies_and_todays_are_levels_too(tree):
    tree.policy(
        0, [0], scaling_available_frequencies=TABLE, scaling_boost_frequencies="3600000",
        scaling_max_freq="2500000",
    )  # fmt: skip
    option = host.offered([0])["cpu_max_khz"].option
    assert option.levels == (1_000_000, 2_000_000, 2_500_000, 3_000_000, 3_600_000)
    assert option.default == 2_500_000


def test_without_a_table_the_frequency_is_any_between_the_cores_limits(tree):
    tree.policy(0, [0])
    tree.policy(1, [1], cpuinfo_min_freq="1200000", cpuinfo_max_freq="4000000")
    option = host.offered([0, 1])["cpu_max_khz"].option
    assert isinstance(option, Integer)
    assert (option.low, option.high, option.default) == (1_200_000, 3_600_000, 3_000_000)


def test_no_turbo_is_the_boost_the_other_way_round(tree):
    switch = tree.write(tree.cpu / "intel_pstate/no_turbo", "0")
    knobs = host.offered([0])
    assert knobs["cpu_boost"].option.default is True
    with host.applied(knobs, {"cpu_boost": False}):
        assert switch.read_text().strip() == "1"
    assert switch.read_text().strip() == "0"


def test_cores_that_are_set_differently_are_left_alone(tree):
    tree.policy(0, [0])
    tree.policy(1, [1], scaling_governor="performance")
    assert set(host.offered([0, 1])) == {"cpu_max_khz"}
    assert set(host.offered([0])) == {"cpu_governor", "cpu_max_khz"}


def test_a_virtual_machine_offers_nothing(tree):
    with pytest.raises(EngineError, match=r"no options of the host: cpu_boost: .*virtual"):
        host.offered([0])


@pytest.mark.parametrize(("user", "why"), [(0, "as in a container"), (1000, "you are not root")])
def test_files_that_cannot_be_written_are_not_offered(tree, monkeypatch, user, why):
    monkeypatch.setattr(host.os, "geteuid", lambda: user)
    for path in tree.policy(0, [0]).iterdir():
        path.chmod(0o444)
    with pytest.raises(EngineError, match=f"scaling_governor is not writable.*{why}"):
        host.offered([0])


def test_values_are_set_and_set_back(laptop):
    knobs = host.offered([0, 2])
    wanted = {"cpu_boost": False, "cpu_governor": "performance", "cpu_max_khz": 2_000_000}
    with host.applied(knobs, wanted):
        assert texts(laptop, "scaling_governor") == ["performance"] * 2
        assert texts(laptop, "scaling_max_freq") == ["2000000"] * 2
        assert (laptop.cpu / "cpufreq/boost").read_text() == "0"
    assert texts(laptop, "scaling_governor") == ["powersave"] * 2
    assert texts(laptop, "scaling_max_freq") == ["3000000"] * 2
    assert (laptop.cpu / "cpufreq/boost").read_text() == "1"


def test_only_what_differs_is_written(laptop, monkeypatch):
    knobs = host.offered([0, 2])
    written = laptop.cpu / "cpufreq/policy0/scaling_max_freq"
    before = written.stat().st_mtime_ns
    with host.applied(knobs, {**defaults(knobs), "cpu_governor": "performance"}):
        pass
    assert written.stat().st_mtime_ns == before
    monkeypatch.setattr(host.subprocess, "Popen", None)  # and where nothing does, nobody is asked
    with host.applied(knobs, defaults(knobs)):
        pass


def test_what_was_limited_meanwhile_is_set_back_too(laptop):
    knobs = host.offered([0, 2])
    with host.applied(knobs, {**defaults(knobs), "cpu_boost": False}):
        laptop.write(laptop.cpu / "cpufreq/policy1/scaling_max_freq", "2000000")
    assert texts(laptop, "scaling_max_freq") == ["3000000"] * 2


def test_an_exception_sets_back_as_well(laptop):
    knobs = host.offered([0])
    with (
        pytest.raises(KeyboardInterrupt),
        host.applied(knobs, {**defaults(knobs), "cpu_governor": "performance"}),
    ):
        raise KeyboardInterrupt
    assert texts(laptop, "scaling_governor") == ["powersave"] * 2


@pytest.mark.parametrize(
    ("file", "why"),
    [("/dev/null", "asked for x, the machine took "), ("/proc/version", "cannot be set to x: ")],
)
def test_a_value_that_is_not_taken_is_unsupported(laptop, file, why):
    knobs = host.offered([0])
    with (
        pytest.raises(Refusal, match=why) as caught,
        host.applied(
            {**knobs, "deaf": host.Knob(Boolean(), guard.Files(file))},
            {**defaults(knobs), "cpu_governor": "performance", "deaf": "x"},
        ),
    ):
        pytest.fail("was measured nevertheless")
    assert caught.value.status is Status.UNSUPPORTED
    assert texts(laptop, "scaling_governor") == ["powersave"] * 2


def test_what_cannot_be_set_back_is_told(laptop):
    knobs = host.offered([0])
    file = laptop.cpu / "cpufreq/policy0/scaling_governor"
    applied = host.applied(knobs, {**defaults(knobs), "cpu_governor": "performance"})
    applied.__enter__()
    file.unlink()
    file.symlink_to("/proc/version")
    with pytest.raises(EngineError, match="by hand: cpu_governor was powersave and is now "):
        applied.__exit__(None, None, None)


HOLDER = """
import sys, time
from pathlib import Path
from bayestl.measure import host

host.SYS = Path(sys.argv[1])
knobs = host.offered([0, 2])
values = {name: knob.option.default for name, knob in knobs.items()}
with host.applied(knobs, {**values, "cpu_governor": "performance", "cpu_boost": False}):
    print("set", flush=True)
    time.sleep(600)
"""


def test_a_killed_process_leaves_the_machine_as_it_was(laptop):
    with started(HOLDER, str(laptop.root)) as holder:
        assert holder.stdout.readline() == "set\n"
        assert texts(laptop, "scaling_governor") == ["performance"] * 2
        os.killpg(holder.pid, signal.SIGKILL)
    boost = laptop.cpu / "cpufreq/boost"
    assert wait_until(lambda: texts(laptop, "scaling_governor") == ["powersave"] * 2)
    assert wait_until(lambda: boost.read_text() == "1")


@pytest.fixture
def guards(monkeypatch):
    """The guards that were started."""
    started, popen = [], subprocess.Popen

    def start(*arguments, **settings):
        started.append(popen(*arguments, **settings))
        return started[-1]

    monkeypatch.setattr(host.subprocess, "Popen", start)
    return started


def test_the_guard_stays_as_long_as_the_measurement(laptop, guards):
    knobs = host.offered([0])
    with host.applied(knobs, {**defaults(knobs), "cpu_governor": "performance"}):
        with pytest.raises(subprocess.TimeoutExpired):
            guards[0].wait(0.3)
        assert texts(laptop, "scaling_governor")[0] == "performance"
    assert guards[0].returncode == 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_guard_that_ends_early_leaves_the_machine_as_it_was(laptop, guards, number):
    knobs = host.offered([0])
    with host.applied(knobs, {**defaults(knobs), "cpu_governor": "performance"}):
        guards[0].send_signal(number)
        guards[0].wait(20)
    assert texts(laptop, "scaling_governor") == ["powersave"] * 2


def test_what_a_gpu_offers(tree, gpu):
    knobs = host.offered([0], "cuda")
    assert {name: knob.option for name, knob in knobs.items()} == {
        "gpu_power_w": Integer(101, 700, default=500, unit="W", doc="power that the GPU may take"),
        "gpu_clock_mhz": Ordinal((210, 1500, 1980), 1980, "MHz", "highest clock of the GPU"),
    }
    assert gpu.state["locks"] == []
    with pytest.raises(EngineError, match="no options of the host"):
        host.offered([0], "cpu")
    with pytest.raises(EngineError, match="no GPU 1"):
        host.offered([0], "cuda:1")


def test_only_root_sets_a_gpu(tree, gpu, monkeypatch):
    monkeypatch.setattr(host.os, "geteuid", lambda: 1000)
    with pytest.raises(EngineError, match="gpu_power_w, gpu_clock_mhz: not root"):
        host.offered([0], "cuda")


def test_a_gpus_values_are_set_and_set_back(tree, gpu):
    knobs = host.offered([0], "cuda")
    with host.applied(knobs, {"gpu_power_w": 300, "gpu_clock_mhz": 1500}):
        assert gpu.state["power"] == 300_000
        assert gpu.state["locks"] == [[210, 1500]]
    assert gpu.state["power"] == 500_000
    assert gpu.state["locks"] == [[210, 1500], None]


def test_a_gpus_limits_that_are_not_taken_are_unsupported(tree, gpu, monkeypatch):
    knobs = host.offered([0], "cuda")

    def refused(power, clock):
        with (
            pytest.raises(Refusal) as caught,
            host.applied(knobs, {"gpu_power_w": power, "gpu_clock_mhz": clock}),
        ):
            pytest.fail("was measured nevertheless")
        return str(caught.value)

    gpu.set(most=600_000)
    assert refused(650, 1980) == "gpu_power_w: asked for 650000, the machine took 600000"
    assert gpu.state["power"] == 500_000
    gpu.set(deaf=1700)
    assert refused(500, 1500) == "gpu_clock_mhz: asked for 1500, the machine took 1700"
    assert gpu.state["locks"][-1] is None


def test_a_gpu_that_may_not_be_set_is_unsupported(tree, gpu):
    knobs = {"gpu_power_w": host.offered([0], "cuda")["gpu_power_w"]}
    gpu.set(denied=True)
    refused = pytest.raises(Refusal, match=r"set to 300000: .*Insufficient Permissions")
    with refused, host.applied(knobs, {"gpu_power_w": 300}):
        pytest.fail("was measured nevertheless")


def test_a_jetson_scales_its_gpu_by_files(tree, monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    folder = tree.root / "class/devfreq/17000000.ga10b"
    tree.write(folder / "available_frequencies", "306000000 612000000 1300500000")
    file = tree.write(folder / "max_freq", "1300500000")
    knobs = host.offered([0], "cuda")
    assert knobs["gpu_max_hz"].option == Ordinal(
        (306_000_000, 612_000_000, 1_300_500_000), 1_300_500_000, "Hz", "highest clock of the GPU"
    )
    with host.applied(knobs, {"gpu_max_hz": 612_000_000}):
        assert file.read_text() == "612000000"
    assert file.read_text() == "1300500000"


def test_the_runner_measures_under_the_hosts_values(staged, staged_environment, tree, monkeypatch):
    tree.policy(0, available_cores())
    runner, seen = staged(host=True), []
    names = {"act", "cpu_governor", "cpu_max_khz"}
    assert set(runner.space(staged_environment).names) == names
    undisturbed = Bench._undisturbed

    def look(bench, configuration):
        seen.append(texts(tree, "scaling_governor")[0])
        return undisturbed(bench, configuration)

    monkeypatch.setattr(Bench, "_undisturbed", look)
    monkeypatch.setattr(machine, "governor", lambda core: texts(tree, "scaling_governor")[0])
    measured = runner.run({"act": "work", "cpu_governor": "performance"}, staged_environment)
    assert measured.ok, measured.message
    assert measured.configuration["cpu_governor"] == "performance"
    assert measured.configuration["cpu_max_khz"] == 3_000_000
    assert seen == ["powersave", "performance"]  # the reference first
    assert measured.provenance["governor"] == "performance"  # as it was, not as it is again
    assert texts(tree, "scaling_governor") == ["powersave"]
    governor = tree.cpu / "cpufreq/policy0/scaling_governor"
    governor.unlink()
    governor.symlink_to("/dev/null")
    measured = runner.run({"act": "work", "cpu_governor": "performance"}, staged_environment)
    assert measured.status is Status.UNSUPPORTED
    assert "cpu_governor: asked for performance" in measured.message
    assert not runner.run({"act": "work", "cpu_governor": "turbo"}, staged_environment).ok
    runner.close()


def test_a_runner_without_anything_to_set_says_so(staged, staged_environment, tree):
    runner = staged(host=True)
    with pytest.raises(EngineError, match="this machine offers no options of the host"):
        runner.run({"act": "work"}, staged_environment)

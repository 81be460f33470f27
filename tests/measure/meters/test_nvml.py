import os
import sys
import time
from types import ModuleType, SimpleNamespace

import pytest

from bayestl.errors import EngineError
from bayestl.measure.meter import Kind
from bayestl.measure.meters.nvml import FIRST_PID_NAMESPACE, NvmlEnergy

ME = os.getpid()
UUIDS = ("GPU-8f2a0000-1111", "GPU-8f2b0000-2222", "GPU-c0de0000-3333")


class Stub(ModuleType):
    """The part of pynvml that the meter calls, over GPUs that a test sets up."""

    class NVMLError(Exception):
        pass

    class NVMLError_NotSupported(NVMLError):
        pass

    def __init__(self, gpus=1):
        super().__init__("pynvml")
        self.energy_mj = dict.fromkeys(range(gpus), 5_000_000)
        self.names = dict.fromkeys(range(gpus), "NVIDIA H100 80GB HBM3")
        self.pids = {ME}
        self.failures = {}  # function -> error
        self.initialised = 0

    def _answer(self, function, value):
        if function in self.failures:
            raise self.failures[function]
        assert self.initialised > 0 or function == "nvmlInit"
        return value

    def nvmlInit(self):
        self._answer("nvmlInit", None)
        self.initialised += 1

    def nvmlShutdown(self):
        self._answer("nvmlShutdown", None)
        self.initialised -= 1

    def nvmlDeviceGetCount(self):
        return self._answer("nvmlDeviceGetCount", len(self.energy_mj))

    def nvmlDeviceGetHandleByIndex(self, index):
        return self._answer("nvmlDeviceGetHandleByIndex", index)

    def nvmlDeviceGetUUID(self, handle):
        return self._answer("nvmlDeviceGetUUID", UUIDS[handle])

    def nvmlDeviceGetName(self, handle):
        return self._answer("nvmlDeviceGetName", self.names[handle])

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):
        return self._answer("nvmlDeviceGetTotalEnergyConsumption", self.energy_mj[handle])

    def nvmlDeviceGetComputeRunningProcesses(self, handle):
        processes = [SimpleNamespace(pid=pid, usedGpuMemory=2**30) for pid in self.pids]
        return self._answer("nvmlDeviceGetComputeRunningProcesses", processes)


@pytest.fixture(autouse=True)
def host(monkeypatch, tmp_path):
    """The first PID namespace, no CUDA variable; a function that enters a container."""
    link = tmp_path / "pid"
    link.symlink_to(FIRST_PID_NAMESPACE)
    monkeypatch.setattr(NvmlEnergy, "pid_namespace", link)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)

    def contain():
        link.unlink()
        link.symlink_to("pid:[4026533333]")

    return contain


@pytest.fixture
def gpus(monkeypatch):
    def install(count=1):
        stub = Stub(count)
        monkeypatch.setitem(sys.modules, "pynvml", stub)
        return stub

    return install


def read(meter, stub, joules=40.0, handle=0):
    meter.open()
    meter.begin()
    stub.energy_mj[handle] += int(joules * 1e3)
    return meter.end()


def test_the_counter_is_read_in_joules(gpus):
    stub, meter = gpus(), NvmlEnergy()
    reading = read(meter, stub, 123.456)
    assert reading.value == pytest.approx(123.456)
    assert (reading.kind, reading.unit, reading.resolution_s) == (Kind.COUNTER, "J", 0.1)
    assert reading.domain == UUIDS[0]
    assert reading.source == "nvmlDeviceGetTotalEnergyConsumption"
    assert meter.disturbance() is None
    assert meter.window_s >= 1
    meter.close()
    assert stub.initialised == 0


def test_a_counter_that_stands_still_or_goes_back_is_not_zero(gpus):
    stub, meter = gpus(), NvmlEnergy()
    for joules, why in ((0, "stood still"), (-10, "went back")):
        reading = read(meter, stub, joules)
        assert reading.kind is Kind.UNAVAILABLE
        assert why in reading.source


def test_a_missing_library_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    meter = NvmlEnergy()
    meter.open()
    meter.begin()
    assert 'pip install ".[nvidia]"' in meter.end().source


def test_a_machine_without_driver_is_told(gpus):
    stub, meter = gpus(), NvmlEnergy()
    stub.failures["nvmlInit"] = stub.NVMLError("NVML Shared Library Not Found")
    meter.open()
    meter.begin()
    reading = meter.end()
    assert reading.source == "no NVIDIA driver answers: NVML Shared Library Not Found"
    meter.close()
    del stub.failures["nvmlInit"]
    assert read(meter, stub).kind is Kind.COUNTER


def test_a_gpu_without_counter_is_told(gpus):
    stub, meter = gpus(), NvmlEnergy()
    stub.failures["nvmlDeviceGetTotalEnergyConsumption"] = stub.NVMLError_NotSupported("No")
    reading = read(meter, stub)
    assert reading.kind is Kind.UNAVAILABLE
    assert "Volta" in reading.source
    assert stub.initialised == 0


@pytest.mark.parametrize("moment", ["begin", "end"])
def test_a_gpu_that_is_lost_is_told(gpus, moment):
    stub, meter = gpus(), NvmlEnergy()
    meter.open()
    for step in ("begin", "end"):
        if step == moment:
            stub.failures["nvmlDeviceGetTotalEnergyConsumption"] = stub.NVMLError("GPU is lost")
            stub.failures["nvmlShutdown"] = stub.NVMLError("GPU is lost")
        reading = getattr(meter, step)()
    assert reading.kind is Kind.UNAVAILABLE
    assert "GPU is lost" in reading.source
    assert meter.disturbance() is None
    meter.close()


@pytest.mark.parametrize(
    ("device", "visible", "handle"),
    [
        (0, None, 0),
        (2, None, 2),
        (0, "2,1", 2),
        (1, "2, 1", 1),
        (0, "GPU-8f2b", 1),
        ("GPU-c0de", None, 2),
        (UUIDS[1], "0", 1),
    ],
)
def test_the_device_is_the_one_that_cuda_means(gpus, monkeypatch, device, visible, handle):
    stub = gpus(3)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    reading = read(NvmlEnergy(device), stub, 7, handle)
    assert reading.value == pytest.approx(7), reading.source
    assert reading.domain == UUIDS[handle]


@pytest.mark.parametrize(
    ("device", "visible", "why"),
    [
        (3, None, "no GPU 3: there are 3"),
        (0, "", "no GPU 0 under CUDA_VISIBLE_DEVICES="),
        (0, "-1", "no GPU 0 under"),
        (1, "0,-1,1", "no GPU 1 under"),
        (0, "7", "no GPU 7"),
        (0, "MIG-1c5b", "a part of a GPU"),
        ("GPU-8f2", None, "2 GPUs have"),
        ("GPU-dead", None, "0 GPUs have"),
    ],
)
def test_a_device_that_is_not_there_is_told(gpus, monkeypatch, device, visible, why):
    stub = gpus(3)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    reading = read(NvmlEnergy(device), stub)
    assert reading.kind is Kind.UNAVAILABLE
    assert why in reading.source


def test_gpus_of_different_models_need_an_order(gpus, monkeypatch):
    stub = gpus(2)
    stub.names[1] = "NVIDIA T400"
    assert "CUDA_DEVICE_ORDER=PCI_BUS_ID" in read(NvmlEnergy(1), stub).source
    assert read(NvmlEnergy("GPU-8f2b"), stub, handle=1).kind is Kind.COUNTER
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    assert read(NvmlEnergy(1), stub, handle=1).kind is Kind.COUNTER


@pytest.mark.parametrize("moment", ["before", "during"])
def test_another_process_on_the_gpu_is_a_disturbance(gpus, moment):
    stub, meter = gpus(), NvmlEnergy()
    meter.open()
    if moment == "before":
        stub.pids = {ME, 4242}
    meter.begin()
    stub.energy_mj[0] += 1_000
    stub.pids = {ME} if moment == "before" else {ME, 4242}
    assert meter.end().value == 1.0
    assert "4242" in meter.disturbance()
    assert read(meter, stub, joules=0).value is None
    assert meter.disturbance() is None  # of the window before
    stub.pids = {ME}
    assert read(meter, stub).value is not None
    assert meter.disturbance() is None


def test_a_process_that_is_not_this_one_is_another(gpus):
    stub, meter = gpus(), NvmlEnergy()
    stub.pids = {4242}  # this one computes on the CPU
    read(meter, stub)
    assert "4242" in meter.disturbance()


def test_in_a_container_one_foreign_number_may_be_this_process(gpus, host):
    host()
    stub, meter = gpus(), NvmlEnergy()
    for pids, disturbed, told in (
        ({90_001}, False, True),
        (set(), False, True),
        ({90_001, 90_002}, True, True),
        ({ME}, False, False),
        ({ME, 90_001}, True, False),
    ):
        stub.pids = pids
        reading = read(meter, stub)
        assert (meter.disturbance() is not None) == disturbed, pids
        assert ("cannot be told" in reading.source) == told, pids
        assert reading.value == pytest.approx(40)


def test_processes_that_may_not_be_seen_are_told(gpus):
    stub, meter = gpus(), NvmlEnergy()
    stub.failures["nvmlDeviceGetComputeRunningProcesses"] = stub.NVMLError(
        "Insufficient Permissions"
    )
    reading = read(meter, stub)
    assert reading.value == pytest.approx(40)
    assert "other processes cannot be seen" in reading.source
    assert "Insufficient Permissions" in reading.source
    assert meter.disturbance() is None


@pytest.mark.parametrize("device", [-1, True, 1.0, None, "0", "MIG-1c5b", [0]])
def test_arguments_are_checked(device):
    with pytest.raises(EngineError, match="nvml: device as an index from 0 or a UUID"):
        NvmlEnergy(device)


@pytest.mark.gpu
def test_this_gpu_spends_energy():
    pynvml = pytest.importorskip("pynvml")
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        pytest.skip(f"no GPU: {error}")
    meter = NvmlEnergy()
    meter.open()
    meter.begin()
    time.sleep(meter.window_s)
    reading = meter.end()
    meter.close()
    assert reading.kind is Kind.COUNTER, reading.source
    assert 1 < reading.value < 3_000

"""Devices by name, memory before it is taken, and on a GPU the numbers of the CPU."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bayestl.errors import DeviceUnavailable, FitError
from bayestl.models.gaussian_process import device as devices
from bayestl.models.gaussian_process.device import CPU, afford, device_of, free_bytes, name_of
from bayestl.models.gp import LMCGP, MultiTaskGP, TargetOnlyGP
from bayestl.models.persistence import load
from bayestl.models.sequential.sequential_gp import SequentialGP
from bayestl.models.transfer_gp import TransferGP

RECIPES = [SequentialGP, MultiTaskGP, LMCGP, TargetOnlyGP, TransferGP]


@pytest.fixture
def two_gpus(monkeypatch) -> None:
    """As if there were two; nothing can be computed there."""
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU {device.index}")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2 * 10**9, 8 * 10**9))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 3 * 10**9)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 10**9)


@pytest.mark.usefixtures("two_gpus")
def test_devices_are_named_as_torch_names_them():
    assert device_of("cpu") == CPU
    assert device_of("cuda") == device_of("auto") == torch.device("cuda", 0)
    assert device_of("cuda:1") == torch.device("cuda", 1)
    assert name_of(device_of("cuda:1")) == "cuda:1 (GPU 1)"
    assert name_of(CPU) == "cpu"


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "cuda:-1", "mps", "", "cuda:0:1"])
def test_other_names_are_refused(name):
    with pytest.raises(
        DeviceUnavailable, match="expected device 'cpu', 'cuda', 'cuda:1' or 'auto'"
    ):
        device_of(name)


@pytest.mark.usefixtures("two_gpus")
def test_a_gpu_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(DeviceUnavailable, match="expected one of cuda:0 to cuda:1"):
        device_of("cuda:2")


def test_without_a_gpu_the_error_says_what_is_missing(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert device_of("auto") == CPU
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    with pytest.raises(DeviceUnavailable, match="sees no GPU; look at the driver"):
        device_of("cuda")
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.version, "hip", None)
    with pytest.raises(DeviceUnavailable, match=r"built for GPUs, got .* or take device='cpu'"):
        device_of("cuda")


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipes_refuse_a_device_before_they_look_at_anything(recipe, make_table):
    table = make_table({"source": (8, 1.0, 0.0), "target": (4, 1.0, 0.5)})
    with pytest.raises(FitError, match="expected device 'cpu'"):
        recipe(device="abacus").fit(table, metric="latency", target="target")


@pytest.mark.usefixtures("two_gpus")
def test_what_torch_holds_back_on_a_gpu_is_free():
    assert free_bytes(torch.device("cuda", 0)) == 4 * 10**9
    afford(3.9e9, torch.device("cuda", 0), "a process")
    with pytest.raises(FitError) as caught:
        afford(4.1e9, torch.device("cuda", 0), "a process of 20000 measurements")
    assert str(caught.value) == (
        "a process of 20000 measurements takes about 4.1 GB, got 4.0 GB free on cuda:0 (GPU 0); "
        "condition on fewer rows by most_rows, or take a device with more memory"
    )


def test_free_memory_is_what_machine_and_container_leave(tmp_path, monkeypatch):
    machine, group = tmp_path / "meminfo", tmp_path / "group"
    group.mkdir()
    monkeypatch.setattr(devices, "_MEMINFO", machine)
    monkeypatch.setattr(devices, "_GROUP", group)
    machine.write_text("MemTotal: 9000 kB\nMemAvailable:    5000 kB\n")
    assert free_bytes(CPU) == 5000 * 1024
    (group / "memory.max").write_text("3000000\n")
    (group / "memory.current").write_text("2000000\n")
    (group / "memory.stat").write_text("anon 5\ninactive_file 500000\n")
    assert free_bytes(CPU) == 1_500_000
    (group / "memory.max").write_text("max\n")
    assert free_bytes(CPU) == 5000 * 1024


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX tells")
def test_elsewhere_the_machine_tells_its_whole_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "_MEMINFO", tmp_path / "none")
    monkeypatch.setattr(devices, "_GROUP", tmp_path)
    assert free_bytes(CPU) > 10**8
    monkeypatch.setattr(devices, "os", SimpleNamespace())
    assert free_bytes(CPU) is None
    afford(1e30, CPU, "nobody knows whether this")


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipes_look_at_the_memory_first(recipe, make_table, monkeypatch):
    table = make_table({"source": (8, 1.0, 0.0), "target": (4, 1.0, 0.5)})
    monkeypatch.setattr(devices, "free_bytes", lambda device: 100)
    with pytest.raises(FitError, match=r"measurements.* takes about .* GB, got 0.0 GB free on cpu"):
        recipe().fit(table, metric="latency", target="target")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("rows", ["dense", "matrix-free"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_gpu_gives_the_numbers_of_the_cpu(
    recipe, rows, make_table, make_test, monkeypatch, tmp_path
):
    """The same model on both to 1e-6, saved on the GPU and loaded on the CPU.

    Without a matrix to 1e-4: rounding may decide which of two measurements is a landmark.
    """
    near = {"dense": 1e-6, "matrix-free": 1e-4}[rows]
    if rows == "matrix-free":
        monkeypatch.setattr("bayestl.models.gaussian_process.solver.DENSE_ROWS", 30)
    table = make_table({"source": (150, 1.0, 0.0), "target": (40, 0.8, 0.5)})
    asked, _ = make_test()
    here, there = (
        recipe(device=name).fit(table, metric="latency", target="target")
        for name in ("cpu", "cuda")
    )
    assert "cuda" in str(there.diagnostics.details["solved"])
    expected = here.predict(asked)
    np.testing.assert_allclose(there.predict(asked), expected, rtol=near)
    few, others = here.posterior(asked[:9]), there.posterior(asked[:9])
    np.testing.assert_allclose(others.mean, few.mean, rtol=near, atol=near)
    np.testing.assert_allclose(others.covariance, few.covariance, atol=near)
    there.save(tmp_path / "there.bayestl")
    np.testing.assert_allclose(load(tmp_path / "there.bayestl").predict(asked), expected, rtol=near)
    if hasattr(there, "refit"):
        more = make_table({"source": (150, 1.0, 0.0), "target": (45, 0.8, 0.5)})
        np.testing.assert_allclose(
            there.refit(more).predict(asked), here.refit(more).predict(asked), rtol=near
        )

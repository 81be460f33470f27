"""Programs in TOML: what is read, and what is refused with its line."""

import pytest

from bayestl.data.measurement import Metric
from bayestl.data.toml import Document
from bayestl.errors import SpecificationError
from bayestl.measure.runner import LocalRunner
from bayestl.measure.specification import program_in, runner_in

TEXT = """\
[program]
command = [
    "./bench",
    "--threads={threads}",
    ["--spin-us", "{spin_us}"],
]
name = "bench"
files = ["weights.bin"]
timeout_s = 5
memory_limit_mib = 512.5
disturbance_limit = 0.2
flags = {spin = ["--spin"]}

[program.variables]
OMP_NUM_THREADS = "{threads}"

[program.metrics.latency]
unit = "ms"

[program.metrics.throughput]
unit = "1/s"
direction = "maximize"

[options.threads]
kind = "integer"
low = 1
high = 8

[options.spin]
kind = "boolean"

[options.spin_us]
kind = "real"
low = 0.0
high = 9.0

[conditions]
spin_us = "spin"
"""


def test_a_program_is_read_whole(tmp_path):
    runner = program_in(Document(TEXT), tmp_path)
    assert runner is not None
    assert runner.command == ["./bench", "--threads={threads}", ["--spin-us", "{spin_us}"]]
    assert runner.options.names == ("threads", "spin", "spin_us")
    assert runner.reports == (Metric("latency", "ms"), Metric("throughput", "1/s", "maximize"))
    assert runner.variables == {"OMP_NUM_THREADS": "{threads}"}
    assert runner.flags == {"spin": ["--spin"]}
    assert (runner.name, list(runner.files)) == ("bench", ["weights.bin"])
    assert (runner.timeout_s, runner.memory_limit_mib) == (5, 512.5)
    assert runner.disturbance_limit == 0.2
    assert runner.folder == tmp_path


def test_a_file_need_not_describe_a_program(tmp_path):
    assert program_in(Document(TEXT[TEXT.index("[options.threads]") :]), tmp_path) is None


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ('name = "bench"', 'nmae = "bench"', 7, "unknown key 'nmae'; expected one of command"),
        ('name = "bench"', "name = 3", 7, "name: expected a text, got 3"),
        ('"--threads={threads}"', '"--threads={thread}"', 4, "unknown placeholder 'thread'"),
        ('"{spin_us}"', '"{spin_us"', 5, "expected a placeholder"),
        ('"{spin_us}"', "3", 2, "command: expected a list of texts"),
        ('"./bench"', '"{threads}"', 2, "without placeholders first"),
        ('["weights.bin"]', '"weights.bin"', 8, "files: expected a list of texts"),
        ("timeout_s = 5", "timeout_s = -5", 9, "expected a positive number, got -5"),
        ("512.5", '"512"', 10, "memory_limit_mib: expected a positive number, got '512'"),
        ("512.5", "true", 10, "memory_limit_mib: expected a positive number, got True"),
        ('{spin = ["--spin"]}', '{spun = ["--spin"]}', 12, "flags: spun: unknown option"),
        ('flags = {spin = ["--spin"]}', "", 2, "option 'spin' does not reach the program"),
        ('flags = {spin = ["--spin"]}', 'flags = "--spin"', 12, "expected a table"),
        ('"{threads}"\n\n', '"{thread}"\n\n', 15, "variables: OMP_NUM_THREADS: unknown"),
        ('"{threads}"\n\n', "4\n\n", 15, "variables: OMP_NUM_THREADS: expected a text, got 4"),
        ('unit = "ms"', "unit = 3", 18, "unit: expected a text, got 3"),
        ('unit = "ms"', 'units = "ms"', 18, "unknown key 'units'; expected one of unit"),
        ('"maximize"', '"up"', 22, "expected direction 'minimize' or 'maximize', got 'up'"),
        ("metrics.throughput]", "metrics.cpu_time]", 20, "cpu_time: has a meaning of its own"),
        (TEXT[TEXT.index("[options.threads]") :], "", 1, "expected the program's options"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_line(tmp_path, old, new, line, message):
    assert old in TEXT
    document = Document(TEXT.replace(old, new, 1), "bench.toml")
    with pytest.raises(SpecificationError, match=message) as raised:
        program_in(document, tmp_path)
    assert str(raised.value).startswith(f"bench.toml, line {line}: ")


def test_how_networks_are_measured_is_read():
    text = """
[runner]
timeout_s = 120
disturbance_limit = 0.3
meters = {estimate = {idle_w = 5, busy_w = 20, uncertainty = 0.3}}
"""
    runner = runner_in(Document(text, "a.toml"))
    assert (runner.timeout_s, runner.disturbance_limit) == (120, 0.3)
    assert runner.metrics[-1].name == "estimated_energy"
    assert runner_in(Document("", "a.toml")).timeout_s == LocalRunner.timeout_s


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("timeout_s = -1", "line 2: expected timeout_s: a positive number, got -1"),
        ("seconds = 1", "line 2: unknown key 'seconds'; expected one of timeout_s"),
        ("meters = {watts = {}}", "unknown meter 'watts'; expected one of nvml"),
        ("meters = {estimate = {}}", "missing a required argument: 'idle_w'"),
        ("meters = {nvml = 0}", r"expected a table \[runner.meters.nvml\], got 0"),
        ('meters = "nvml"', r"expected a table \[runner.meters\], got 'nvml'"),
        ('host = "no"', "line 2: expected host: true or false, got 'no'"),
    ],
)
def test_a_setting_that_is_wrong_is_named_with_its_line(setting, message):
    with pytest.raises(SpecificationError, match=message):
        runner_in(Document(f"[runner]\n{setting}\n", "a.toml"))

"""`bayestl measure`: a sample of configurations, or given ones, in one environment."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bayestl.cli.campaign import ProgramPath, program_of
from bayestl.cli.console import Interrupted, JsonFlag, facts, show
from bayestl.cli.progress import progress

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bayestl.data.environment import Environment
    from bayestl.data.measurement import Measurement
    from bayestl.data.options import Value
    from bayestl.data.space import ConfigSpace, Configuration
    from bayestl.data.table import MeasurementTable
    from bayestl.measure.program import ProgramRunner

LOG = "survey"


_TABLES = (".parquet", ".csv", ".csv.gz")


def measure(
    output: Annotated[Path, typer.Option(help="The table to write: .parquet, .csv or .csv.gz.")],
    network: Annotated[
        str | None, typer.Option(help="A network's name (see doctor), or an .onnx file.")
    ] = None,
    program: ProgramPath = None,
    engine: Annotated[str, typer.Option(help="What runs the network.")] = "onnxruntime",
    cores: Annotated[
        str | None, typer.Option(help="Such as 0, 0-3 or 0,2; all if left out.")
    ] = None,
    batch: Annotated[int, typer.Option(help="Inputs in one inference.", min=1)] = 1,
    size: Annotated[
        int | None, typer.Option(help="Side of an image or length of a sequence.", min=1)
    ] = None,
    setting: Annotated[
        list[str] | None, typer.Option(help="key=value, repeatable: of the engine, as isa=AVX2.")
    ] = None,
    meter: Annotated[
        list[str] | None, typer.Option(help="A further meter, as nvml or rapl (see doctor).")
    ] = None,
    allocator: Annotated[
        bool, typer.Option("--allocator", help="Vary the memory allocator's options, too.")
    ] = False,
    host: Annotated[
        bool, typer.Option("--host", help="Vary the machine's clocks and limits, too, as root.")
    ] = False,
    timeout: Annotated[
        float | None, typer.Option(help="Seconds that one measurement may take; 60.", min=0.001)
    ] = None,
    disturbance_limit: Annotated[
        float | None,
        typer.Option(
            help="Share of the cores that others may use, from which on a measurement is repeated, "
            "and contaminated in the end; 0.15.",
            min=0.0,
        ),
    ] = None,
    environment: Annotated[
        str | None,
        typer.Option(
            help="The environment's name; unless given, what is measured, or the only one of a "
            "program's specification."
        ),
    ] = None,
    count: Annotated[int, typer.Option(help="How many configurations to sample.", min=1)] = 50,
    repeats: Annotated[
        int,
        typer.Option(help="Of each configuration, in passes; they tell the noise.", min=1),
    ] = 1,
    seed: Annotated[int, typer.Option(help="Of the sample and its order.", min=0)] = 0,
    config: Annotated[
        list[str] | None,
        typer.Option(help="key=value, repeatable: one configuration, the rest by default."),
    ] = None,
    configs: Annotated[
        Path | None, typer.Option(help="A CSV or Parquet file with a column for every option.")
    ] = None,
    store: Annotated[
        Path | None, typer.Option(help="Where each measurement is kept at once; OUTPUT.db.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Measure configurations of a network, or of a program, in one environment, as a table.

    Each is measured in a process of its own and stored at once: the same command again
    goes on where it was interrupted.

    \b
    bayestl measure --network squeezenet --cores 0 --count 50 --output source.parquet
    bayestl measure --network model.onnx --config intra_op_num_threads=2 --output one.csv
    bayestl measure --network resnet50 --configs mine.csv --output mine.parquet
    bayestl measure --network bert_mini --engine openvino --setting isa=AVX2 --size 64 \\
        --count 30 --repeats 3 --output openvino.parquet
    bayestl measure --program bench.toml --environment one-core --output bench.parquet
    """
    from bayestl.campaign.budget import Stop
    from bayestl.campaign.loop import run
    from bayestl.campaign.store import SQLiteStore
    from bayestl.campaign.survey import Survey, interleaved
    from bayestl.data.readers import write_table
    from bayestl.measure.runner import LocalRunner

    if not output.name.endswith(_TABLES):
        raise typer.BadParameter(f"expected --output to end in {', '.join(_TABLES)}, got {output}")
    if program is not None and network is None:
        of_networks = (cores, size, setting, meter, timeout, disturbance_limit)
        if any(given is not None for given in of_networks) or batch != 1 or allocator or host:
            raise typer.BadParameter(
                "cores, batch, size, setting, meter, allocator, host, timeout and "
                "disturbance-limit are for networks; a program's specification has settings of "
                "its own"
            )
        runner, wanted = _program(program, environment)
    elif network is not None and program is None:
        meters = {name: {} for name in meter or ()}
        limits = {"timeout_s": timeout, "disturbance_limit": disturbance_limit}
        given: dict[str, Any] = {k: limit for k, limit in limits.items() if limit is not None}
        runner = LocalRunner(meters=meters, allocator=allocator, host=host, **given)
        settings = _settings(cores, batch, size, setting or ())
        wanted = _environment(environment, engine, network, settings)
    else:
        raise typer.BadParameter("give either --network or --program")
    name = wanted.name
    described, space = runner.describe(wanted), runner.space(wanted)
    configurations = _configurations(space, config, configs, count, seed)
    if repeats > 1:
        configurations = interleaved(configurations, repeats, seed=seed)
    survey = Survey(space, described, runner.metrics, configurations)
    kept = SQLiteStore(store or output.with_name(f"{output.name}.db"))
    with progress(f"measure {name}", runner.metrics[0]) as display:
        result = run(survey, runner, kept, name=LOG, observer=display)
    if result.reason is Stop.INTERRUPTED:
        done = len(result.state.settled_in(name))
        raise Interrupted(
            f"interrupted; {done} of {survey.total} measurements are in {kept.path}, "
            "the same command goes on"
        )
    table = survey.table(result.state)
    write_table(table, output)
    _show(as_json, table, result.state.measurements_in(name), output, kept.path)


def _program(path: Path, name: str | None) -> tuple[ProgramRunner, Environment]:
    """The program in a specification, and the environment of that name, or the only one."""
    runner, environments = program_of(path)
    if name is None and len(environments) == 1:
        (name,) = environments
    if name is None or name not in environments:
        known = ", ".join(environments) or "none"
        raise typer.BadParameter(f"expected --environment out of those in {path}: {known}")
    return runner, environments[name]


def _settings(
    cores: str | None, batch: int, size: int | None, pairs: Sequence[str]
) -> dict[str, Value]:
    settings: dict[str, Value] = {"batch": batch}
    settings |= {} if cores is None else {"cores": cores}
    settings |= {} if size is None else {"size": size}
    for pair in pairs:
        name, separator, text = pair.partition("=")
        if not separator:
            raise typer.BadParameter(f"expected --setting key=value, got {pair!r}")
        settings[name] = text
    return settings


def _environment(
    name: str | None, engine: str, network: str, settings: Mapping[str, Value]
) -> Environment:
    from bayestl.data.environment import Environment

    name = name or _name(engine, network, settings)
    return Environment(name, engine=engine, network=network, settings=settings)


def _name(engine: str, network: str, settings: Mapping[str, Value]) -> str:
    cores = f"cores {settings['cores']}" if "cores" in settings else "all cores"
    rest = [f"{k} {v}" for k, v in settings.items() if k != "cores" and (k, v) != ("batch", 1)]
    return ", ".join([Path(network).stem, engine, cores, *rest])


def _configurations(
    space: ConfigSpace, config: Sequence[str] | None, configs: Path | None, count: int, seed: int
) -> Sequence[Configuration]:
    """The given configurations, or a sample with the default among it."""
    from bayestl.data.readers import read_configurations
    from bayestl.data.sampling import candidates

    if config and configs:
        raise typer.BadParameter("give either --config or --configs")
    if config:
        return [_parsed(space, config)]
    if configs:
        return space.records(read_configurations(configs, space))
    return space.records(candidates(space, count, seed=seed))


def _parsed(space: ConfigSpace, pairs: Sequence[str]) -> Configuration:
    """The configuration in `key=value` pairs."""
    from bayestl.errors import ConfigurationError

    values = {}
    for pair in pairs:
        name, separator, text = pair.partition("=")
        if not separator:
            raise typer.BadParameter(f"expected --config key=value, got {pair!r}")
        option = space.options.get(name)
        try:
            values[name] = text if option is None else option.parse(text)
        except ConfigurationError as error:
            raise ConfigurationError(f"option {name!r}: {error}") from None
    return space.configuration(values)


def _show(
    as_json: bool,
    table: MeasurementTable,
    measured: Sequence[Measurement],
    output: Path,
    store: Path,
) -> None:
    metric = table.metrics[0]
    failed = table.failures().frame["status"].value_counts().to_dict()
    reasons = {m.status.value: m.message for m in measured if not m.ok}
    values = table.frame[metric.name].dropna()
    summary = {
        "environment": table.environment_names[0],
        "measurements": len(table),
        "failures": failed,
        "reasons": reasons,
        "output": str(output),
        "store": str(store),
        metric.name: {
            "unit": metric.unit,
            "min": values.min() if len(values) else None,
            "median": values.median() if len(values) else None,
            "max": values.max() if len(values) else None,
        },
    }
    shown = f"{values.min():.4g} to {values.max():.4g} {metric.unit}" if len(values) else "none"
    lines = [
        ("environment", summary["environment"]),
        ("measurements", len(table)),
        ("failed", ", ".join(f"{n} {status}" for status, n in failed.items()) or "none"),
        *((f"last {status}", message) for status, message in reasons.items()),
        (metric.name, shown),
        ("table", output),
    ]
    show(as_json, summary, facts(lines))

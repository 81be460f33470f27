"""The command line: the list of commands, and what happens when one fails."""

from __future__ import annotations

import io
import json
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version
from typing import Annotated

import typer
from rich.text import Text

from bayestl.cli.campaign import resume, run, status
from bayestl.cli.console import Interrupted, errors, warn
from bayestl.cli.demo import demo
from bayestl.cli.doctor import doctor
from bayestl.cli.fit import fit
from bayestl.cli.lint import lint
from bayestl.cli.measure import measure
from bayestl.cli.predict import predict
from bayestl.cli.report import report
from bayestl.errors import BayestlError

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130

# typer carries its own copy of click or depends on it, by version; either way the class of
# usage errors is the one above the one that it exports.
UsageError: type[typer.BadParameter] = typer.BadParameter.__mro__[1]  # type: ignore[assignment]

app = typer.Typer(
    name="bayestl",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    epilog="Exit codes: 0 done, 1 an error, 2 wrong usage, 130 interrupted by Ctrl-C.",
)
for command in (demo, doctor, measure, lint, fit, predict, report):
    app.command()(command)

campaign = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
for command in (run, resume, status):
    campaign.command()(command)
app.add_typer(campaign, name="campaign", help="Measure a target where it teaches most.")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"bayestl {version('bayestl')}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error arose.")] = False,
    shown: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Performance of DNN systems, learnt from few measurements.

    Measure a network under configurations, fit a cross-environment Gaussian process, and
    let it choose what to measure next in an environment that is new.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit code. Whatever goes wrong is one message on standard error."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    _open_streams()
    code = _run(given)
    try:
        sys.stdout.flush()
    except OSError as error:
        # The buffer keeps what could not be written; it must not fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):  # the reader of a pipe has seen enough
            return FAILED
        return code or _failed(error, given, FAILED, f"cannot write the result: {error.strerror}")
    return code


def _open_streams() -> None:
    """See to it that whatever is printed can be: no text fails for its characters.

    Standard streams may be closed, and file names and what programs say may hold what
    the terminal's encoding lacks.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed by whoever started this
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):  # standard error does so by itself
        sys.stdout.reconfigure(errors="backslashreplace")


def _run(given: Sequence[str]) -> int:
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: warn([str(message)])
        try:
            code = app(args=list(given), prog_name="bayestl", standalone_mode=False)
        except UsageError as error:
            if type(error).__name__ == "NoArgsIsHelpError":  # its message is the whole help
                errors.print(error.format_message(), markup=False)
                return USAGE
            return _failed(error, given, USAGE, f"{error.format_message()} (see bayestl --help)")
        except Interrupted as error:
            return _failed(error, given, INTERRUPTED, str(error))
        except (KeyboardInterrupt, typer.Abort):
            code = INTERRUPTED  # what typer makes of Ctrl-C differs by version
        except (BayestlError, OSError, MemoryError) as error:
            return _failed(error, given, FAILED, str(error) or type(error).__name__)
        except Exception as error:
            message = f"unexpected {type(error).__name__}: {error}; this is a bug in bayestl, "
            return _failed(error, given, FAILED, message + "run bayestl --debug and report it")
    if code == INTERRUPTED:
        return _failed(KeyboardInterrupt(), given, INTERRUPTED, "interrupted")
    return code if isinstance(code, int) else OK


def _failed(error: BaseException, given: Sequence[str], code: int, message: str) -> int:
    """The exit code, after saying what went wrong: to people, and to programs that asked."""
    if "--debug" in given:
        errors.print("".join(traceback.format_exception(error)), markup=False)
    errors.print(Text.assemble(("error: ", "red"), message))
    if "--json" in given:
        kind = type(error).__name__
        with suppress(OSError):  # a full disk, which was told already
            print(json.dumps({"error": {"kind": kind, "message": message, "exit_code": code}}))
    return code

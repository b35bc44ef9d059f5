"""Entry point: commands, exit codes, one-line errors."""

from __future__ import annotations

import os
import sys

import typer

from passes import DeadkvError
from tracing.cli.check_contract import check_contract_command
from tracing.cli.compile import compile_command
from tracing.cli.inspect import diff_command, passes_command, verify_command
from tracing.cli.show import dump_command, explain_command
from tracing.cli.signals import Stopped, stoppable
from tracing.cli.terminal import error_line
from tracing.collection import collection_paused

USAGE_ERROR = 2

app = typer.Typer(
    name="deadkv",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Removes the dead BHSD prefix cache from token-generation graphs, proves it, and hands the graph to the "
    "Neuron compiler. Exit codes: 0 done, 1 the graphs differ or a check failed, 2 something given cannot be used.",
)
app.command("compile")(compile_command)
app.command("diff")(diff_command)
app.command("explain")(explain_command)
app.command("dump")(dump_command)
app.command("verify")(verify_command)
app.command("passes")(passes_command)
app.command("check-contract")(check_contract_command)


def main() -> None:
    """Runs the command line. A DeadkvError is one line on stderr and exit code 2."""
    try:
        with stoppable(), collection_paused():
            _run()
    except DeadkvError as error:
        error_line(str(error))
        sys.exit(USAGE_ERROR)
    except Stopped as stop:
        error_line(f"stopped by {stop.name} before it was done")
        sys.exit(stop.exit_code)
    except BrokenPipeError:
        _discard_stdout()
        sys.exit(0)


def _run() -> None:
    """What is printed is written out here, where a full disk can still be reported."""
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        _discard_stdout()
        what = "cannot write the output" if error.filename is None else str(error.filename)
        raise DeadkvError(f"{what}: {error.strerror or error}") from error


def _discard_stdout() -> None:
    """Python would fail to flush it once more at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

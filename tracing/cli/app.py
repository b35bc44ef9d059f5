"""Entry point: commands, exit codes, one-line errors."""

from __future__ import annotations

import os
import sys

import typer

from passes import DeadkvError
from tracing.cli.check_contract import check_contract_command
from tracing.cli.compile import compile_command
from tracing.cli.inspect import diff_command, explain_command, passes_command, verify_command
from tracing.cli.terminal import error_line

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
app.command("verify")(verify_command)
app.command("passes")(passes_command)
app.command("check-contract")(check_contract_command)


def main() -> None:
    """Runs the command line. A DeadkvError is one line on stderr and exit code 2."""
    try:
        app()
    except DeadkvError as error:
        error_line(str(error))
        sys.exit(USAGE_ERROR)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)

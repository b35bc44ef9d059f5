"""The command line of the Neuron compiler for an HLO file."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from passes.errors import DeadkvError
from tracing.backends.targets import get_target

COMPILER = "neuronx-cc"
HLO_FILE, NEFF_FILE, COMPILER_LOG, COMMAND_FILE = "after.hlo.pb", "after.neff", "log-neuron-cc.txt", "command.txt"

# Options that decide what is read and written; the caller's arguments may not.
_FIXED = ("--framework", "--target", "--output", "--logfile")
# Spellings of an option (neuronx-cc's command-line reference) -> what is passed where the caller gives none.
_DEFAULTS = (
    (("--model-type",), ("--model-type", "transformer")),
    (("--auto-cast",), ("--auto-cast", "none")),
    (("--optlevel", "-O"), ("-O2",)),
)

# Options that only cores of this generation and later have (same reference), by spelling.
_NEEDS_CORE = {"--logical-nc-config": 3, "-lnc": 3, "--lnc": 3, "--native-int64": 3}


def compile_options(target: str, compiler_args: Sequence[str] = ()) -> tuple[str, ...]:
    """The options that decide how the graph is compiled: target, defaults, and the caller's `compiler_args` last.

    An argument that sets an option with a default here replaces the default. Raises DeadkvError for one that sets the
    framework, the target or a file name, for one that the target does not have, and for an unknown target.
    """
    core = get_target(target).neuron_core
    for argument in compiler_args:
        if _option(argument) in _FIXED:
            raise DeadkvError(f"compiler argument {argument!r} is set by deadkv: leave it out")
        if _NEEDS_CORE.get(_option(argument), 0) > core:
            raise DeadkvError(
                f"compiler argument {argument!r} is not for {target}: leave it out, or choose --target trn2"
            )
    given = {_option(argument) for argument in compiler_args}
    defaults = [token for names, tokens in _DEFAULTS if not given.intersection(names) for token in tokens]
    return ("--target", target, *defaults, *compiler_args)


def neuronx_cc_command(target: str, compiler_args: Sequence[str] = ()) -> tuple[str, ...]:
    """The command that compiles `after.hlo.pb`, to be run in the folder that holds it. Raises as `compile_options`."""
    options = compile_options(target, compiler_args)
    return (
        *(COMPILER, "compile", HLO_FILE, "--framework", "XLA", *options),
        *("--logfile", COMPILER_LOG, "--output", NEFF_FILE),
    )


def write_command(command: Sequence[str], out_dir: Path) -> str:
    """Write the command, quoted for a shell, and return the file's name."""
    (out_dir / COMMAND_FILE).write_text(shlex.join(command) + "\n", encoding="utf-8")
    return COMMAND_FILE


def _option(argument: str) -> str:
    name = argument.split("=", 1)[0]
    return "-O" if name.startswith("-O") else name

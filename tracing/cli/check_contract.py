"""`deadkv check-contract`: holds a read-set contract against the operator's own implementation."""

from __future__ import annotations

from typing import Annotated

import typer

import tracing.decoder.contract  # noqa: F401  (registers the reference decoder's operator and its contract)
from tracing.cli.terminal import print_json, stdout
from tracing.testing import ContractCheck, examine_contract, load_module, load_samples

WRONG = 1


def check_contract_command(
    op: Annotated[str, typer.Argument(help="Operator, as namespace::name or namespace::name.overload.")],
    load: Annotated[
        list[str] | None,
        typer.Option(help="Module, or .py file, that defines the operator and its contract; it is run. Repeatable."),
    ] = None,
    inputs: Annotated[
        str | None,
        typer.Option(help="Sample calls: FILE.json, or FILE.py:function, which is run. Own operators have samples."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Check what an operator's contract calls unread or unwritten by running the operator.

    Poisons each unread operand and demands bit-equal results. Exit code 0 if the contract holds on the samples, 1 if
    it is wrong, 2 on an error.
    """
    for module in load or ():
        load_module(module)
    check = examine_contract(op, None if inputs is None else load_samples(inputs))
    if as_json:
        print_json(check.to_dict())
    else:
        _print(check)
    raise typer.Exit(0 if check.ok else WRONG)


def _print(check: ContractCheck) -> None:
    console = stdout()
    for flaw in check.flaws:
        console.print(f"wrong: {flaw}")
    verdict = "holds" if check.ok else "is wrong"
    console.print(f"the contract of {check.op} {verdict} on {check.samples} samples")
    unread = ", ".join(f"{name} ({count})" for name, count in check.unread.items())
    console.print(f"operands poisoned, in how many samples: {unread or 'none: every operand is read in every sample'}")

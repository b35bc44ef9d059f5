"""Holds a read-set contract against the operator's own implementation.

An operand that the contract calls unread is poisoned: results and written operands must stay bit-equal. An operand
that it does not list as written must come out as it went in. A declared stand-in must give bit-equal results.
A contract is checked under the samples given: a wrong answer for other static arguments is not found.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.fx import Node
from torch.utils import _pytree as pytree

from passes.contracts import BoundContract, Contracts
from passes.errors import DeadkvError
from passes.ops.schema import Call
from passes.ops.signature import signature
from passes.registration import DEFAULT_CONTRACTS
from passes.rewrites import NewCall
from passes.stand_ins import NoStandIn, stand_in
from tracing.equality import same
from tracing.testing.flaws import ContractCheck, ContractViolation, Flaw
from tracing.testing.poison import poisons
from tracing.testing.samples import Sample, bound_call, find_samples

Outcome = Mapping[str, Any]
"""What a run left behind: `output 0`, `output 1`, ..., and `operand NAME` for each tensor operand."""


def check_contract(
    op: str,
    samples: Sequence[Sample | Mapping[str, Any] | Sequence[Any]] | None = None,
    *,
    contracts: Contracts | None = None,
) -> ContractCheck:
    """Checks the contract of an operator; the helper for a pytest test.

    Args:
        op: `namespace::name` or `namespace::name.overload`.
        samples: arguments of calls, by name or by position, on the CPU; they are left as they are. None for the
            samples that this project has for its own operator.
        contracts: by default those of `register_contract`.

    Raises:
        ContractViolation: the contract is wrong; it names operand, poison and the first differing result.
        DeadkvError: the operator, its contract or a sample cannot be used.
    """
    check = examine_contract(op, samples, contracts=contracts)
    if check.flaws:
        raise ContractViolation(f"contract of {op}: {check.flaws[0]}")
    return check


def examine_contract(
    op: str,
    samples: Sequence[Sample | Mapping[str, Any] | Sequence[Any]] | None = None,
    *,
    contracts: Contracts | None = None,
) -> ContractCheck:
    """Like `check_contract`, but says all that is wrong instead of raising."""
    flaws: dict[tuple[str, str], Flaw] = {}
    unread: dict[str, int] = {}
    given = find_samples(op, samples)
    with _one_thread():
        for index, (overload, arguments) in enumerate(given):
            trial = _Trial(index, overload, arguments, contracts or DEFAULT_CONTRACTS)
            for name in trial.unread:
                unread[name] = unread.get(name, 0) + 1
            for flaw in trial.flaws():
                flaws.setdefault((flaw.operand, flaw.kind), flaw)
    return ContractCheck(op, len(given), unread, tuple(flaws.values()))


@contextmanager
def _one_thread() -> Iterator[None]:
    """Samples are small: starting threads would take longer than the operator, and sums keep one order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class _Trial:
    """One sample: the operator is run on copies of it, as it is and with changed operands."""

    def __init__(self, index: int, overload: OpOverload, arguments: Mapping[str, Any], contracts: Contracts) -> None:
        self.index, self.overload, self.arguments = index, overload, arguments
        self.call, self.values = bound_call(overload, arguments)
        self.contract = _contract_of(self.call, contracts)
        self.written = self.contract.writes
        shared = {name for name, found in signature(overload).parameters.items() if found.is_alias}
        needed = self.contract.reads | self.written | shared
        self.unread = [name for name in self.values if name not in needed]
        self.expected = self._baseline()

    def flaws(self) -> Iterator[Flaw]:
        """Everything that is wrong, at most one of a kind for each operand."""
        for name, value in self.values.items():
            if name not in self.written and not same(value, self.expected[f"operand {name}"]):
                yield Flaw(self.index, name, "written", None, f"operand {name} changes")
        for name in self.unread:
            for poison, value in poisons(self.values[name]):
                if (difference := self._difference({name: value})) is not None:
                    yield Flaw(self.index, name, "read", poison, difference)
                    break
        yield from self._stand_in_flaws()

    def _stand_in_flaws(self) -> Iterator[Flaw]:
        found = {name: _given(made, self.values) for name, made in self._stand_ins()}
        for name, (text, value) in found.items():
            if (difference := self._difference({name: value})) is not None:
                yield Flaw(self.index, name, "stand-in", text, difference)
                return
        together = {name: value for name, (_, value) in found.items()}
        if len(together) > 1 and (difference := self._difference(together)) is not None:
            yield Flaw(self.index, ", ".join(together), "stand-in", "all stand-ins", difference)

    def _stand_ins(self) -> Iterator[tuple[str, Any]]:
        for name in self.unread:
            operand = self.call.bound[name]
            found = stand_in(self.contract, name, operand) if isinstance(operand, Node) else NoStandIn("")
            if not isinstance(found, NoStandIn):
                yield name, found

    def _baseline(self) -> Outcome:
        try:
            first, second = self._run({}), self._run({})
        except Exception as error:
            raise DeadkvError(f"sample {self.index} of {self.call.op} fails: {_described(error)}") from error
        if (changed := _first_difference(first, second)) is not None:
            raise DeadkvError(f"{self.call.op} cannot be checked: {changed} differs between two runs of one sample")
        return first

    def _difference(self, changes: Mapping[str, Any]) -> str | None:
        try:
            found = self._run(changes)
        except Exception as error:
            return f"it raises {_described(error)}"
        ignored = {f"operand {name}" for name in changes}
        changed = _first_difference(
            {what: value for what, value in self.expected.items() if what not in ignored},
            {what: value for what, value in found.items() if what not in ignored},
        )
        return None if changed is None else f"{changed} changes"

    def _run(self, changes: Mapping[str, Any]) -> Outcome:
        arguments = pytree.tree_map_only(Tensor, torch.clone, {**self.arguments, **changes})
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(0)
            results = pytree.tree_leaves(self.overload(**arguments))
        outcome = {f"output {index}": result for index, result in enumerate(results)}
        return {**outcome, **{f"operand {name}": arguments[name] for name in self.values}}


def _contract_of(call: Call, contracts: Contracts) -> BoundContract:
    contract = contracts.find(call)
    if contract is None:
        raise DeadkvError(f"{call.op} has no contract: load the module that calls register_contract for it")
    return contract.bind(call)


def _given(made: Any, values: Mapping[str, Any]) -> tuple[str, Any]:
    """A stand-in as text and as a value: an empty tensor holds the worst that uninitialized memory may hold."""
    if isinstance(made, Node):
        return f"operand {made.name}", values[made.name]
    if isinstance(made, NewCall):
        empty = made.target(*made.args, **made.kwargs)
        return f"an empty tensor {list(empty.shape)}", next(value for _, value in poisons(empty))
    return "None", None


def _first_difference(expected: Outcome, found: Outcome) -> str | None:
    if expected.keys() != found.keys():
        return "the number of outputs"
    return next((what for what, value in expected.items() if not same(value, found[what])), None)


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split()) or 'no message'}"

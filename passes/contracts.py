"""Read-set contracts: which operands an opaque operator reads and writes, as a function of its static arguments.

No compiler looks inside an opaque kernel, so every operand of one looks live. A contract says what the kernel's
author knows: "with a block table given, `k_prior` is not read". A contract that nobody registered is never assumed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from passes.errors import DeadkvError
from passes.ops.schema import Call, base_name
from passes.ops.signature import signature

Bound = Mapping[str, Any]
Operands = Collection[str] | Callable[[Bound], Collection[str]]


@dataclass(frozen=True)
class EmptyTensor:
    """A stand-in tensor with uninitialized elements, of the unread operand's own dtype and device."""

    shape: tuple[int, ...] = (0,)


StandIn = str | EmptyTensor | None
"""What may stand for an unread operand: another operand of the same call (by name), an empty tensor, or None."""


@dataclass(frozen=True)
class Contract:
    """All that one operator does. It has no effect but its writes: a call whose results and writes are dead may go.

    Attributes:
        op: qualified operator name, `namespace::name`, for all its overloads.
        reads: names of the operands whose elements it reads, or a function of the bound arguments that yields them.
        writes: the same for operands that it writes in place. None: the schema's alias annotations hold.
        stand_in: what an unread operand is replaced by, per operand name. An operand whose schema type is Optional
            needs no entry: it becomes None.
        inferred: nobody declared it; it was read off a trace, for one call.
    """

    op: str
    reads: Operands
    writes: Operands | None = None
    stand_in: Mapping[str, StandIn] = field(default_factory=dict)
    inferred: bool = False

    def __post_init__(self) -> None:
        """Raises DeadkvError for a stand-in that can never be used, because its operand is always read or written."""
        for what, operands in (("reads", self.reads), ("writes", self.writes)):
            always = () if operands is None or callable(operands) else operands
            if both := [name for name in self.stand_in if name in always]:
                raise DeadkvError(
                    f"contract of {self.op}: it gives a stand-in for {both[0]!r}, which it always {what}: "
                    f"drop one, or make `{what}` a function of the call's arguments"
                )

    def operands_read(self, call: Call) -> frozenset[str]:
        """Names of the operands that `call` reads. Raises DeadkvError for a name that the operator does not have."""
        return self._names(self.reads, call, "reads")

    def operands_written(self, call: Call) -> frozenset[str]:
        """Names of the operands that `call` writes. Raises DeadkvError for an unknown name."""
        if self.writes is None:
            return schema_writes(call)
        aliased = call.kernel.aliased if call.kernel is not None else frozenset()
        return self._names(self.writes, call, "writes") | aliased

    def bind(self, call: Call) -> BoundContract:
        """What it says of `call`. Raises DeadkvError if it names an operand that the operator does not have."""
        others = [wanted for wanted in self.stand_in.values() if isinstance(wanted, str)]
        self._names([*self.stand_in, *others], call, "stand_in")
        return BoundContract(self, call, self.operands_read(call), self.operands_written(call))

    def _names(self, operands: Operands, call: Call, what: str) -> frozenset[str]:
        names = self._yielded(operands, call, what)
        if names <= call.bound.keys():
            return names
        unknown = sorted(names - call.bound.keys())
        if call.kernel is None or call.kernel.complete:
            known = ", ".join(call.bound)
            raise DeadkvError(f"contract of {self.op}: `{what}` names unknown operand {unknown[0]!r}; it has {known}")
        return names & call.bound.keys()

    def _yielded(self, operands: Operands, call: Call, what: str) -> frozenset[str]:
        if not callable(operands):
            return frozenset(operands)
        try:
            return frozenset(operands(call.bound))
        except Exception as error:
            cause = f"{type(error).__name__}: {error}"
            raise DeadkvError(f"contract of {self.op}: `{what}` failed for %{call.node.name}: {cause}") from error


@dataclass(frozen=True, eq=False)
class BoundContract:
    """A contract of one call.

    Attributes:
        contract: the contract.
        call: the call.
        reads: names of the operands that the call reads.
        writes: names of the operands that it writes.
    """

    contract: Contract
    call: Call
    reads: frozenset[str]
    writes: frozenset[str]


def schema_writes(call: Call) -> frozenset[str]:
    """Operands that the call itself shows as written: `Tensor(a!) K_cache` in a schema, aliases of an NKI kernel."""
    if call.kernel is not None:
        return call.kernel.written
    parameters = (found for overload in call.overloads for found in signature(overload).parameters.values())
    return frozenset(found.name for found in parameters if found.is_write)


@dataclass(frozen=True)
class Marker:
    """A boundary marker or optimization barrier: each result is the operand of the same number, its lane.

    Its lanes are the items of its one `Tensor[]` operand, or else its `Tensor` operands.

    Attributes:
        op: qualified operator name, for all its overloads.
    """

    op: str


@dataclass
class Contracts:
    """Tables of contracts, by qualified name and by the bare names known whatever their namespace, and of markers."""

    by_op: dict[str, Contract] = field(default_factory=dict)
    by_base_name: dict[str, Contract] = field(default_factory=dict)
    markers: dict[str, Marker] = field(default_factory=dict)

    def find(self, call: Call | None) -> Contract | None:
        """The contract of the operator that `call` calls, or None."""
        if call is None:
            return None
        return self.by_op.get(call.op.removeprefix("function:")) or self.by_base_name.get(call.base_name)

    def may_know(self, op: str) -> bool:
        """Whether a call of the operator of that qualified name can have a contract."""
        return op.removeprefix("function:") in self.by_op or base_name(op) in self.by_base_name

    def may_say_something(self, op: str) -> bool:
        """Whether the operator of that qualified name can have a contract, or is a registered marker."""
        return self.may_know(op) or self.is_marker_name(op)

    def is_marker(self, call: Call | None) -> bool:
        """Whether `call` calls a registered marker."""
        return call is not None and self.is_marker_name(call.op)

    def is_marker_name(self, op: str) -> bool:
        """Whether the operator of that qualified name is a registered marker."""
        return op.removeprefix("function:") in self.markers

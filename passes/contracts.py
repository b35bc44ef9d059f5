"""Read-set contracts: which operands an opaque operator reads and writes, as a function of its static arguments.

No compiler looks inside an opaque kernel, so every operand of one looks live. A contract says what the kernel's
author knows: "with a block table given, `k_prior` is not read". A contract that nobody registered is never assumed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Generic, TypeVar

from passes.errors import DeadkvError
from passes.ops.schema import Call
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

    def check(self, call: Call) -> None:
        """Raises DeadkvError if the contract names an operand that the operator of `call` does not have."""
        self.operands_read(call)
        self.operands_written(call)
        others = [wanted for wanted in self.stand_in.values() if isinstance(wanted, str)]
        self._names([*self.stand_in, *others], call, "stand_in")

    def _names(self, operands: Operands, call: Call, what: str) -> frozenset[str]:
        names = self._yielded(operands, call, what)
        unknown = sorted(names - call.bound.keys())
        if unknown and (call.kernel is None or call.kernel.complete):
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

    def is_marker(self, call: Call | None) -> bool:
        """Whether `call` calls a registered marker."""
        return call is not None and call.op.removeprefix("function:") in self.markers


Registered = TypeVar("Registered", Contract, Marker)


@dataclass(frozen=True)
class Registration(Generic[Registered]):
    """A registered contract or marker. As a context manager it withdraws it at the end of the block."""

    contract: Registered
    table: dict[str, Registered]
    previous: Registered | None

    def remove(self) -> None:
        """Withdraws the contract and restores the one it replaced, if any."""
        if self.previous is None:
            self.table.pop(self.contract.op, None)
        else:
            self.table[self.contract.op] = self.previous

    def __enter__(self) -> Registered:
        return self.contract

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()


def register_contract(
    op: str,
    *,
    reads: Operands,
    writes: Operands | None = None,
    stand_in: Mapping[str, StandIn] | None = None,
) -> Registration[Contract]:
    """Declares what the operator `op` ("namespace::name") reads and writes. A later contract replaces an earlier one.

    `reads` and `writes` are sets of operand names, or functions of `bound`, which maps every argument name of the
    schema to its FX node or constant, defaults filled in. Without `writes` the schema's alias annotations hold.
    A contract says all: an operator with effects beyond its results and writes (messages, I/O, random numbers) must
    not be given one.

    Raises:
        DeadkvError: `op` is no qualified name.
    """
    _require_qualified(op, "contract")
    return _register(DEFAULT_CONTRACTS.by_op, Contract(op, reads, writes, dict(stand_in or {})))


def register_marker(op: str) -> Registration[Marker]:
    """Declares that each result of the operator `op` ("namespace::name") is its operand of the same number.

    A marker orders what is before and after it, so it always stays, but a lane whose result nobody reads is dropped.

    Raises:
        DeadkvError: `op` is no qualified name.
    """
    _require_qualified(op, "marker")
    return _register(DEFAULT_CONTRACTS.markers, Marker(op))


def _register(table: dict[str, Registered], contract: Registered) -> Registration[Registered]:
    registration = Registration(contract, table, table.get(contract.op))
    table[contract.op] = contract
    return registration


def _require_qualified(op: str, what: str) -> None:
    namespace, _, name = op.partition("::")
    if not namespace or not name.replace(".", "").isidentifier():
        raise DeadkvError(f"{what} for {op!r}: give the operator as 'namespace::name'")


# An operand of the NKI kernel attention_block_tkg that is unread while a static switch is off
# (nki-library, attention_block_tkg.py: each block is guarded by the switch named here).
_SWITCHED_OPERANDS: Mapping[str, str] = {
    "kv_cache_update_idx": "update_cache",
    "rmsnorm_X_gamma": "rmsnorm_X_enabled",
    "rmsnorm_QK_pre_rope_W_Q": "rmsnorm_QK_pre_rope_enabled",
    "rmsnorm_QK_pre_rope_W_K": "rmsnorm_QK_pre_rope_enabled",
    "rmsnorm_QK_post_rope_W_Q": "rmsnorm_QK_post_rope_enabled",
    "rmsnorm_QK_post_rope_W_K": "rmsnorm_QK_post_rope_enabled",
}


def _block_tkg_reads(bound: Bound) -> frozenset[str]:
    switched_off = {name for name, switch in _SWITCHED_OPERANDS.items() if bound.get(switch) is False}
    return frozenset(bound.keys() - switched_off)


def _block_tkg_writes(bound: Bound) -> frozenset[str]:
    if bound.get("update_cache") is False:
        return frozenset()
    return frozenset({"K_cache", "V_cache"} & bound.keys())


ATTENTION_BLOCK_TKG = "attention_block_tkg"
"""Name of the block-TKG attention kernel in nki-library, whose operands are known by name in every namespace."""

DEFAULT_CONTRACTS = Contracts(
    by_base_name={ATTENTION_BLOCK_TKG: Contract(f"*::{ATTENTION_BLOCK_TKG}", _block_tkg_reads, _block_tkg_writes)}
)

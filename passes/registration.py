"""Registered contracts and markers: what passes believe of opaque operators if they are not told otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, TypeVar

from passes.block_tkg import ATTENTION_BLOCK_TKG, BLOCK_TKG
from passes.contracts import Contract, Contracts, Marker, Operands, StandIn
from passes.errors import DeadkvError

DEFAULT_CONTRACTS = Contracts(by_base_name={ATTENTION_BLOCK_TKG: BLOCK_TKG})

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

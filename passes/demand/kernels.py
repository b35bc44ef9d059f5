"""Calls with a read-set contract: an operand that the kernel does not read is demanded no further."""

from __future__ import annotations

from torch.fx import Node

from passes.contracts import BoundContract
from passes.demand.lattice import Demand, Transfer
from passes.ops.schema import Call, operand_nodes
from passes.ops.signature import signature
from passes.rewrites import SetOperand
from passes.stand_ins import NoStandIn, slot, stand_in

_READ = NoStandIn("it is read")


class KernelTransfers:
    """`contract_transfer` of each call that is asked for, made once."""

    def __init__(self) -> None:
        self._known: dict[Node, Transfer] = {}
        self._read: dict[Node, frozenset[Node]] = {}

    def of(self, bound: BoundContract) -> Transfer:
        """What a call demands of its operands once it runs."""
        node = bound.call.node
        if node not in self._known:
            self._known[node] = contract_transfer(bound)
        return self._known[node]

    def reads(self, bound: BoundContract, operand: Node) -> bool:
        """Whether a call demands the elements of `operand` once it runs."""
        node = bound.call.node
        if node not in self._read:
            self._read[node] = frozenset(used for used, demand in self.of(bound).uses if demand is Demand.DATA)
        return operand in self._read[node]


def contract_transfer(bound: BoundContract) -> Transfer:
    """Demands what the contract reads or writes. Plain DCE keeps every operand of an opaque call.

    Must go: `attention(%x, %table, %k_prior)` whose contract, given a table, does not read `k_prior`.
    Must stay: the same call without a table, or an operator without a contract.
    """
    call = bound.call
    needed = bound.reads | bound.writes | _aliased(call)
    uses: list[tuple[Node, Demand]] = []
    rewrites: list[SetOperand] = []
    refusals: dict[Node, str] = {}
    read = {node for name in needed for node in operand_nodes(call.bound.get(name))}
    for name, value in call.bound.items():
        nodes = tuple(operand_nodes(value))
        if not nodes:
            continue
        found = _READ if name in needed else stand_in(bound, name, nodes[0])
        if isinstance(found, NoStandIn):
            uses += [(node, Demand.DATA) for node in nodes]
            refusals.update({} if found is _READ else {node: found.reason for node in nodes if node not in read})
        else:
            uses += [(node, Demand.NONE) for node in nodes]
            rewrites.append(SetOperand(call.node, nodes, slot(call, name), found, "opaque_operand"))
    return Transfer(uses, tuple(rewrites), refusals)


def _aliased(call: Call) -> frozenset[str]:
    """Operands that the schema marks as written or as shared with a result."""
    parameters = (found for overload in call.overloads for found in signature(overload).parameters.values())
    return frozenset(found.name for found in parameters if found.is_alias)

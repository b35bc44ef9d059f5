"""Calls with a read-set contract: an operand that the kernel does not read is demanded no further."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Node

from passes import metadata
from passes.contracts import Contract, EmptyTensor
from passes.demand.lattice import Demand, Transfer
from passes.errors import DeadkvError
from passes.ops.schema import Call, operand_nodes
from passes.ops.signature import signature
from passes.rewrites import NewCall, SetOperand

_MISSING = object()


def contract_transfer(call: Call, contract: Contract) -> Transfer:
    """Demands what the contract reads or writes. Plain DCE keeps every operand of an opaque call.

    Must go: `attention(%x, %table, %k_prior)` whose contract, given a table, does not read `k_prior`.
    Must stay: the same call without a table, or an operator without a contract.
    """
    needed = contract.operands_read(call) | contract.operands_written(call) | _aliased(call)
    uses: list[tuple[Node, Demand]] = []
    rewrites: list[SetOperand] = []
    refusals: list[str] = []
    for name, value in call.bound.items():
        nodes = tuple(operand_nodes(value))
        if not nodes:
            continue
        stand_in = _MISSING if name in needed else _stand_in(call, contract, name, nodes[0])
        demand = Demand.DATA if stand_in is _MISSING else Demand.NONE
        uses += [(node, demand) for node in nodes]
        if stand_in is not _MISSING:
            rewrites.append(SetOperand(call.node, nodes, _slot(call, name), stand_in, "opaque_operand"))
        elif name not in needed:
            refusals.append(f"{call.op} does not read {name}, but its contract gives no stand-in for it")
    return Transfer(uses, tuple(rewrites), refusals[0] if refusals else None)


def _aliased(call: Call) -> frozenset[str]:
    """Operands that the schema marks as written or as shared with a result."""
    parameters = (found for overload in call.overloads for found in signature(overload).parameters.values())
    return frozenset(found.name for found in parameters if found.is_alias)


def _stand_in(call: Call, contract: Contract, name: str, operand: Node) -> Any:
    if name not in contract.stand_in:
        return None if _is_optional(call, name) else _MISSING
    wanted = contract.stand_in[name]
    if isinstance(wanted, EmptyTensor):
        return _empty(operand, wanted)
    if wanted is None:
        return None
    if wanted not in call.bound or wanted in contract.operands_written(call):
        raise DeadkvError(
            f"contract of {contract.op}: the stand-in {wanted!r} of {name} is no operand that is only read"
        )
    return call.bound[wanted]


def _empty(operand: Node, wanted: EmptyTensor) -> Any:
    tensor = metadata.fake(operand)
    if tensor is None:
        return _MISSING
    options = {"dtype": tensor.dtype, "device": tensor.device}
    return NewCall("call_function", torch.ops.aten.empty.memory_format, (list(wanted.shape),), options)


def _is_optional(call: Call, name: str) -> bool:
    return call.overload is not None and signature(call.overload).parameters[name].is_optional


def _slot(call: Call, name: str) -> int | str:
    return name if name in call.node.kwargs else list(call.bound).index(name)

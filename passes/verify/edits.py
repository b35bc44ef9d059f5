"""Every kept node that changed must provably have the same value without the operands it lost."""

from __future__ import annotations

import operator
from collections.abc import Collection
from typing import Any

import torch
from torch.fx import Node

from passes.contracts import Contracts
from passes.ops.schema import Call, resolve
from passes.ops.signature import signature
from passes.verify.arguments import differences
from passes.verify.correspondence import Correspondence
from passes.verify.folds import is_folded
from passes.verify.tensors import has_negative_size, recall_flaw
from passes.verify.trail import reject


def check_edits(pair: Correspondence, contracts: Contracts, explained: Collection[Node] = ()) -> None:
    """Rejects a kept node whose change can be seen, and an inserted node that has an effect, but for `explained`."""
    for node in pair.inserted:
        is_call = node.target in _INSERTABLE or (node.op == "call_method" and node.target == "size")
        if not is_call and node not in explained:
            reject(None, f"%{node.name} ({node.target}) was inserted, which no pruning needs", pair.within)
        if has_negative_size(node):
            reject(None, f"%{node.name} was inserted with a negative size", pair.within)
    for old, new in pair.edited:
        is_result = pair.is_nested and old.op == "output"
        flaw = None if old in explained or is_result else _edit_flaw(pair, old, new, contracts)
        if flaw is not None:
            lost = next((operand for operand in old.all_input_nodes if operand not in pair.kept), None)
            reject(lost or old, f"{flaw} (%{old.name})", pair.within, old if lost else None)


_INSERTABLE = frozenset(
    {torch.ops.aten.sym_size.int, operator.add, operator.mul, operator.floordiv,
     torch.zeros, torch.ones, torch.full, torch.empty,
     torch.ops.aten.zeros.default, torch.ops.aten.ones.default, torch.ops.aten.full.default,
     torch.ops.aten.empty.memory_format}
)  # fmt: skip


def _edit_flaw(pair: Correspondence, old: Node, new: Node, contracts: Contracts) -> str | None:
    if old.op != new.op or old.target != new.target:
        return recall_flaw(old, new, frozenset(pair.inserted))
    for place, was, now in differences(old, new):
        if is_folded(pair, was, now) or _is_unread(old, place, was, now, contracts):
            continue
        return f"argument {place} became {now}, which is not known to make no difference"
    return None


def _is_unread(old: Node, place: str, was: Any, now: Any, contracts: Contracts) -> bool:
    """A tensor that the operator's contract calls unread and unwritten; a compiled kernel needs a tensor there.

    A contract says nothing of numbers and switches: each of them counts.
    """
    if not isinstance(was, Node) or not (now is None or isinstance(now, Node)):
        return False
    call = resolve(old)
    contract = contracts.find(call)
    if call is None or contract is None:
        return False
    if call.kernel is not None and call.kernel.compiled and not isinstance(now, Node):
        return False
    name = _operand_at(call, place)
    if name is None or not _takes_tensor(call, name):
        return False
    return name not in contract.operands_read(call) | contract.operands_written(call)


def _takes_tensor(call: Call, name: str) -> bool:
    """Whether an operand of that name exists and, as far as there is a schema, is a tensor or several."""
    return name in call.bound and (call.overload is None or signature(call.overload).parameters[name].is_tensor)


def _operand_at(call: Call, place: str) -> str | None:
    """Name of the operand at a place of the argument list: `2`, `2[0]`, `k_prior`; of a kernel `args[2]`."""
    if call.kernel is not None:
        return next((name for name, at in call.kernel.positions.items() if place == f"args[{at}]"), None)
    index = place.split("[")[0]
    return list(call.bound)[int(index)] if index.isdigit() else index

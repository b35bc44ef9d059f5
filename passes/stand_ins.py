"""What takes the place of an operand that a contract calls unread, and whether the operator accepts it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx import Node
from torch.fx.node import map_arg
from torch.utils import _pytree as pytree

from passes import metadata
from passes.contracts import BoundContract, EmptyTensor
from passes.errors import DeadkvError
from passes.fake_runs import run_key
from passes.ops.schema import Call
from passes.ops.signature import signature
from passes.rewrites import NewCall, Rewrite, SetOperand, Slot


@dataclass(frozen=True)
class NoStandIn:
    """Why nothing can stand for an unread operand, which is therefore kept."""

    reason: str


def stand_in(bound: BoundContract, name: str, operand: Node) -> Any:
    """The argument that replaces the unread operand `name`, whose value is `operand`: a node, None or a NewCall.

    NoStandIn if there is none. Raises DeadkvError if the contract names one that cannot stand for it.
    """
    call, contract = bound.call, bound.contract
    if name not in contract.stand_in and not _is_optional(call, name):
        return NoStandIn(f"{call.op} does not read {name}, but its contract gives no stand-in for it")
    wanted = contract.stand_in.get(name)
    if isinstance(wanted, str):
        return _other_operand(bound, name, operand, wanted)
    if call.kernel is not None and call.kernel.compiled and not _fills_slot(wanted, operand):
        return NoStandIn(f"{call.op} does not read {name}, but was compiled for a tensor of its shape")
    return None if wanted is None else _empty(call, name, operand, wanted)


def slot(call: Call, name: str) -> Slot:
    """Where the argument `name` of `call` is given."""
    if call.kernel is not None:
        return "args", call.kernel.positions[name]
    return name if name in call.node.kwargs else list(call.bound).index(name)


def _is_optional(call: Call, name: str) -> bool:
    if call.kernel is not None:
        return name in call.kernel.optional
    if call.overload is None:
        return False
    parameter = signature(call.overload).parameters[name]
    return parameter.is_optional and parameter.is_tensor


def _other_operand(bound: BoundContract, name: str, operand: Node, wanted: str) -> Any:
    call, contract = bound.call, bound.contract
    if wanted not in bound.reads - bound.writes or not isinstance(other := call.bound[wanted], Node):
        raise DeadkvError(
            f"contract of {contract.op}: the stand-in {wanted!r} of {name} is no operand that is only read"
        )
    expected, found = metadata.fake(operand), metadata.fake(other)
    if expected is None or found is None:
        return other
    if (found.dtype, found.dim()) != (expected.dtype, expected.dim()):
        raise DeadkvError(
            f"contract of {contract.op}: the stand-in {wanted!r} of {name} has dtype {found.dtype} and rank "
            f"{found.dim()}, {name} of %{call.node.name} has dtype {expected.dtype} and rank {expected.dim()}"
        )
    return other


def _empty(call: Call, name: str, operand: Node, wanted: EmptyTensor) -> Any:
    tensor = metadata.fake(operand)
    if tensor is None:
        return NoStandIn(f"{call.op} does not read {name}, but its dtype was not traced")
    options = {"dtype": tensor.dtype, "device": tensor.device}
    made = tensor.new_empty(wanted.shape)
    return NewCall("call_function", torch.ops.aten.empty.memory_format, (list(wanted.shape),), options, made)


def _fills_slot(wanted: EmptyTensor | None, operand: Node) -> bool:
    """Whether a compiled kernel can take the stand-in: it has the operand's own shape."""
    tensor = metadata.fake(operand)
    return wanted is not None and tensor is not None and tuple(tensor.shape) == wanted.shape


def check_accepted(rewrites: tuple[Rewrite, ...]) -> None:
    """Runs each operator that gets a stand-in on fake tensors, with and without it.

    Raises DeadkvError if the operator refuses the stand-in or then yields results of other shapes or dtypes. An
    operator without a fake implementation is not checked. Calls on tensors of the same layouts, such as those of
    equal layers, are run once.
    """
    by_call: dict[Node, list[SetOperand]] = {}
    for rewrite in rewrites:
        if isinstance(rewrite, SetOperand) and isinstance(rewrite.node.target, OpOverload):
            by_call.setdefault(rewrite.node, []).append(rewrite)
    accepted: set[Hashable] = set()
    for node, edits in by_call.items():
        mode, run = _fake_mode(node), run_key(node, edits)
        if mode is not None and run not in accepted:
            with mode, _without_guards(mode):
                _check_call(node, edits)
            accepted.update([] if run is None else [run])


def _check_call(node: Node, edits: list[SetOperand]) -> None:
    try:
        before = _run(node, {})
    except Exception:
        return
    slots: dict[int | str | tuple[str, int], Any] = {edit.slot: _made(edit.value) for edit in edits}
    given = ", ".join(f"{at!r}: {_described(value)}" for at, value in slots.items())
    try:
        after = _run(node, slots)
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DeadkvError(
            f"%{node.name} ({node.target}) refuses the stand-in of its contract ({given}): {reason}"
        ) from error
    if before != after:
        raise DeadkvError(
            f"%{node.name} ({node.target}) yields {after}, was {before}, with the stand-in of its contract ({given})"
        )


def _fake_mode(node: Node) -> FakeTensorMode | None:
    values = (metadata.fake(operand) for operand in node.all_input_nodes)
    return next((value.fake_mode for value in values if value is not None), None)


def _without_guards(mode: FakeTensorMode) -> AbstractContextManager[Any]:
    return nullcontext() if mode.shape_env is None else mode.shape_env.suppress_guards()


def _run(node: Node, slots: Mapping[Slot, Any]) -> list[tuple[Any, ...]]:
    args = [slots[index] if index in slots else _operand(value) for index, value in enumerate(node.args)]
    kwargs = {name: slots[name] if name in slots else _operand(value) for name, value in node.kwargs.items()}
    target: Any = node.target
    return [_layout(leaf) for leaf in pytree.tree_leaves(target(*args, **kwargs))]


def _layout(leaf: Any) -> tuple[Any, ...]:
    return (tuple(leaf.shape), leaf.dtype) if isinstance(leaf, Tensor) else (type(leaf),)


def _operand(value: Any) -> Any:
    """The argument on fresh fake tensors, so that a run leaves the traced ones as they are."""

    def fresh(node: Node) -> Any:
        found = metadata.value(node)
        return pytree.tree_map_only(FakeTensor, _fresh, found)

    return map_arg(value, fresh)


def _fresh(tensor: FakeTensor) -> Tensor:
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=tensor.device)


def _made(value: Any) -> Any:
    if isinstance(value, NewCall):
        return value.target(*value.args, **value.kwargs)
    return _operand(value)


def _described(value: Any) -> str:
    return f"{value.dtype} {list(value.shape)}" if isinstance(value, Tensor) else repr(value)

"""Calls that need only the shape, dtype and device of an operand: `zeros_like`, `new_zeros`, `expand_as` and kin.

Each rule offers the same call without that operand. Values, strides and dtype stay those that were traced.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensor
from torch.fx import Node

from passes import metadata
from passes.demand.lattice import Demand, Transfer
from passes.demand.shapes import ShapeRoots
from passes.ops.schema import Call, operand_nodes
from passes.rewrites import NewCall, Recall

aten = torch.ops.aten


@dataclass(frozen=True)
class Factory:
    """A factory function in its aten and its torch spelling, and whether it takes a fill value."""

    overload: OpOverload
    function: Callable[..., Tensor]
    fills: bool = False


_ZEROS = Factory(aten.zeros.default, torch.zeros)
_ONES = Factory(aten.ones.default, torch.ones)
_FULL = Factory(aten.full.default, torch.full, fills=True)
_EMPTY = Factory(aten.empty.memory_format, torch.empty)

LIKE_FACTORIES: Mapping[str, Factory] = {
    "aten::zeros_like": _ZEROS, "aten::ones_like": _ONES, "aten::full_like": _FULL, "aten::empty_like": _EMPTY,
    "aten::new_zeros": _ZEROS, "aten::new_ones": _ONES, "aten::new_full": _FULL, "aten::new_empty": _EMPTY,
}  # fmt: skip


def like_factory(call: Call, roots: ShapeRoots) -> Transfer:
    """`zeros_like(%x)` is `zeros([...])`. Plain DCE keeps `%x` and all that computes it."""
    source = call.bound["self"]
    built = _factory_call(call, roots)
    if built is None:
        reason = f"%{call.node.name} needs the layout of %{source.name}, which was not traced as dense"
        return Transfer([(node, Demand.DATA) for node in call.node.all_input_nodes], refusals={source: reason})
    return Transfer(_shape_of(source, call), (Recall(call.node, (source,), built, "like_factory"),))


def _shape_of(source: Node, call: Call) -> list[tuple[Node, Demand]]:
    rest = [node for name, value in call.bound.items() if name != "self" for node in operand_nodes(value)]
    return [(source, Demand.SHAPE), *((node, Demand.DATA) for node in rest)]


def _factory_call(call: Call, roots: ShapeRoots) -> NewCall | None:
    result = metadata.traced_tensor(call.node)
    order = None if result is None else _dense_order(result)
    if result is None or order is None or call.bound.get("pin_memory"):
        return None
    sizes = roots.terms([result.shape[dim] for dim in order], aten=_is_aten(call))
    if sizes is None:
        return None
    storage_order = list(range(result.dim())) == order
    made = _call_factory(call, result, sizes, None if storage_order else _in_order(result, order))
    return made if storage_order else _permuted(call, made, order)


def _dense_order(tensor: Tensor) -> list[int] | None:
    """Dimensions from the slowest to the fastest in memory, or None if the tensor is not dense in some order."""
    sizes, strides = (
        [_expression(size) for size in tensor.shape],
        [_expression(stride) for stride in tensor.stride()],
    )
    order: list[int] = []
    dense: Any = 1
    left = list(range(tensor.dim()))
    while left:
        unit = next((dim for dim in reversed(left) if sizes[dim] == 1 or strides[dim] == dense), None)
        if unit is None:
            return None
        left.remove(unit)
        order.insert(0, unit)
        dense = dense * sizes[unit]
    return order


def _expression(size: Any) -> Any:
    """A size that compares without adding a guard to the trace."""
    return size.node.expr if isinstance(size, torch.SymInt) else size


def _in_order(tensor: FakeTensor, order: list[int]) -> Tensor:
    with tensor.fake_mode:
        return torch.empty([tensor.shape[dim] for dim in order], dtype=tensor.dtype, device=tensor.device)


def _call_factory(call: Call, result: Tensor, sizes: list[Any], value: Tensor | None) -> NewCall:
    factory = LIKE_FACTORIES[call.op]
    args = (sizes, call.bound["fill_value"]) if factory.fills else (sizes,)
    options = {"dtype": result.dtype, "device": result.device}
    return NewCall("call_function", factory.overload if _is_aten(call) else factory.function, args, options, value)


def _permuted(call: Call, made: NewCall, order: list[int]) -> NewCall:
    inverse = sorted(range(len(order)), key=order.__getitem__)
    target = aten.permute.default if _is_aten(call) else torch.permute
    return NewCall("call_function", target, (made, inverse))


@dataclass(frozen=True)
class AsCall:
    """A call that takes the shape (or dtype) of another tensor, and the call that takes it as numbers."""

    overload: OpOverload
    method: str
    argument: Callable[[Tensor], Any]


def _shape(tensor: Tensor) -> Any:
    return tuple(tensor.shape)


def _dtype(tensor: Tensor) -> Any:
    return tensor.dtype


AS_CALLS: Mapping[str, AsCall] = {
    "aten::expand_as": AsCall(aten.expand.default, "expand", _shape),
    "aten::view_as": AsCall(aten.view.default, "view", _shape),
    "aten::reshape_as": AsCall(aten.reshape.default, "reshape", _shape),
    "aten::type_as": AsCall(aten.to.dtype, "to", _dtype),
}


def takes_shape_of_other(call: Call, roots: ShapeRoots) -> Transfer:
    """`expand_as(%x, %other)` is `expand(%x, [...])`. Plain DCE keeps `%other` and all that computes it."""
    source, other = call.bound["self"], call.bound["other"]
    argument = _as_argument(call, roots)
    if argument is None:
        reason = f"%{call.node.name} or what it is given was not traced, so its shape is not known"
        return Transfer([(source, Demand.DATA), (other, Demand.DATA)], refusals={other: reason})
    known = AS_CALLS[call.op]
    made = (
        NewCall("call_function", known.overload, (source, argument))
        if _is_aten(call)
        else NewCall("call_method", known.method, (source, argument))
    )
    uses = [(source, Demand.DATA), (other, Demand.SHAPE)]
    return Transfer(uses, (Recall(call.node, (other,), made, "expand_as"),))


def _as_argument(call: Call, roots: ShapeRoots) -> Any:
    source, other = metadata.fake(call.bound["self"]), metadata.traced_tensor(call.bound["other"])
    if source is None or other is None or metadata.fake(call.node) is None:
        return None
    if call.op == "aten::type_as" and source.device != other.device:
        return None
    found = AS_CALLS[call.op].argument(other)
    return roots.terms(found, aten=_is_aten(call)) if isinstance(found, tuple) else found


def _is_aten(call: Call) -> bool:
    return isinstance(call.node.target, OpOverload)

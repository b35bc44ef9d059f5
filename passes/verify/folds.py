"""Whether an argument of the pruned graph is the value it was: the same, or the size that the trace recorded for it."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from torch import Tensor
from torch.fx import GraphModule, Node

from passes.ops.schema import operand_nodes
from passes.regions.calls import RegionCall
from passes.verify.arguments import compare
from passes.verify.correspondence import Correspondence
from passes.verify.nodes import operator_name, traced
from passes.verify.symbols import expression, same_size, traced_size


def same_value(pair: Correspondence, was: Any, now: Any) -> bool:
    """Whether `now`, an argument after, is `was`, one before, or became it by folding sizes."""
    return all(is_folded(pair, one, other) for _, one, other in compare("", was, now))


def is_folded(pair: Correspondence, was: Any, now: Any) -> bool:
    """A read of metadata gave way to the number that the trace recorded for it; in a nested graph, a plain number."""
    if not isinstance(was, Node) or was in pair.kept or (pair.is_nested and any(operand_nodes(now))):
        return False
    expected = traced_size(was)
    return expected is not None and same_size(expected, now)


class Reliance(IntEnum):
    """What of the traced values of a graph's inputs a change of the graph relies on."""

    NOTHING = 0
    SHAPE = 1
    LAYOUT = 2


def reliance(pair: Correspondence) -> Reliance:
    """What a change relies on: a folded size on the shape; a folded stride, a factory or an assertion on the layout."""
    recalled = any(old.op in _CALLS and old.target != new.target for old, new in pair.edited)
    found = [Reliance.LAYOUT] if recalled else []
    return max(found + [_removed_reliance(node, pair) for node in pair.removed], default=Reliance.NOTHING)


_CALLS = ("call_function", "call_method")


def _removed_reliance(node: Node, pair: Correspondence) -> Reliance:
    name = operator_name(node)
    if name.startswith("_assert"):
        return Reliance.LAYOUT
    if not any(user in pair.kept for user in node.users) or traced_size(node) is None:
        return Reliance.NOTHING
    return Reliance.LAYOUT if "stride" in name else Reliance.SHAPE


def untraced_operand(call: RegionCall, module: GraphModule, relied: Reliance) -> Node | None:
    """An input of `module`, one of the call's graphs, that the call gives another tensor than it was traced with."""
    body = next(body for body in call.bodies if body.module is module)
    for index, (placeholder, operand) in enumerate(zip(body.placeholders, call.operands, strict=True)):
        given = traced(operand.value) if isinstance(operand.value, Node) else None
        inside = traced(placeholder)
        if isinstance(inside, Tensor) and isinstance(given, Tensor):
            skipped = 1 if index in call.mapped else 0
            if _described(inside, relied) != _described(given, relied, skipped):
                return placeholder
    return None


def _described(tensor: Tensor, relied: Reliance, skipped: int = 0) -> tuple[Any, ...]:
    strides = tensor.stride()[skipped:] if relied is Reliance.LAYOUT else ()
    numbers = [*tensor.shape[skipped:], *strides]
    return (tensor.dim() - skipped, *map(expression, numbers), tensor.dtype, tensor.device)

"""Whether an argument of the pruned graph is the value it was: the same, or the size that the trace recorded for it."""

from __future__ import annotations

from typing import Any

from torch.fx import GraphModule, Node

from passes.ops.schema import operand_nodes
from passes.regions.calls import RegionCall
from passes.verify.arguments import compare
from passes.verify.correspondence import Correspondence
from passes.verify.nodes import operator_name, traced
from passes.verify.symbols import same_size, traced_size


def same_value(pair: Correspondence, was: Any, now: Any) -> bool:
    """Whether `now`, an argument after, is `was`, one before, or became it by folding sizes."""
    return all(is_folded(pair, one, other) for _, one, other in compare("", was, now))


def is_folded(pair: Correspondence, was: Any, now: Any) -> bool:
    """A read of metadata gave way to the number that the trace recorded for it; in a nested graph, a plain number."""
    if not isinstance(was, Node) or was in pair.kept or (pair.is_nested and any(operand_nodes(now))):
        return False
    expected = traced_size(was)
    return expected is not None and same_size(expected, now)


def relies_on_trace(pair: Correspondence) -> bool:
    """Whether the change holds only for the shapes that were traced: a size was folded, a factory or assertion."""
    recalled = any(old.op.startswith("call_f") and old.target != new.target for old, new in pair.kept.items())
    return recalled or any(_is_folded_away(node, pair) for node in pair.removed)


def _is_folded_away(node: Node, pair: Correspondence) -> bool:
    is_used = any(user in pair.kept for user in node.users)
    return operator_name(node).startswith("_assert") or (is_used and traced_size(node) is not None)


def untraced_operand(call: RegionCall, module: GraphModule) -> Node | None:
    """An input of `module`, one of the call's graphs, that was traced with another shape than the call gives it."""
    body = next(body for body in call.bodies if body.module is module)
    for index, (placeholder, operand) in enumerate(zip(body.placeholders, call.operands, strict=True)):
        given = traced(operand.value) if isinstance(operand.value, Node) else None
        if not _agree(traced(placeholder), given, index in call.mapped):
            return placeholder
    return None


def _agree(inside: Any, outside: Any, is_slice: bool) -> bool:
    if not hasattr(inside, "shape") or not hasattr(outside, "shape"):
        return True
    skipped = 1 if is_slice else 0
    same_layout = all(
        same_size(tuple(one), tuple(other)[skipped:])
        for one, other in ((inside.shape, outside.shape), (inside.stride(), outside.stride()))
    )
    return same_layout and inside.dtype == outside.dtype and inside.device == outside.device

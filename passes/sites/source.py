"""Where an operand comes from: the input or parameter behind views, casts, markers and calls of nested graphs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch.fx import Node

from passes.frames import Frame
from passes.ops.schema import Call


@dataclass(frozen=True)
class Source:
    """An input of the outermost graph, or a parameter.

    Attributes:
        name: name of the input, or fully qualified name of the parameter.
        node: the placeholder or get_attr.
        slices: how often it was taken apart along its first dimension on the way, by loops over layers.
    """

    name: str
    node: Node
    slices: int


def trace_back(frame: Frame, value: Any) -> Source | None:
    """What `value`, an operand of a call in `frame`, comes from, or None."""
    slices = 0
    while isinstance(value, Node):
        if value.op == "get_attr" or (value.op == "placeholder" and frame.parent is None):
            return Source(anchor_name(frame, value), value, slices)
        if value.op == "placeholder" and frame.parent is not None:
            slices += frame.is_slice(value)
            value, frame = frame.operand(value), frame.parent
        else:
            value = lane_operand(frame, value) or _same_tensor(frame.facts.call(value))
    return None


def anchor_name(frame: Frame, node: Node) -> str:
    """The name that `node` refers to: the parameter of a get_attr, the input of a placeholder."""
    return f"{frame.prefix if node.op == 'get_attr' else ''}{node.target}"


def lane_operand(frame: Frame, node: Node) -> Node | None:
    """What a marker was given for the lane that `node` takes out of it, or None if `node` is no such lane."""
    element = frame.facts.elements.get(node)
    region = None if element is None else frame.facts.region(element.call)
    if element is None or region is None or region.call.kind != "marker" or len(element.leaves) != 1:
        return None
    operand = region.call.operands[element.leaves[0]].value
    return operand if isinstance(operand, Node) else None


def _same_tensor(call: Call | None) -> Any:
    """The operand that `call` hands on in another shape or dtype, or None."""
    if call is None or not (call.base_name in _SAME_TENSOR or moves_nothing(call)):
        return None
    return call.bound.get("self")


def moves_nothing(call: Call) -> bool:
    """Whether `call` permutes dimensions into the order they are in; torch 2.9 puts such a call before a scan."""
    if call.base_name == "permute":
        dims = call.bound.get("dims")
        return isinstance(dims, (list, tuple)) and list(dims) == list(range(len(dims)))
    return call.base_name == "movedim" and call.bound.get("source") == call.bound.get("destination")


_SAME_TENSOR = frozenset(
    "detach alias to _to_copy contiguous clone view reshape _unsafe_view squeeze unsqueeze flatten unflatten "
    "lift_fresh lift_fresh_copy".split()
)

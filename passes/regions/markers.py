"""Boundary markers and optimization barriers, seen as calls whose result i is operand i."""

from __future__ import annotations

from torch.fx import Node

from passes import metadata
from passes.ops.schema import Call
from passes.ops.signature import signature
from passes.regions.calls import Operand, RegionCall
from passes.regions.structure import Path


def bind_marker(call: Call) -> RegionCall | None:
    """The lanes of a registered marker as operands and results; None if its schema does not show which they are."""
    if call.overload is None:
        return None
    kinds = {name: parameter.kind for name, parameter in signature(call.overload).parameters.items()}
    lists = [name for name, kind in kinds.items() if kind == "List[Tensor]"]
    tensors = [name for name, kind in kinds.items() if kind == "Tensor"]
    if len(lists) == 1 and not tensors:
        lanes = tuple(Operand((*_place(call, lists[0]), i), lane) for i, lane in enumerate(call.bound[lists[0]]))
    elif tensors and not lists:
        lanes = tuple(Operand(_place(call, name), call.bound[name]) for name in tensors)
    else:
        return None
    results = _results(call, len(lanes))
    if results is None or len(results) != len(lanes):
        return None
    return RegionCall(call.node, "marker", (), lanes, results, (), carries=len(lanes), fixed=bool(tensors))


def _place(call: Call, name: str) -> Path:
    return ("kwargs", name) if name in call.node.kwargs else ("args", list(call.bound).index(name))


def _results(call: Call, lanes: int) -> tuple[Path, ...] | None:
    """Paths of the results: of the recorded value if there is one, else as the schema has them."""
    assert call.overload is not None
    found = metadata.value(call.node)
    if isinstance(found, (list, tuple)):
        return tuple((index,) for index in range(len(found)))
    kinds = [str(returned.type) for returned in call.overload._schema.returns]
    if kinds == ["List[Tensor]"] or (len(kinds) > 1 and set(kinds) == {"Tensor"}):
        return tuple((index,) for index in range(lanes if len(kinds) == 1 else len(kinds)))
    return ((),) if kinds == ["Tensor"] else None


def lane_nodes(region: RegionCall) -> tuple[Node, ...]:
    """The nodes that a marker hands through."""
    return tuple(operand.value for operand in region.operands if isinstance(operand.value, Node))

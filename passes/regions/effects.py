"""What a call of nested graphs does, as its graphs show it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch.fx import Graph, Node

from passes.ops.effects import Effects
from passes.ops.schema import operand_nodes
from passes.regions.calls import RegionCall
from passes.storage import StorageClasses


@dataclass(frozen=True)
class BodyEffects:
    """Effects of one nested graph, in terms of its inputs.

    Attributes:
        reason: why a call of it must stay whatever happens to its results, or None.
        written: numbers of the inputs whose storage it may write.
        shared: numbers of the inputs whose storage a result may share.
        keeps: a result may share storage that outlives the call, such as a parameter's.
    """

    reason: str | None
    written: frozenset[int]
    shared: frozenset[int]
    keeps: bool


def body_effects(graph: Graph, effects: Mapping[Node, Effects], storage: StorageClasses) -> BodyEffects:
    """Sums up the effects of every call of `graph`."""
    output = next(iter(graph.find_nodes(op="output")))
    results = {storage.find(node) for node in output.all_input_nodes}
    written = {storage.find(target) for found in effects.values() for target in found.writes}
    inputs = [storage.find(node) for node in graph.find_nodes(op="placeholder")]
    return BodyEffects(
        reason=next(_reasons(effects, storage), None),
        written=frozenset(index for index, found in enumerate(inputs) if found in written),
        shared=frozenset(index for index, found in enumerate(inputs) if found in results),
        keeps=any(storage.is_kept(found) for found in results),
    )


def _reasons(effects: Mapping[Node, Effects], storage: StorageClasses) -> Iterator[str]:
    for node, found in effects.items():
        if found.reason is not None:
            yield f"runs %{node.name}, which {found.reason}"
        elif any(storage.escapes(target) for target in found.writes):
            yield f"runs %{node.name}, which writes storage that outlives it"


def region_effects(call: RegionCall, bodies: Sequence[BodyEffects]) -> Effects:
    """Effects of a call of `bodies`; a marker, which has none, orders what is before and after it."""
    if call.kind == "marker":
        lanes = tuple(node for operand in call.operands for node in operand_nodes(operand.value))
        return Effects("marks a boundary between what is before and after it", aliases=lanes)
    endless = ("is a loop that may not end",) if call.kind == "while_loop" else ()
    reasons = (*endless, *(body.reason for body in bodies if body.reason is not None))
    written = {index for body in bodies for index in body.written}
    shared = {index for body in bodies for index in body.shared}
    if shared and call.carries:
        shared = set(range(len(call.operands)))
    return Effects(
        next(iter(reasons), None),
        writes=tuple(_nodes_at(call, written)),
        aliases=tuple(_nodes_at(call, shared)),
        keeps=any(body.keeps for body in bodies),
    )


def _nodes_at(call: RegionCall, indices: set[int]) -> Iterator[Node]:
    for index in sorted(indices):
        yield from operand_nodes(call.operands[index].value)

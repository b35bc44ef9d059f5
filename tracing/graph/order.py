"""What the order of nodes means: for each node, the writes and other effects that must have come right before it.

Graphs in which every node follows the same effects compute the same, however else they order their nodes.
"""

from __future__ import annotations

from collections.abc import Iterator

from tracing.graph.document import GraphDoc, Node, Ref, Value, leaves
from tracing.graph.effects import PURE, UNKNOWN, Effect, Slot, effect_of

_ELSEWHERE = -1  # effects that are no memory: random state, collectives


def predecessors(doc: GraphDoc) -> list[tuple[int, ...]]:
    """For each node, the positions of the last effects, before it, on anything that it reads or writes."""
    schemas = dict(doc.schemas)
    effects = [_effect(node, schemas) for node in doc.nodes]
    if not any(effect.ordered or effect.writes != frozenset() for effect in effects):
        return [()] * len(doc.nodes)
    places = _places(doc, effects)
    last: dict[int, int] = {}
    found = []
    for position, (node, effect) in enumerate(zip(doc.nodes, effects, strict=True)):
        touched = {places[name] for _, name in _operands(node)}
        written = {places[name] for slot, name in _operands(node) if _has(effect.writes, slot)}
        if effect.ordered:
            touched.add(_ELSEWHERE)
            written.add(_ELSEWHERE)
        found.append(tuple(sorted({last[place] for place in touched if place in last})))
        last.update(dict.fromkeys(written, position))
    return found


def _effect(node: Node, schemas: dict[str, str]) -> Effect:
    if node.op in ("placeholder", "get_attr", "output"):
        return PURE
    keywords = dict(node.kwargs)
    if node.op == "call_module" or "out" in keywords or "inplace" in keywords:
        return UNKNOWN
    return effect_of(node.target, schemas.get(node.target))


def _has(slots: frozenset[Slot] | None, slot: Slot) -> bool:
    return slots is None or slot in slots


def _operands(node: Node) -> Iterator[tuple[Slot, str]]:
    arguments: list[tuple[Slot, Value]] = [*enumerate(node.args), *node.kwargs]
    for slot, value in arguments:
        for leaf in leaves(value):
            if isinstance(leaf, Ref):
                yield slot, leaf.name


def _places(doc: GraphDoc, effects: list[Effect]) -> dict[str, int]:
    """A number for the memory each node's value may lie in; values that may overlap have the same one."""
    owners = {p.fqn: p.tied_to or p.fqn for p in doc.parameters}
    positions = {node.name: position for position, node in enumerate(doc.nodes)}
    first: dict[str, int] = {}
    places = _DisjointSets(len(doc.nodes))
    for position, (node, effect) in enumerate(zip(doc.nodes, effects, strict=True)):
        if node.op == "get_attr":
            places.join(position, first.setdefault(owners.get(node.target, node.target), position))
        for slot, name in _operands(node):
            if _has(effect.aliases, slot):
                places.join(position, positions[name])
    return {name: places.find(position) for name, position in positions.items()}


class _DisjointSets:
    def __init__(self, size: int) -> None:
        self.parents = list(range(size))

    def find(self, item: int) -> int:
        while self.parents[item] != item:
            self.parents[item] = item = self.parents[self.parents[item]]
        return item

    def join(self, one: int, other: int) -> None:
        one, other = sorted((self.find(one), self.find(other)))
        self.parents[other] = one

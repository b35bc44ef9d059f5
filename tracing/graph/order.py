"""What the order of nodes means: for each node, the writes and other effects that must have come right before it.

Graphs in which every node follows the same effects compute the same, however else they order their nodes.
"""

from __future__ import annotations

from tracing.graph.document import GraphDoc, Node
from tracing.graph.effects import PURE, UNKNOWN, Effect, Slot, effect_of

_ELSEWHERE = -1  # effects that are no memory: random state, collectives


def predecessors(doc: GraphDoc) -> list[tuple[int, ...]]:
    """For each node, the positions of the last effects, before it, on anything that it reads or writes."""
    schemas = dict(doc.schemas)
    effects = doc.forms.spread(lambda form: _effect(form.node, schemas))
    if not any(effect.ordered or effect.writes != frozenset() for effect in effects):
        return [()] * len(doc.nodes)
    operands = _operands(doc)
    places = _places(doc, effects, operands)
    last: dict[int, int] = {}
    found = []
    for position, (effect, reads) in enumerate(zip(effects, operands, strict=True)):
        touched = {places[read] for _, read in reads}
        written = {places[read] for slot, read in reads if _has(effect.writes, slot)}
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


def _operands(doc: GraphDoc) -> list[list[tuple[Slot, int]]]:
    """For each node the positions that it reads and the arguments that hold them."""
    slots = doc.forms.spread(lambda form: [slot[0] for slot in form.slots])
    return [list(zip(found, reads, strict=True)) for found, reads in zip(slots, doc.forms.reads, strict=True)]


def _places(doc: GraphDoc, effects: list[Effect], operands: list[list[tuple[Slot, int]]]) -> list[int]:
    """A number for the memory each node's value may lie in; values that may overlap have the same one."""
    owners = {p.fqn: p.tied_to or p.fqn for p in doc.parameters}
    first: dict[str, int] = {}
    places = _DisjointSets(len(doc.nodes))
    for position, (node, effect, reads) in enumerate(zip(doc.nodes, effects, operands, strict=True)):
        if node.op == "get_attr":
            places.join(position, first.setdefault(owners.get(node.target, node.target), position))
        for slot, read in reads:
            if _has(effect.aliases, slot):
                places.join(position, read)
    return [places.find(position) for position in range(len(doc.nodes))]


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

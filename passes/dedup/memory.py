"""Which calls write which memory, as far as it matters to a value that is computed twice.

Memory that can be seen from outside the graph (inputs, parameters, what a kernel keeps) counts as one: pools are often
views of one buffer, and an input may be a view of a parameter. Memory that the graph allocates is told apart by
storage class.
"""

from __future__ import annotations

from torch.fx import Node

from passes.facts import GraphFacts, NodeFacts
from passes.ops.effects import TRUSTED_NAMESPACES


def is_known(found: NodeFacts) -> bool:
    """Whether all that a call writes is known: by its contract, or as an operator whose schema tells the truth."""
    if found.contract is not None:
        return True
    is_trusted = found.op is not None and found.op.split("::")[0] in TRUSTED_NAMESPACES
    return is_trusted and not found.effects.opaque


def is_pure(found: NodeFacts) -> bool:
    """Whether a call does nothing but compute, so that the same call on the same values yields the same value."""
    return is_known(found) and found.contract is None and found.effects.reason is None and not found.effects.writes


class Memory:
    """What each call of a graph writes, by storage class. Built in one walk."""

    def __init__(self, facts: GraphFacts) -> None:
        self._storage = facts.storage
        self._writer: dict[Node, Node] = {}
        self._outside: set[Node] = set()
        for node, found in facts.nodes.items():
            written = found.effects.writes if is_known(found) else tuple(node.all_input_nodes)
            for target in written:
                self._writer.setdefault(self._storage.find(target), node)
            if not is_known(found) or any(self._storage.escapes(target) for target in written):
                self._outside.add(node)
        output = next(iter(facts.graph.find_nodes(op="output")))
        self._returned = {self._storage.find(node) for node in output.all_input_nodes}

    def block(self, node: Node) -> Node:
        """What stands for all memory that the value of `node` may share."""
        return self._storage.find(node)

    def is_outside(self, node: Node) -> bool:
        """Whether the memory of `node` can be seen from outside the graph while it runs."""
        return self._storage.escapes(node)

    def leaves(self, node: Node) -> bool:
        """Whether the memory of `node` can be seen after the graph has run."""
        return self.is_outside(node) or self.block(node) in self._returned

    def writer(self, node: Node) -> Node | None:
        """The first call that may write the memory of `node`, or None if nothing does."""
        return self._writer.get(self.block(node))

    def writes_outside(self, node: Node) -> bool:
        """Whether the call may write memory that can be seen from outside the graph."""
        return node in self._outside

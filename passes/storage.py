"""Storage classes: which values may share memory, and which of that memory can be seen from outside the graph.

Two values are in one class if one may be a view of the other. The classes are a partition, so a value that may
alias either of two others (an operator that returns one of its operands) puts all three in one class. A class
escapes if it holds an input, a parameter, the result of an opaque kernel, or anything that was handed to a call of
which nothing is known.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch.fx import Graph, Node

from passes.ops.effects import Effects


class StorageClasses:
    """Union-find over the nodes of one graph. Built in one forward walk."""

    def __init__(self, graph: Graph, effects: Mapping[Node, Effects]) -> None:
        self._parent: dict[Node, Node] = {}
        self._escaping: set[Node] = set()
        self._kept: set[Node] = set()
        for node in graph.nodes:
            if node.op in ("placeholder", "get_attr"):
                self._escaping.add(node)
                self._kept.update([node] if node.op == "get_attr" else [])
            elif node in effects:
                self._join(node, effects[node])
        self._join_reads_of_one_attribute(graph)

    def find(self, node: Node) -> Node:
        """The representative of the class of `node`."""
        root = node
        while (parent := self._parent.get(root, root)) is not root:
            root = parent
        while (parent := self._parent.get(node, node)) is not root:
            self._parent[node] = root
            node = parent
        return root

    def escapes(self, node: Node) -> bool:
        """Whether a write to the storage of `node` can be seen after the graph has run."""
        return self.find(node) in self._escaping

    def is_kept(self, node: Node) -> bool:
        """Whether the storage of `node` may belong to a parameter or to an opaque call, not only to an input."""
        return self.find(node) in self._kept

    def _join(self, node: Node, effects: Effects) -> None:
        for operand in effects.aliases:
            self._union(node, operand)
        if effects.keeps:
            self._escaping.add(self.find(node))
            self._kept.add(self.find(node))

    def _join_reads_of_one_attribute(self, graph: Graph) -> None:
        first: dict[str, Node] = {}
        for node in graph.find_nodes(op="get_attr"):
            self._union(first.setdefault(str(node.target), node), node)

    def _union(self, one: Node, other: Node) -> None:
        kept, merged = self.find(one), self.find(other)
        if kept is merged:
            return
        self._parent[merged] = kept
        for marked in (self._escaping, self._kept):
            if merged in marked:
                marked.add(kept)

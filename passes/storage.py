"""Storage classes: which values may share memory, and which of that memory can be seen from outside the graph.

Two values are in one class if one may be a view of the other. The classes are a partition, so a value that may
alias either of two others (an operator that returns one of its operands) puts all three in one class. A class
escapes if it holds an input, a parameter, the result of an opaque kernel, or anything that was handed to a call of
which nothing is known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

from torch.fx import Graph, Node

from passes.ops.effects import Effects


@dataclass(frozen=True, eq=False)
class StorageClass:
    """Values that may share memory.

    Attributes:
        members: the values; the first stands for the class.
        escapes: a write to it can be seen after the graph has run.
        kept: it may belong to a parameter or to an opaque call, not only to an input.
    """

    members: tuple[Node, ...]
    escapes: bool
    kept: bool


class StorageClasses:
    """The classes of one graph. Each is found, from a member along its views, when it is first asked for.

    `effects` gives the effects of a call, and None for any other node.
    """

    def __init__(self, graph: Graph, effects: Callable[[Node], Effects | None]) -> None:
        self._graph = graph
        self._effects = effects
        self._known: dict[Node, StorageClass] = {}
        self._aliases: dict[Node, dict[Node, None]] = {}

    def of(self, node: Node) -> StorageClass:
        """The class of `node`."""
        known = self._known.get(node)
        if known is None:
            known = self._spread(node)
            self._known.update(dict.fromkeys(known.members, known))
        return known

    def known(self, node: Node) -> StorageClass | None:
        """The class of `node` if it was asked for before."""
        return self._known.get(node)

    def find(self, node: Node) -> Node:
        """The representative of the class of `node`."""
        return self.of(node).members[0]

    def escapes(self, node: Node) -> bool:
        """Whether a write to the storage of `node` can be seen after the graph has run."""
        return node.op in _OUTSIDE or self.of(node).escapes

    def is_kept(self, node: Node) -> bool:
        """Whether the storage of `node` may belong to a parameter or to an opaque call, not only to an input."""
        return self.of(node).kept

    def _spread(self, node: Node) -> StorageClass:
        members = {node: None}
        pending = [node]
        for member in pending:
            for other in self._views(member):
                if other not in members:
                    members[other] = None
                    pending.append(other)
        kept = any(member.op == "get_attr" or self._is_kept_by_call(member) for member in members)
        return StorageClass(tuple(members), kept or any(member.op in _OUTSIDE for member in members), kept)

    def _views(self, node: Node) -> Iterator[Node]:
        yield from self._aliased_by(node)
        yield from (user for user in node.users if node in self._aliased_by(user))
        if node.op == "get_attr":
            yield from self._reads_of_one_attribute[str(node.target)]

    def _aliased_by(self, node: Node) -> dict[Node, None]:
        if node not in self._aliases:
            found = self._effects(node)
            self._aliases[node] = dict.fromkeys(() if found is None else found.aliases)
        return self._aliases[node]

    def _is_kept_by_call(self, node: Node) -> bool:
        found = self._effects(node)
        return found is not None and found.keeps

    @cached_property
    def _reads_of_one_attribute(self) -> dict[str, list[Node]]:
        found: dict[str, list[Node]] = {}
        for node in self._graph.find_nodes(op="get_attr"):
            found.setdefault(str(node.target), []).append(node)
        return found


_OUTSIDE = frozenset({"placeholder", "get_attr"})

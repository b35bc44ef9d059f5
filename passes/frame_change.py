"""What removal takes from one entry of a graph, as far as it has spread."""

from __future__ import annotations

from collections import defaultdict
from itertools import chain

from torch.fx import Node

from passes.demand.result import DemandResult
from passes.rewrites import Drop, Rewrite


class FrameChange:
    """What goes from one frame.

    Attributes:
        erased: nodes that go.
        rewrites: the rewrites of each call that stays or folds away.
        folded: nodes that give way to constants.
        released: pairs of a user and a node that it no longer uses.
        users_left: for a node that lost a use, how many it has left.
        proven: for a call that only asserts, the nodes of which it asserts what the trace has proven.
    """

    def __init__(self, demand: DemandResult) -> None:
        self.erased: set[Node] = set()
        self.rewrites: dict[Node, list[Rewrite]] = defaultdict(list)
        self.folded: set[Node] = set()
        self.released: set[tuple[Node, Node]] = set()
        self.users_left: dict[Node, int] = {}
        self.proven: dict[Node, set[Node]] = {}
        for found in chain.from_iterable(demand.rewrites.values()):
            if isinstance(found, Drop):
                self.proven.setdefault(found.node, set()).update(found.severs)

    def proves(self, user: Node, node: Node) -> bool:
        """Whether `user` only asserts of `node` what the trace has proven, and so goes with it."""
        return node in self.proven.get(user, ())

    def count_uses(self, node: Node) -> int:
        """How many uses `node` has left, besides assertions that go with it."""
        if node not in self.users_left:
            asserting = sum(self.proves(user, node) for user in node.users) if self.proven else 0
            self.users_left[node] = len(node.users) - asserting
        return self.users_left[node]

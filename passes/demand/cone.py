"""The part of a graph on which demand on a few values depends.

Demand on a value is decided by what is computed from it, so the backward walk needs no more than that. And it can stop
early: behind a call that must run in any case nothing can be learned, and of a kernel that does not read the value
only one thing has to be known, whether it runs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch.fx import Node

from passes.demand.kernels import KernelTransfers
from passes.demand.running import Running, must_run
from passes.facts import GraphFacts, NodeFacts
from passes.storage import StorageClass


@dataclass(frozen=True)
class Cone:
    """Some of the nodes of one graph.

    Attributes:
        nodes: those that have to be visited.
        running: calls among them that are known to run, although what reads their results is not among them.
    """

    nodes: frozenset[Node]
    running: frozenset[Node]


def find_cone(facts: GraphFacts, kernels: KernelTransfers, values: Iterable[Node], others: Iterable[Node]) -> Cone:
    """What the walk must visit to know the demand on `values`, exactly as a walk over the whole graph would find it.

    `others` are calls that must run in any case, and that are to be visited too.
    """
    search = _Search(facts, kernels)
    search.nodes.update(others)
    search.run(values)
    return Cone(frozenset(search.nodes), frozenset(search.proven))


class _Search:
    def __init__(self, facts: GraphFacts, kernels: KernelTransfers) -> None:
        self.facts = facts
        self.kernels = kernels
        self.running = Running(facts, kernels)
        self.nodes: set[Node] = set()
        self.followed: set[Node] = set()
        self.pending: list[Node] = []
        self.classes: set[StorageClass] = set()
        self.unread: set[Node] = set()
        self.proven: set[Node] = set()

    def run(self, values: Iterable[Node]) -> None:
        for value in values:
            self.nodes.add(value)
            self._follow(value)
        while self.pending:
            value = self.pending.pop()
            for user in value.users:
                self._meet(value, user)
            if not self.pending:
                self._settle()

    def _follow(self, value: Node) -> None:
        """Has every user of `value` visited."""
        self.proven.discard(value)
        if value not in self.followed:
            self.followed.add(value)
            self.pending.append(value)

    def _meet(self, value: Node, user: Node) -> None:
        self.nodes.add(user)
        if user.op == "output":
            return
        found = self.facts.nodes[user]
        if found.region is not None:
            self._follow(user)
        elif not must_run(found, self.facts):
            self._meet_call(value, user, found)

    def _meet_call(self, value: Node, user: Node, found: NodeFacts) -> None:
        if not found.effects.writes and self._ignores(found, value):
            self.unread.add(user)
            return
        self._follow(user)
        for target in found.effects.writes:
            self._follow_class(self.facts.storage.of(target))

    def _follow_class(self, written: StorageClass) -> None:
        """Has every reader of the storage visited: a write that none of them sees is dead."""
        if written not in self.classes:
            self.classes.add(written)
            for member in written.members:
                self._follow(member)

    def _ignores(self, found: NodeFacts, value: Node) -> bool:
        return found.contract is not None and not self.kernels.reads(found.contract, value)

    def _settle(self) -> None:
        """Looks behind the kernels of which it is not plain that they run."""
        for call in self.unread - self.followed:
            if self.running.proves(call):
                self.proven.add(call)
            else:
                self._follow(call)
        self.unread.clear()

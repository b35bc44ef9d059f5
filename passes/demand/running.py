"""Calls of which it is plain that they run: one thing that reads elements leads from them to an output or an effect."""

from __future__ import annotations

from torch.fx import Node

from passes.demand.kernels import KernelTransfers
from passes.demand.rules import has_rule
from passes.facts import GraphFacts, NodeFacts


def must_run(found: NodeFacts, facts: GraphFacts) -> bool:
    """Whether a call of the graph of `facts` must run whatever becomes of its result."""
    escaping = (facts.storage.escapes(target) for target in found.effects.writes)
    return found.effects.reason is not None or any(escaping)


class Running:
    """A search along plain reads. Each node is searched once, however many calls are asked for.

    It may fail to prove a call that runs, for it goes round every call whose reads are not plain: nested graphs,
    writes, reads of shapes. It proves none that does not run.
    """

    def __init__(self, facts: GraphFacts, kernels: KernelTransfers) -> None:
        self._facts = facts
        self._kernels = kernels
        self._runs: set[Node] = set()
        self._searched: set[Node] = set()

    def proves(self, call: Node) -> bool:
        """Whether the elements of the result of `call` are plainly needed."""
        path = [(call, reversed(call.users))]
        while path and call not in self._runs:
            value, users = path[-1]
            user = next(users, None)
            if user is None:
                self._searched.add(value)
                path.pop()
            elif self._needs(user, value):
                self._runs.update(value for value, _ in path)
            elif user not in self._searched and self._hands_on(user, value):
                path.append((user, reversed(user.users)))
        return call in self._runs

    def _needs(self, user: Node, value: Node) -> bool:
        """Whether `user` must run, or is known to, and reads the elements of `value`."""
        if user.op == "output":
            return True
        found = self._facts.nodes[user]
        return (user in self._runs or must_run(found, self._facts)) and self._reads(found, value)

    def _hands_on(self, user: Node, value: Node) -> bool:
        """Whether `user` reads the elements of `value` as soon as its own result is needed."""
        found = self._facts.nodes[user]
        return not found.effects.writes and found.effects.reason is None and self._reads(found, value)

    def _reads(self, found: NodeFacts, value: Node) -> bool:
        if found.region is not None:
            return False
        return not has_rule(found.op) if found.contract is None else self._kernels.reads(found.contract, value)

"""Where memory comes from and what writes it, as the verifier sees it: backward from a value to its allocation."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

import torch
import torch.nn.functional as F  # noqa: N812
from torch.fx import GraphModule, Node

from passes.contracts import Contracts
from passes.ops.schema import resolve
from passes.regions.calls import bind_region
from passes.verify.effects import contract_of, flaw_of, schemas, written
from passes.verify.nodes import operator_name
from passes.verify.storage import sources


class WriteSearch:
    """The writes of one graph, each followed back to the allocations that it may hit.

    Attributes:
        leaving: allocations that an output, or a kernel that may keep them, hands out.
    """

    def __init__(self, module: GraphModule, contracts: Contracts) -> None:
        self._module = module
        self._contracts = contracts
        self._roots: dict[Node, frozenset[Node]] = {}
        self._own: set[Node] = set()
        self._written: set[Node] = set()
        self._outside: list[int] = []
        self.leaving: set[Node] = set()
        for position, node in enumerate(module.graph.nodes):
            self._roots[node] = self._find_roots(node)
            self._note(position, node)

    def roots(self, node: Node) -> frozenset[Node]:
        """Every node whose memory the value of `node` may be: an allocation, an input, a parameter, an opaque call.

        What an opaque call was given is not followed through it: it counts as written from then on.
        """
        return self._roots[node]

    def is_outside(self, node: Node) -> bool:
        """Whether the value may be memory that the graph has not allocated itself."""
        return not self._roots[node] <= self._own

    def is_written(self, node: Node) -> bool:
        """Whether any call may write the memory of `node`."""
        return not self._written.isdisjoint(self._roots[node])

    def outside_between(self, start: int, end: int) -> bool:
        """Whether a call at a position from `start` up to `end` may write memory that the graph has not allocated."""
        at = bisect_left(self._outside, start)
        return at < len(self._outside) and self._outside[at] < end

    def flaw(self, node: Node) -> str | None:
        """Why the call does more than to compute a value from its operands, or None."""
        if not node.op.startswith("call_") or bind_region(node, self._module) is not None:
            return "it is no call of an operator"
        if contract_of(node, self._contracts) is not None:
            return "it is a call of a kernel"
        return "it writes" if any(written(node, self._contracts)) else flaw_of(node, self._contracts)

    def _find_roots(self, node: Node) -> frozenset[Node]:
        if self._is_foreign(node):
            return frozenset({node})
        found = [] if _is_lookup(node) else sources(node, self._module, self._contracts)
        if found:
            return frozenset().union(*(self._roots[source] for source in found))
        if found is not None:
            self._own.add(node)
        return frozenset({node})

    def _note(self, position: int, node: Node) -> None:
        if node.op == "output":
            self._leave(node.all_input_nodes)
        if not node.op.startswith("call_"):
            return
        is_foreign = self._is_foreign(node)
        targets = node.all_input_nodes if is_foreign else list(written(node, self._contracts))
        for target in targets:
            self._written |= self._roots[target]
        if is_foreign or any(self.is_outside(target) for target in targets):
            self._outside.append(position)
        if node not in self._own and contract_of(node, self._contracts) is not None:
            self._leave(node.all_input_nodes)

    def _leave(self, operands: Iterable[Node]) -> None:
        for operand in operands:
            self.leaving |= self._roots[operand]

    def _is_foreign(self, node: Node) -> bool:
        """Whether a call may write and keep whatever it is given."""
        if not node.op.startswith("call_") or contract_of(node, self._contracts) is not None:
            return False
        if bind_region(node, self._module) is not None or _renormalizes(node):
            return True
        return flaw_of(node, self._contracts) is not None and not _only_checks_or_draws(node)


def _is_lookup(node: Node) -> bool:
    """torch.nn.functional.embedding: a function written in Python, of which no schema says that its result is new."""
    return node.target is F.embedding


def _renormalizes(node: Node) -> bool:
    """An embedding with `max_norm` writes its weight in place, which no schema says."""
    call = resolve(node)
    return call is not None and call.bound.get("max_norm") is not None


def _only_checks_or_draws(node: Node) -> bool:
    """An assertion or a random operator of torch: it has an effect, but writes what its schema says."""
    overloads = [overload for overload in schemas(node) if overload.namespace == "aten"]
    if not overloads or any(torch.Tag.inplace_view in overload.tags for overload in overloads):
        return False
    draws = any(torch.Tag.nondeterministic_seeded in overload.tags for overload in overloads)
    return draws or operator_name(node).startswith(("_assert", "_functional_assert", "sym_constrain"))

"""Which node of the pruned graph is which node of the graph before: by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from torch.fx import GraphModule, Node

from passes.calls import CallIndex
from passes.regions.calls import RegionCall
from passes.verify.arguments import is_same_call


@dataclass(frozen=True)
class Correspondence:
    """A graph before and after, matched by node name.

    Attributes:
        before: the module before.
        after: the module after.
        kept: nodes of both graphs, before to after, in the order of the graph before.
        removed: nodes of the graph before that are gone.
        inserted: nodes of the graph after that are new.
        within: the calls that lead to this graph, outermost first; of a graph with several callers, the first's.
    """

    before: GraphModule
    after: GraphModule
    kept: Mapping[Node, Node]
    removed: tuple[Node, ...]
    inserted: tuple[Node, ...]
    within: tuple[RegionCall, ...] = ()

    @property
    def is_nested(self) -> bool:
        """Whether other graphs call this one."""
        return bool(self.within)

    @cached_property
    def calls(self) -> CallIndex:
        """The calls of the graph before."""
        return CallIndex(self.before.graph)

    @cached_property
    def edited(self) -> tuple[tuple[Node, Node], ...]:
        """The kept nodes whose operation or arguments differ, before and after."""
        return tuple((old, new) for old, new in self.kept.items() if not is_same_call(old, new))

    def uses_removed(self, old: Node) -> bool:
        """Whether a kept node of the graph before used a node that is gone."""
        return any(operand not in self.kept for operand in old.all_input_nodes)


def correspond(before: GraphModule, after: GraphModule, within: tuple[RegionCall, ...] = ()) -> Correspondence:
    """Matches the nodes of two graphs by name."""
    by_name = {node.name: node for node in after.graph.nodes}
    matched = {node: by_name.get(node.name) for node in before.graph.nodes}
    kept = {old: new for old, new in matched.items() if new is not None}
    removed = tuple(old for old, new in matched.items() if new is None)
    known = set(kept.values())
    inserted = tuple(node for node in after.graph.nodes if by_name[node.name] not in known)
    return Correspondence(before, after, kept, removed, inserted, within)

"""Which node of the pruned graph is which node of the graph before: by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch.fx import GraphModule, Node
from torch.fx.node import map_arg


@dataclass(frozen=True)
class Correspondence:
    """A graph before and after, matched by node name.

    Attributes:
        before: the module before.
        after: the module after.
        kept: nodes of both graphs, before to after, in the order of the graph before.
        removed: nodes of the graph before that are gone.
        inserted: nodes of the graph after that are new.
    """

    before: GraphModule
    after: GraphModule
    kept: Mapping[Node, Node]
    removed: tuple[Node, ...]
    inserted: tuple[Node, ...]

    def edited(self) -> Iterator[tuple[Node, Node]]:
        """The kept nodes whose operation or arguments differ, before and after."""
        for old, new in self.kept.items():
            same_call = old.op == new.op and old.target == new.target
            if not same_call or _named(old.args) != _named(new.args) or _named(old.kwargs) != _named(new.kwargs):
                yield old, new

    def uses_removed(self, old: Node) -> bool:
        """Whether a kept node of the graph before used a node that is gone."""
        return any(operand not in self.kept for operand in old.all_input_nodes)


def correspond(before: GraphModule, after: GraphModule) -> Correspondence:
    """Matches the nodes of two graphs by name."""
    by_name = {node.name: node for node in after.graph.nodes}
    kept = {node: by_name[node.name] for node in before.graph.nodes if node.name in by_name}
    names = {node.name for node in before.graph.nodes}
    removed = tuple(node for node in before.graph.nodes if node.name not in by_name)
    inserted = tuple(node for node in after.graph.nodes if node.name not in names)
    return Correspondence(before, after, kept, removed, inserted)


@dataclass(frozen=True)
class _NodeName:
    name: str


def _named(arguments: Any) -> Any:
    """Arguments that compare equal across the two graphs: a node by its name."""
    by_name: Any = lambda node: _NodeName(node.name)  # noqa: E731
    return map_arg(arguments, by_name)

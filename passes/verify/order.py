"""The graph after is well formed, and what is left of the graph before runs in the same order."""

from __future__ import annotations

from torch.fx import Node

from passes.verify.correspondence import Correspondence
from passes.verify.trail import reject


def check_order(pair: Correspondence) -> None:
    """Rejects a node that uses what is not computed before it, names given twice, and kept nodes in another order."""
    made: set[Node] = set()
    for node in pair.after.graph.nodes:
        if not made.issuperset(node._input_nodes):
            late = next(operand for operand in node.all_input_nodes if operand not in made)
            reject(None, f"%{node.name} uses %{late.name}, which is not computed before it", pair.within)
        made.add(node)
    inserted = set(pair.inserted)
    order = [node for node in pair.after.graph.nodes if node not in inserted]
    if order != list(pair.kept.values()):
        _reject_order(pair, {node: index for index, node in enumerate(order)})
    if len({node.name for node in inserted}) < len(inserted):
        reject(None, "two nodes have the same name", pair.within)


def _reject_order(pair: Correspondence, position: dict[Node, int]) -> None:
    """Names the first kept node that runs before one it ran after; if there is none, names are not unique."""
    previous: Node | None = None
    for old, new in pair.kept.items():
        if previous is not None and position[new] < position[pair.kept[previous]]:
            reject(old, f"it now runs before %{previous.name}", pair.within)
        previous = old
    reject(None, "two nodes have the same name", pair.within)

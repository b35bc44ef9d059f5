"""The graph after is well formed, and what is left of the graph before runs in the same order."""

from __future__ import annotations

from torch.fx import Node

from passes.verify.correspondence import Correspondence
from passes.verify.trail import reject


def check_order(pair: Correspondence) -> None:
    """Rejects a node that uses what is not computed before it, names given twice, and kept nodes in another order."""
    nodes = list(pair.after.graph.nodes)
    position = {node: index for index, node in enumerate(nodes)}
    for index, node in enumerate(nodes):
        late = [operand for operand in node.all_input_nodes if position.get(operand, index) >= index]
        if late:
            reject(None, f"%{node.name} uses %{late[0].name}, which is not computed before it", pair.within)
    if len({node.name for node in nodes}) < len(nodes):
        reject(None, "two nodes have the same name", pair.within)
    _check_kept(pair, position)


def _check_kept(pair: Correspondence, position: dict[Node, int]) -> None:
    previous: Node | None = None
    for old, new in pair.kept.items():
        if previous is not None and position[new] < position[pair.kept[previous]]:
            reject(old, f"it now runs before %{previous.name}", pair.within)
        previous = old

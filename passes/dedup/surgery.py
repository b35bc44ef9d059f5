"""Carries a dedup plan out on a graph: rewires, then erases. It decides nothing."""

from __future__ import annotations

from collections.abc import Mapping

from torch.fx import Graph, Node

from passes.dedup.plan import DedupPlan


def merge(plan: DedupPlan, graph: Graph, renamed: Mapping[Node, Node]) -> None:
    """Carries `plan` out on `graph`; `renamed` maps the nodes that the plan speaks of to the graph's own."""
    for node, first in plan.merges.items():
        renamed[node].replace_all_uses_with(renamed[first])
    for node in reversed(plan.erased):
        graph.erase_node(renamed[node])

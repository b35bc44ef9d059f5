"""The plan: which nodes go and which calls are rewritten. It reads the analysis and edits nothing.

Removed are the removable sites' gathers, everything computed from them (all of it is proven to be of no effect),
and then what only those nodes used: index arithmetic, reads of the pool, the operands of dead writes. Nothing else
goes, however dead: this pass removes what the source edit would have removed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch.fx import Graph, Node

from passes.demand.analysis import DemandResult
from passes.facts import GraphFacts
from passes.rewrites import Drop, Fold, Rewrite


@dataclass(frozen=True)
class Plan:
    """What surgery is to do.

    Attributes:
        rewrites: rewrites of calls that stay, and folds, in graph order.
        erased: nodes that go, in graph order. Folded and dropped nodes are among them.
    """

    rewrites: tuple[Rewrite, ...]
    erased: tuple[Node, ...]

    def __bool__(self) -> bool:
        return bool(self.erased)


def make_plan(facts: GraphFacts, demand: DemandResult, gathers: Iterable[Node]) -> Plan:
    """The plan that removes `gathers`, each of which must be dead under `demand`."""
    dead = _dead_consumers(gathers, demand)
    rewrites = _wanted_rewrites(facts.graph, demand, dead)
    consumed = {rewrite.node for rewrite in rewrites if isinstance(rewrite, (Drop, Fold))}
    erased = dead | consumed
    erased |= _orphaned_operands(facts, erased)
    return Plan(rewrites, tuple(node for node in facts.graph.nodes if node in erased))


def writes_to_kept_storage(facts: GraphFacts, plan: Plan) -> frozenset[Node]:
    """Erased writes whose storage holds a node that stays.

    Such a write is dead, but it is not the site's: the source edit that skips the site would not have taken it out.
    """
    erased = set(plan.erased)
    written = {node: facts[node].effects.writes for node in plan.erased if node in facts.nodes}
    if not any(written.values()):
        return frozenset()
    kept = {facts.storage.find(node) for node in facts.graph.nodes if node not in erased}
    return frozenset(
        node for node, targets in written.items() if any(facts.storage.find(target) in kept for target in targets)
    )


def _dead_consumers(gathers: Iterable[Node], demand: DemandResult) -> set[Node]:
    dead: set[Node] = set()
    pending = list(gathers)
    while pending:
        node = pending.pop()
        if node in dead or demand.is_live(node):
            continue
        dead.add(node)
        pending.extend(node.users)
    return dead


def _wanted_rewrites(graph: Graph, demand: DemandResult, dead: set[Node]) -> tuple[Rewrite, ...]:
    cut = {user for node in dead for user in node.users if user not in dead}
    return tuple(
        rewrite
        for node in graph.nodes
        if node in cut
        for rewrite in demand.rewrites.get(node, ())
        if any(severed in dead for severed in rewrite.severs)
    )


def _orphaned_operands(facts: GraphFacts, erased: set[Node]) -> set[Node]:
    """What only `erased` nodes used: pure calls and attribute reads, found by counting down users."""
    left: dict[Node, int] = {}
    orphans: set[Node] = set()
    pending = sorted(erased)
    while pending:
        for operand in pending.pop().all_input_nodes:
            left[operand] = left.get(operand, len(operand.users)) - 1
            if left[operand] == 0 and operand not in erased and _may_be_erased(operand, facts):
                orphans.add(operand)
                pending.append(operand)
    return orphans


def _may_be_erased(node: Node, facts: GraphFacts) -> bool:
    if node.op == "get_attr":
        return True
    if node not in facts.nodes:
        return False
    effects = facts[node].effects
    return facts[node].call is not None and effects.reason is None and not effects.writes

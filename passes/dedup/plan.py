"""Which gathers repeat an earlier one and may take its copy. It edits nothing.

Two gathers have the same value if they have one value number. One copy may stand for both if nothing writes either,
and if not both outlive the graph: tensors that a caller holds apart must stay apart.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from torch.fx import Node

from passes import metadata
from passes.dedup.memory import Memory, is_pure
from passes.dedup.numbering import Numbers, number_values
from passes.facts import GraphFacts
from passes.sites import Site


@dataclass(frozen=True)
class Duplicate:
    """A site that repeats an earlier gather; `obstacle` says why it must stay, or is None."""

    site: Site
    first: Node
    obstacle: str | None


@dataclass(frozen=True)
class DedupPlan:
    """What surgery is to do.

    Attributes:
        duplicates: sites that repeat an earlier one, in graph order.
        merges: node to the earlier node that takes its place, in graph order.
        erased: the merged nodes, and what only they used, in graph order.
    """

    duplicates: tuple[Duplicate, ...] = ()
    merges: dict[Node, Node] = field(default_factory=dict)
    erased: tuple[Node, ...] = ()


def make_plan(facts: GraphFacts, sites: Iterable[Site]) -> DedupPlan:
    """The plan that merges each of `sites`, in graph order, into the first one of the same value."""
    memory = Memory(facts)
    planner = _Planner(number_values(facts, memory), memory)
    for site in sites:
        planner.visit(site)
    planner.merge_chains()
    erased = set(planner.merges) | _orphans(facts, planner.merges)
    merges = {node: planner.merges[node] for node in facts.graph.nodes if node in planner.merges}
    return DedupPlan(tuple(planner.duplicates), merges, tuple(node for node in facts.graph.nodes if node in erased))


class _Planner:
    def __init__(self, numbers: Numbers, memory: Memory) -> None:
        self.numbers = numbers
        self.memory = memory
        self.duplicates: list[Duplicate] = []
        self.merges: dict[Node, Node] = {}
        self.first_of_value: dict[int, Node] = {}
        self.first_of_form: dict[int, Node] = {}
        self.leaver: dict[Node, Node] = {}
        self.sites: dict[Node, Site] = {}

    def visit(self, site: Site) -> None:
        """Merges a gather into an earlier one, or notes it as the first of its value."""
        self.sites[site.gather] = site
        first = self._earlier(site.gather)
        obstacle = None if first is None else self._obstacle(site.gather, first)
        if first is not None:
            self.duplicates.append(Duplicate(site, first, obstacle))
        if first is None or obstacle is not None:
            self._note(site.gather)
        else:
            self._merge(site.gather, first)

    def merge_chains(self) -> None:
        """Merges the layout changes behind merged gathers, each into the first of its value in graph order."""
        gathers = dict.fromkeys(found for merge in self.merges.items() for found in merge)
        for node in sorted({node for gather in gathers for node in self.sites[gather].chain[1:]}):
            first = self.first_of_value.get(self.numbers.value[node])
            if first is not None and self._obstacle(node, first) is None:
                self._merge(node, first)
            else:
                self._note(node)

    def _earlier(self, node: Node) -> Node | None:
        same_value = self.first_of_value.get(self.numbers.value[node])
        return same_value or self.first_of_form.get(self.numbers.form[node])

    def _note(self, node: Node) -> None:
        """A node may stand for later ones unless something writes it."""
        self.first_of_form.setdefault(self.numbers.form[node], node)
        if self.memory.writer(node) is None:
            self.first_of_value.setdefault(self.numbers.value[node], node)

    def _merge(self, node: Node, first: Node) -> None:
        self.merges[node] = first
        if self.memory.leaves(node):
            self.leaver[self.memory.block(first)] = self.memory.block(node)

    def _obstacle(self, node: Node, first: Node) -> str | None:
        if self.numbers.value[node] != self.numbers.value[first]:
            writer = self.numbers.state[node]
            return f"%{writer.name if writer else first.name} may write what it reads in between"
        for copy in (first, node):
            if (writer := self.memory.writer(copy)) is not None:
                return f"%{writer.name} may write the copy that %{copy.name} makes"
        if self._both_leave(node, first):
            return f"it and %{first.name} outlive the graph as tensors of their own"
        return None if _layout(node) == _layout(first) else f"its layout is not recorded as that of %{first.name}"

    def _both_leave(self, node: Node, first: Node) -> bool:
        """Whether the memory of `node` outlives the graph, and so does that of `first` or another merged into it."""
        block, kept = self.memory.block(node), self.memory.block(first)
        leaver = kept if self.memory.leaves(first) else self.leaver.get(kept)
        return self.memory.leaves(node) and (block is kept or leaver not in (None, block))


def _layout(node: Node) -> object:
    tensor = metadata.fake(node)
    return None if tensor is None else (tensor.dtype, tensor.device, str(tensor.shape), str(tensor.stride()))


def _orphans(facts: GraphFacts, merged: dict[Node, Node]) -> set[Node]:
    """What only merged nodes used, besides them: index arithmetic and reads of attributes, by counting down users."""
    left: dict[Node, int] = {}
    known = {*merged, *merged.values()}
    orphans: set[Node] = set()
    pending = list(merged)
    while pending:
        for operand in pending.pop().all_input_nodes:
            left[operand] = left.get(operand, len(operand.users)) - 1
            if left[operand] == 0 and operand not in known and _may_go(operand, facts):
                orphans.add(operand)
                pending.append(operand)
    return orphans


def _may_go(node: Node, facts: GraphFacts) -> bool:
    return node.op == "get_attr" or (node in facts.nodes and is_pure(facts[node]))

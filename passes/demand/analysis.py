"""The backward walk: from what must stay to what each value is still needed for.

Roots, which demand the elements of everything they are given: the output node, writes to storage that escapes,
random operators, assertions, opaque kernels (of the operands that their contract reads) and calls of which nothing
is known. A write to storage that does not escape is needed only if something later in the graph reads that storage.

A straight-line graph needs one walk: every use of a value comes after it, and so does every read that can see a
write. A nested graph is walked once for each set of results that its callers need, however many callers there are.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from torch.fx import Graph, Node

from passes.demand.cone import Cone, find_cone
from passes.demand.kernels import KernelTransfers
from passes.demand.lattice import Demand, Transfer
from passes.demand.regions import Wanted, region_demand
from passes.demand.result import DemandResult, Pin
from passes.demand.rules import EFFECT_RULES, RULES, Rule, rule_for
from passes.demand.shapes import ShapeRoots
from passes.facts import GraphFacts, NodeFacts, RegionFacts
from passes.ops.schema import operand_nodes
from passes.regions.layouts import Agreement
from passes.regions.structure import leaves
from passes.storage import StorageClass


def analyze(
    facts: GraphFacts, kept_writes: frozenset[Node] = frozenset(), values: Collection[Node] | None = None
) -> DemandResult:
    """Demand on every value of the graph and of those it calls. `kept_writes` are writes that must stay in any case.

    Given `values` of the graph, it finds only what decides the demand on them and on all that is computed from them,
    and looks at no more of the graph.
    """
    analysis = _Analysis(kept_writes)
    if values is None:
        return analysis.graph(facts, None)
    asserts = facts.calls.matching(lambda target, name: name in EFFECT_RULES)
    return analysis.cone(facts, find_cone(facts, analysis.kernels, values, asserts))


class _Analysis:
    """The walks of one graph and of the graphs nested in it, each made once for each set of wanted results."""

    def __init__(self, kept_writes: frozenset[Node]) -> None:
        self.kept_writes = kept_writes
        self.kernels = KernelTransfers()
        self.known: dict[tuple[GraphFacts, Wanted | None, Agreement], DemandResult] = {}

    def graph(self, facts: GraphFacts, wanted: Wanted | None, recorded: Agreement = Agreement.STRIDES) -> DemandResult:
        """Demand inside a graph. `wanted` is the demand on its results; None stands for the outermost graph."""
        key = facts, wanted, recorded
        if key not in self.known:
            walk = _Walk(facts, self, wanted, recorded)
            for node in reversed(facts.graph.nodes):
                walk.visit(node)
            self.known[key] = walk.result
        return self.known[key]

    def cone(self, facts: GraphFacts, cone: Cone) -> DemandResult:
        """Demand inside a part of the outermost graph."""
        walk = _Walk(facts, self, None, Agreement.STRIDES, cone.running)
        for node in reversed(facts.graph.nodes):
            if node in cone.nodes:
                walk.visit(node)
        return walk.result


class _Walk:
    def __init__(
        self,
        facts: GraphFacts,
        analysis: _Analysis,
        wanted: Wanted | None,
        recorded: Agreement,
        running: frozenset[Node] = frozenset(),
    ) -> None:
        self.facts = facts
        self.recorded = recorded
        self.analysis = analysis
        self.wanted = wanted
        # A size is re-rooted on inputs, which the outermost graph never loses and a nested one may.
        self.roots = ShapeRoots(facts.graph if wanted is None else Graph())
        self.result = DemandResult()
        self.running = running
        self.readers: dict[Node, Node] = {}
        self.class_readers: dict[StorageClass, Node | None] = {}
        self.elements: dict[tuple[Node, int], Demand] = {}

    def visit(self, node: Node) -> None:
        if node.op == "output":
            self._visit_output(node)
        elif node in self.facts.nodes:
            self._visit_call(node, self.facts[node])

    def _visit_output(self, node: Node) -> None:
        self.result.pins[node] = Pin(None, 0, "is an output of the graph")
        results = [value for _, value in leaves(node.args[0])]
        wanted = self.wanted or (Demand.DATA,) * len(results)
        uses = [
            (found, demand) for value, demand in zip(results, wanted, strict=True) for found in operand_nodes(value)
        ]
        self._demand_operands(node, Transfer(uses))

    def _visit_call(self, node: Node, facts: NodeFacts) -> None:
        if facts.region is not None:
            self._visit_region(node, facts, facts.region)
        elif facts.effects.reason is not None:
            self._root(node, facts.effects.reason, self._transfer(node, facts))
        elif facts.effects.writes:
            self._visit_write(node, facts)
        elif node in self.running:
            self._root(node, "is read further on", self._transfer(node, facts))
        elif self.result.of(node) is not Demand.NONE:
            self._demand_operands(node, self._transfer(node, facts))

    def _visit_region(self, node: Node, facts: NodeFacts, region: RegionFacts) -> None:
        wanted = tuple(self.elements.get((node, index), Demand.NONE) for index in range(len(region.call.results)))
        found = region_demand(region, wanted, self.analysis.graph)
        self.result.regions[node] = found
        if facts.effects.reason is not None:
            self._root(node, facts.effects.reason, Transfer([]))
        if not self.result.is_live(node) and not any(wanted):
            return
        for control in region.call.controls:
            self._demand_operands(node, Transfer([(value, Demand.DATA) for value in operand_nodes(control)]))
        for index, (operand, demand) in enumerate(zip(region.call.operands, found.operands, strict=True)):
            uses = [(value, demand) for value in operand_nodes(operand.value)]
            refusals = {value: found.refusals[index] for value, _ in uses} if index in found.refusals else {}
            self._demand_operands(node, Transfer(uses, refusals=refusals))

    def _visit_write(self, node: Node, facts: NodeFacts) -> None:
        storage, written = self.facts.storage, facts.effects.writes
        transfer = self._transfer(node, facts)
        if any(storage.escapes(target) for target in written):
            self._root(node, "writes storage that outlives the graph", transfer)
        elif node in self.analysis.kept_writes:
            self._root(node, "writes storage that the graph still uses", transfer)
        elif (reader := self._reader(written)) is not None:
            self._pin(node, Pin(reader, self.result.pins[reader].distance + 1))
            self._demand_operands(node, transfer)
        elif self.result.of(node) is not Demand.NONE:
            self._demand_operands(node, transfer)

    def _reader(self, written: tuple[Node, ...]) -> Node | None:
        found = (self._class_reader(self.facts.storage.of(target)) for target in written)
        return next((reader for reader in found if reader is not None), None)

    def _class_reader(self, found: StorageClass) -> Node | None:
        """The last call that reads a value of the class; it is later than the write that is being visited."""
        if found not in self.class_readers:
            readers = sorted(self.readers[member] for member in found.members if member in self.readers)
            self.class_readers[found] = readers[-1] if readers else None
        return self.class_readers[found]

    def _transfer(self, node: Node, facts: NodeFacts) -> Transfer:
        if facts.contract is not None:
            return self.analysis.kernels.of(facts.contract)
        has_effect = facts.effects.reason is not None
        if facts.effects.writes and not has_effect:
            return _all_data(node)
        if (found := self._by_rule(node, facts, EFFECT_RULES if has_effect else RULES)) is not None:
            return found
        return _all_data(node) if has_effect else _same_demand(node, self.result.of(node))

    def _by_rule(self, node: Node, facts: NodeFacts, table: Mapping[str, Rule]) -> Transfer | None:
        call = self.facts.call(node) if facts.op in table else None
        rule = None if call is None else rule_for(table, call, self.recorded)
        return None if call is None or rule is None else rule(call, self.roots)

    def _root(self, node: Node, reason: str, transfer: Transfer) -> None:
        self.result.pins[node] = Pin(None, 0, reason)
        self._demand_operands(node, transfer)

    def _demand_operands(self, node: Node, transfer: Transfer) -> None:
        is_live = self.result.is_live(node)
        for operand, demand in transfer.uses:
            granted = demand if is_live else min(demand, Demand.SHAPE)
            self._demand_element(operand, node, granted)
            if granted is Demand.DATA:
                self._demand_data(operand, node, transfer.refusals.get(operand))
            elif granted > self.result.of(operand):
                self.result.demand[operand] = granted
        if transfer.rewrites and is_live:
            self.result.rewrites[node] = transfer.rewrites

    def _demand_element(self, operand: Node, user: Node, demand: Demand) -> None:
        """Notes which results of a call `user` needs; a user that only takes an element out needs none by itself."""
        element = self.facts.elements.get(operand)
        if user in self.facts.elements and self.facts.elements[user].call is not user:
            return
        call = operand if element is None else element.call
        region = self.facts.region(call)
        if region is None:
            return
        for leaf in range(len(region.call.results)) if element is None else element.leaves:
            if demand > self.elements.get((call, leaf), Demand.NONE):
                self.elements[call, leaf] = demand
                self.result.takers[call, leaf] = operand

    def _demand_data(self, operand: Node, user: Node, refusal: str | None) -> None:
        self.result.demand[operand] = Demand.DATA
        self._pin(operand, Pin(user, self.result.pins[user].distance + 1))
        self.readers.setdefault(operand, user)
        known = self.facts.storage.known(operand)
        if known is not None and self.class_readers.get(known, user) is None:
            self.class_readers[known] = user
        if refusal is not None:
            self.result.refusals.setdefault(operand, refusal)

    def _pin(self, node: Node, pin: Pin) -> None:
        known = self.result.pins.get(node)
        if known is None or pin.distance < known.distance:
            self.result.pins[node] = pin


def _all_data(node: Node) -> Transfer:
    return Transfer([(operand, Demand.DATA) for operand in node.all_input_nodes])


def _same_demand(node: Node, demand: Demand) -> Transfer:
    return Transfer([(operand, demand) for operand in node.all_input_nodes])

"""The backward walk: from what must stay to what each value is still needed for.

Roots, which demand the elements of everything they are given: the output node, writes to storage that escapes,
random operators, assertions, opaque kernels (of the operands that their contract reads) and calls of which nothing
is known. A write to storage that does not escape is needed only if something later in the graph reads that storage.

A straight-line graph needs one walk: every use of a value comes after it, and so does every read that can see a
write.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch.fx import Node

from passes.demand.asserts import metadata_assert
from passes.demand.factories import AS_CALLS, LIKE_FACTORIES, like_factory, takes_shape_of_other
from passes.demand.kernels import contract_transfer
from passes.demand.lattice import Demand, Transfer
from passes.demand.metadata_reads import METADATA_READS, is_metadata_read, read_metadata
from passes.demand.shapes import ShapeRoots
from passes.facts import GraphFacts, NodeFacts
from passes.ops.schema import Call
from passes.rewrites import Rewrite

Rule = Callable[[Call, ShapeRoots], Transfer]

RULES: Mapping[str, Rule] = {
    **dict.fromkeys(METADATA_READS, read_metadata),
    **dict.fromkeys(LIKE_FACTORIES, like_factory),
    **dict.fromkeys(AS_CALLS, takes_shape_of_other),
}
"""What a pure call demands of its operands, for the calls that do not need the elements of all of them."""

EFFECT_RULES: Mapping[str, Rule] = {"aten::_assert_tensor_metadata": metadata_assert}
"""The same for calls that must stay whatever happens to their result."""


@dataclass(frozen=True)
class Pin:
    """The next step from a demanded value towards the root that keeps it.

    Attributes:
        user: the node that demands it.
        distance: number of steps to the root.
        reason: at a root, why it is one; else None.
    """

    user: Node | None
    distance: int
    reason: str | None = None


@dataclass
class DemandResult:
    """Demand on every value, how to cut what is not demanded, and what keeps the rest.

    Attributes:
        demand: demand on each value; a node that is missing is demanded for nothing.
        rewrites: of each live call, the ways to cut operands whose elements it does not need.
        pins: for each demanded value and each root, the way to the nearest root.
        refusals: for a value, why it is demanded although its elements are not read.
    """

    demand: dict[Node, Demand] = field(default_factory=dict)
    rewrites: dict[Node, tuple[Rewrite, ...]] = field(default_factory=dict)
    pins: dict[Node, Pin] = field(default_factory=dict)
    refusals: dict[Node, str] = field(default_factory=dict)

    def of(self, node: Node) -> Demand:
        """Demand on the value of `node`."""
        return self.demand.get(node, Demand.NONE)

    def is_live(self, node: Node) -> bool:
        """Whether `node` must run: its elements are demanded, or it is a root."""
        return node in self.pins


def analyze(facts: GraphFacts, kept_writes: frozenset[Node] = frozenset()) -> DemandResult:
    """Demand on every value of the graph, in one backward walk. `kept_writes` are writes that must stay in any case."""
    walk = _Walk(facts, ShapeRoots(facts.graph), kept_writes)
    for node in reversed(facts.graph.nodes):
        walk.visit(node)
    return walk.result


class _Walk:
    def __init__(self, facts: GraphFacts, roots: ShapeRoots, kept_writes: frozenset[Node]) -> None:
        self.facts = facts
        self.roots = roots
        self.kept_writes = kept_writes
        self.result = DemandResult()
        self.readers: dict[Node, Node] = {}

    def visit(self, node: Node) -> None:
        if node.op == "output":
            self._root(node, "is an output of the graph", _all_data(node))
        elif node.op.startswith("call_"):
            self._visit_call(node, self.facts[node])

    def _visit_call(self, node: Node, facts: NodeFacts) -> None:
        effects = facts.effects
        if facts.call is not None and facts.contract is not None:
            self._root(node, self._kernel_reason(facts), contract_transfer(facts.call, facts.contract))
        elif effects.reason is not None:
            rule = EFFECT_RULES.get(facts.call.op) if facts.call is not None else None
            transfer = rule(facts.call, self.roots) if rule is not None and facts.call is not None else _all_data(node)
            self._root(node, effects.reason, transfer)
        elif effects.writes:
            self._visit_write(node, effects.writes)
        elif self.result.of(node) is not Demand.NONE:
            self._demand_operands(node, self._pure_transfer(node, facts.call))

    def _kernel_reason(self, facts: NodeFacts) -> str:
        escaping = any(self.facts.storage.escapes(node) for node in facts.effects.writes)
        return (
            "reads it, and writes storage that outlives the graph" if escaping else "is an opaque kernel that reads it"
        )

    def _visit_write(self, node: Node, written: tuple[Node, ...]) -> None:
        storage = self.facts.storage
        if any(storage.escapes(target) for target in written):
            self._root(node, "writes storage that outlives the graph", _all_data(node))
            return
        if node in self.kept_writes:
            self._root(node, "writes storage that the graph still uses", _all_data(node))
            return
        reader = next((r for target in written if (r := self.readers.get(storage.find(target)))), None)
        if reader is not None:
            self._pin(node, Pin(reader, self.result.pins[reader].distance + 1))
            self._demand_operands(node, _all_data(node))

    def _pure_transfer(self, node: Node, call: Call | None) -> Transfer:
        rule = RULES.get(call.op) if call is not None else None
        if rule is None or call is None or (rule is read_metadata and not is_metadata_read(call)):
            return _same_demand(node, self.result.of(node))
        return rule(call, self.roots)

    def _root(self, node: Node, reason: str, transfer: Transfer) -> None:
        self.result.pins[node] = Pin(None, 0, reason)
        self._demand_operands(node, transfer)

    def _demand_operands(self, node: Node, transfer: Transfer) -> None:
        for operand, demand in transfer.uses:
            if demand is Demand.DATA and self.result.is_live(node):
                self._demand_data(operand, node, transfer.refusal)
            elif demand > self.result.of(operand):
                self.result.demand[operand] = Demand.SHAPE if demand is Demand.DATA else demand
        if transfer.rewrites and self.result.is_live(node):
            self.result.rewrites[node] = transfer.rewrites

    def _demand_data(self, operand: Node, user: Node, refusal: str | None) -> None:
        self.result.demand[operand] = Demand.DATA
        self._pin(operand, Pin(user, self.result.pins[user].distance + 1))
        self.readers.setdefault(self.facts.storage.find(operand), user)
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

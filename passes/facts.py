"""What is known of each call of a graph, and of the graphs nested in it, before any analysis runs.

A call is bound when it is first asked for: the pass looks at what a site can reach, not at the whole graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from torch._ops import OpOverload
from torch.fx import Graph, GraphModule, Node

from passes.calls import CallIndex, Target, is_call
from passes.contracts import BoundContract, Contracts
from passes.ops.effects import PURE, Effects, PlainOperator, lasting_effect, opaque_effects, plain_operator
from passes.ops.schema import Call, operand_nodes, resolve
from passes.ops.signature import signature
from passes.regions.calls import RegionCall, bind_region, may_call_graphs
from passes.regions.effects import BodyEffects, body_effects, region_effects
from passes.regions.elements import Element, find_elements
from passes.regions.layouts import Agreement, agreement
from passes.regions.markers import bind_marker
from passes.storage import StorageClasses


class NodeFacts(NamedTuple):
    """What a call does.

    Attributes:
        op: qualified name of the operator, or None if nothing is known of the call.
        effects: its effects.
        contract: the operator's contract, if it has one.
        region: the nested graphs or lanes of the call, if any.
    """

    op: str | None
    effects: Effects
    contract: BoundContract | None = None
    region: RegionFacts | None = None


class Bindings(dict[Node, Call | None]):
    """Calls bound to their schemas, each when it is first asked for; None for one of which nothing is known."""

    def __missing__(self, node: Node) -> Call | None:
        found = self[node] = resolve(node)
        return found


@dataclass(frozen=True, eq=False)
class RegionFacts:
    """A call whose results are followed one by one, with the facts of the graphs that it calls.

    Attributes:
        call: the call.
        bodies: facts of its graphs.
        recorded: what holds for this call of the sizes and strides that were recorded in its graphs.
    """

    call: RegionCall
    bodies: tuple[GraphFacts, ...]
    recorded: Agreement


class CallFacts(Mapping[Node, NodeFacts]):
    """Facts of the calls of a graph, each found when it is first asked for."""

    def __init__(self, graph: Graph, find: Callable[[Node], NodeFacts]) -> None:
        self._graph = graph
        self._find = find
        self._known: dict[Node, NodeFacts] = {}

    def __getitem__(self, node: Node) -> NodeFacts:
        known = self._known.get(node)
        if known is None:
            if not is_call(node):
                raise KeyError(node)
            known = self._known[node] = self._find(node)
        return known

    def of(self, node: Node) -> NodeFacts | None:
        """Facts of `node`, or None if it is no call."""
        known = self._known.get(node)
        return self[node] if known is None and is_call(node) else known

    def find_all(self, calls: Iterable[Node]) -> None:
        """Finds the facts of `calls` now."""
        for call in calls:
            self[call]

    def __contains__(self, node: object) -> bool:
        return isinstance(node, Node) and is_call(node)

    def __iter__(self) -> Iterator[Node]:
        return filter(is_call, self._graph.nodes)

    def __len__(self) -> int:
        return sum(1 for _ in self)


@dataclass(frozen=True, eq=False)
class GraphFacts:
    """Facts of every call of one graph.

    Attributes:
        module: the module of the graph.
        calls: its calls by operator.
        nodes: facts of each call.
        bindings: its calls bound to their schemas.
        regions: the calls whose results are followed one by one, in graph order.
        contracted: the calls of operators that may have a contract, in graph order.
    """

    module: GraphModule
    calls: CallIndex
    nodes: CallFacts
    bindings: Bindings
    regions: tuple[Node, ...]
    contracted: tuple[Node, ...]

    @property
    def graph(self) -> Graph:
        """The graph."""
        return self.module.graph

    @property
    def output(self) -> Node:
        """The output node."""
        found: Node = next(iter(self.graph.find_nodes(op="output")))
        return found

    @cached_property
    def storage(self) -> StorageClasses:
        """Its storage classes; an input of a nested graph counts as escaping."""
        return StorageClasses(self.graph, self.effects_of)

    @cached_property
    def effects(self) -> BodyEffects:
        """What a call of this graph does. Asks for the facts of every call of it."""
        return body_effects(self.graph, {node: found.effects for node, found in self.nodes.items()}, self.storage)

    @cached_property
    def elements(self) -> Mapping[Node, Element]:
        """The values that were taken out of the results of a call in `regions`, by call, in graph order."""
        return find_elements([found.call for node in self.regions if (found := self.region(node))], self.call)

    @cached_property
    def taken(self) -> Mapping[Node, tuple[Node, ...]]:
        """For each call in `regions`, the values that were taken out of its results, in graph order."""
        found: dict[Node, list[Node]] = {node: [] for node in self.regions}
        for node, element in self.elements.items():
            found[element.call].append(node)
        return {call: tuple(nodes) for call, nodes in found.items()}

    @cached_property
    def holders(self) -> Mapping[tuple[Node, int], tuple[Node, ...]]:
        """For each result of a call in `regions`, by its number, the values that hold it, in graph order."""
        found: dict[tuple[Node, int], list[Node]] = {}
        for node, element in self.elements.items():
            for leaf in element.leaves:
                found.setdefault((element.call, leaf), []).append(node)
        return {place: tuple(nodes) for place, nodes in found.items()}

    def __getitem__(self, node: Node) -> NodeFacts:
        return self.nodes[node]

    def call(self, node: Node) -> Call | None:
        """The bound call of `node`, or None for inputs, attributes, outputs and calls of which nothing is known."""
        return self.bindings[node]

    def region(self, node: Node) -> RegionFacts | None:
        """The nested graphs or lanes of `node`, or None."""
        facts = self.nodes.of(node)
        return None if facts is None else facts.region

    def effects_of(self, node: Node) -> Effects | None:
        """Effects of the call `node`, or None if it is no call."""
        facts = self.nodes.of(node)
        return None if facts is None else facts.effects


def graph_facts(module: GraphModule, contracts: Contracts) -> GraphFacts:
    """Facts of a module's graph and, once each, of the graphs it calls.

    Raises DeadkvError if a contract contradicts its operator.
    """
    return _Collector(contracts).facts(module)


class _Plain(NamedTuple):
    """A plain operator, and the facts of all its calls that share nothing."""

    operator: PlainOperator
    alike: NodeFacts


class _PlainOperators(dict[OpOverload, _Plain | None]):
    """Operators that have neither a contract nor nested graphs and are no markers; None for any other."""

    def __init__(self, contracts: Contracts) -> None:
        super().__init__()
        self._contracts = contracts

    def __missing__(self, overload: OpOverload) -> _Plain | None:
        found = plain_operator(overload)
        if found is not None and self._contracts.may_say_something(found.op):
            found = None
        known = self[overload] = None if found is None else _Plain(found, NodeFacts(found.op, PURE))
        return known


class _Collector:
    def __init__(self, contracts: Contracts) -> None:
        self.contracts = contracts
        self.known: dict[Graph, GraphFacts] = {}
        self.plain = _PlainOperators(contracts)

    def facts(self, module: GraphModule) -> GraphFacts:
        if module.graph not in self.known:
            self.known[module.graph] = self._collect(module)
        return self.known[module.graph]

    def _collect(self, module: GraphModule) -> GraphFacts:
        calls, bindings = CallIndex(module.graph), Bindings()
        nodes = CallFacts(module.graph, lambda node: self._plain_facts(node) or self._facts(node, module, bindings))
        contracted = calls.named(self.contracts.may_know)
        nodes.find_all(contracted)  # a contract that contradicts its operator is an error wherever the call stands
        regions = tuple(node for node in calls.matching(self._may_be_region) if nodes[node].region is not None)
        return GraphFacts(module, calls, nodes, bindings, regions, contracted)

    def _may_be_region(self, target: Target, name: str | None) -> bool:
        return may_call_graphs(target) or (name is not None and self.contracts.is_marker_name(name))

    def _facts(self, node: Node, module: GraphModule, bindings: Bindings) -> NodeFacts:
        call = bindings[node]
        op = None if call is None else call.op
        if (region := self._region(node, call, module)) is not None:
            found = region_effects(region.call, [body.effects for body in region.bodies])
            return NodeFacts(op, found, region=region)
        contract = self.contracts.find(call)
        if call is None or contract is None:
            return NodeFacts(op, opaque_effects(call, node))
        bound = contract.bind(call)
        return NodeFacts(op, _contract_effects(bound), bound)

    def _plain_facts(self, node: Node) -> NodeFacts | None:
        """Facts of a call that need not be bound to know them, or None."""
        target: Any = node.target
        known = self.plain[target] if isinstance(target, OpOverload) else None
        found = None if known is None else known.operator.effects(node)
        if known is None or found is None:
            return None
        return known.alike if found is PURE else NodeFacts(known.operator.op, found)

    def _region(self, node: Node, call: Call | None, module: GraphModule) -> RegionFacts | None:
        is_marker = call is not None and self.contracts.is_marker(call)
        bound = bind_marker(call) if call is not None and is_marker else bind_region(node, module)
        if bound is None:
            return None
        return RegionFacts(bound, tuple(self.facts(body.module) for body in bound.bodies), agreement(bound))


def _contract_effects(bound: BoundContract) -> Effects:
    call = bound.call
    writes = tuple(node for name in call.bound if name in bound.writes for node in operand_nodes(call.bound[name]))
    shares = call.overload is None or signature(call.overload).returns_alias
    aliases = writes if call.kernel is not None else tuple(call.node.all_input_nodes) if shares else ()
    return Effects(lasting_effect(call), False, writes, aliases, keeps=call.kernel is None)

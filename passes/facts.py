"""Everything that is known of each call of a graph before any analysis runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch.fx import Graph, Node

from passes.contracts import Contract, Contracts
from passes.ops.effects import Effects, opaque_effects
from passes.ops.schema import Call, operand_nodes, resolve
from passes.ops.signature import signature
from passes.storage import StorageClasses


@dataclass(frozen=True)
class NodeFacts:
    """A call bound to its schema, its contract if it has one, and its effects."""

    call: Call | None
    contract: Contract | None
    effects: Effects


@dataclass(frozen=True)
class GraphFacts:
    """Facts of every call of `graph`, and its storage classes."""

    graph: Graph
    nodes: Mapping[Node, NodeFacts]
    storage: StorageClasses

    def __getitem__(self, node: Node) -> NodeFacts:
        return self.nodes[node]

    def call(self, node: Node) -> Call | None:
        """The bound call of `node`, or None for inputs, attributes, outputs and calls of which nothing is known."""
        facts = self.nodes.get(node)
        return None if facts is None else facts.call


def graph_facts(graph: Graph, contracts: Contracts) -> GraphFacts:
    """Collects the facts of `graph` in one walk. Raises DeadkvError if a contract contradicts its operator."""
    calls = [node for node in graph.nodes if node.op.startswith("call_")]
    nodes = {node: _node_facts(node, contracts) for node in calls}
    storage = StorageClasses(graph, {node: facts.effects for node, facts in nodes.items()})
    return GraphFacts(graph, nodes, storage)


def _node_facts(node: Node, contracts: Contracts) -> NodeFacts:
    call = resolve(node)
    contract = contracts.find(call)
    if call is None or contract is None:
        return NodeFacts(call, None, opaque_effects(call, node))
    return NodeFacts(call, contract, _contract_effects(call, contract))


def _contract_effects(call: Call, contract: Contract) -> Effects:
    written = [name for name in call.bound if name in contract.operands_written(call)]
    writes = tuple(node for name in written for node in operand_nodes(call.bound[name]))
    shares = call.overload is None or signature(call.overload).returns_alias
    aliases = tuple(call.node.all_input_nodes) if shares else ()
    return Effects("is an opaque kernel that reads it", False, writes, aliases, keeps=True)

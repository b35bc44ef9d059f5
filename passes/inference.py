"""Inferred contracts: what an operator reads and writes, read off a trace of its own implementation.

An operator with a registered decomposition, a composite implementation, or a CPU implementation in Python is traced on
fake tensors of the shapes that the call was recorded with, under the call's static arguments. An operand that reaches
no result and no write is unread. Used only when asked for: it trusts that the operator computes on every device what
it computes there, and that its Python code has no effect but on tensors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, combinations
from typing import Any

from torch.fx import Node

from passes import metadata
from passes.contracts import Contract, Contracts, EmptyTensor
from passes.demand.analysis import analyze
from passes.demand.lattice import Demand
from passes.errors import DeadkvError
from passes.facts import GraphFacts, graph_facts
from passes.implementations import Implementation, Traced, implementations, trace
from passes.ops.effects import TRUSTED_NAMESPACES
from passes.ops.schema import Call, operand_nodes
from passes.ops.signature import signature
from passes.rewrites import SetOperand
from passes.stand_ins import check_accepted, slot

MAX_UNREAD = 4
"""Most unread operands of which every subset is replaced and traced, as an implementation may branch on any of them.

Of more, each keeps a tensor of its own layout, which no trace can tell from the operand.
"""


@dataclass
class InferringContracts(Contracts):
    """A table that infers the contract of a call for which it has none."""

    inferred: dict[Any, Contract | None] = field(default_factory=dict)

    @classmethod
    def over(cls, known: Contracts) -> InferringContracts:
        """A table that holds what `known` holds."""
        return cls(known.by_op, known.by_base_name, known.markers)

    def may_know(self, op: str) -> bool:
        """Whether a contract was declared for the operator, or may be inferred."""
        return super().may_know(op) or op.split("::")[0] not in TRUSTED_NAMESPACES

    def find(self, call: Call | None) -> Contract | None:
        """The contract that was declared for the operator, or else the one inferred for this very call."""
        declared = super().find(call)
        if declared is not None or call is None or self.is_marker(call):
            return declared
        key = _key(call)
        if key is None:
            return None
        if key not in self.inferred:
            self.inferred[key] = None  # an operator that calls itself
            self.inferred[key] = infer_contract(call, self)
        return self.inferred[key]


def infer_contract(call: Call, contracts: Contracts | None = None) -> Contract | None:
    """The contract of one call, or None if nothing is sure.

    There is none for an operator of which no implementation can be traced, and for one that branches on elements,
    calls `.item()`, draws random numbers, asserts, uses tensors that are no operands, returns an operand without
    saying so, or calls an operator of which nothing is known. `contracts` are those of the operators that it
    calls; by default they are inferred too.
    """
    if _key(call) is None or call.overload is None:
        return None
    table = contracts or InferringContracts()
    uses = [_uses(found, call, table) for found in implementations(call.overload)]
    known = [found for found in uses if found is not None]
    if not known or len(known) < len(uses):
        return None
    needed = frozenset().union(*(found.reads | found.writes for found in known)) | _marked_shared(call)
    stand_ins = _stand_ins(call, known, needed)
    kept = {name for name in _given(call) if name not in needed and name not in stand_ins}
    return Contract(
        op=call.op,
        reads=frozenset().union(*(found.reads for found in known)) | kept,
        writes=frozenset().union(*(found.writes for found in known)),
        stand_in=stand_ins,
        inferred=True,
    )


@dataclass(frozen=True)
class _Uses:
    """What one implementation does with its operands."""

    implementation: Implementation
    traced: Traced
    reads: frozenset[str]
    writes: frozenset[str]


def _key(call: Call) -> Any:
    """What a contract may depend on, or None where it is not inferred: symbolic shapes, torch's own operators."""
    if call.overload is None or call.op.split("::")[0] in TRUSTED_NAMESPACES:
        return None
    layouts = {node: metadata.static_layout(node) for node in call.node.all_input_nodes}
    if None in layouts.values():
        return None
    return call.overload, repr(_described(list(call.bound.items()), layouts))


def _described(value: Any, layouts: Mapping[Node, Any]) -> Any:
    if isinstance(value, Node):
        return layouts[value]
    return [_described(item, layouts) for item in value] if isinstance(value, (list, tuple)) else value


def _uses(implementation: Implementation, call: Call, contracts: Contracts) -> _Uses | None:
    traced, again = (trace(implementation, call) for _ in range(2))
    if traced is None or again is None or traced.signature() != again.signature():
        return None
    facts = graph_facts(traced.module, contracts)
    if not _is_pure(facts) or _returns_operand(facts, traced, call):
        return None
    demand = analyze(facts)
    written = _written(facts, traced)
    if written is None:
        return None
    reads = frozenset(name for node, name in traced.operands.items() if demand.of(node) is Demand.DATA)
    return _Uses(implementation, traced, reads, written)


def _is_pure(facts: GraphFacts) -> bool:
    """Whether every call is known and does nothing but compute and write, and every constant is a literal."""
    effects = [facts[node].effects for node in facts.nodes]
    constants = facts.graph.find_nodes(op="get_attr")
    literals = all(_is_literal(user, facts) for node in constants for user in node.users)
    return literals and not any(found.reason is not None or found.opaque for found in effects)


def _is_literal(user: Node, facts: GraphFacts) -> bool:
    call = facts.call(user)
    return call is not None and call.base_name == "lift_fresh_copy"


def _written(facts: GraphFacts, traced: Traced) -> frozenset[str] | None:
    """Operands that are written, or None if other storage that outlives the call is."""
    owners: dict[Node, set[str]] = {}
    for node, name in traced.operands.items():
        owners.setdefault(facts.storage.find(node), set()).add(name)
    targets = [facts.storage.find(target) for node in facts.nodes for target in facts[node].effects.writes]
    if any(facts.storage.escapes(target) and target not in owners for target in targets):
        return None
    return frozenset(chain.from_iterable(owners.get(target, ()) for target in targets))


def _returns_operand(facts: GraphFacts, traced: Traced, call: Call) -> bool:
    """Whether a result shares storage with an operand that the schema does not mark."""
    marked = _marked_shared(call)
    results = {facts.storage.find(node) for node in facts.output.all_input_nodes}
    return any(facts.storage.find(node) in results for node, name in traced.operands.items() if name not in marked)


def _marked_shared(call: Call) -> frozenset[str]:
    assert call.overload is not None
    return frozenset(name for name, found in signature(call.overload).parameters.items() if found.is_alias)


def _given(call: Call) -> Iterator[str]:
    return (name for name, value in call.bound.items() if any(True for _ in operand_nodes(value)))


def _stand_ins(call: Call, known: list[_Uses], needed: frozenset[str]) -> dict[str, Any]:
    """What may stand for each unread operand, whichever others are replaced too: None, or an empty tensor."""
    unread = [name for name in _given(call) if name not in needed and isinstance(call.bound[name], Node)]
    if len(unread) <= MAX_UNREAD:
        chosen = {name: made for name in unread for made in _choices(call, known, name)[:1]}
        groups = chain.from_iterable(combinations(chosen, size) for size in range(2, len(chosen) + 1))
        if all(_fits(call, known, {name: chosen[name] for name in group}) for group in groups):
            return chosen
    tensors = {name: metadata.fake(call.bound[name]) for name in unread}
    return {name: EmptyTensor(tuple(t.shape)) for name, t in tensors.items() if t is not None and t.is_contiguous()}


def _choices(call: Call, known: list[_Uses], name: str) -> list[EmptyTensor | None]:
    """What may stand for one operand alone, the cheapest first."""
    assert call.overload is not None
    tensor = metadata.fake(call.bound[name])
    optional: list[EmptyTensor | None] = [None] if signature(call.overload).parameters[name].is_optional else []
    empty = [] if tensor is None else [EmptyTensor(tuple(tensor.shape))]
    return [made for made in (*optional, *empty) if _fits(call, known, {name: made})]


def _fits(call: Call, known: list[_Uses], stand_ins: Mapping[str, EmptyTensor | None]) -> bool:
    """Whether the implementations do the same with the stand-ins, and the fake implementation accepts them."""
    traces = [(found.traced, trace(found.implementation, call, stand_ins)) for found in known]
    if any(changed is None or changed.signature() != before.signature() for before, changed in traces):
        return False
    edits = [(name, made) for name, made in stand_ins.items() if made is None]
    try:
        check_accepted(tuple(SetOperand(call.node, (), slot(call, name), made, "") for name, made in edits))
    except DeadkvError:
        return False
    return True

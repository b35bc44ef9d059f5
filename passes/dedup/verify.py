"""The independent verifier of dedup-prefix-cache: every claimed pair is proven equal, pair by pair.

It numbers nothing and asks no analysis of the pass. Where the pass walks forward and hashes expressions, the verifier
takes one pair that the report names and compares the two expressions backward, operand by operand, down to the same
inputs; writes are looked for from the call that writes back to the memory that it writes.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.fx import GraphModule, Node
from torch.fx.node import map_arg

from passes.contracts import Contracts
from passes.dedup.aliasing import WriteSearch
from passes.dedup.equality import EqualityProof
from passes.dedup.report import DedupReport
from passes.registration import DEFAULT_CONTRACTS
from passes.verify.attributes import check_attributes, check_state
from passes.verify.correspondence import Correspondence, correspond
from passes.verify.interface import check_interface
from passes.verify.nodes import traced
from passes.verify.order import check_order
from passes.verify.removals import Removals
from passes.verify.trail import reject


def verify_dedup(
    before: GraphModule, after: GraphModule, report: DedupReport, *, contracts: Contracts | None = None
) -> None:
    """Proves that `after` is `before` with the nodes that `report` names rewired and removed, and computes the same.

    Raises:
        PruneVerificationError: a difference is not provably without effect, or the report does not tell it.
    """
    pair = correspond(before, after)
    check_interface(pair)
    check_order(pair)
    check_state(pair, ())
    check_attributes(pair, {})
    _check_report(pair, report)
    substitution = _substitution(pair, report)
    _check_edits(pair, substitution)
    Removals(contracts or DEFAULT_CONTRACTS).check(pair)
    _check_pairs(before, substitution, contracts or DEFAULT_CONTRACTS)


def _substitution(pair: Correspondence, report: DedupReport) -> dict[Node, Node]:
    nodes = {node.name: node for node in pair.before.graph.nodes}
    for entry in report.rewired:
        if entry.node not in nodes or nodes.get(entry.into) not in pair.kept:
            reject(None, f"the report rewires %{entry.node} to %{entry.into}, which is not in both graphs")
    return {nodes[entry.node]: nodes[entry.into] for entry in report.rewired}


def _check_report(pair: Correspondence, report: DedupReport) -> None:
    removed = [node.name for node in pair.removed]
    if removed != list(report.removed):
        reject(None, f"the report says that {list(report.removed)} went, but {removed} did")
    if dropped := [node for node in pair.removed if node.op in ("placeholder", "output")]:
        reject(dropped[0], f"the {dropped[0].op} was removed")
    if pair.inserted:
        reject(None, f"%{pair.inserted[0].name} ({pair.inserted[0].target}) was inserted")


def _check_edits(pair: Correspondence, substitution: dict[Node, Node]) -> None:
    """Every kept node is the call that it was, with each rewired operand replaced and no other changed."""

    def expected(operand: Node) -> Any:
        return pair.kept.get(substitution.get(operand, operand))

    for old, new in pair.kept.items():
        wanted: Any = map_arg((old.args, old.kwargs), expected)
        if old.op != new.op or old.target != new.target:
            reject(old, f"it became {new.target}")
        if repr(wanted) != repr((new.args, new.kwargs)):
            reject(old, "its arguments changed in a way that the report does not tell")


def _check_pairs(before: GraphModule, substitution: dict[Node, Node], contracts: Contracts) -> None:
    position = {node: index for index, node in enumerate(before.graph.nodes)}
    writes = WriteSearch(before, contracts)
    proof = EqualityProof(writes, position)
    leaving: dict[Node, set[Node]] = {}
    for node, first in substitution.items():
        if position[first] > position[node]:
            reject(node, f"it gave way to %{first.name}, which runs later")
        flaw = proof.flaw(node, first) or _layout_flaw(node, first) or _write_flaw(writes, node, first)
        if flaw is not None:
            reject(node, f"{flaw}, so %{first.name} cannot stand for it")
        for root in writes.roots(first):
            held = leaving.setdefault(root, set())
            held |= {found for found in (*writes.roots(first), *writes.roots(node)) if found in writes.leaving}
            if len(held) > 1:
                reject(node, f"it and %{first.name} are seen from outside as tensors of their own")


def _layout_flaw(node: Node, first: Node) -> str | None:
    one, other = traced(node), traced(first)
    if not isinstance(one, Tensor) or not isinstance(other, Tensor):
        return None if one is None and other is None else "its layout was not traced"
    same = (one.dtype, str(one.shape), str(one.stride())) == (other.dtype, str(other.shape), str(other.stride()))
    return None if same else f"its layout is not that of %{first.name}"


def _write_flaw(writes: WriteSearch, node: Node, first: Node) -> str | None:
    for copy in (node, first):
        if writes.is_outside(copy):
            return f"%{copy.name} is not in memory of its own"
        if writes.is_written(copy):
            return f"the memory of %{copy.name} may be written"
    return None

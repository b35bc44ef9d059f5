"""A diff as a reader meets it: folded chains, folded changes, layers and a headline. Shared by all renderings."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

from tracing.graph.chains import Chain, Fold, digitless, span
from tracing.graph.changes import Change, InterfaceChange, NodeChange
from tracing.graph.diff import GraphDiff, count_nodes
from tracing.graph.document import GraphDoc, Node, Ref, Value, leaves
from tracing.graph.interface import side_text
from tracing.graph.reasons import Site
from tracing.graph.sizes import bytes_text
from tracing.graph.text import type_text


def short_op(node: Node) -> str:
    """`index_select` for aten.index_select.default, `permute` for Tensor.permute, `get_attr`, ..."""
    if not node.op.startswith("call"):
        return node.op
    parts = node.target.split(".")
    overload = node.op == "call_function" and len(parts) == 3 and parts[0] not in ("torch", "operator")
    return parts[1] if overload else node.target if node.op == "call_module" else parts[-1]


@dataclass(frozen=True)
class ChainRow:
    """Equal chains: `line` is the first one's spine, the rest of the row is about that one too."""

    count: int
    where: str  # whose chains these are: the parameters they read
    line: str
    type: str
    size: str
    nodes: tuple[str, ...]
    reads: tuple[str, ...]
    users: tuple[str, ...]
    sources: tuple[str, ...]
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class ChangeRow:
    """Equally changed nodes: `changes` are the (slot, before, after) of the first one."""

    count: int
    op: str
    names: tuple[str, ...]
    changes: tuple[tuple[str, str, str], ...]
    rule: str  # of the pass, by its report


def headline(diff: GraphDiff) -> str:
    """`gathers 32 -> 0 · nodes 1969 -> 1809 (-160) · 268 MB a step -> 0`, as far as known."""
    summary = diff.reasons.summary
    parts = []
    if {"gathers_before", "gathers_after"} <= summary.keys():
        parts.append(f"gathers {summary['gathers_before']} -> {summary['gathers_after']}")
    parts.append(delta("nodes", count_nodes(diff.before), count_nodes(diff.after)))
    if {"bytes_before", "bytes_after"} <= summary.keys():
        sizes = (bytes_text(summary[key]) if summary[key] else "0" for key in ("bytes_before", "bytes_after"))
        parts.append(" a step -> ".join(sizes))
    return " · ".join(parts)


def delta(name: str, before: int, after: int) -> str:
    """`nodes 12 -> 8 (-4)`, or `nodes 12` if nothing changed."""
    return f"{name} {before}" if before == after else f"{name} {before} -> {after} ({after - before:+d})"


def counted(count: int, noun: str) -> str:
    """`1 node`, `2 nodes`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def interface_rows(changes: Iterable[InterfaceChange]) -> list[str]:
    """`parameter w removed`, `input: x -> y`; changes of names that differ in one number only are one row."""
    groups: dict[Hashable, list[InterfaceChange]] = {}
    for change in changes:
        groups.setdefault((change.part, digitless(change.before or ""), digitless(change.after or "")), []).append(
            change
        )
    return [_interface_row(group) for group in groups.values()]


def _interface_row(group: list[InterfaceChange]) -> str:
    part = group[0].part if len(group) == 1 else f"{len(group)} x {group[0].part}"
    before = span([change.before for change in group if change.before is not None])
    after = span([change.after for change in group if change.after is not None])
    if not after:
        return f"{part} {before} removed"
    return f"{part}: {before} -> {after}" if before else f"{part} {after} added"


def chain_rows(diff: GraphDiff, doc: GraphDoc, folds: Iterable[Fold]) -> list[ChainRow]:
    """The folded chains `folds` of `doc`, one of the graphs of `diff`, a row each."""
    nodes = doc.by_name
    sites = diff.reasons.by_node()
    return [_chain_row(folded, nodes, sites) for folded in folds]


def _chain_row(folded: Fold, nodes: dict[str, Node], sites: dict[str, Site]) -> ChainRow:
    first = folded.chains[0]
    parameters = [chain.parameters[0] for chain in folded.chains if chain.parameters]
    reasons = (sites[n].reason for chain in folded.chains for n in chain.nodes if n in sites)
    return ChainRow(
        count=len(folded.chains),
        where=span(parameters) if len(parameters) == len(folded.chains) else "",
        line=spine_text(first, nodes),
        type=type_text(nodes[first.spine[-1]].type),
        size="" if first.bytes is None else bytes_text(first.bytes),
        nodes=first.nodes,
        reads=first.reads,
        users=first.users,
        sources=tuple(dict.fromkeys(_source(nodes[name]) for name in first.nodes if nodes[name].source)),
        reasons=tuple(dict.fromkeys(reason for reason in reasons if reason)),
    )


def _source(node: Node) -> str:
    return "" if node.source is None else f"{node.source.at}: {node.source.code}"


def spine_text(chain: Chain, nodes: dict[str, Node]) -> str:
    """`index_select -> view -> permute`, and how many nodes beside the spine served it."""
    line = " -> ".join(short_op(nodes[name]) for name in chain.spine)
    beside = len(chain.nodes) - len(chain.spine)
    return f"{line} (+{beside} for its operands)" if beside else line


def change_rows(diff: GraphDiff, found: Sequence[NodeChange]) -> list[ChangeRow]:
    """Changed nodes, equal changes together."""
    nodes = diff.before.by_name
    added = diff.after.by_name
    groups: dict[Hashable, list[NodeChange]] = {}
    for change in found:
        groups.setdefault((diff.reasons.rules.get(change.name), _change_key(change, nodes, added)), []).append(change)
    return [
        ChangeRow(
            count=len(group),
            op=short_op(nodes[group[0].name]),
            names=tuple(change.name for change in group),
            changes=tuple(_sides(change) for change in group[0].changes),
            rule=diff.reasons.rules.get(group[0].name, ""),
        )
        for group in groups.values()
    ]


def _sides(change: Change) -> tuple[str, str, str]:
    before, after = (_ABSENT if side is None else str(side_text(side)) for side in (change.before, change.after))
    return change.slot, before, after


_ABSENT = "(absent)"


def _change_key(change: NodeChange, nodes: dict[str, Node], added: dict[str, Node]) -> Hashable:
    def what(side: Value | str | None) -> Hashable:
        if side is None or isinstance(side, str):
            return digitless(side or "")
        return tuple(_leaf(leaf, nodes, added) for leaf in leaves(side))

    sides = tuple((part.slot, what(part.before), what(part.after)) for part in change.changes)
    return nodes[change.name].target, sides


def _leaf(leaf: Value, nodes: dict[str, Node], added: dict[str, Node]) -> Hashable:
    if not isinstance(leaf, Ref):
        return leaf
    node = nodes[leaf.name] if leaf.name in nodes else added[leaf.name[1:]]
    return node.op, digitless(node.target)

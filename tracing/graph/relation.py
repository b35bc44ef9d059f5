"""Whether two graphs are versions of one: else their diff says little, and whoever reads it should know."""

from __future__ import annotations

from collections.abc import Sequence

from tracing.graph.diff import GraphDiff
from tracing.graph.document import Node

ENOUGH = 0.5


def warning(diff: GraphDiff) -> str | None:
    """One line if the graphs share less than half of the smaller one's calls or parameters, or None."""
    for what, shared, smaller in (("calls", *_calls(diff)), ("parameters", *_parameters(diff))):
        if shared < ENOUGH * smaller:
            return f"these look like graphs of different models: they share {shared} of {smaller} {what}"
    return None


def _calls(diff: GraphDiff) -> tuple[int, int]:
    """Calls that both graphs have unchanged, and those of the smaller graph."""
    found = diff.differences
    touched = {change.name for change in (*found.rewired, *found.changed)}
    calls = {node.name for node in diff.before.nodes if _is_call(node)}
    shared = sum(name in calls and name not in touched for name, _ in diff.matches)
    return shared, min(_count(diff.before.nodes), _count(diff.after.nodes))


def _count(nodes: Sequence[Node]) -> int:
    return sum(map(_is_call, nodes))


def _is_call(node: Node) -> bool:
    return node.op.startswith("call")


def _parameters(diff: GraphDiff) -> tuple[int, int]:
    """Parameters of the same name and type in both graphs, and those of the smaller one."""
    before, after = ({(p.fqn, p.type) for p in doc.parameters} for doc in (diff.before, diff.after))
    return len(before & after), min(len(before), len(after))

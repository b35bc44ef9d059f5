"""Whether two graphs are versions of one: else their diff says little, and whoever reads it should know."""

from __future__ import annotations

from tracing.graph.diff import GraphDiff

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
    before, after = (
        doc.forms.spread(lambda form: form.node.op.startswith("call")) for doc in (diff.before, diff.after)
    )
    calls = {node.name for node, is_call in zip(diff.before.nodes, before, strict=True) if is_call}
    shared = sum(name in calls and name not in touched for name, _ in diff.matches)
    return shared, min(sum(before), sum(after))


def _parameters(diff: GraphDiff) -> tuple[int, int]:
    """Parameters of the same name and type in both graphs, and those of the smaller one."""
    before, after = ({(p.fqn, p.type) for p in doc.parameters} for doc in (diff.before, diff.after))
    return len(before & after), min(len(before), len(after))

"""A diff as Graphviz source: the changed nodes and one hop around them."""

from __future__ import annotations

from collections.abc import Iterator

from tracing.graph.changes import ADDED
from tracing.graph.diff import GraphDiff
from tracing.graph.document import GraphDoc, references
from tracing.graph.escape import one_line
from tracing.graph.repeats import repeats
from tracing.graph.text import type_text
from tracing.graph.view import headline, short_op

_STYLES = {
    "removed": 'color="#b42318", fillcolor="#fee4e2"',
    "added": 'color="#067647", fillcolor="#d1fadf"',
    "rewired": 'color="#b54708", fillcolor="#fef0c7"',
    "changed": 'color="#175cd3", fillcolor="#d1e9ff"',
    "reordered": 'color="#6941c6", fillcolor="#ebe9fe"',
    "context": 'color="#667085", fillcolor="#ffffff"',
}
_GONE = ' [color="#b42318", style=dashed]'
_NEW = ' [color="#067647"]'
Edge = tuple[str, str]  # operand, reader


def render_dot(diff: GraphDiff, *, folded: bool = False) -> str:
    """Graphviz source of the changed nodes and their neighbours.

    Removed nodes are red, added ones green, rewired ones yellow, changed ones blue, reordered ones purple, neighbours
    white. With `folded`, of equal chains and equal changes the first is drawn and says how many there are.
    """
    head = [
        "digraph diff {",
        f"  label={quoted(headline(diff))}; rankdir=TB;",
        '  node [shape=box, style="filled,rounded", fontname="monospace"];',
    ]
    return "".join(f"{line}\n" for line in (*head, *_body(diff, "", folded), "}"))


def quoted(*found: str) -> str:
    """The lines `found` as a DOT string that shows exactly them: Graphviz reads backslashes and HTML entities."""
    return '"' + "\\n".join(one_line(line).translate(_ESCAPES) for line in found) + '"'


_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "&": "&amp;"})


def _body(diff: GraphDiff, prefix: str, folded: bool) -> Iterator[str]:
    left_out = _repeated(diff) if folded else frozenset()
    styles = {name: style for name, style in _styles(diff).items() if name not in left_out}
    before, after = _edges(diff)
    edges = [
        edge for edge in {**before, **after} if (edge[0] in styles or edge[1] in styles) and left_out.isdisjoint(edge)
    ]
    context = {name: "context" for edge in edges for name in edge}
    yield from _nodes(diff, prefix, {**context, **styles})
    for operand, reader in edges:
        tone = _GONE if (operand, reader) not in after else _NEW if (operand, reader) not in before else ""
        yield f"  {quoted(prefix + operand)} -> {quoted(prefix + reader)}{tone};"
    if folded:
        yield from _folds(diff, prefix)
    for nested in diff.subgraphs:
        inner = f"{prefix}{nested.before_path}/"
        yield f"  subgraph {quoted(f'cluster {inner}')} {{ label={quoted(nested.before_path)};"
        yield from _body(nested.diff, inner, folded)
        yield "  }"


def _repeated(diff: GraphDiff) -> frozenset[str]:
    before, added = repeats(diff)
    return before | {ADDED + name for name in added}


def _folds(diff: GraphDiff, prefix: str) -> Iterator[str]:
    """A frame around the first of equal chains."""
    for mark, folds in (("", diff.removed_folds), (ADDED, diff.added_folds)):
        for found in folds:
            if len(found.chains) > 1:
                first = [prefix + mark + name for name in found.chains[0].nodes]
                yield f"  subgraph {quoted(f'cluster {first[-1]}')} {{"
                yield f"    label={quoted(f'{len(found.chains)} x the same, shown once')}; style=dashed;"
                yield f"    {'; '.join(quoted(name) for name in first)};"
                yield "  }"


def _styles(diff: GraphDiff) -> dict[str, str]:
    """The style of every changed node, by its before name or, if added, its marked after name."""
    found = diff.differences
    return {
        **dict.fromkeys(found.removed, "removed"),
        **{ADDED + name: "added" for name in found.added},
        **{change.name: "reordered" for change in found.reordered},
        **{change.name: "changed" for change in found.changed},
        **{change.name: "rewired" for change in found.rewired},
    }


def _edges(diff: GraphDiff) -> tuple[dict[Edge, None], dict[Edge, None]]:
    names = {after: before for before, after in diff.matches}
    names.update((name, ADDED + name) for name in diff.differences.added)
    own = {node.name: node.name for node in diff.before.nodes}
    return dict.fromkeys(_reads(diff.before, own)), dict.fromkeys(_reads(diff.after, names))


def _reads(doc: GraphDoc, names: dict[str, str]) -> Iterator[Edge]:
    for node in doc.nodes:
        for operand in references(node):
            yield names[operand], names[node.name]


def _nodes(diff: GraphDiff, prefix: str, styles: dict[str, str]) -> Iterator[str]:
    before, after = diff.before.by_name, diff.after.by_name
    for name, style in styles.items():
        node = before[name] if name in before else after[name.removeprefix(ADDED)]
        label = quoted(name, short_op(node), type_text(node.type))
        yield f"  {quoted(prefix + name)} [label={label}, {_STYLES[style]}];"

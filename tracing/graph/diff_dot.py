"""A diff as Graphviz source: the changed nodes and one hop around them."""

from __future__ import annotations

from collections.abc import Iterator

from tracing.graph.changes import ADDED, by_name
from tracing.graph.diff import GraphDiff
from tracing.graph.document import GraphDoc, references
from tracing.graph.escape import one_line
from tracing.graph.text import type_text
from tracing.graph.view import headline, short_op

_STYLES = {
    "removed": 'color="#b42318", fillcolor="#fee4e2"',
    "added": 'color="#067647", fillcolor="#d1fadf"',
    "touched": 'color="#b54708", fillcolor="#fef0c7"',
    "context": 'color="#667085", fillcolor="#ffffff"',
}
_GONE = ' [color="#b42318", style=dashed]'
_NEW = ' [color="#067647"]'
Edge = tuple[str, str]  # operand, reader


def render_dot(diff: GraphDiff) -> str:
    """Graphviz source: removed nodes red, added green, otherwise changed ones yellow, their neighbours white."""
    head = [
        "digraph diff {",
        f"  label={quoted(headline(diff))}; rankdir=TB;",
        '  node [shape=box, style="filled,rounded", fontname="monospace"];',
    ]
    return "".join(f"{line}\n" for line in (*head, *_body(diff, ""), "}"))


def quoted(*found: str) -> str:
    """The lines `found` as a DOT string that shows exactly them: Graphviz reads backslashes and HTML entities."""
    return '"' + "\\n".join(one_line(line).translate(_ESCAPES) for line in found) + '"'


_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "&": "&amp;"})


def _body(diff: GraphDiff, prefix: str) -> Iterator[str]:
    styles = _styles(diff)
    before, after = _edges(diff)
    edges = [edge for edge in {**before, **after} if edge[0] in styles or edge[1] in styles]
    context = {name: "context" for edge in edges for name in edge}
    yield from _nodes(diff, prefix, {**context, **styles})
    for operand, reader in edges:
        tone = _GONE if (operand, reader) not in after else _NEW if (operand, reader) not in before else ""
        yield f"  {quoted(prefix + operand)} -> {quoted(prefix + reader)}{tone};"
    for nested in diff.subgraphs:
        inner = f"{prefix}{nested.before_path}/"
        yield f"  subgraph {quoted(f'cluster {inner}')} {{ label={quoted(nested.before_path)};"
        yield from _body(nested.diff, inner)
        yield "  }"


def _styles(diff: GraphDiff) -> dict[str, str]:
    """The style of every changed node, by its before name or, if added, its marked after name."""
    found = diff.differences
    changed = (*found.rewired, *found.changed, *found.reordered)
    return {
        **dict.fromkeys(found.removed, "removed"),
        **{ADDED + name: "added" for name in found.added},
        **{change.name: "touched" for change in changed},
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
    before, after = by_name(diff.before), by_name(diff.after)
    for name, style in styles.items():
        node = before[name] if name in before else after[name.removeprefix(ADDED)]
        label = quoted(name, short_op(node), type_text(node.type))
        yield f"  {quoted(prefix + name)} [label={label}, {_STYLES[style]}];"

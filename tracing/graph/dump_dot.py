"""One graph as Graphviz source."""

from __future__ import annotations

from collections.abc import Iterator

from tracing.graph.diff_dot import quoted
from tracing.graph.document import GraphDoc, references
from tracing.graph.text import type_text
from tracing.graph.view import short_op

_FILLS = {"placeholder": "#e0f2fe", "get_attr": "#f2f4f7", "output": "#e0f2fe"}


def graph_dot(doc: GraphDoc) -> str:
    """Graphviz source of the whole graph, each nested graph a cluster of its own. `dot -Tsvg` draws it."""
    head = ("digraph deadkv {", "  rankdir=TB;", '  node [shape=box, style="filled,rounded", fontname="monospace"];')
    return "".join(f"{line}\n" for line in (*head, *_body(doc, ""), "}"))


def _body(doc: GraphDoc, prefix: str) -> Iterator[str]:
    for node in doc.nodes:
        name = node.target if node.op in ("placeholder", "get_attr") else short_op(node)
        label = quoted(name, node.name, type_text(node.type))
        yield f'  {quoted(prefix + node.name)} [label={label}, fillcolor="{_FILLS.get(node.op, "#ffffff")}"];'
    for node in doc.nodes:
        for operand in dict.fromkeys(references(node)):
            yield f"  {quoted(prefix + operand)} -> {quoted(prefix + node.name)};"
    for path, nested in doc.subgraphs:
        inner = f"{prefix}{path}/"
        yield f"  subgraph {quoted(f'cluster {inner}')} {{ label={quoted(path)};"
        yield from _body(nested, inner)
        yield "  }"

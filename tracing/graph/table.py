"""A graph as rows, one a node: what `torch.fx.Graph.print_tabular` shows, and types, users and layers of nesting."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from tracing.graph.document import GraphDoc, Node, references
from tracing.graph.sizes import bytes_text, nbytes
from tracing.graph.text import number, type_text, value_text

COLUMNS = ("node", "name", "op", "target", "operands", "type", "bytes", "users")


def rows(doc: GraphDoc, *, source: bool = False, prefix: str = "") -> Iterator[tuple[str, ...]]:
    """A row of `COLUMNS` for each node, and its line of the model with `source`; nested graphs follow their own.

    Nodes have the numbers of the canonical text; those of nested graphs begin with the graph's path.
    """
    numbers = number(doc)
    users = Counter(name for node in doc.nodes for name in dict.fromkeys(references(node)))
    for node in doc.nodes:
        row = _row(node, numbers, users[node.name], prefix)
        yield (*row, "" if node.source is None else f"{node.source.at}: {node.source.code}") if source else row
    for path, nested in doc.subgraphs:
        yield from rows(nested, source=source, prefix=f"{prefix}{path}/")


def _row(node: Node, numbers: dict[str, str], users: int, prefix: str) -> tuple[str, ...]:
    size = nbytes(node.type)
    return (
        f"{prefix}%{numbers[node.name]}",
        node.name,
        node.op,
        node.target,
        ", ".join(_operands(node, numbers)),
        type_text(node.type),
        "" if size is None else bytes_text(size),
        str(users),
    )


def _operands(node: Node, numbers: dict[str, str]) -> Iterator[str]:
    for value in node.args:
        yield value_text(value, lambda name: f"%{numbers[name]}")
    for key, value in node.kwargs:
        yield f"{key}={value_text(value, lambda name: f'%{numbers[name]}')}"

"""The graph file: documented in docs/graph-format.md, versioned, validated on load, and never executed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from passes.errors import DeadkvError
from tracing.graph import decode
from tracing.graph.check import check
from tracing.graph.document import Const, GraphDoc, Group, Node, Ref, ScalarType, TensorType, Type, Value
from tracing.graph.escape import json_text, quoted
from tracing.graph.json_input import parse_json, read_bytes
from tracing.graph.values import is_finite

SCHEMA = "deadkv.graph/1"


def dumps(doc: GraphDoc) -> str:
    """The text of a graph file: deterministic, one node on a line. `load` reads it back to an equal document."""
    return "{\n" + _members(doc, [f'"schema": {json_text(SCHEMA)}']) + "\n}\n"


def load(path: str | Path) -> GraphDoc:
    """The document in the file at `path`. Raises DeadkvError naming the file, the place and what is wrong."""
    try:
        return loads(read_bytes(Path(path)))
    except DeadkvError as error:
        raise DeadkvError(f"{path}: {error}") from error


def loads(content: bytes | str) -> GraphDoc:
    """The document that `content` (UTF-8) holds. Raises DeadkvError naming the place and what is wrong."""
    found = parse_json(content)
    if not isinstance(found, dict) or not isinstance(found.get("schema"), str):
        raise DeadkvError(f'not a deadkv graph: it has no "schema": "{SCHEMA}"')
    schema = found.pop("schema")
    if schema != SCHEMA:
        raise DeadkvError(f"the schema is {quoted(schema)}; this deadkv reads {SCHEMA}: write the file again with it")
    doc = decode.graph(found)
    check(doc)
    return doc


def _members(doc: GraphDoc, first: list[str]) -> str:
    members = [
        *first,
        f'"name": {json_text(doc.name)}',
        _lines("parameters", (json_text(_parameter(p)) for p in doc.parameters), "[]"),
        _lines("objects", (f"{json_text(path)}: {json_text(name)}" for path, name in doc.objects), "{}"),
        _lines("schemas", (f"{json_text(target)}: {json_text(schema)}" for target, schema in doc.schemas), "{}"),
        _lines("aliases", (json_text(list(alias)) for alias in doc.aliases), "[]"),
        _lines("nodes", (json_text(_node(node)) for node in doc.nodes), "[]"),
        _lines("subgraphs", _subgraphs(doc), "{}"),
    ]
    return ",\n".join(members)


def _lines(key: str, lines: Iterator[str], brackets: str) -> str:
    body = ",\n".join(lines)
    return f'"{key}": {brackets}' if not body else f'"{key}": {brackets[0]}\n{body}\n{brackets[1]}'


def _subgraphs(doc: GraphDoc) -> Iterator[str]:
    for path, graph in sorted(doc.subgraphs, key=lambda pair: pair[0]):
        yield f"{json_text(path)}: {{\n{_members(graph, [])}\n}}"


def _parameter(parameter: Any) -> dict[str, Any]:
    return {"fqn": parameter.fqn, "type": _type(parameter.type), "tied_to": parameter.tied_to}


def _node(node: Node) -> dict[str, Any]:
    source = None if node.source is None else {"at": node.source.at, "code": node.source.code}
    return {
        "name": node.name,
        "op": node.op,
        "target": node.target,
        "args": [_value(arg) for arg in node.args],
        "kwargs": {key: _value(arg) for key, arg in node.kwargs},
        "type": _type(node.type),
        "source": source,
    }


def _value(value: Value) -> Any:
    match value:
        case Ref(name):
            return {"node": name}
        case Const():
            return _constant(value)
        case Group("list", items):
            return [_value(item) for item in items]
        case Group("dict", items):
            pairs = zip(items[::2], items[1::2], strict=True)
            return {"dict": [[_value(key), _value(item)] for key, item in pairs]}
        case Group(kind, items):
            return {kind: [_value(item) for item in items]}


def _constant(const: Const) -> Any:
    match const:
        case Const("none"):
            return None
        case Const("bool", text):
            return text == "True"
        case Const("int", text):
            return int(text)
        case Const("float", text) if is_finite(const):
            return float(text)
        case Const("str", text):
            return text
        case Const(kind, text):
            return {kind: text}


def _type(found: Type | None) -> Any:
    match found:
        case TensorType(dtype, shape, None):
            return {"dtype": dtype, "shape": list(shape)}
        case TensorType(dtype, shape, stride):
            return {"dtype": dtype, "shape": list(shape), "stride": list(stride or ())}
        case ScalarType(kind, text):
            return {"scalar": kind, "value": text}
        case tuple():
            return [_type(item) for item in found]
        case _:
            return None

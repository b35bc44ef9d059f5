"""The graph file: documented in docs/graph-format.md, versioned, validated on load, and never executed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from passes.errors import DeadkvError
from tracing.graph import decode
from tracing.graph.check import check
from tracing.graph.document import Const, GraphDoc, Node, Parameter, Ref, ScalarType, Source, TensorType, Type, Value
from tracing.graph.escape import json_text, quoted
from tracing.graph.json_input import parse_json, read_bytes
from tracing.graph.text import format_of
from tracing.graph.values import is_finite

SCHEMA = "deadkv.graph/1"
Types = Mapping[Type | None, str]  # as JSON


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
    types = {found: json_text(_type(found)) for found in doc.types}
    members = [
        *first,
        f'"name": {json_text(doc.name)}',
        _lines("parameters", (_parameter(p, types) for p in doc.parameters), "[]"),
        _lines("objects", (f"{json_text(path)}: {json_text(name)}" for path, name in doc.objects), "{}"),
        _lines("schemas", (f"{json_text(target)}: {json_text(schema)}" for target, schema in doc.schemas), "{}"),
        _lines("aliases", (json_text(list(alias)) for alias in doc.aliases), "[]"),
        _lines("nodes", _nodes(doc, types), "[]"),
        _lines("subgraphs", _subgraphs(doc), "{}"),
    ]
    return ",\n".join(members)


def _lines(key: str, lines: Iterator[str], brackets: str) -> str:
    body = ",\n".join(lines)
    return f'"{key}": {brackets}' if not body else f'"{key}": {brackets[0]}\n{body}\n{brackets[1]}'


def _subgraphs(doc: GraphDoc) -> Iterator[str]:
    for path, graph in sorted(doc.subgraphs, key=lambda pair: pair[0]):
        yield f"{json_text(path)}: {{\n{_members(graph, [])}\n}}"


def _parameter(parameter: Parameter, types: Types) -> str:
    fqn, tied_to = json_text(parameter.fqn), json_text(parameter.tied_to)
    return f'{{"fqn": {fqn}, "type": {types[parameter.type]}, "tied_to": {tied_to}}}'


def _nodes(doc: GraphDoc, types: Types) -> Iterator[str]:
    formats = doc.forms.spread(lambda form: _node_format(form.node, types))
    names = [json_text(node.name) for node in doc.nodes]
    sources = {source: json_text(_source(source)) for source in {node.source: None for node in doc.nodes}}
    for node, name, line, reads in zip(doc.nodes, names, formats, doc.forms.reads, strict=True):
        yield line % (name, *[names[position] for position in reads], sources[node.source])


def _node_format(node: Node, types: Types) -> str:
    """The line of nodes like `node`: name, names of the nodes that it reads and source are to be filled in."""
    args = ", ".join(map(_value_format, node.args))
    kwargs = ", ".join(f"{_json_format(key)}: {_value_format(value)}" for key, value in node.kwargs)
    head = f'{{"name": %s, "op": {_json_format(node.op)}, "target": {_json_format(node.target)}'
    return f'{head}, "args": [{args}], "kwargs": {{{kwargs}}}, "type": {format_of(types[node.type])}, "source": %s}}'


def _json_format(plain: Any) -> str:
    return format_of(json_text(plain))


def _source(source: Source | None) -> dict[str, str] | None:
    return None if source is None else {"at": source.at, "code": source.code}


def _value_format(value: Value) -> str:
    if isinstance(value, Ref):
        return '{"node": %s}'
    if isinstance(value, Const):
        return _json_format(_constant(value))
    items = [_value_format(item) for item in value.items]
    if value.kind == "dict":
        items = list(map("[{}, {}]".format, items[::2], items[1::2]))
    found = f"[{', '.join(items)}]"
    return found if value.kind == "list" else f"{{{_json_format(value.kind)}: {found}}}"


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

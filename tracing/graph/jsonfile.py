"""The graph file: documented in docs/graph-format.md, versioned, validated on load, and never executed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from passes.errors import DeadkvError
from tracing.graph import decode
from tracing.graph.check import check
from tracing.graph.check_values import shown
from tracing.graph.document import Const, GraphDoc, Group, Node, Ref, ScalarType, TensorType, Type, Value
from tracing.graph.values import is_finite

SCHEMA = "deadkv.graph/1"
MAX_BYTES = 512 * 2**20  # a graph of 20,000 nodes takes about 5 MB


def dumps(doc: GraphDoc) -> str:
    """The text of a graph file: deterministic, one node on a line. `load` reads it back to an equal document."""
    return "{\n" + _members(doc, [f'"schema": {_text(SCHEMA)}']) + "\n}\n"


def load(path: str | Path) -> GraphDoc:
    """The document in the file at `path`. Raises DeadkvError naming the file, the place and what is wrong."""
    try:
        return loads(_read(Path(path)))
    except DeadkvError as error:
        raise DeadkvError(f"{path}: {error}") from error


def loads(content: bytes | str) -> GraphDoc:
    """The document that `content` (UTF-8) holds. Raises DeadkvError naming the place and what is wrong."""
    found = _parse(content)
    if not isinstance(found, dict) or not isinstance(found.get("schema"), str):
        raise DeadkvError(f'not a deadkv graph: it has no "schema": "{SCHEMA}"')
    schema = found.pop("schema")
    if schema != SCHEMA:
        raise DeadkvError(f"the schema is {shown(schema)}; this deadkv reads {SCHEMA}: write the file again with it")
    doc = decode.graph(found)
    check(doc)
    return doc


def _read(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise DeadkvError(f"the file has {size} bytes; a graph file has at most {MAX_BYTES}")
        return path.read_bytes()
    except IsADirectoryError as error:
        raise DeadkvError("is a directory; name the .graph.json file in it") from error
    except (OSError, ValueError) as error:
        raise DeadkvError(f"cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _parse(content: bytes | str) -> Any:
    try:
        text = content.decode("utf-8") if isinstance(content, bytes) else content
        return json.loads(text, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise DeadkvError(f"not UTF-8 text (byte {error.start})") from error
    except json.JSONDecodeError as error:
        rest = text[error.pos :].strip()
        ending = error.msg.startswith("Unterminated") or any(word.startswith(rest) for word in _LITERALS)
        what = "the file ends too early; it was cut short" if ending else f"not JSON: {error.msg}"
        raise DeadkvError(f"line {error.lineno}, column {error.colno}: {what}") from error
    except RecursionError as error:
        raise DeadkvError("the JSON is nested too deep for a graph file") from error
    except ValueError as error:  # an integer with more digits than Python converts
        raise DeadkvError(f"not a graph file: {error}") from error


_LITERALS = ("true", "false", "null")


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        raise DeadkvError(f"the key {shown(next(k for k in keys if keys.count(k) > 1))} occurs twice in one object")
    return found


def _no_constant(name: str) -> NoReturn:
    raise DeadkvError(f'{name} is not JSON; a graph file writes {{"float": "nan"}}')


def _text(plain: Any) -> str:
    return json.dumps(plain, ensure_ascii=True)


def _members(doc: GraphDoc, first: list[str]) -> str:
    members = [
        *first,
        f'"name": {_text(doc.name)}',
        _lines("parameters", (_text(_parameter(p)) for p in doc.parameters), "[]"),
        _lines("objects", (f"{_text(path)}: {_text(name)}" for path, name in doc.objects), "{}"),
        _lines("schemas", (f"{_text(target)}: {_text(schema)}" for target, schema in doc.schemas), "{}"),
        _lines("aliases", (_text(list(alias)) for alias in doc.aliases), "[]"),
        _lines("nodes", (_text(_node(node)) for node in doc.nodes), "[]"),
        _lines("subgraphs", _subgraphs(doc), "{}"),
    ]
    return ",\n".join(members)


def _lines(key: str, lines: Iterator[str], brackets: str) -> str:
    body = ",\n".join(lines)
    return f'"{key}": {brackets}' if not body else f'"{key}": {brackets[0]}\n{body}\n{brackets[1]}'


def _subgraphs(doc: GraphDoc) -> Iterator[str]:
    for path, graph in sorted(doc.subgraphs, key=lambda pair: pair[0]):
        yield f"{_text(path)}: {{\n{_members(graph, [])}\n}}"


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

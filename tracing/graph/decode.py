"""JSON values to document parts, strictly: every key known, every type right, every error with its place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tracing.graph.check_values import fail
from tracing.graph.document import (
    Const,
    Dim,
    GraphDoc,
    Group,
    Node,
    Parameter,
    Ref,
    ScalarType,
    Source,
    TensorType,
    Type,
    Value,
)
from tracing.graph.escape import quoted
from tracing.graph.limits import MAX_DEPTH, MAX_NAME, MAX_STRING, MAX_SUBGRAPHS

Decoder = Callable[[Any, str], Any]
_KINDS = {type(None): "null", bool: "a boolean", int: "an integer", float: "a number", str: "a string"}
_GROUPS = ("tuple", "slice", "range")


def described(value: object) -> str:
    """What a JSON value is, in words."""
    return _KINDS.get(type(value), "an array" if isinstance(value, list) else "an object")


def _exact(kind: type, words: str) -> Decoder:
    def decoder(value: Any, place: str) -> Any:
        if type(value) is not kind:
            raise fail(place, f"expected {words}, found {described(value)}")
        return value

    return decoder


_integer = _exact(int, "an integer")
_array = _exact(list, "an array")
_object = _exact(dict, "an object")
_raw_string = _exact(str, "a string")


def string(value: Any, place: str, limit: int = MAX_NAME) -> str:
    """A string of at most `limit` characters that can be written as UTF-8."""
    text: str = _raw_string(value, place)
    if len(text) > limit:
        raise fail(place, f"a string of {len(text)} characters; the limit is {limit}")
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise fail(place, "holds half of a surrogate pair")
    return text


def _long_string(value: Any, place: str) -> str:
    return string(value, place, MAX_STRING)


def _optional(decoder: Decoder) -> Decoder:
    return lambda value, place: None if value is None else decoder(value, place)


def _each(decoder: Decoder) -> Decoder:
    def items(value: Any, place: str) -> tuple[Any, ...]:
        return tuple(decoder(item, f"{place}[{i}]") for i, item in enumerate(_array(value, place)))

    return items


def _pairs(decoder: Decoder) -> Decoder:
    def entries(value: Any, place: str) -> tuple[tuple[str, Any], ...]:
        found = _object(value, place)
        return tuple((string(key, place), decoder(found[key], f"{place}.{key}")) for key in sorted(found))

    return entries


def _record(value: Any, place: str, fields: Mapping[str, Decoder]) -> dict[str, Any]:
    found = _object(value, place)
    for key in found:
        if key not in fields:
            raise fail(place, f"unknown key {quoted(key)}; known are {', '.join(fields)}")
    for key in fields:
        if key not in found:
            raise fail(place, f"the key {key!r} is missing")
    return {key: decoder(found[key], f"{place}.{key}") for key, decoder in fields.items()}


def value(found: Any, place: str, depth: int = 0) -> Value:
    """An argument: a plain JSON number, string, boolean, null or array, or an object `{kind: content}`."""
    if depth > MAX_DEPTH:
        raise fail(place, f"values are nested more than {MAX_DEPTH} deep")
    if isinstance(found, list):
        return Group("list", _items(found, place, depth))
    if isinstance(found, dict):
        return _tagged(found, place, depth)
    if isinstance(found, str):
        return Const("str", _long_string(found, place))
    kind = "none" if found is None else type(found).__name__
    return Const(kind, repr(found))


def _items(found: Any, place: str, depth: int) -> tuple[Value, ...]:
    return tuple(value(item, f"{place}[{i}]", depth + 1) for i, item in enumerate(_array(found, place)))


def _tagged(found: dict[str, Any], place: str, depth: int) -> Value:
    if len(found) != 1:
        raise fail(place, f"expected an object with one key, its kind; found {len(found)} keys")
    ((kind, content),) = found.items()
    if kind == "node":
        return Ref(string(content, place))
    if kind in _GROUPS:
        return Group(kind, _items(content, place, depth))
    if kind == "dict":
        pairs = [_items(pair, f"{place}[{i}]", depth) for i, pair in enumerate(_array(content, place))]
        if any(len(pair) != 2 for pair in pairs):
            raise fail(place, "a dict is an array of [key, value] arrays")
        return Group("dict", tuple(item for pair in pairs for item in pair))
    return Const(kind, string(content, place))


def _dim(found: Any, place: str) -> Dim:
    return string(found, place) if isinstance(found, str) else int(_integer(found, place))


_TENSOR: dict[str, Decoder] = {"dtype": string, "shape": _each(_dim), "stride": _optional(_each(_dim))}
_SCALAR: dict[str, Decoder] = {"scalar": string, "value": string}


def node_type(found: Any, place: str, depth: int = 0) -> Type | None:
    """A type: null, a tensor, a scalar, or an array of types."""
    if depth > MAX_DEPTH:
        raise fail(place, f"types are nested more than {MAX_DEPTH} deep")
    if found is None:
        return None
    if isinstance(found, list):
        return tuple(node_type(item, f"{place}[{i}]", depth + 1) for i, item in enumerate(found))
    if isinstance(found, dict) and "scalar" in found:
        scalar = _record(found, place, _SCALAR)
        return ScalarType(scalar["scalar"], scalar["value"])
    return _tensor(found, place)


def _tensor(found: Any, place: str) -> TensorType:
    return TensorType(**_record({"stride": None, **_object(found, place)}, place, _TENSOR))


def _source(found: Any, place: str) -> Source:
    return Source(**_record(found, place, {"at": string, "code": _long_string}))


def _alias(found: Any, place: str) -> tuple[str, int]:
    pair = _array(found, place)
    if len(pair) != 2:
        raise fail(place, "an alias is [input or parameter, output index]")
    return string(pair[0], place), int(_integer(pair[1], place))


_NODE: dict[str, Decoder] = {
    "name": string,
    "op": string,
    "target": string,
    "args": _each(value),
    "kwargs": _pairs(value),
    "type": node_type,
    "source": _optional(_source),
}
_PARAMETER: dict[str, Decoder] = {"fqn": string, "type": _tensor, "tied_to": _optional(string)}


def graph(found: Any, place: str = "graph", depth: int = 0) -> GraphDoc:
    """A graph document from the decoded JSON of one (without the `schema` key of a file)."""
    if depth > MAX_SUBGRAPHS:
        raise fail(place, f"graphs are nested more than {MAX_SUBGRAPHS} deep")
    fields: dict[str, Decoder] = {
        "name": string,
        "parameters": _each(lambda v, p: Parameter(**_record(v, p, _PARAMETER))),
        "objects": _pairs(string),
        "schemas": _pairs(_long_string),
        "aliases": _each(_alias),
        "nodes": _each(lambda v, p: Node(**_record(v, p, _NODE))),
        "subgraphs": _pairs(lambda v, p: graph(v, p, depth + 1)),
    }
    return GraphDoc(**_record(found, place, fields))

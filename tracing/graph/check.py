"""What must hold of a document before anything is built from it, whoever wrote it.

Every name that reaches generated code (torch.fx writes Python for a graph) must be an identifier, so nothing in a
document can become code.
"""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate

import torch
from torch.fx import GraphModule

from tracing.graph.check_values import check_type, check_value, fail
from tracing.graph.document import OPS, GraphDoc, Node, Parameter, Ref, Type, references, values
from tracing.graph.escape import quoted
from tracing.graph.limits import MAX_NODES, MAX_PATH_PARTS, MAX_SUBGRAPHS
from tracing.graph.targets import is_custom, parse_schema

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PATH = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*")
_SOURCE = re.compile(r'[^"\n/<][^"\n/]*:\d{1,9}')
_TAKEN = frozenset(dir(torch.nn.Module())) | frozenset(dir(GraphModule)) | {"graph"}
_RESERVED = frozenset(dir(builtins)) | {"nan", "inf", "NoneType", "torch", "device", "fx_pytree", "pytree", "self"}


def check(doc: GraphDoc) -> None:
    """Raise DeadkvError, naming the place, unless `doc` is a graph that torch.fx could hold."""
    graphs = list(_graphs(doc, 0))
    if sum(len(graph.nodes) for graph in graphs) > MAX_NODES:
        raise fail("graph", f"more than {MAX_NODES} nodes, nested graphs included")
    if sum(path.count(".") + 1 for graph in graphs for path in _paths(graph)) > MAX_PATH_PARTS:
        raise fail("graph", f"the paths of all attributes have more than {MAX_PATH_PARTS} parts")
    _check_graph(doc, "", set())


def _graphs(doc: GraphDoc, depth: int) -> Iterator[GraphDoc]:
    """`doc` and the graphs nested in it."""
    if depth > MAX_SUBGRAPHS:
        raise fail("graph", f"graphs are nested more than {MAX_SUBGRAPHS} deep")
    yield doc
    for _, nested in doc.subgraphs:
        yield from _graphs(nested, depth + 1)


def _check_graph(doc: GraphDoc, place: str, tensors: set[str]) -> None:
    if not _is_identifier(doc.name):
        raise fail(f"{place}name", f"{quoted(doc.name)} is not an identifier")
    _check_parameters(doc.parameters, place, tensors)
    _check_unique(_paths(doc), {parameter.fqn for parameter in doc.parameters}, f"{place}attributes")
    _check_nodes(doc, place)
    _check_aliases(doc, place)
    _check_schemas(doc, place)
    for path, graph in doc.subgraphs:
        _check_graph(graph, f"{place}{path}.", tensors)


def _paths(doc: GraphDoc) -> Iterator[str]:
    yield from (parameter.fqn for parameter in doc.parameters)
    yield from (path for path, _ in doc.objects)
    yield from (path for path, _ in doc.subgraphs)


def _check_unique(names: Iterable[str], tensors: set[str], place: str) -> None:
    seen: set[str] = set()
    for name in names:
        if _PATH.fullmatch(name) is None or not _TAKEN.isdisjoint(name.split(".")):
            raise fail(place, f"{quoted(name)} cannot be the path of a module attribute")
        if name in seen:
            raise fail(place, f"{quoted(name)} occurs twice")
        if any(parent in tensors for parent in accumulate(name.split(".")[:-1], "{}.{}".format)):
            raise fail(place, f"{quoted(name)} lies in a parameter")
        seen.add(name)


def _check_parameters(parameters: tuple[Parameter, ...], place: str, tensors: set[str]) -> None:
    for parameter in parameters:
        here = f"{place}parameters.{parameter.fqn}"
        check_type(parameter.type, here)
        if not all(isinstance(d, int) for d in (*parameter.type.shape, *(parameter.type.stride or ()))):
            raise fail(here, "a parameter has a shape and stride of numbers")
        if parameter.tied_to is not None and parameter.tied_to not in tensors:
            raise fail(here, f"is tied to {quoted(parameter.tied_to)}, which no earlier parameter is called")
        tensors.add(place + parameter.fqn)


def _check_nodes(doc: GraphDoc, place: str) -> None:
    if not doc.nodes or doc.nodes[-1].op != "output":
        raise fail(f"{place}nodes", "the last node is not an output")
    earlier: set[str] = set()
    targets: set[str] = set()
    types: set[Type | None] = set()  # those that are right: layers repeat few
    attributes = set(_paths(doc))
    for index, node in enumerate(doc.nodes):
        here = f"{place}nodes[{index}]"
        _check_name(node.name, earlier, here)
        _check_target(node, attributes, here)
        _check_arguments(node, earlier, here)
        if node.type not in types:
            check_type(node.type, here)
            types.add(node.type)
        _check_place(node, index == len(doc.nodes) - 1, targets, here)
        earlier.add(node.name)


def _check_name(name: str, earlier: set[str], here: str) -> None:
    if not _is_identifier(name) or name in _RESERVED:
        raise fail(here, f"{quoted(name)} cannot be a node name in torch.fx")
    if name in earlier:
        raise fail(here, f"the name {quoted(name)} is taken by an earlier node")


def _check_place(node: Node, last: bool, targets: set[str], here: str) -> None:
    if (node.op == "output") is not last:
        raise fail(here, "an output node belongs at the end, and only there")
    if node.op == "placeholder" and node.target in targets:
        raise fail(here, f"the input {quoted(node.target)} occurs twice")
    if node.op == "placeholder":
        targets.add(node.target)
    if node.source is not None and _SOURCE.fullmatch(node.source.at) is None:
        raise fail(here, f"source {quoted(node.source.at)} is not FILE:LINE")


def _is_identifier(name: str) -> bool:
    return _IDENTIFIER.fullmatch(name) is not None and not keyword.iskeyword(name)


def _is_input(target: str) -> bool:
    name = target.lstrip("*") if not target.startswith("***") else ""
    return _is_identifier(name) and name != "self"


def _is_method(target: str) -> bool:
    name = target.removeprefix("Tensor.")
    return name != target and _is_identifier(name)


# op -> (whether the target is right, given the attributes of the document, and what it should have been)
_TARGETS: dict[str, tuple[Callable[[str, set[str]], bool], str]] = {
    "placeholder": (lambda target, _: _is_input(target), "an identifier"),
    "call_method": (lambda target, _: _is_method(target), "Tensor.METHOD"),
    "call_function": (lambda target, _: bool(target.strip()), "a function's name"),
    "get_attr": (lambda target, known: target in known, "a parameter, object or subgraph of the document"),
    "call_module": (
        lambda target, known: target.startswith("module:") and target.removeprefix("module:") in known,
        "module:PATH of an object or subgraph of the document",
    ),
    "output": (lambda target, _: target == "output", "'output'"),
}


def _check_target(node: Node, attributes: set[str], here: str) -> None:
    if node.op not in OPS:
        raise fail(here, f"op {quoted(node.op)} is not one of {', '.join(OPS)}")
    right, wanted = _TARGETS[node.op]
    if not right(node.target, attributes):
        raise fail(here, f"the target {quoted(node.target)} of a {node.op} is not {wanted}")


def _check_arguments(node: Node, earlier: set[str], here: str) -> None:
    for key, _ in node.kwargs:
        if not _is_identifier(key):
            raise fail(here, f"the keyword {quoted(key)} is not an identifier")
    for value in values(node):
        check_value(value, here)
    for name in references(node):
        if name not in earlier:
            raise fail(here, f"reads {quoted(name)}, which no earlier node is called")
    if node.op == "call_method" and node.args and not isinstance(node.args[0], Ref):
        raise fail(here, "the first argument of a call_method is the node whose method it is")
    counts = {"output": (1, 1), "placeholder": (0, 1), "get_attr": (0, 0), "call_method": (1, 1 << 30)}
    least, most = counts.get(node.op, (0, 1 << 30))
    if not least <= len(node.args) <= most:
        raise fail(here, f"a {node.op} cannot have {len(node.args)} arguments")


def _check_aliases(doc: GraphDoc, place: str) -> None:
    names = {node.name for node in doc.inputs} | {node.target for node in doc.inputs}
    names |= {parameter.fqn for parameter in doc.parameters}
    for name, index in doc.aliases:
        if name not in names:
            raise fail(f"{place}aliases", f"{quoted(name)} is neither an input nor a parameter")
        if not 0 <= index < len(doc.outputs):
            raise fail(f"{place}aliases", f"there is no output {index}")


def _check_schemas(doc: GraphDoc, place: str) -> None:
    for target, schema in doc.schemas:
        here = f"{place}schemas.{target}"
        parsed = parse_schema(schema)
        if parsed is None:
            raise fail(here, f"{quoted(schema)} is not an operator schema")
        packet = parsed.name.replace("::", ".")
        if target not in (packet, f"{packet}.{parsed.overload_name or 'default'}") or not is_custom(parsed.name):
            raise fail(here, f"{quoted(schema)} is not the schema of that operator")

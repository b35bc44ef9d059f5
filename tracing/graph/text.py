"""The canonical text of a graph: equal documents, whatever their node names, print the same text, and only they do."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from tracing.graph.document import Const, Dim, GraphDoc, Group, Node, Ref, ScalarType, TensorType, Type, Value
from tracing.graph.escape import json_text, one_line
from tracing.graph.natural import natural

_SHORT = re.compile(r"(bfloat|float|uint|int|complex)(\d.*)")
_LETTERS = {"bfloat": "bf", "float": "f", "uint": "u", "int": "i", "complex": "c"}
_PLAIN = re.compile(r"[A-Za-z0-9_.:*<>-]+")


@dataclass(frozen=True, slots=True)
class Line:
    """A line of canonical text and, if it is a node's line, the node's name."""

    text: str
    node: str | None = None


def text(doc: GraphDoc, *, source: bool = False) -> str:
    """The canonical text of `doc`: SSA numbers in graph order, sorted kwargs, dtype and shape on every line.

    With `source`, each node's line ends in a comment that says which line of the model it comes from.
    """
    return "".join(f"{line.text}\n" for line in lines(doc, source=source))


def body_text(doc: GraphDoc) -> str:
    """The text of `doc` as the body of a higher-order op, which gives it operands by position: inputs have no names."""
    return "".join(f"{line.text}\n" for line in _lines(doc, _Printer(source=False), None, named=False))


def lines(doc: GraphDoc, *, source: bool = False, numbers: Mapping[str, str] | None = None) -> list[Line]:
    """The lines of `text`; `numbers` gives the outermost nodes other SSA numbers, by name."""
    return _lines(doc, _Printer(source), numbers, named=True)


def _lines(doc: GraphDoc, printer: _Printer, numbers: Mapping[str, str] | None, named: bool) -> list[Line]:
    found = list(printer.graph("graph", doc, numbers or number(doc), named))
    for index, (nested, by_name) in enumerate(printer.nested):  # grows while it is printed
        found.extend(printer.graph(f"graph @{index}", nested, number(nested), by_name))
    return found


def called_by_name(doc: GraphDoc) -> frozenset[str]:
    """Paths of the nested graphs that nodes call as modules, perhaps by keyword; others are handed to an operator."""
    return frozenset(node.target.removeprefix("module:") for node in doc.nodes if node.op == "call_module")


def number(doc: GraphDoc) -> dict[str, str]:
    """The SSA number of each node: its position in the graph."""
    return {node.name: str(position) for position, node in enumerate(doc.nodes)}


def printable(found: str) -> str:
    """`found` as it is if it is a plain name, else as a JSON string, so that nothing in it can pass for text."""
    return found if _PLAIN.fullmatch(found) else json_text(found)


def dtype_text(dtype: str) -> str:
    """`bf16` for bfloat16, `i32` for int32; other dtypes keep their name."""
    match = _SHORT.fullmatch(dtype)
    return dtype if match is None else _LETTERS[match[1]] + match[2].removeprefix("_")


def type_text(found: Type | None) -> str:
    """`bf16[4, 8]`, with `strides(...)` where not contiguous; `int s0`; `(f32[2], i64[2])`; `?` if unknown."""
    match found:
        case TensorType(dtype, shape, stride):
            strides = "" if stride is None else f" strides({_dims(stride)})"
            return f"{dtype_text(dtype)}[{_dims(shape)}]{strides}"
        case ScalarType(kind, value):
            return f"{kind} {value}"
        case tuple():
            return f"({', '.join(type_text(item) for item in found)})"
    return "?"


def _dims(dims: tuple[Dim, ...]) -> str:
    return ", ".join(map(str, dims))


def _function(name: str) -> Callable[[str], str]:
    return lambda found: f"{name}({found})"


_CONSTANTS: dict[str, Callable[[str], str]] = {
    "str": json_text,
    "complex": _function("complex"),
    "device": _function("device"),
    "object": lambda found: f"object({printable(found)})",
    "dtype": lambda found: f"torch.{found}",
    "layout": lambda found: f"torch.{found}",
    "memory_format": lambda found: f"torch.{found}",
}


def value_text(value: Value, reference: Callable[[str], str]) -> str:
    """One argument; `reference` writes the name of a node."""
    match value:
        case Ref(name):
            return reference(name)
        case Const(kind, found):
            return _CONSTANTS.get(kind, str)(found)
        case Group("dict", items):
            parts = [value_text(item, reference) for item in items]
            return "{" + ", ".join(f"{k}: {v}" for k, v in zip(parts[::2], parts[1::2], strict=True)) + "}"
        case Group(kind, items):
            body = ", ".join(value_text(item, reference) for item in items)
            return _WRAPPERS[kind](body, len(items))


_WRAPPERS: dict[str, Callable[[str, int], str]] = {
    "list": lambda body, _: f"[{body}]",
    "tuple": lambda body, size: f"({body},)" if size == 1 else f"({body})",
    "slice": lambda body, _: f"slice({body})",
    "range": lambda body, _: f"range({body})",
}


class _Printer:
    """Prints graphs and remembers the nested ones in the order in which they are first used."""

    def __init__(self, source: bool) -> None:
        self.source = source
        self.nested: list[tuple[GraphDoc, bool]] = []  # and whether the names of its inputs count

    def graph(self, title: str, doc: GraphDoc, numbers: Mapping[str, str], named: bool) -> Iterator[Line]:
        yield Line(f"{title}:")
        if doc.parameters:
            yield Line("  parameters:")
        for parameter in sorted(doc.parameters, key=lambda p: natural(p.fqn)):
            tied = "" if parameter.tied_to is None else f" tied to {printable(parameter.tied_to)}"
            yield Line(f"    {printable(parameter.fqn)}: {type_text(parameter.type)}{tied}")
        yield Line("  nodes:")
        paths = self._paths(doc)
        for node in doc.nodes[:-1]:
            yield Line(f"    {self._node(node, numbers, paths, named)}{self._comment(node)}", node.name)
        yield from _outputs(doc, numbers)

    def _paths(self, doc: GraphDoc) -> dict[str, str]:
        """How to write the attributes that are no tensors: graphs by number, objects with their class."""
        paths = {path: f"{printable(path)} [{printable(name)}]" for path, name in doc.objects}
        graphs, by_name = dict(doc.subgraphs), called_by_name(doc)
        for node in doc.nodes:
            path = node.target.removeprefix("module:")
            if node.op in ("get_attr", "call_module") and path in graphs and path not in paths:
                paths[path] = f"@{len(self.nested)}"
                self.nested.append((graphs[path], path in by_name))
        return paths

    def _node(self, node: Node, numbers: Mapping[str, str], paths: Mapping[str, str], named: bool) -> str:
        arguments = [value_text(arg, lambda name: f"%{numbers[name]}") for arg in node.args]
        arguments += [f"{key}={value_text(arg, lambda name: f'%{numbers[name]}')}" for key, arg in node.kwargs]
        head = f"%{numbers[node.name]}: {type_text(node.type)} = "
        if node.op == "placeholder":
            name = f" {printable(node.target)}" if named else ""
            return f"{head}input{name}" + "".join(f" = {default}" for default in arguments)
        if node.op == "get_attr":
            known = paths.get(node.target)
            return head + (f"parameter {printable(node.target)}" if known is None else f"attribute {known}")
        target = node.target.removeprefix("module:")
        called = f"call {paths[target]}" if node.op == "call_module" else printable(node.target)
        return f"{head}{called}({', '.join(arguments)})"

    def _comment(self, node: Node) -> str:
        if not self.source or node.source is None:
            return ""
        return f"  # {one_line(node.source.at)}: {one_line(node.source.code)}"


def _outputs(doc: GraphDoc, numbers: Mapping[str, str]) -> Iterator[Line]:
    output = doc.nodes[-1]
    returned = output.args[0]
    kind = f" ({returned.kind})" if isinstance(returned, Group) and returned.kind in ("tuple", "list") else ""
    yield Line(f"  outputs{kind}:", output.name)
    types = {node.name: node.type for node in doc.nodes}
    updated: dict[int, list[str]] = {}
    for name, index in sorted(updates(doc)):
        updated.setdefault(index, []).append(printable(name))
    for index, value in enumerate(doc.outputs):
        mark = f"  updates {', '.join(updated[index])}" if index in updated else ""
        shape = f"{type_text(types[value.name])} " if isinstance(value, Ref) else ""
        yield Line(f"    {index}: {shape}{value_text(value, lambda name: f'%{numbers[name]}')}{mark}", output.name)


def updates(doc: GraphDoc) -> list[tuple[str, int]]:
    """The aliases, inputs by their own names instead of their nodes': (input or parameter, output index)."""
    inputs = {node.name: node.target for node in doc.inputs}
    return [(inputs.get(name, name), index) for name, index in doc.aliases]

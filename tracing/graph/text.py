"""The canonical text of a graph: equal documents, whatever their node names, print the same text, and only they do."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

from tracing.graph.document import Const, Dim, GraphDoc, Group, Node, Ref, ScalarType, TensorType, Type, Value, leaves
from tracing.graph.escape import json_text, one_line
from tracing.graph.natural import natural

_SHORT = re.compile(r"(bfloat|float|uint|int|complex)(\d.*)")
_LETTERS = {"bfloat": "bf", "float": "f", "uint": "u", "int": "i", "complex": "c"}
Types = Mapping[Type | None, str]  # as text
_PLAIN = re.compile(r"[A-Za-z0-9_.:*<>-]+")


def text(doc: GraphDoc, *, source: bool = False) -> str:
    """The canonical text of `doc`: SSA numbers in graph order, sorted kwargs, dtype and shape on every line.

    With `source`, each node's line ends in a comment that says which line of the model it comes from.
    """
    return _text(doc, _Printer(source), named=True)


def body_text(doc: GraphDoc) -> str:
    """The text of `doc` as the body of a higher-order op, which gives it operands by position: inputs have no names."""
    return _text(doc, _Printer(source=False), named=False)


def _text(doc: GraphDoc, printer: _Printer, named: bool) -> str:
    found = list(printer.graph("graph", doc, named))
    for index, (nested, by_name) in enumerate(printer.nested):  # grows while it is printed
        found.extend(printer.graph(f"graph @{index}", nested, by_name))
    return "".join(f"{line}\n" for line in found)


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
    return value_format(value) % tuple(reference(leaf.name) for leaf in leaves(value) if isinstance(leaf, Ref))


def value_format(value: Value) -> str:
    """One argument as a format, with %s for each node that it names."""
    if isinstance(value, Ref):
        return "%s"
    if isinstance(value, Const):
        return format_of(_CONSTANTS.get(value.kind, str)(value.text))
    return _WRAPPERS[value.kind]([value_format(item) for item in value.items])


def arguments_format(node: Node) -> list[str]:
    """The arguments of a node as formats, keywords after the others."""
    keywords = (f"{format_of(key)}={value_format(value)}" for key, value in node.kwargs)
    return [*map(value_format, node.args), *keywords]


def format_of(found: str) -> str:
    """The format of a text in which nothing is to be filled in."""
    return found.replace("%", "%%")


_WRAPPERS: dict[str, Callable[[list[str]], str]] = {
    "list": lambda items: f"[{', '.join(items)}]",
    "tuple": lambda items: f"({items[0]},)" if len(items) == 1 else f"({', '.join(items)})",
    "slice": lambda items: f"slice({', '.join(items)})",
    "range": lambda items: f"range({', '.join(items)})",
    "dict": lambda items: "{" + ", ".join(map("{}: {}".format, items[::2], items[1::2])) + "}",
}


class _Printer:
    """Prints graphs and remembers the nested ones in the order in which they are first used."""

    def __init__(self, source: bool) -> None:
        self.source = source
        self.nested: list[tuple[GraphDoc, bool]] = []  # and whether the names of its inputs count

    def graph(self, title: str, doc: GraphDoc, named: bool) -> Iterator[str]:
        types = {found: type_text(found) for found in doc.types}
        yield f"{title}:"
        if doc.parameters:
            yield "  parameters:"
        for parameter in sorted(doc.parameters, key=lambda p: natural(p.fqn)):
            tied = "" if parameter.tied_to is None else f" tied to {printable(parameter.tied_to)}"
            yield f"    {printable(parameter.fqn)}: {types[parameter.type]}{tied}"
        yield "  nodes:"
        paths = self._paths(doc)
        formats = doc.forms.spread(lambda form: self._format(form.node, types, paths, named))
        marks = [f"%{position}" for position in range(len(doc.nodes))]
        for node, mark, line, reads in zip(doc.nodes[:-1], marks, formats, doc.forms.reads, strict=False):
            yield line % (mark, *[marks[position] for position in reads]) + self._comment(node)
        yield from _outputs(doc, types)

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

    def _format(self, node: Node, types: Types, paths: Mapping[str, str], named: bool) -> str:
        """The line of nodes like `node`: its own number is to be filled in, then those of the nodes that it reads."""
        arguments = arguments_format(node)
        head = f"    %s: {format_of(types[node.type])} = "
        if node.op == "placeholder":
            name = format_of(f" {printable(node.target)}") if named else ""
            return f"{head}input{name}" + "".join(f" = {default}" for default in arguments)
        if node.op == "get_attr":
            known = paths.get(node.target)
            return head + format_of(f"parameter {printable(node.target)}" if known is None else f"attribute {known}")
        target = node.target.removeprefix("module:")
        called = f"call {paths[target]}" if node.op == "call_module" else printable(node.target)
        return f"{head}{format_of(called)}({', '.join(arguments)})"

    def _comment(self, node: Node) -> str:
        if not self.source or node.source is None:
            return ""
        return f"  # {one_line(node.source.at)}: {one_line(node.source.code)}"


def _outputs(doc: GraphDoc, types: Types) -> Iterator[str]:
    returned, numbers = doc.nodes[-1].args[0], number(doc)
    kind = f" ({returned.kind})" if isinstance(returned, Group) and returned.kind in ("tuple", "list") else ""
    yield f"  outputs{kind}:"
    updated: dict[int, list[str]] = {}
    for name, index in sorted(updates(doc)):
        updated.setdefault(index, []).append(printable(name))
    for index, value in enumerate(doc.outputs):
        mark = f"  updates {', '.join(updated[index])}" if index in updated else ""
        shape = f"{types[doc.by_name[value.name].type]} " if isinstance(value, Ref) else ""
        yield f"    {index}: {shape}{value_text(value, lambda name: f'%{numbers[name]}')}{mark}"


def updates(doc: GraphDoc) -> list[tuple[str, int]]:
    """The aliases, inputs by their own names instead of their nodes': (input or parameter, output index)."""
    inputs = {node.name: node.target for node in doc.inputs}
    return [(inputs.get(name, name), index) for name, index in doc.aliases]

"""The structure of a graph without its names: classes of equal nodes, found by hash-consing, exact and deterministic.

A forward class holds nodes that compute the same from the same inputs; a backward class, nodes that are used alike.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

from tracing.graph.anchors import Label, kind
from tracing.graph.document import Const, GraphDoc, Group, Node, Ref, ScalarType, TensorType, Type, Value
from tracing.graph.order import predecessors
from tracing.graph.symbols import rename, symbols_of

Slot = tuple[int | str, ...]  # the way to an argument: (0,), (3, 2), ("dtype",)


class Interner:
    """Numbers keys by equality, in order of first use. Graphs to compare share one."""

    def __init__(self) -> None:
        self._numbers: dict[Hashable, int] = {}

    def number(self, key: Hashable) -> int:
        """The number of `key`."""
        return self._numbers.setdefault(key, len(self._numbers))


@dataclass(frozen=True)
class Structure:
    """A graph by position, everything else as numbers of one `Interner`.

    Attributes:
        labels: what each node is: op and target.
        kinds: the same without what a change may touch (`anchors.kind`).
        skeletons: the constants of each node and the shape of its arguments.
        contexts: label, skeleton and the labels of the operands.
        operands: the (slot, position) pairs that each node reads.
        users: the (slot, position) pairs that read each node.
        after: positions of the effects that each node follows.
    """

    doc: GraphDoc
    labels: list[int]
    kinds: list[int]
    skeletons: list[int]
    contexts: list[int]
    operands: list[list[tuple[int, int]]]
    users: list[list[tuple[int, int]]]
    after: list[tuple[int, ...]]


def structure(doc: GraphDoc, labels: Sequence[Label], interner: Interner) -> Structure:
    """Index `doc`; `labels` says for each node what it is, in terms that hold in both graphs of a comparison."""
    positions = {node.name: position for position, node in enumerate(doc.nodes)}
    operands = [
        [(interner.number(("slot", slot)), positions[name]) for slot, name in slots(node)] for node in doc.nodes
    ]
    users: list[list[tuple[int, int]]] = [[] for _ in doc.nodes]
    for position, reads in enumerate(operands):
        for slot, operand in reads:
            users[operand].append((slot, position))
    own = [interner.number(("label", label)) for label in labels]
    skeletons = [interner.number(("skeleton", *strip_names(node))) for node in doc.nodes]
    contexts = [
        interner.number(("context", label, skeleton, *(own[operand] for _, operand in reads)))
        for label, skeleton, reads in zip(own, skeletons, operands, strict=True)
    ]
    return Structure(
        doc=doc,
        labels=own,
        kinds=[interner.number(("label", kind(label))) for label in labels],
        skeletons=skeletons,
        contexts=contexts,
        operands=operands,
        users=users,
        after=predecessors(doc),
    )


def slots(node: Node) -> Iterator[tuple[Slot, str]]:
    """The slot and name of every node that `node` reads."""
    for index, value in enumerate(node.args):
        yield from _slots(value, (index,))
    for key, value in node.kwargs:
        yield from _slots(value, (key,))


def _slots(value: Value, slot: Slot) -> Iterator[tuple[Slot, str]]:
    if isinstance(value, Ref):
        yield slot, value.name
    elif isinstance(value, Group):
        for index, item in enumerate(value.items):
            yield from _slots(item, (*slot, index))


def strip_names(node: Node) -> tuple[Hashable, ...]:
    """The arguments of `node` without names of nodes and symbols."""
    return (*map(_strip, node.args), *((key, _strip(value)) for key, value in node.kwargs))


def _strip(value: Value) -> Value:
    """`value` without names of nodes and symbols."""
    if isinstance(value, Ref):
        return Ref("")
    if isinstance(value, Group):
        return Group(value.kind, tuple(map(_strip, value.items)))
    return Const("sym", "") if value.kind == "sym" else value


def forward_classes(graph: Structure, interner: Interner) -> list[int]:
    """A class for each node: what it is, its constants, type, operands' classes and the effects it follows."""
    classes: list[int] = []
    symbols: dict[str, str] = {}
    for position, node in enumerate(graph.doc.nodes):
        key = (
            graph.labels[position],
            graph.skeletons[position],
            tuple(classes[operand] for _, operand in graph.operands[position]),
            tuple(sorted(classes[effect] for effect in graph.after[position])),
        )
        expressions = list(_expressions(node))
        fresh = [s for e in expressions for s in symbols_of(e) if s not in symbols]
        for index, symbol in enumerate(dict.fromkeys(fresh)):
            prefix = symbol.rstrip("0123456789")
            symbols[symbol] = f"{prefix}{interner.number(('symbol', key, index))}"
        renamed = tuple(rename(expression, symbols) for expression in expressions)
        classes.append(interner.number((*key, _plain(node.type), renamed)))
    return classes


def backward_classes(graph: Structure, interner: Interner) -> list[int]:
    """A class for each node: what it is, what it reads, its constants, and the classes and slots of its users."""
    classes = [0] * len(graph.doc.nodes)
    for position in reversed(range(len(classes))):
        uses = sorted((classes[user], slot) for slot, user in graph.users[position])
        classes[position] = interner.number(("backward", graph.contexts[position], *uses))
    return classes


def _expressions(node: Node) -> Iterator[str]:
    """The symbolic expressions in a node's type and constants, in a fixed order."""
    yield from _type_expressions(node.type)
    for value in (*node.args, *(value for _, value in node.kwargs)):
        yield from _value_expressions(value)


def _type_expressions(found: Type | None) -> Iterator[str]:
    match found:
        case TensorType(_, shape, stride):
            yield from (dim for dim in (*shape, *(stride or ())) if isinstance(dim, str))
        case ScalarType(_, text):
            if symbols_of(text):
                yield text
        case tuple():
            for item in found:
                yield from _type_expressions(item)


def _value_expressions(value: Value) -> Iterator[str]:
    if isinstance(value, Group):
        for item in value.items:
            yield from _value_expressions(item)
    elif isinstance(value, Const) and value.kind == "sym":
        yield value.text


def _plain(found: Type | None) -> Hashable:
    """A type without its symbols' names."""
    match found:
        case TensorType(dtype, shape, stride):
            return TensorType(dtype, _plain_dims(shape), None if stride is None else _plain_dims(stride))
        case ScalarType(kind, text):
            return ScalarType(kind, "" if symbols_of(text) else text)
        case tuple():
            return tuple(_plain(item) for item in found)
    return None


def _plain_dims(dims: tuple[int | str, ...]) -> tuple[int | str, ...]:
    return tuple("" if isinstance(dim, str) else dim for dim in dims)

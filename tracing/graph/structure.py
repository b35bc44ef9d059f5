"""The structure of a graph without its names: classes of equal nodes, found by hash-consing, exact and deterministic.

A forward class holds nodes that compute the same from the same inputs; a backward class, nodes that are used alike.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass

from tracing.graph.anchors import Label, kind
from tracing.graph.document import Const, GraphDoc, Group, Node, Ref, ScalarType, TensorType, Type, Value
from tracing.graph.order import predecessors
from tracing.graph.symbols import rename, symbols_of


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
        forms: the form of each node.
        expressions: the symbolic expressions in its type and constants.
        labels: what each node is: op and target.
        kinds: the same without what a change may touch (`anchors.kind`).
        skeletons: the constants of each node and the shape of its arguments.
        contexts: label, skeleton and the labels of the operands.
        slots: where each node reads others, in argument order.
        operands: the positions that it reads there.
        users: the (slot, position) pairs that read each node.
        after: positions of the effects that each node follows.
    """

    doc: GraphDoc
    forms: list[int]
    expressions: list[tuple[str, ...]]
    labels: list[int]
    kinds: list[int]
    skeletons: list[int]
    contexts: list[int]
    slots: list[tuple[int, ...]]
    operands: tuple[tuple[int, ...], ...]
    users: list[list[tuple[int, int]]]
    after: list[tuple[int, ...]]

    def by_slot(self, position: int) -> dict[int, int]:
        """The positions that a node reads, by slot."""
        return dict(zip(self.slots[position], self.operands[position], strict=True))


def structure(doc: GraphDoc, label: Callable[[Node], Label], interner: Interner) -> Structure:
    """Index `doc`; `label` says what a node is, apart from its arguments, in terms that hold in both graphs."""
    spread, number, reads = doc.forms.spread, interner.number, doc.forms.reads
    slots = spread(lambda form: tuple([number(("slot", slot)) for slot in form.slots]))
    labels = spread(lambda form: number(("label", label(form.node))))
    skeletons = spread(lambda form: number(("skeleton", strip_names(form.node))))
    return Structure(
        doc=doc,
        forms=spread(lambda form: number(("form", form.key))),
        expressions=spread(lambda form: tuple(_expressions(form.node))),
        labels=labels,
        kinds=spread(lambda form: number(("label", kind(label(form.node))))),
        skeletons=skeletons,
        contexts=[
            number(("context", what, skeleton, *[labels[operand] for operand in operands]))
            for what, skeleton, operands in zip(labels, skeletons, reads, strict=True)
        ],
        slots=slots,
        operands=reads,
        users=_users(slots, reads),
        after=predecessors(doc),
    )


def _users(slots: Sequence[Sequence[int]], reads: Sequence[Sequence[int]]) -> list[list[tuple[int, int]]]:
    users: list[list[tuple[int, int]]] = [[] for _ in reads]
    for position, operands in enumerate(reads):
        for slot, operand in zip(slots[position], operands, strict=True):
            users[operand].append((slot, position))
    return users


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
    types = graph.doc.forms.spread(lambda form: interner.number(("type", _plain(form.node.type))))
    for position, (written, reads, follows) in enumerate(
        zip(graph.expressions, graph.operands, graph.after, strict=True)
    ):
        operands = tuple([classes[operand] for operand in reads])
        effects = tuple(sorted([classes[effect] for effect in follows]))
        key = "forward", graph.labels[position], graph.skeletons[position], operands, effects
        renamed = _renamed(written, symbols, key, interner) if written else ()
        classes.append(interner.number((key, types[position], renamed)))
    return classes


def _renamed(
    expressions: tuple[str, ...], symbols: dict[str, str], key: Hashable, interner: Interner
) -> tuple[str, ...]:
    """Expressions in terms of where symbols are first met; the node of `key` is where those not in `symbols` are."""
    fresh = [s for e in expressions for s in symbols_of(e) if s not in symbols]
    for index, symbol in enumerate(dict.fromkeys(fresh)):
        prefix = symbol.rstrip("0123456789")
        symbols[symbol] = f"{prefix}{interner.number(('symbol', key, index))}"
    return tuple(rename(expression, symbols) for expression in expressions)


def backward_classes(graph: Structure, interner: Interner) -> list[int]:
    """A class for each node: what it is, what it reads, its constants, and the classes and slots of its users."""
    classes = [0] * len(graph.doc.nodes)
    for position in reversed(range(len(classes))):
        uses = sorted([(classes[user], slot) for slot, user in graph.users[position]])
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

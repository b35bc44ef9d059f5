"""What nodes have in common. A model repeats few forms of nodes; what depends on the form alone is worked out once."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from tracing.graph.nodes import Const, Node, Ref, Value

Slot = tuple[int | str, ...]  # the way to an argument: (0,), (3, 2), ("dtype",)
T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Form:
    """A node but for its name, the names of the nodes that it reads, and its source.

    Attributes:
        key: equal for equal forms, of other documents too.
        node: the first node of the document that has this form.
        slots: where its arguments read nodes, in argument order.
    """

    key: Hashable
    node: Node
    slots: tuple[Slot, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Forms:
    """The forms of a document's nodes.

    Attributes:
        distinct: the forms, by first appearance.
        numbers: for each node the position of its form in `distinct`.
        reads: for each node the positions of the nodes that it reads, in argument order, as often as they occur.
    """

    distinct: tuple[Form, ...]
    numbers: tuple[int, ...]
    reads: tuple[tuple[int, ...], ...]

    def spread(self, of_form: Callable[[Form], T]) -> list[T]:
        """`of_form` of each node's form; it is called once a form."""
        found = [of_form(form) for form in self.distinct]
        return [found[number] for number in self.numbers]


def forms(nodes: Sequence[Node]) -> Forms:
    """The forms of the nodes of a graph."""
    positions = {node.name: position for position, node in enumerate(nodes)}
    known: dict[Hashable, int] = {}
    distinct: list[Form] = []
    numbers: list[int] = []
    reads: list[tuple[int, ...]] = []
    for node in nodes:
        names: list[str] = []
        key = _key(node, names)
        number = known.setdefault(key, len(distinct))
        if number == len(distinct):
            distinct.append(Form(key, node, tuple(_slots(node))))
        numbers.append(number)
        reads.append(tuple([positions[name] for name in names]))
    return Forms(tuple(distinct), tuple(numbers), tuple(reads))


def _key(node: Node, names: list[str]) -> Hashable:
    """The form of `node` as a key; the names of the nodes that it reads are added to `names`."""
    arguments = _hollow(node.args, names)
    if not node.kwargs:
        return node.op, node.target, node.type, arguments
    keys, keywords = zip(*node.kwargs, strict=True)
    return node.op, node.target, node.type, arguments, keys, _hollow(keywords, names)


def _hollow(values: Iterable[Value], names: list[str]) -> Hashable:
    """`values` with None for each node."""
    found: list[Hashable] = []
    for value in values:
        if isinstance(value, Ref):
            names.append(value.name)
            found.append(None)
        elif isinstance(value, Const):
            found.append((value.kind, value.text))
        else:
            found.append((value.kind, _hollow(value.items, names)))
    return tuple(found)


def _slots(node: Node) -> list[Slot]:
    found: list[Slot] = []
    for index, value in enumerate(node.args):
        _add_slots(value, (index,), found)
    for key, value in node.kwargs:
        _add_slots(value, (key,), found)
    return found


def _add_slots(value: Value, slot: Slot, found: list[Slot]) -> None:
    if isinstance(value, Ref):
        found.append(slot)
    elif not isinstance(value, Const):
        for index, item in enumerate(value.items):
            _add_slots(item, (*slot, index), found)

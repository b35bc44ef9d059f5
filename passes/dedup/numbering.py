"""Value numbering: nodes with one number have the same value, whatever the inputs hold.

A pure call is numbered by its operator, its arguments and the state of the memory that it reads; everything else has a
number of its own. It is the hashing form of B. Alpern, M. Wegman, F. K. Zadeck, "Detecting equality of variables in
programs" (POPL 1988), on a straight-line graph with memory.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from itertools import count
from types import EllipsisType, NoneType
from typing import Any

import torch
from torch.fx import Node

from passes.dedup.memory import Memory, is_known, is_pure
from passes.facts import GraphFacts
from passes.ops.schema import Call

Read = Callable[[Node], Hashable]

_LITERALS = (bool, int, float, complex, str, NoneType, EllipsisType,
             torch.dtype, torch.device, torch.layout, torch.memory_format)  # fmt: skip


@dataclass
class Numbers:
    """Numbers of the nodes of one graph.

    Attributes:
        value: nodes with one number have the same value.
        form: nodes with one number are the same expression, but memory that it reads may have been written in between.
            An in-place call is the expression that it writes.
        state: the last call before each node that may have written memory seen from outside the graph, or None.
    """

    value: dict[Node, int] = field(default_factory=dict)
    form: dict[Node, int] = field(default_factory=dict)
    state: dict[Node, Node | None] = field(default_factory=dict)


def number_values(facts: GraphFacts, memory: Memory) -> Numbers:
    """Numbers every node, in one forward walk."""
    walk = _Walk(facts, memory)
    for node in facts.graph.nodes:
        walk.visit(node)
    return walk.numbers


class _Walk:
    def __init__(self, facts: GraphFacts, memory: Memory) -> None:
        self.facts = facts
        self.memory = memory
        self.numbers = Numbers()
        self.known: dict[Hashable, int] = {}
        self.fresh = count()
        self.last_write: Node | None = None

    def visit(self, node: Node) -> None:
        self.numbers.state[node] = self.last_write
        value, form = self._keys(node)
        self.numbers.value[node], self.numbers.form[node] = self._number(value), self._number(form)
        if (target := self._written_in_place(node)) is not None:
            self.numbers.form[node] = self.numbers.form[target]
        if self.memory.writes_outside(node):
            self.last_write = node

    def _keys(self, node: Node) -> tuple[Hashable, Hashable]:
        found = self.facts.nodes.of(node)
        if node.op == "get_attr":
            return ("get_attr", node.target), ("get_attr", node.target)
        call = self.facts.call(node)
        if found is not None and call is not None and is_pure(found):
            return ("value", *self._key(call, self._value)), ("form", *self._key(call, self._form))
        return ("node", next(self.fresh)), ("node", next(self.fresh))

    def _written_in_place(self, node: Node) -> Node | None:
        """The operand that an in-place operator of torch writes and returns, or None."""
        found = self.facts.nodes.of(node)
        if found is None or not is_known(found) or found.contract is not None:
            return None
        writes, aliases = found.effects.writes, found.effects.aliases
        return writes[0] if writes and writes == aliases[:1] else None

    def _number(self, key: Hashable) -> int:
        return self.known.setdefault(key, len(self.known))

    def _value(self, operand: Node) -> Hashable:
        """The operand's number, and the state of its memory at this point."""
        return ("node", self.numbers.value[operand], self._memory_state(operand))

    def _memory_state(self, operand: Node) -> Hashable:
        if self.memory.is_outside(operand):
            return self.last_write
        return None if self.memory.writer(operand) is None else ("written", next(self.fresh))

    def _form(self, operand: Node) -> Hashable:
        return ("node", self.numbers.form[operand])

    def _key(self, call: Call, read: Read) -> tuple[Hashable, ...]:
        return (call.op, *((name, self._argument(value, read)) for name, value in call.bound.items()))

    def _argument(self, value: Any, read: Read) -> Hashable:
        if isinstance(value, Node):
            return read(value)
        if isinstance(value, (list, tuple)):
            return ("list", *(self._argument(item, read) for item in value))
        if isinstance(value, slice):
            return ("slice", *(self._argument(item, read) for item in (value.start, value.stop, value.step)))
        return (type(value).__name__, repr(value)) if isinstance(value, _LITERALS) else ("object", next(self.fresh))

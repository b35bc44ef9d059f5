"""Proves that two nodes have the same value, by comparing the two expressions operand by operand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch.fx import Node

from passes.dedup.aliasing import WriteSearch
from passes.ops.schema import Call, resolve

Pair = tuple[Node, Node]


class EqualityProof:
    """Proofs over one graph; a pair that was proven once is not looked at again."""

    def __init__(self, writes: WriteSearch, position: Mapping[Node, int]) -> None:
        self._writes = writes
        self._position = position
        self._proven: set[Pair] = set()

    def flaw(self, one: Node, other: Node) -> str | None:
        """Why the two may differ in value, or None if they cannot."""
        pending: list[Pair] = [(one, other)]
        while pending:
            pair = pending.pop()
            if pair[0] is pair[1] or pair in self._proven or _same_attribute(*pair):
                continue
            operands = None if any(self._writes.flaw(node) for node in pair) else _operands(*pair)
            if operands is None:
                return f"%{pair[0].name} and %{pair[1].name} are not the same pure call"
            if (flaw := self._read_flaw(pair, operands)) is not None:
                return flaw
            self._proven.add(pair)
            pending += operands
        return None

    def _read_flaw(self, pair: Pair, operands: list[Pair]) -> str | None:
        """Whether what the two calls read may have been written, each for itself or from one to the other."""
        start, end = sorted(self._position[node] for node in pair)
        for operand in (node for both in operands for node in both):
            if self._writes.is_outside(operand):
                if self._writes.outside_between(start, end):
                    return f"what %{pair[0].name} and %{pair[1].name} read may be written in between"
            elif self._writes.is_written(operand):
                return f"%{operand.name} may be written"
        return None


def _same_attribute(one: Node, other: Node) -> bool:
    return one.op == other.op == "get_attr" and one.target == other.target


def _operands(one: Node, other: Node) -> list[Pair] | None:
    """The operands that must be equal for the calls to be, or None if the calls are not alike."""
    calls = [resolve(one), resolve(other)]
    if calls[0] is None or calls[1] is None or calls[0].op != calls[1].op:
        return None
    pairs = list(_leaf_pairs(_arguments(calls[0]), _arguments(calls[1])))
    return None if None in pairs else [pair for pair in pairs if pair is not None]


def _arguments(call: Call) -> list[Any]:
    return [[name, value] for name, value in call.bound.items()]


def _leaf_pairs(one: Any, other: Any) -> Iterator[Pair | None]:
    """The nodes at the same places of two argument lists; None for any place at which the lists differ."""
    if isinstance(one, Node) and isinstance(other, Node):
        yield one, other
    elif isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)) and len(one) == len(other):
        for mine, theirs in zip(one, other, strict=True):
            yield from _leaf_pairs(mine, theirs)
    elif isinstance(one, slice) and isinstance(other, slice):
        yield from _leaf_pairs([one.start, one.stop, one.step], [other.start, other.stop, other.step])
    elif type(one) is not type(other) or repr(one) != repr(other) or isinstance(one, (Node, list, tuple)):
        yield None

"""Evaluation of a value from its operands without recursion: a chain of nodes may be longer than Python's stack."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

Key = TypeVar("Key")
Found = TypeVar("Found")


def evaluate(
    wanted: Key,
    operands: Callable[[Key], Sequence[Key]],
    combine: Callable[[Key, Sequence[Key]], Found],
    known: dict[Key, Found],
) -> Found:
    """`combine(wanted, its operands)`, called once `known` has what that yields for each operand. Fills `known`."""
    pending = [] if wanted in known else [(wanted, operands(wanted))]
    while pending:
        key, given = pending[-1]
        missing = [operand for operand in given if operand not in known]
        if missing:
            pending.extend((operand, operands(operand)) for operand in missing)
        else:
            pending.pop()
            if key not in known:
                known[key] = combine(key, given)
    return known[wanted]

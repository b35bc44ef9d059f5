"""Evaluation of a value from its operands without recursion: a chain of nodes may be longer than Python's stack."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

Key = TypeVar("Key")
Found = TypeVar("Found")


def evaluate(
    wanted: Key, operands: Callable[[Key], Iterable[Key]], combine: Callable[[Key], Found], known: dict[Key, Found]
) -> Found:
    """`combine(wanted)`, called once `known` has what `combine` yields for each of its operands. Fills `known`."""
    pending = [wanted]
    while pending:
        key = pending[-1]
        missing = [] if key in known else [operand for operand in operands(key) if operand not in known]
        if missing:
            pending.extend(missing)
        else:
            pending.pop()
            if key not in known:
                known[key] = combine(key)
    return known[wanted]

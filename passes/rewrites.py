"""Rewrites as data. The analysis says which are possible, the plan which are wanted; surgery applies them."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch.fx import Node


@dataclass(frozen=True)
class NewCall:
    """A call that surgery inserts before the node that uses it. Arguments may hold nodes and further NewCalls."""

    op: str
    target: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    value: Any = None


@dataclass(frozen=True)
class Fold:
    """Replaces `node`, which only reads metadata of `severs`, by the constant `value`, and erases it.

    `%n = aten.sym_size.int(%x, 0)`, `f(%n)`   ->   `f(4)`
    """

    node: Node
    severs: tuple[Node, ...]
    value: Any
    rule: str


def is_folded_element(user: Node) -> bool:
    """Whether `user`, a user of a folded tuple, takes one item of it, and so is folded with it."""
    return user.op == "call_function" and user.target is operator.getitem and isinstance(user.args[1], int)


@dataclass(frozen=True)
class Recall:
    """Makes `node` another call with the same value, which does not need `severs`.

    `%z = aten.zeros_like.default(%x)`   ->   `%z = aten.zeros.default([4, 8])`
    """

    node: Node
    severs: tuple[Node, ...]
    call: NewCall
    rule: str


Slot = int | str | tuple[str, int]
"""Where an argument is given: by position, by name, or at a position of a list that is given by name."""


@dataclass(frozen=True)
class SetOperand:
    """Replaces one operand of `node`, which its contract calls unread, by its stand-in.

    `%a = mylib.attention(%x, %k_prior)`   ->   `%a = mylib.attention(%x, None)`
    """

    node: Node
    severs: tuple[Node, ...]
    slot: Slot
    value: Any
    rule: str


@dataclass(frozen=True)
class Drop:
    """Erases `node`, which yields nothing and asserts what the trace of `severs` has proven."""

    node: Node
    severs: tuple[Node, ...]
    rule: str


Rewrite = Drop | Fold | Recall | SetOperand

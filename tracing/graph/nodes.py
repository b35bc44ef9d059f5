"""The nodes of a graph as plain, immutable data: everything torch.fx holds of them that a reader needs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

OPS = ("placeholder", "get_attr", "call_function", "call_method", "call_module", "output")


@dataclass(frozen=True, slots=True)
class Ref:
    """The value of the node called `name`."""

    name: str


@dataclass(frozen=True, slots=True)
class Const:
    """A constant as its kind (`int`, `float`, `dtype`, `sym`, ...: the keys of `values.CONSTANTS`) and canonical text.

    Kept as text so that 1, 1.0 and True differ, and NaN equals NaN.
    """

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Group:
    """A container: `list`, `tuple`, `slice` and `range` hold their items, `dict` holds key, value, key, value, ..."""

    kind: str
    items: tuple[Value, ...]


Value = Ref | Const | Group
Dim = int | str  # a number or a symbolic expression such as "2*s0"


@dataclass(frozen=True, slots=True)
class TensorType:
    """dtype without the `torch.` prefix, shape, and the stride in elements unless it is the contiguous one."""

    dtype: str
    shape: tuple[Dim, ...]
    stride: tuple[Dim, ...] | None = None


@dataclass(frozen=True, slots=True)
class ScalarType:
    """A number that flows through the graph: `kind` is int, float or bool, `text` its value or symbolic expression."""

    kind: str
    text: str


Type = TensorType | ScalarType | tuple["Type | None", ...]  # a tuple for multi-result nodes; None where unknown


@dataclass(frozen=True, slots=True)
class Source:
    """Where in the model a node comes from: `llama.py:12` and the code on that line."""

    at: str
    code: str

    def __str__(self) -> str:
        """One text of both, `llama.py:12: t = x.T`."""
        return f"{self.at}: {self.code}"


@dataclass(frozen=True, slots=True)
class Node:
    """One node. `target` is the stable name that `targets.target_name` gives it; kwargs are sorted by key."""

    name: str
    op: str
    target: str
    args: tuple[Value, ...] = ()
    kwargs: tuple[tuple[str, Value], ...] = ()
    type: Type | None = None
    source: Source | None = None


def values(node: Node) -> Iterator[Value]:
    """Every argument value of `node`: positional first, then keyword arguments by name."""
    yield from node.args
    for _, value in node.kwargs:
        yield value


def leaves(value: Value) -> Iterator[Ref | Const]:
    """The references and constants in `value`, left to right."""
    if isinstance(value, Group):
        for item in value.items:
            yield from leaves(item)
    else:
        yield value


def references(node: Node) -> Iterator[str]:
    """Names of the nodes that `node` reads, in argument order, repeated as often as they occur."""
    for value in values(node):
        for leaf in leaves(value):
            if isinstance(leaf, Ref):
                yield leaf.name

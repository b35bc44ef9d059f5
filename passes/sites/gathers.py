"""The spellings of a gather along the block dimension, at every capture level."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch.fx import Node

from passes.ops.names import GETITEM
from passes.ops.schema import Call

Operands = tuple[Node, Node, int]
"""The gathered tensor, the index and the dimension that is gathered along."""


def is_gather(op: str) -> bool:
    """Whether the operator of that qualified name can gather along one dimension."""
    return op in _GATHERS


def gather_operands(call: Call) -> Operands | None:
    """The tensor, index and dimension of a call that gathers along one dimension, or None if `call` is no gather."""
    spelling = _GATHERS.get(call.op)
    return None if spelling is None else spelling(call.bound)


def _along_dim(bound: Mapping[str, Any]) -> Operands | None:
    index = bound.get("index", bound.get("indices"))
    dim = bound.get("dim")
    return _operands(bound.get("self"), index, dim) if isinstance(dim, int) and dim >= 0 else None


def _advanced(bound: Mapping[str, Any]) -> Operands | None:
    given = bound.get("indices", bound.get("index"))
    items = list(given) if isinstance(given, (list, tuple)) else [given]
    indexed = [dim for dim, item in enumerate(items) if not _takes_all(item)]
    if len(indexed) != 1 or any(item is Ellipsis for item in items[: indexed[0]]):
        return None
    return _operands(bound.get("self"), items[indexed[0]], indexed[0])


def _takes_all(item: Any) -> bool:
    """Whether an index leaves its dimension as it is: `None` in aten's lists, `:` and `...` in Python's."""
    return item is None or item is Ellipsis or item == slice(None)


def _lookup(bound: Mapping[str, Any]) -> Operands | None:
    return _operands(bound.get("weight"), bound.get("indices"), 0)


def _operands(source: Any, index: Any, dim: int) -> Operands | None:
    return (source, index, dim) if isinstance(source, Node) and isinstance(index, Node) else None


_GATHERS: Mapping[str, Callable[[Mapping[str, Any]], Operands | None]] = {
    "aten::index_select": _along_dim,
    "aten::gather": _along_dim,
    "aten::take_along_dim": _along_dim,
    "aten::index": _advanced,
    "aten::_unsafe_index": _advanced,
    GETITEM: _advanced,
    "aten::embedding": _lookup,
}

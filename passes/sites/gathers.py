"""The spellings of a gather along the block dimension, at every capture level."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch.fx import Node

from passes.ops.names import GETITEM
from passes.ops.schema import Call

Operands = tuple[Node, Node]
"""The gathered tensor and the index."""


def gather_operands(call: Call) -> Operands | None:
    """The tensor and the index of a call that gathers along dimension 0, or None if `call` is no such gather."""
    spelling = _GATHERS.get(call.op)
    return None if spelling is None else spelling(call.bound)


def _along_dim(bound: Mapping[str, Any]) -> Operands | None:
    index = bound.get("index", bound.get("indices"))
    return _pair(bound.get("self"), index) if bound.get("dim") == 0 else None


def _advanced(bound: Mapping[str, Any]) -> Operands | None:
    return _pair(bound.get("self"), _leading_index(bound.get("indices", bound.get("index"))))


def _leading_index(index: Any) -> Any:
    """The index of dimension 0 if no other dimension is indexed: `[i]`, `[i, None]`, `x[i]`, `x[i, :, ...]`."""
    if not isinstance(index, (list, tuple)):
        return index
    rest = all(item is None or item is Ellipsis or item == slice(None) for item in index[1:])
    return index[0] if index and rest else None


def _lookup(bound: Mapping[str, Any]) -> Operands | None:
    return _pair(bound.get("weight"), bound.get("indices"))


def _pair(source: Any, index: Any) -> Operands | None:
    return (source, index) if isinstance(source, Node) and isinstance(index, Node) else None


_GATHERS: Mapping[str, Callable[[Mapping[str, Any]], Operands | None]] = {
    "aten::index_select": _along_dim,
    "aten::gather": _along_dim,
    "aten::take_along_dim": _along_dim,
    "aten::index": _advanced,
    "aten::_unsafe_index": _advanced,
    GETITEM: _advanced,
    "aten::embedding": _lookup,
}

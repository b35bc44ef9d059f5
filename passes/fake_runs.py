"""Which runs of an operator on fake tensors are the same run: calls of one operator on tensors of one layout."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from torch.fx import Node

from passes import metadata
from passes.rewrites import NewCall, SetOperand


def run_key(node: Node, edits: Sequence[SetOperand]) -> Hashable | None:
    """Equal for two calls that run alike, with and without `edits`; None where that is not known.

    Not known are calls on tensors with symbolic sizes, on results that are no tensors, and on other objects.
    """
    try:
        given = _described(node.args), _described(node.kwargs)
        return str(node.target), given, tuple((edit.slot, _described(edit.value)) for edit in edits)
    except _UnknownError:
        return None


class _UnknownError(Exception):
    """An argument that cannot be described by its layout."""


def _described(value: Any) -> Hashable:
    if isinstance(value, Node):
        if (layout := metadata.static_layout(value)) is None:
            raise _UnknownError
        return layout
    if isinstance(value, (list, tuple)):
        return tuple(map(_described, value))
    if isinstance(value, dict):
        return tuple((name, _described(item)) for name, item in value.items())
    if isinstance(value, NewCall):
        return str(value.target), _described(value.args), _described(value.kwargs)
    if value is None or type(value).__module__ in ("builtins", "torch"):
        return type(value).__name__, repr(value)
    raise _UnknownError

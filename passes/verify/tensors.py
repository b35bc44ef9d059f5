"""Whether a call and the call that took its place yield the same tensor: run on the traced values, and compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.fx import Node
from torch.fx.node import map_arg

from passes.verify.symbols import traced

_SUCCESSORS: Mapping[str, str] = {
    "zeros_like": "zeros", "new_zeros": "zeros", "ones_like": "ones", "new_ones": "ones", "full_like": "full",
    "new_full": "full", "empty_like": "empty", "new_empty": "empty", "expand_as": "expand", "view_as": "view",
    "reshape_as": "reshape", "type_as": "to",
}  # fmt: skip
"""The only call that may take another's place: the same elements, with the shape given as numbers."""

_TAKES_SELF = frozenset({"expand", "view", "reshape", "to"})


def recall_flaw(old: Node, new: Node) -> str | None:
    """Why `new` does not yield the tensor that `old` did, or None if it does."""
    made = _made_by(new)
    if made is None or _SUCCESSORS.get(_name(old)) != _name(made):
        return f"{old.target} became {new.target}, which is another computation"
    if _name(made) in _TAKES_SELF and not _same_self(old, made):
        return f"{new.target} is given another tensor"
    if _name(made) == "full" and _fill(old) != _fill(made):
        return "it is filled with another value"
    return _layout_flaw(old, new)


def _made_by(new: Node) -> Node | None:
    """The factory call: `new` itself, or what `new` permutes."""
    if _name(new) != "permute":
        return new
    source = new.args[0]
    return source if isinstance(source, Node) and _name(source) not in _TAKES_SELF else None


def _same_self(old: Node, made: Node) -> bool:
    one, other = old.args[0], made.args[0]
    return isinstance(one, Node) and isinstance(other, Node) and one.name == other.name


def _fill(node: Node) -> Any:
    value = node.kwargs.get("fill_value", node.args[-1] if len(node.args) > 1 else None)
    return value.name if isinstance(value, Node) else (type(value), repr(value))


def _layout_flaw(old: Node, new: Node) -> str | None:
    expected = traced(old)
    if not isinstance(expected, FakeTensor):
        return "its shape was not traced"
    with expected.fake_mode:
        found = _run(new)
    for what in ("shape", "dtype", "device"):
        if getattr(found, what) != getattr(expected, what):
            return f"its {what} becomes {getattr(found, what)}, was {getattr(expected, what)}"
    return None if found.stride() == expected.stride() else "its memory layout changes"


def _run(value: Any) -> Any:
    """Evaluates a node of the pruned graph on the traced values of its operands; inserted nodes are run as well."""
    if not isinstance(value, Node):
        return value
    args = map_arg(value.args, _operand)
    kwargs = map_arg(value.kwargs, _operand)
    if value.op == "call_method":
        return getattr(args[0], str(value.target))(*args[1:], **kwargs)
    return value.target(*args, **kwargs)  # type: ignore[operator]


def _operand(node: Node) -> Any:
    found = traced(node)
    return found if isinstance(found, (Tensor, torch.SymInt, int)) else _run(node)


def _name(node: Node) -> str:
    target: Any = node.target
    if isinstance(target, torch._ops.OpOverload):
        return str(target._schema.name).rsplit("::", 1)[-1]
    return str(target) if node.op == "call_method" else getattr(target, "__name__", "")

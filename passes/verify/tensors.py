"""Whether a call and the call that took its place yield the same tensor: run on the traced values, and compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch._subclasses.fake_tensor import FakeTensor
from torch.fx import Node
from torch.fx.node import map_arg

from passes.verify.nodes import operator_name, traced

_SUCCESSORS: Mapping[str, str] = {
    "zeros_like": "zeros", "new_zeros": "zeros", "ones_like": "ones", "new_ones": "ones", "full_like": "full",
    "new_full": "full", "empty_like": "empty", "new_empty": "empty", "expand_as": "expand", "view_as": "view",
    "reshape_as": "reshape", "type_as": "to",
}  # fmt: skip
"""The only call that may take another's place: the same elements, with the shape given as numbers."""

_FACTORIES = frozenset({"zeros", "ones", "full", "empty"})
_TAKES_SELF = frozenset({"expand", "view", "reshape", "to"})


def recall_flaw(old: Node, new: Node, inserted: frozenset[Node]) -> str | None:
    """Why `new`, computed with the help of `inserted`, does not yield the tensor that `old` did; None if it does."""
    made = _made_by(new)
    if made is None or _SUCCESSORS.get(operator_name(old)) != operator_name(made):
        return f"{old.target} became {new.target}, which is another computation"
    if operator_name(made) in _TAKES_SELF and not _same_self(old, made):
        return f"{new.target} is given another tensor"
    if has_negative_size(made):
        return f"{new.target} is given a negative size"
    if operator_name(made) == "full" and _fill(old) != _fill(made):
        return "it is filled with another value"
    return _layout_flaw(old, new, inserted)


def _made_by(new: Node) -> Node | None:
    """The factory call: `new` itself, or what `new` permutes."""
    if operator_name(new) != "permute":
        return new
    source = new.args[0]
    return source if isinstance(source, Node) and operator_name(source) not in _TAKES_SELF else None


def _same_self(old: Node, made: Node) -> bool:
    one, other = old.args[0], made.args[0]
    return isinstance(one, Node) and isinstance(other, Node) and one.name == other.name


def has_negative_size(made: Node) -> bool:
    """Whether a factory call is given one. FakeTensor makes an empty tensor of it, which torch refuses."""
    if operator_name(made) not in _FACTORIES:
        return False
    sizes = made.args[0] if made.args else made.kwargs.get("size")
    return any(isinstance(size, int) and size < 0 for size in (sizes if isinstance(sizes, (list, tuple)) else [sizes]))


def _fill(node: Node) -> Any:
    value = node.kwargs.get("fill_value", node.args[-1] if len(node.args) > 1 else None)
    return value.name if isinstance(value, Node) else (type(value), repr(value))


def _layout_flaw(old: Node, new: Node, inserted: frozenset[Node]) -> str | None:
    expected = traced(old)
    if not isinstance(expected, FakeTensor):
        return "its shape was not traced"
    try:
        with expected.fake_mode:
            found = _run(new, inserted)
    except Exception as error:
        return f"{new.target} cannot be run: {type(error).__name__}: {' '.join(str(error).split())}"
    for what in ("shape", "dtype", "device"):
        if getattr(found, what) != getattr(expected, what):
            return f"its {what} becomes {getattr(found, what)}, was {getattr(expected, what)}"
    return None if found.stride() == expected.stride() else "its memory layout changes"


def _run(node: Node, inserted: frozenset[Node]) -> Any:
    """Evaluates a node of the pruned graph: kept operands have their traced values, inserted ones are run as well."""

    def operand(found: Node) -> Any:
        return _run(found, inserted) if found in inserted else traced(found)

    args: Any = map_arg(node.args, operand)
    kwargs: Any = map_arg(node.kwargs, operand)
    function: Any = getattr(args[0], str(node.target)) if node.op == "call_method" else node.target
    return function(*(args[1:] if node.op == "call_method" else args), **kwargs)

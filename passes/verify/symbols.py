"""Sizes as the trace recorded them, and whether an argument of the pruned graph is such a size."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, TypeGuard

import torch
from torch import Tensor
from torch.fx import Node

from passes.verify.nodes import operator_name, traced

_ATTRIBUTES = frozenset({"shape", "dtype", "device", "layout", "ndim", "itemsize", "is_cuda"})


def _attribute(tensor: Tensor, name: str, default: Any = None) -> Any:
    """An attribute that depends on no element: `data` and its kin are tensors themselves."""
    if name not in _ATTRIBUTES:
        return None
    return tuple(tensor.shape) if name == "shape" else getattr(tensor, name)


_READS: Mapping[str, Callable[..., Any]] = {
    "size": lambda t, dim=None: tuple(t.shape) if dim is None else t.shape[dim],
    "sym_size": lambda t, dim=None: tuple(t.shape) if dim is None else t.shape[dim],
    "stride": lambda t, dim=None: tuple(t.stride()) if dim is None else t.stride(dim),
    "sym_stride": lambda t, dim=None: tuple(t.stride()) if dim is None else t.stride(dim),
    "numel": lambda t: t.numel(),
    "sym_numel": lambda t: t.numel(),
    "nelement": lambda t: t.numel(),
    "dim": lambda t: t.dim(),
    "ndimension": lambda t: t.dim(),
    "element_size": lambda t: t.element_size(),
    "is_floating_point": lambda t: t.is_floating_point(),
    "getattr": _attribute,
}


def traced_size(node: Node) -> Any:
    """What a node that reads only metadata evaluates to under the trace, or None if it is no such node."""
    if node.target is operator.getitem:
        whole, index = node.args
        sizes = traced_size(whole) if isinstance(whole, Node) else None
        return sizes[index] if isinstance(sizes, tuple) and _is_index(index, len(sizes)) else None
    read = _READS.get(operator_name(node))
    source = node.args[0] if node.args else node.kwargs.get("self", node.kwargs.get("input"))
    tensor = traced(source) if isinstance(source, Node) else None
    options = {name: value for name, value in node.kwargs.items() if name not in ("self", "input")}
    if read is None or not isinstance(tensor, Tensor):
        return None
    dims = [given for given in (*node.args[1:], *options.values()) if given is not None and not isinstance(given, str)]
    return read(tensor, *node.args[1:], **options) if all(_is_index(dim, tensor.dim()) for dim in dims) else None


def _is_index(index: Any, length: int) -> TypeGuard[int]:
    return isinstance(index, int) and -length <= index < length


def asserts_what_was_traced(node: Node) -> bool:
    """Whether `node` is an assertion about metadata alone, and the traced tensor has that metadata."""
    tensor = traced(node.args[0]) if node.args and isinstance(node.args[0], Node) else None
    if operator_name(node) != "_assert_tensor_metadata" or not isinstance(tensor, Tensor):
        return False
    asserted = {**dict(zip(("size", "stride", "dtype"), node.args[1:], strict=False)), **node.kwargs}
    found = {"size": tuple(tensor.shape), "stride": tuple(tensor.stride()), "dtype": tensor.dtype,
             "device": tensor.device, "layout": tensor.layout}  # fmt: skip
    return all(wanted is None or same_size(found[what], wanted) for what, wanted in asserted.items())


def same_size(expected: Any, given: Any) -> bool:
    """Whether the argument `given` evaluates to `expected`, symbols compared as expressions."""
    if isinstance(expected, tuple):
        return (
            isinstance(given, (list, tuple))
            and len(given) == len(expected)
            and all(same_size(one, other) for one, other in zip(expected, given, strict=True))
        )
    value = _evaluate(given)
    if isinstance(expected, torch.SymInt) or isinstance(value, torch.SymInt):
        return bool(expression(expected) == expression(value))
    return type(value) is type(expected) and bool(value == expected)


def expression(value: Any) -> Any:
    """A size as a number or an expression of symbols, which compare without a guard."""
    return value.node.expr if isinstance(value, torch.SymInt) else value


def _evaluate(given: Any) -> Any:
    if not isinstance(given, Node):
        return given
    if given.op == "placeholder":
        found = traced(given)
        return found if isinstance(found, torch.SymInt) else None
    if given.target in (operator.add, operator.mul, operator.floordiv):
        left, right = (_evaluate(argument) for argument in given.args)
        return None if left is None or right is None else given.target(left, right)
    return traced_size(given)

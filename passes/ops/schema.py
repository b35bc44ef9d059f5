"""Binds a node's arguments to the names of the schema that it calls, at every capture level.

The three spellings of one operator end at the same aten overload:

    call_function[torch.ops.aten.permute.default](x, [0, 2, 1, 3])     aten graph, exported graph
    call_function[torch.permute](x, (0, 2, 1, 3))                      Dynamo, symbolic_trace
    call_method[permute](x, 0, 2, 1, 3)                                Dynamo, symbolic_trace
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch._ops import OpOverload, OpOverloadPacket
from torch.fx import Node

from passes.ops.names import (
    ARGUMENT_SYNONYMS,
    OPERATOR_NAMES,
    PYTHON_CALLS,
    PYTHON_METHODS,
    Spelling,
)
from passes.ops.nki import KernelCall, is_kernel_call, is_kernel_wrapper, kernel_call
from passes.ops.signature import Parameter, signature


@dataclass(frozen=True)
class Call:
    """A node's call in terms of an operator.

    Attributes:
        node: the call.
        op: qualified operator name without overload, such as `aten::permute` or `python::getitem`; for any other
            Python function `function:`, its module and name, joined by `::`.
        overload: the overload that the arguments bind to, or None where the spelling has no schema of its own.
        bound: every argument name mapped to its node or constant, defaults filled in.
        kernel: the NKI kernel called, of a call through the higher-order operator `nki_kernel_wrapper`.
    """

    node: Node
    op: str
    overload: OpOverload | None
    bound: Mapping[str, Any]
    kernel: KernelCall | None = None

    @property
    def base_name(self) -> str:
        """Operator name without namespace: `permute`."""
        return base_name(self.op)

    @property
    def overloads(self) -> tuple[OpOverload, ...]:
        """The overload bound to, or every one of the operator where the spelling does not say which."""
        if self.op.startswith("function:") or self.kernel is not None:
            return ()
        return (self.overload,) if self.overload is not None else _aten_overloads(self.base_name)


def base_name(op: str) -> str:
    """`permute` of the qualified name `aten::permute`."""
    return op.rsplit("::", 1)[-1]


def resolve(node: Node) -> Call | None:
    """The call that `node` makes, or None where no schema or signature is known (then nothing is assumed of it)."""
    if node.op == "call_method":
        return _resolve_method(node, str(node.target))
    if node.op != "call_function":
        return None
    target: Any = node.target
    if is_kernel_call(node):
        return _resolve_kernel(node)
    if isinstance(target, OpOverload):
        return _bind(node, target)
    if isinstance(target, OpOverloadPacket):
        return _first_binding(node, _overloads(target))
    if (spelling := PYTHON_CALLS.get(target)) is not None:
        return _bind_spelling(node, spelling)
    if (name := aten_name(target)) is not None:
        return _first_binding(node, _aten_overloads(name))
    return _bind_signature(node, target)


def operator_name(node: Node) -> str | None:
    """The name that `resolve(node)` gives the operator, read off the target alone.

    None where the target does not say it. A call whose arguments do not bind has a name here and is not resolved.
    """
    if node.op == "call_method":
        return _method_name(str(node.target))
    if node.op != "call_function" or is_kernel_wrapper(node.target):
        return None
    target: Any = node.target
    if isinstance(target, OpOverload):
        return signature(target).op
    if isinstance(target, OpOverloadPacket):
        return next((signature(overload).op for overload in _overloads(target)), None)
    if (spelling := PYTHON_CALLS.get(target)) is not None:
        return spelling[0]
    name = aten_name(target)
    return _function_name(target) if name is None else f"aten::{name}"


def _method_name(name: str) -> str:
    if (spelling := PYTHON_METHODS.get(name)) is not None:
        return spelling[0]
    return f"aten::{_without_underscores(name)}"


def operand_nodes(value: Any) -> Iterator[Node]:
    """Every node inside an argument: itself, or inside lists, tuples, dicts and slices."""
    if isinstance(value, Node):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from operand_nodes(item)
    elif isinstance(value, dict):
        yield from operand_nodes(list(value.values()))
    elif isinstance(value, slice):
        yield from operand_nodes((value.start, value.stop, value.step))


def aten_name(target: Callable[..., Any]) -> str | None:
    """Name of the aten operator that a Python operator or a torch builtin calls, or None for any other callable."""
    if (known := OPERATOR_NAMES.get(target)) is not None:
        return known
    name = getattr(target, "__name__", "")
    is_torch = inspect.isbuiltin(target) and any(getattr(home, name, None) is target for home in _HOMES)
    return name if is_torch else None


_HOMES = (torch, torch._C._nn)


def _resolve_method(node: Node, name: str) -> Call | None:
    if (spelling := PYTHON_METHODS.get(name)) is not None:
        return _bind_spelling(node, spelling)
    return _first_binding(node, _aten_overloads(_without_underscores(name)))


def _without_underscores(name: str) -> str:
    """`__add__` is spelled `add`; `add_` is another operator."""
    return name.strip("_") if name.startswith("__") else name


def _resolve_kernel(node: Node) -> Call | None:
    kernel = kernel_call(node)
    return None if kernel is None else Call(node, f"nki::{kernel.name}", None, kernel.bound, kernel)


def _bind_spelling(node: Node, spelling: Spelling) -> Call | None:
    op, names = spelling
    if len(node.args) > len(names):
        return None
    return Call(node, op, None, {**dict(zip(names, node.args, strict=False)), **_renamed(node.kwargs, names)})


def _first_binding(node: Node, overloads: tuple[OpOverload, ...]) -> Call | None:
    bindings = (_bind(node, overload) for overload in overloads)
    return next((binding for binding in bindings if binding is not None), None)


@cache
def _aten_overloads(name: str) -> tuple[OpOverload, ...]:
    packet = getattr(torch.ops.aten, name, None) if name.isidentifier() else None
    return () if packet is None else _overloads(packet)


@cache
def _overloads(packet: OpOverloadPacket) -> tuple[OpOverload, ...]:
    return tuple(getattr(packet, name) for name in packet.overloads())  # type: ignore[no-untyped-call]


def _bind(node: Node, overload: OpOverload) -> Call | None:
    """Binds to one overload. `torch.full(%size, 2.0)` gives its sizes as one node, not as separate numbers."""
    if node.target is overload:
        return _bind_args(node, overload, node.args)
    collected = _collect_variadic(node.args, signature(overload).int_list_at)
    return _bind_args(node, overload, collected) or _bind_args(node, overload, node.args)


def _bind_args(node: Node, overload: OpOverload, args: tuple[Any, ...]) -> Call | None:
    known = signature(overload)
    given = dict(zip(known.positional, args, strict=False))
    if len(args) > len(known.positional):
        return None
    if node.kwargs:
        keywords = _renamed(node.kwargs, known.parameters)
        if given.keys() & keywords.keys() or keywords.keys() - known.parameters.keys():
            return None
        given.update(keywords)
    fits = node.target is overload or all(_fits(found, given) for found in known.parameters.values())
    return Call(node, known.op, overload, {**known.defaults, **given}) if fits else None


def _fits(parameter: Parameter, given: Mapping[str, Any]) -> bool:
    if parameter.name not in given:
        return not parameter.required
    return _accepts(parameter, given[parameter.name])


def _renamed(kwargs: Mapping[str, Any], names: Container[str]) -> dict[str, Any]:
    return {key if key in names else ARGUMENT_SYNONYMS.get(key, key): value for key, value in kwargs.items()}


def _collect_variadic(args: tuple[Any, ...], at: int | None) -> tuple[Any, ...]:
    """Folds `x.permute(0, 2, 1)` into `x.permute([0, 2, 1])`, as torch's argument parser does."""
    if at is None or len(args) <= at or args[at] is None or isinstance(args[at], (list, tuple)):
        return args
    return (*args[:at], list(args[at:]))


def _accepts(parameter: Parameter, value: Any) -> bool:
    """Whether an argument can take `value`. A node is taken to fit any scalar or tensor."""
    if parameter.element is not None:
        return value is None or _accepts(parameter.element, value)
    if parameter.is_int_list:
        sizes = value if isinstance(value, (list, tuple)) else [value]
        return all(isinstance(size, (int, torch.SymInt, Node)) for size in sizes)
    if parameter.kind.startswith("List["):
        return isinstance(value, (list, tuple, Node))
    expected = _PYTHON_TYPES.get(parameter.kind, object)
    return isinstance(value, Node) or isinstance(value, expected)  # noqa: SIM101


_PYTHON_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "Tensor": (torch.Tensor, int, float, complex),  # make_fx records `x + 1` as add.Tensor(x, 1)
    "int": (int, torch.SymInt, torch.dtype, torch.layout, torch.memory_format),
    "SymInt": (int, torch.SymInt),
    "float": (int, float, torch.SymFloat),
    "number": (int, float, complex, torch.SymInt, torch.SymFloat),
    "bool": bool,
    "str": str,
    "Device": (torch.device, str, int),
}


def _bind_signature(node: Node, target: Callable[..., Any]) -> Call | None:
    try:
        bound = inspect.signature(target).bind(*node.args, **node.kwargs)
    except (TypeError, ValueError):
        return None
    bound.apply_defaults()
    return Call(node, _function_name(target), None, dict(bound.arguments))


def _function_name(target: Callable[..., Any]) -> str:
    return f"function:{getattr(target, '__module__', '')}::{getattr(target, '__name__', type(target).__name__)}"

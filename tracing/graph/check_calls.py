"""Calls that torch would not accept, by the schema of the operator called: passes rely on a call's form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch._ops import HigherOrderOperator, OpOverload

from tracing.graph.check_values import fail
from tracing.graph.document import Const, Group, Node, Ref, Value
from tracing.graph.escape import quoted
from tracing.graph.targets import object_name

_NUMBERS = ("int", "float", "complex", "bool", "sym")
_CONSTANTS = {  # the kinds of constant that an argument of a type can be; a dtype is an int in a schema
    "IntType": ("int", "bool", "sym", "dtype", "layout", "memory_format"),
    "SymIntType": ("int", "bool", "sym"),
    "BoolType": ("bool", "int", "sym"),
    "SymBoolType": ("bool", "int", "sym"),
    "FloatType": _NUMBERS,
    "NumberType": _NUMBERS,
    "StringType": ("str",),
    "DeviceObjType": ("device", "str"),
}
_LISTS = {  # where a higher-order operator takes operands in a list
    "hop.cond": (3,),
    "hop.while_loop": (2, 3),
    "hop.scan": (1, 2, 3),
    "hop.invoke_subgraph": (),
}


def check_call(node: Node, target: object) -> None:
    """Raise DeadkvError unless the arguments of `node` are those of the operator `target`, as far as form tells.

    Every operand has a place in the schema, every argument without a default is given, and a tensor is a node, or a
    number where torch makes a tensor of one (`aten.add.Tensor(%x, 1)`).
    """
    if isinstance(target, HigherOrderOperator):
        _check_higher_order(node, object_name(target))
    elif isinstance(target, OpOverload):
        _check_operator(node, target._schema)


def _check_higher_order(node: Node, name: str) -> None:
    lists = [value for place, value in enumerate(node.args) if place in _LISTS.get(name, ())]
    if (name in _LISTS and not node.args) or not all(isinstance(value, Group) for value in lists):
        raise fail(f"node {node.name}", f"{name} takes a graph first and its operands in lists")


def _check_operator(node: Node, schema: Any) -> None:
    positional = [argument.name for argument in schema.arguments if not argument.kwarg_only]
    given = dict(zip(positional, node.args, strict=False))
    if len(node.args) > len(positional) or not given.keys().isdisjoint(key for key, _ in node.kwargs):
        raise _misfit(node, "more arguments than the operator has", schema)
    given.update(node.kwargs)
    known = {argument.name for argument in schema.arguments}
    for key, _ in node.kwargs:
        if key not in known:
            raise _misfit(node, f"no argument is called {quoted(key)}", schema)
    as_tensor = torch._C._should_allow_numbers_as_tensors(schema.name.partition("::")[2])
    for argument in schema.arguments:
        if argument.name not in given and not argument.has_default_value():
            raise _misfit(node, f"the argument {argument.name!r} is missing", schema)
        numbers = {"TensorType": as_tensor, "ListType": argument.N is not None}
        if argument.name in given and not _fits(given[argument.name], argument.type, numbers):
            raise _misfit(node, f"the argument {argument.name!r} cannot be that constant", schema)


def _fits(value: Value, wanted: Any, numbers: Mapping[str, bool]) -> bool:
    """Whether a value can be of a schema's type; `numbers` says for which types one number will do."""
    if isinstance(value, Ref):
        return True
    kind = wanted.kind()
    if kind == "OptionalType":
        return value == Const("none", "None") or _fits(value, wanted.getElementType(), numbers)
    if kind == "ListType" and isinstance(value, Group):
        return all(_fits(item, wanted.getElementType(), numbers) for item in value.items)
    if kind in numbers:
        return numbers[kind] and isinstance(value, Const) and value.kind in _NUMBERS
    return kind not in _CONSTANTS or (isinstance(value, Const) and value.kind in _CONSTANTS[kind])


def _misfit(node: Node, problem: str, schema: Any) -> Exception:
    return fail(f"node {node.name}", f"{problem}: torch {torch.__version__} has {schema}")

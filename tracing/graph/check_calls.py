"""Calls that torch would not accept, by the schema of the operator called: passes rely on a call's form."""

from __future__ import annotations

from typing import Any

import torch
from torch._ops import OpOverload

from tracing.graph.check_values import fail
from tracing.graph.document import Const, Group, Node, Ref, Value
from tracing.graph.escape import quoted

_SINGLE = ("IntType", "FloatType", "NumberType", "BoolType", "StringType")
_NUMBERS = ("int", "float", "complex", "bool", "sym")


def check_call(node: Node, target: object) -> None:
    """Raise DeadkvError unless the arguments of `node` are those of the operator `target`, as far as form tells.

    Every operand has a place in the schema, every argument without a default is given, and a tensor is a node, or a
    number where torch makes a tensor of one (`aten.add.Tensor(%x, 1)`).
    """
    if not isinstance(target, OpOverload):
        return
    schema: Any = target._schema
    positional = [argument.name for argument in schema.arguments if not argument.kwarg_only]
    given = dict(zip(positional, node.args, strict=False))
    if len(node.args) > len(positional) or not given.keys().isdisjoint(key for key, _ in node.kwargs):
        raise _misfit(node, "more arguments than the operator has", schema)
    given.update(node.kwargs)
    known = {argument.name for argument in schema.arguments}
    numbers = torch._C._should_allow_numbers_as_tensors(schema.name.partition("::")[2])
    for key, _ in node.kwargs:
        if key not in known:
            raise _misfit(node, f"no argument is called {quoted(key)}", schema)
    for argument in schema.arguments:
        if argument.name not in given and not argument.has_default_value():
            raise _misfit(node, f"the argument {argument.name!r} is missing", schema)
        if argument.name in given and not _fits(given[argument.name], argument.type, numbers):
            raise _misfit(node, f"the argument {argument.name!r} cannot be that constant", schema)


def _fits(value: Value, wanted: Any, numbers: bool) -> bool:
    if isinstance(value, Ref):
        return True
    if wanted.kind() == "OptionalType":
        return value == Const("none", "None") or _fits(value, wanted.getElementType(), numbers)
    if wanted.kind() == "TensorType":
        return numbers and isinstance(value, Const) and value.kind in _NUMBERS
    return value != Const("none", "None") and not (isinstance(value, Group) and wanted.kind() in _SINGLE)


def _misfit(node: Node, problem: str, schema: Any) -> Exception:
    return fail(f"node {node.name}", f"{problem}: torch {torch.__version__} has {schema}")

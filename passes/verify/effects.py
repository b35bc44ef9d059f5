"""What a call does besides computing its value, by its schema, its contract or the graphs that it calls."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch._ops import OpOverload
from torch.fx import Node

from passes.contracts import Contract, Contracts
from passes.ops.schema import base_name, operand_nodes, resolve
from passes.verify.nodes import operator_name
from passes.verify.symbols import asserts_what_was_traced

_PURE_NAMESPACES = frozenset({"aten"})
_COLLECTIVES = frozenset("_c10d_functional _c10d_functional_autograd c10d_functional c10d _dtensor".split())
_SILENT_EFFECTS = frozenset(
    "batch_norm native_batch_norm cudnn_batch_norm miopen_batch_norm instance_norm _print".split()
)
_ASSERTIONS = ("_assert", "_functional_assert", "sym_constrain")
_AUGMENTED = "iadd isub imul itruediv ifloordiv imod ipow iand ior ixor ilshift irshift imatmul".split()
_IN_PLACE_OPERATORS = frozenset({operator.setitem, operator.delitem, *(getattr(operator, name) for name in _AUGMENTED)})
_PURE_METHODS = frozenset(
    "float double half bfloat16 int long short bool char byte cpu type dim size ndimension nelement "
    "element_size".split()
)
_PURE_FUNCTIONS = frozenset(
    {F.softmax, F.embedding, F.silu, F.relu, F.dropout, F.layer_norm, F.rms_norm, torch.split, torch.sym_int, getattr,
     operator.getitem, operator.floordiv, operator.truediv, operator.mod, operator.and_, operator.or_, operator.xor,
     operator.invert, operator.lshift, operator.rshift, operator.pos}
)  # fmt: skip


def flaw_of(node: Node, contracts: Contracts) -> str | None:
    """Why a call of an operator, function or method must not be removed whatever it writes; None if it may."""
    if node.op == "call_method":
        known = str(node.target) in _PURE_METHODS or bool(schemas(node))
        return _schema_flaw(node) if known else f"nothing is known of the method {node.target}"
    if node.op != "call_function":
        return f"nothing is known of the {node.op} {node.target}"
    if getattr(node.target, "namespace", None) in _COLLECTIVES:
        return "it is a collective, in which every rank must take part"
    if contract_of(node, contracts) is not None:
        return _schema_flaw(node)
    if isinstance(node.target, OpOverload) and node.target.namespace not in _PURE_NAMESPACES:
        return f"nothing is known of the operator {node.target}"
    if option(node, "max_norm"):
        return "it scales its weight in place"
    if node.target is F.dropout and option(node, "training") is not False:
        return "it draws random numbers"
    known = bool(schemas(node)) or node.target in _PURE_FUNCTIONS or node.target in _IN_PLACE_OPERATORS
    return _schema_flaw(node) if known else f"nothing is known of the function {node.target}"


@cache
def only_computes(overload: OpOverload) -> bool:
    """Whether each call of an operator of torch's own, whatever its arguments, does nothing but compute its value."""
    name = base_name(overload._schema.name)
    is_special = name in _SILENT_EFFECTS or name.startswith(_ASSERTIONS)
    has_tag = any(tag in overload.tags for tag in (torch.Tag.inplace_view, torch.Tag.nondeterministic_seeded))
    writes = any(map(_is_written, overload._schema.arguments))
    return overload.namespace in _PURE_NAMESPACES and not (is_special or has_tag or writes)


def contract_of(node: Node, contracts: Contracts) -> Contract | None:
    """The contract of what a node calls, which says all that the call does."""
    return contracts.find(resolve(node))


def _schema_flaw(node: Node) -> str | None:
    name = operator_name(node)
    if name.startswith(_ASSERTIONS) and not asserts_what_was_traced(node):
        return "it asserts a condition that the trace does not prove"
    if name in _SILENT_EFFECTS:
        return "it has an effect that its schema does not show"
    for overload in schemas(node):
        if torch.Tag.inplace_view in overload.tags:
            return "it changes the shape of a tensor in place"
        if torch.Tag.nondeterministic_seeded in overload.tags and not _is_deterministic(node, name):
            return "it draws random numbers"
    return None


def _is_deterministic(node: Node, name: str) -> bool:
    if name == "scaled_dot_product_attention":
        rate = node.kwargs.get("dropout_p", node.args[4] if len(node.args) > 4 else 0.0)
        return isinstance(rate, (int, float)) and rate == 0
    return name == "dropout" and (node.args[2:3] == (False,) or node.kwargs.get("train") is False)


def schemas(node: Node) -> tuple[OpOverload, ...]:
    """The overloads that the call may reach; those that write `out` only if the call gives one."""
    if isinstance(node.target, OpOverload):
        return (node.target,)
    if node.op == "call_function" and not _is_torch_builtin(node.target):
        return ()
    packet = getattr(torch.ops.aten, operator_name(node).strip("_") if _is_dunder(node) else operator_name(node), None)
    overloads = () if packet is None else tuple(getattr(packet, name) for name in packet.overloads())
    return tuple(o for o in overloads if not _is_named(o) and ("out" in node.kwargs or not _has_out(o)))


def _is_named(overload: OpOverload) -> bool:
    """Whether the overload takes dimension names, which older torch releases have and no traced graph uses."""
    return "dimname" in overload._overloadname.lower()


def _has_out(overload: OpOverload) -> bool:
    """Whether the overload writes a keyword argument, such as `add.out(..., *, out)`."""
    return any(argument.kwarg_only and _is_written(argument) for argument in overload._schema.arguments)


def _is_written(argument: Any) -> bool:
    """Whether the schema marks an argument as written in place."""
    return argument.alias_info is not None and bool(argument.alias_info.is_write)


def _is_dunder(node: Node) -> bool:
    return operator_name(node).startswith("__")


def _is_torch_builtin(target: Any) -> bool:
    homes = (torch, torch._C._nn, operator)
    return inspect.isbuiltin(target) and any(getattr(home, target.__name__, None) is target for home in homes)


def written(node: Node, contracts: Contracts) -> Iterator[Node]:
    """The operands whose storage a call writes."""
    call = resolve(node)
    contract = contracts.find(call)
    if call is not None and contract is not None:
        for name in sorted(contract.operands_written(call)):
            yield from operand_nodes(call.bound[name])
        return
    if node.target in _IN_PLACE_OPERATORS or option(node, "inplace"):
        yield from first_operand(node)
    for overload in schemas(node):
        for index, argument in enumerate(overload._schema.arguments):
            if _is_written(argument):
                given = node.kwargs.get(argument.name, node.args[index] if index < len(node.args) else None)
                yield from operand_nodes(given)


def option(node: Node, name: str) -> Any:
    """The value of an option of a function written in Python, by name or by position."""
    places = _OPTIONS.get(node.target, {})
    if name in node.kwargs or name not in places:
        return node.kwargs.get(name)
    return node.args[places[name]] if len(node.args) > places[name] else None


_OPTIONS: Mapping[Any, Mapping[str, int]] = {
    F.silu: {"inplace": 1},
    F.relu: {"inplace": 1},
    F.embedding: {"max_norm": 3},
    F.dropout: {"training": 2, "inplace": 3},
}
"""Position of each option by which a function of torch.nn.functional writes an operand."""


def first_operand(node: Node) -> Iterator[Node]:
    """The nodes in the first argument of a call."""
    yield from operand_nodes(node.args[0] if node.args else next(iter(node.kwargs.values()), None))

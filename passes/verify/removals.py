"""Every removed node must be without effect: a pure call, an attribute read, or a write to memory that went with it."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Iterator
from typing import Any

import torch
from torch._ops import OpOverload
from torch.fx import Node

from passes.verify.correspondence import Correspondence
from passes.verify.nodes import operator_name, traced
from passes.verify.symbols import asserts_what_was_traced
from passes.verify.trail import reject

_PURE_NAMESPACES = frozenset({"aten"})
_SILENT_WRITES = frozenset("batch_norm native_batch_norm cudnn_batch_norm miopen_batch_norm instance_norm".split())
_IN_PLACE_OPERATORS = frozenset({operator.setitem, operator.delitem})
_PURE_METHODS = frozenset(
    "float double half bfloat16 int long short bool char byte cpu type dim size ndimension nelement "
    "element_size".split()
)
_PURE_FUNCTIONS = frozenset({torch.nn.functional.softmax, torch.nn.functional.embedding, torch.nn.functional.silu,
                             torch.nn.functional.relu, torch.nn.functional.layer_norm, torch.nn.functional.rms_norm,
                             torch.split, getattr, torch.sym_int, operator.getitem, operator.floordiv,
                             operator.truediv, operator.mod, operator.and_, operator.or_, operator.xor,
                             operator.invert})  # fmt: skip
_FRESH_COMPOSITES = frozenset("take_along_dim matmul linear softmax layer_norm rms_norm".split())
_VIEWS = frozenset(
    "view reshape _unsafe_view permute transpose t squeeze unsqueeze flatten unflatten expand slice select "
    "narrow getitem detach alias contiguous to unsafe_split "
    "unsafe_split_with_sizes lift_fresh split chunk unbind as_strided movedim".split()
)


def check_removals(pair: Correspondence) -> None:
    """Rejects a removed node that does something besides computing its value."""
    gone = frozenset(pair.removed)
    for node in pair.removed:
        if node.op in ("get_attr", "placeholder"):
            continue
        if (flaw := _flaw(node)) is not None:
            reject(node, flaw)
        for target in _written(node):
            root = _surviving_root(target, gone)
            if root is not None:
                reject(node, f"it writes the storage of %{root.name}, which outlives it")


def _flaw(node: Node) -> str | None:
    if node.op == "call_method":
        known = str(node.target) in _PURE_METHODS or bool(_schemas(node))
        return _schema_flaw(node) if known else f"nothing is known of the method {node.target}"
    if node.op != "call_function":
        return f"nothing is known of the {node.op} {node.target}"
    if isinstance(node.target, OpOverload) and node.target.namespace not in _PURE_NAMESPACES:
        return f"nothing is known of the operator {node.target}"
    known = bool(_schemas(node)) or node.target in _PURE_FUNCTIONS or node.target in _IN_PLACE_OPERATORS
    return _schema_flaw(node) if known else f"nothing is known of the function {node.target}"


def _schema_flaw(node: Node) -> str | None:
    name = operator_name(node)
    if name.startswith(("_assert", "_functional_assert", "sym_constrain")) and not asserts_what_was_traced(node):
        return "it asserts a condition that the trace does not prove"
    if name in _SILENT_WRITES or name == "_print":
        return "it has an effect that its schema does not show"
    for overload in _schemas(node):
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


def _schemas(node: Node) -> tuple[OpOverload, ...]:
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
    return any(a.kwarg_only and a.alias_info is not None and a.alias_info.is_write for a in overload._schema.arguments)


def _is_dunder(node: Node) -> bool:
    return operator_name(node).startswith("__")


def _is_torch_builtin(target: Any) -> bool:
    homes = (torch, torch._C._nn, operator)
    return inspect.isbuiltin(target) and any(getattr(home, target.__name__, None) is target for home in homes)


def _written(node: Node) -> Iterator[Node]:
    if node.target in _IN_PLACE_OPERATORS or _is_in_place_operator(node) or node.kwargs.get("inplace"):
        yield from _first(node)
    for overload in _schemas(node):
        for index, argument in enumerate(overload._schema.arguments):
            if argument.alias_info is not None and argument.alias_info.is_write:
                given = node.kwargs.get(argument.name, node.args[index] if index < len(node.args) else None)
                yield from (item for item in _flat(given))


def _is_in_place_operator(node: Node) -> bool:
    target = node.target
    return getattr(operator, getattr(target, "__name__", ""), None) is target and target.__name__ in _AUGMENTED


_AUGMENTED = frozenset("iadd isub imul itruediv ifloordiv imod ipow iand ior ixor ilshift irshift imatmul".split())


def _first(node: Node) -> Iterator[Node]:
    yield from _flat(node.args[0] if node.args else next(iter(node.kwargs.values())))


def _flat(value: Any) -> Iterator[Node]:
    if isinstance(value, Node):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _flat(item)


def _surviving_root(target: Node, gone: frozenset[Node]) -> Node | None:
    """A node that shows that the storage of `target` outlives the removal: it is kept, or it does not allocate.

    Climbs from `target` through views and in-place calls to where its storage comes from. If every place that
    allocates it is gone, so is every use of it, or `check_edits` has judged that use.
    """
    pending, seen = [target], {target}
    while pending:
        node = pending.pop()
        operands = [] if _allocates(node) else _may_share(node)
        if node not in gone or not (operands or _allocates(node)):
            return node
        pending += [operand for operand in operands if operand not in seen]
        seen.update(operands)
    return None


def _may_share(node: Node) -> list[Node]:
    """The operands whose storage a call may hand on: the first of a view or of an in-place call, else any."""
    if operator_name(node) in _VIEWS or any(_written(node)):
        return list(_first(node))
    return node.all_input_nodes


def _allocates(node: Node) -> bool:
    if node.op not in ("call_function", "call_method"):
        return False
    if node.target is operator.getitem:
        return _is_advanced(node.args[1])
    overloads = _schemas(node)
    return bool(overloads) and all(_returns_new_storage(overload, operator_name(node)) for overload in overloads)


def _returns_new_storage(overload: OpOverload, name: str) -> bool:
    """By its schema, which only composite operators and the views listed above may contradict."""
    if name in _VIEWS or any(returned.alias_info is not None for returned in overload._schema.returns):
        return False
    qualified = overload.name()  # type: ignore[no-untyped-call]
    composite = torch._C._dispatch_has_kernel(qualified) and torch._C._dispatch_has_kernel_for_dispatch_key(
        qualified, "CompositeImplicitAutograd"
    )
    return name in _FRESH_COMPOSITES or not composite


def _is_advanced(index: Any) -> bool:
    found = [traced(node) for node in _flat(index)]
    return any(isinstance(value, torch.Tensor) and value.dim() > 0 for value in found)

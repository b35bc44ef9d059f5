"""Where the storage of a value comes from: allocated by calls that are gone, or known to something that stays."""

from __future__ import annotations

import operator
from collections.abc import Collection
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch._ops import OpOverload
from torch.fx import GraphModule, Node

from passes.contracts import Contracts
from passes.ops.schema import operand_nodes
from passes.regions.calls import Body, RegionCall, bind_region
from passes.verify.effects import contract_of, first_operand, option, schemas, written
from passes.verify.nodes import operator_name, traced

_FRESH_COMPOSITES = frozenset("where take_along_dim matmul linear softmax layer_norm rms_norm".split())
_VIEWS = frozenset(
    "view reshape _unsafe_view permute transpose t squeeze unsqueeze flatten unflatten expand slice select "
    "narrow getitem detach alias contiguous to unsafe_split "
    "unsafe_split_with_sizes lift_fresh split chunk unbind as_strided movedim view_as "
    "reshape_as expand_as type_as".split()
)
"""The result may share the first operand's storage, and no other's."""

_FRESH_FUNCTIONS = frozenset(
    {F.embedding, F.softmax, F.layer_norm, F.rms_norm, F.relu, F.silu, operator.truediv, operator.floordiv,
     operator.mod, operator.and_, operator.or_, operator.xor, operator.invert, operator.lshift, operator.rshift}
)  # fmt: skip
"""Functions written in Python whose result is new, unless they are told to work in place."""

Roots = dict[Node, Node | None]


def surviving_roots(module: GraphModule, gone: Collection[Node], contracts: Contracts) -> Roots:
    """For each node, one that shows that its storage outlives `gone`: it is kept, or it does not allocate; else None.

    Storage passes from operand to result through views and in-place calls. If every call that allocates it is gone,
    so is every use of it, or the uses that stay are judged one by one.
    """
    roots: Roots = {}
    for node in module.graph.nodes:
        operands = sources(node, module, contracts) if node in gone else None
        if operands is None:
            roots[node] = node
        else:
            roots[node] = next((found for operand in operands if (found := roots[operand]) is not None), None)
    return roots


def sources(node: Node, module: GraphModule, contracts: Contracts) -> list[Node] | None:
    """The operands whose storage the value of `node` may share; None for storage from outside the graph."""
    if node.op not in ("call_function", "call_method", "call_module"):
        return None
    if (region := bind_region(node, module)) is not None:
        return _region_sources(region, contracts)
    if allocates(node):
        return []
    hands_on_first = operator_name(node) in _VIEWS or any(written(node, contracts))
    if hands_on_first and contract_of(node, contracts) is None:
        return list(first_operand(node))
    return node.all_input_nodes or None


def _region_sources(call: RegionCall, contracts: Contracts) -> list[Node] | None:
    """The operands whose storage a result of nested graphs may share; None if it may be a parameter's."""
    found = [(body, root) for body in call.bodies for root in _result_roots(body, contracts)]
    if any(root.op != "placeholder" for _, root in found):
        return None
    shared = {body.placeholders.index(root) for body, root in found}
    if call.carries and shared:
        shared = set(range(len(call.operands)))
    return [node for index in sorted(shared) for node in operand_nodes(call.operands[index].value)]


def _result_roots(body: Body, contracts: Contracts) -> frozenset[Node]:
    """The inputs and parameters of a nested graph whose storage one of its results may share."""
    roots: dict[Node, frozenset[Node]] = {}
    for node in body.module.graph.nodes:
        operands = sources(node, body.module, contracts)
        known = frozenset({node}) if operands is None else frozenset()
        roots[node] = known.union(*(roots[operand] for operand in operands or ()))
    return frozenset().union(*(roots[node] for _, value in body.results for node in operand_nodes(value)))


def allocates(node: Node) -> bool:
    if node.target is operator.getitem:
        return _is_advanced(node.args[1])
    if node.target in _FRESH_FUNCTIONS:
        return not option(node, "inplace")
    overloads = schemas(node)
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
    found = [traced(node) for node in operand_nodes(index)]
    return any(isinstance(value, torch.Tensor) and value.dim() > 0 for value in found)

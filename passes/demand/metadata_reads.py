"""Calls that read metadata of a tensor and none of its elements; each folds to what the trace recorded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor
from torch._ops import OpOverload
from torch.fx import Node

from passes import metadata
from passes.demand.lattice import Demand, Transfer
from passes.demand.shapes import ShapeRoots
from passes.ops.effects import METADATA_ATTRIBUTES
from passes.ops.names import GETATTR
from passes.ops.schema import Call
from passes.rewrites import Fold


def _size(tensor: Tensor, bound: Mapping[str, Any]) -> Any:
    dim = bound.get("dim")
    return tuple(tensor.shape) if dim is None else tensor.shape[dim]


def _stride(tensor: Tensor, bound: Mapping[str, Any]) -> Any:
    dim = bound.get("dim")
    return tuple(tensor.stride()) if dim is None else tensor.stride(dim)


def _attribute(tensor: Tensor, bound: Mapping[str, Any]) -> Any:
    found = getattr(tensor, bound["name"])
    return tuple(found) if bound["name"] == "shape" else found


METADATA_READS: Mapping[str, Callable[[Tensor, Mapping[str, Any]], Any]] = {
    "aten::size": _size,
    "aten::sym_size": _size,
    "aten::stride": _stride,
    "aten::sym_stride": _stride,
    "aten::numel": lambda tensor, bound: tensor.numel(),
    "aten::sym_numel": lambda tensor, bound: tensor.numel(),
    "aten::dim": lambda tensor, bound: tensor.dim(),
    "aten::element_size": lambda tensor, bound: tensor.element_size(),
    "aten::is_floating_point": lambda tensor, bound: tensor.is_floating_point(),
    GETATTR: _attribute,
}
"""Operator to the value that it reads off the traced tensor."""


def is_metadata_read(call: Call) -> bool:
    """Whether `call` depends on no element of its operand."""
    if call.op == GETATTR:
        return call.bound.get("name") in METADATA_ATTRIBUTES and isinstance(call.bound["self"], Node)
    return call.op in METADATA_READS


def read_metadata(call: Call, roots: ShapeRoots) -> Transfer:
    """`sym_size(%x, 0)` needs only the shape of `%x`. Plain DCE keeps `%x` and all that computes it."""
    source = call.bound["self"]
    tensor = metadata.traced_tensor(source)
    if tensor is None or not _is_dim(call.bound.get("dim"), tensor):
        return Transfer(
            [(source, Demand.DATA)], refusals={source: f"the shape of %{source.name} is read but was not traced"}
        )
    found = METADATA_READS[call.op](tensor, call.bound)
    value = _literal(found, roots, aten=isinstance(call.node.target, OpOverload))
    if value is None:
        return Transfer(
            [(source, Demand.DATA)], refusals={source: f"the size {found} is no function of the inputs' sizes"}
        )
    return Transfer([(source, Demand.SHAPE)], (Fold(call.node, (source,), value, "shape_only"),))


def _is_dim(dim: Any, tensor: Tensor) -> bool:
    """Whether `dim` is None, for all, or a constant that names a dimension: not a node, and none that is not there."""
    return dim is None or (isinstance(dim, int) and -tensor.dim() <= dim < tensor.dim())


def _literal(found: Any, roots: ShapeRoots, *, aten: bool) -> Any:
    if not isinstance(found, tuple):
        return roots.term(found, aten=aten)
    terms = roots.terms(found, aten=aten)
    return None if terms is None else tuple(terms)

"""Assertions about metadata that the trace has already proven; they read no element."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from passes import metadata
from passes.demand.lattice import Demand, Transfer
from passes.demand.shapes import ShapeRoots
from passes.ops.schema import Call
from passes.rewrites import Drop

_ASSERTED: Mapping[str, Callable[[Tensor], Any]] = {
    "size": lambda tensor: list(tensor.shape),
    "stride": lambda tensor: list(tensor.stride()),
    "dtype": lambda tensor: tensor.dtype,
    "device": lambda tensor: tensor.device,
    "layout": lambda tensor: tensor.layout,
}


def metadata_assert(call: Call, roots: ShapeRoots) -> Transfer:
    """`_assert_tensor_metadata(%x, dtype=bfloat16)`, if `%x` was traced as bfloat16. Plain DCE keeps it and `%x`.

    torch.export records one such assertion for each cast. Must stay: an assertion that the trace does not prove, and
    any assertion about elements, such as `_assert_async`.
    """
    source = call.bound["a"]
    tensor = metadata.traced_tensor(source)
    proven = tensor is not None and all(_holds(tensor, name, call.bound.get(name)) for name in _ASSERTED)
    if not proven:
        return Transfer(
            [(source, Demand.DATA)], refusals={source: f"the trace does not prove what %{call.node.name} asserts"}
        )
    return Transfer([(source, Demand.SHAPE)], (Drop(call.node, (source,), "assert_only"),))


def _holds(tensor: Tensor, name: str, asserted: Any) -> bool:
    if asserted is None:
        return True
    found = _ASSERTED[name](tensor)
    is_static = all(isinstance(size, int) for size in found) if isinstance(found, list) else True
    return bool(is_static and found == (list(asserted) if isinstance(found, list) else asserted))

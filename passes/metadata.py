"""What tracing recorded about a node's value: shapes, dtypes and symbols, read from FakeTensors only.

A shape may be folded into the graph only if the graph is specialized to it. That is true of the FakeTensors
that make_fx, torch.export (`meta["val"]`) and Dynamo (`meta["example_value"]`) leave behind: the trace was made,
and where needed guarded, for exactly these shapes. It is not true of `meta["tensor_meta"]`, which
`torch.fx.passes.shape_prop.ShapeProp` fills from one example run of a graph that works for other shapes too.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.fx import Node
from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols

_INTS = frozenset({int})
_KEYS = ("val", "example_value")


def value(node: Node) -> Any:
    """The recorded value of `node` (FakeTensor, SymInt, number, or a tuple of these), or None."""
    for key in _KEYS:
        if key in node.meta:
            return node.meta[key]
    return None


def fake(node: Node) -> FakeTensor | None:
    """The recorded FakeTensor of `node`, or None if its value is no tensor or was not recorded."""
    found = value(node)
    return found if isinstance(found, FakeTensor) else None


def traced_tensor(node: Node) -> FakeTensor | None:
    """The FakeTensor of `node` if its whole layout is known from the inputs' shapes, else None.

    A shape with an unbacked symbol comes from data (`nonzero`, `item`), so no constant can stand for it.
    """
    tensor = fake(node)
    if tensor is None or tensor.layout is not torch.strided or free_unbacked_symbols(tensor):
        return None
    return tensor


def dense_bytes(node: Node) -> int | None:
    """Bytes of the tensor that `node` yields if it were stored densely, or None for an unknown or symbolic size."""
    tensor = fake(node)
    if tensor is None or not all(isinstance(size, int) for size in tensor.shape):
        return None
    return tensor.numel() * tensor.element_size()


def static_layout(node: Node) -> Hashable | None:
    """Shape, strides, dtype and device of the FakeTensor of `node`; None without one, or with a symbolic size."""
    tensor = fake(node)
    if tensor is None:
        return None
    shape, strides = tuple(tensor.shape), tensor.stride()
    is_static = _INTS.issuperset(map(type, shape)) and _INTS.issuperset(map(type, strides))
    return (shape, strides, tensor.dtype, tensor.device) if is_static else None


def rank(node: Node) -> int | None:
    """Number of dimensions of the tensor that `node` yields, or None if it was not recorded."""
    tensor = fake(node)
    return None if tensor is None else tensor.dim()


def source_line(node: Node) -> str | None:
    """`file.py:123` of the user's line that made `node` (its innermost frame), or None if tracing kept no stack."""
    trace = node.meta.get("stack_trace")
    frames = [line.strip() for line in (trace or "").splitlines() if line.strip().startswith("File ")]
    if not frames:
        return None
    path, line = frames[-1].split(", ")[:2]
    name = path.removeprefix("File ").strip('"').replace("\\", "/").rsplit("/", 1)[-1]
    return f"{name}:{line.removeprefix('line ')}"

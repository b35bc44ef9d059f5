"""Counts, in whatever a tool leaves, the operations that take out of a value of the pool's size by an index."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.fx import GraphModule, Node

POOL = 10 * 4 * 2 * 8
"""Elements of the pool of every case."""
_FX = re.compile(r"\b(index_select|index|_unsafe_index|embedding|gather|take_along_dim|getitem)(\.|\b|$)")
_JAXPR = ("gather", "dynamic_slice")
_HLO = re.compile(r"= \S+ (?:gather|dynamic-slice)\((?:\w+\[[\d,]*\]\S* )?%?([\w.-]+)")
_HLO_SHAPE = re.compile(r"%?([\w.-]+)(?: =|:) \w+\[([\d,]*)\]")
_TORCH_MLIR = re.compile(
    r"torch\.aten\.(?:index_select|index\.Tensor\w*|embedding|gather|take_along_dim)\b.*? : "
    r"!torch\.vtensor<\[([\d,]*)\]"
)
_LINALG = re.compile(r"(?:tensor\.extract|iree_linalg_ext\.gather)\b.* tensor<((?:\d+x)+)\w+>")


def in_fx(module: GraphModule) -> int:
    """Of a graph and, once for each call, of the graphs that it calls."""
    return sum(_of_node(node, module) for node in module.graph.nodes)


def _of_node(node: Node, module: GraphModule) -> int:
    if node.op == "call_module":
        body = _attribute(module, str(node.target))
        return in_fx(body) if isinstance(body, GraphModule) else 0
    if node.op not in ("call_function", "call_method"):
        return 0
    bodies = sum(in_fx(body) for body in _bodies(node, module))
    return bodies + (_is_gather(node) and _has_pool_size(node.all_input_nodes))


def _bodies(node: Node, module: GraphModule) -> Iterable[GraphModule]:
    held = (_attribute(module, str(found.target)) for found in node.all_input_nodes if found.op == "get_attr")
    return (body for body in held if isinstance(body, GraphModule))


def _attribute(module: torch.nn.Module, path: str) -> object:
    return operator.attrgetter(path)(module)


def _is_gather(node: Node) -> bool:
    """An overload or the name of a tensor method is text; a Python function is known by its name."""
    is_named = isinstance(node.target, (str, OpOverload))
    name = str(node.target) if is_named else getattr(node.target, "__name__", "")
    return bool(_FX.match(name.removeprefix("aten.")))


def _has_pool_size(operands: list[Node]) -> bool:
    """Of the gathered operand and a tensor of indices; where no values are recorded, two operands are enough."""
    values = [node.meta.get("val") for node in operands]
    if len(operands) < 2 or not isinstance(values[0], Tensor):
        return len(operands) > 1
    return bool(values[0].numel() == POOL)


def in_jaxpr(jaxpr: Any) -> int:
    """Of a jaxpr and those in its equations."""
    gathers = [e for e in jaxpr.eqns if e.primitive.name in _JAXPR]
    own = sum(bool(math.prod(e.invars[0].aval.shape) == POOL) for e in gathers)
    return own + sum(in_jaxpr(inner) for e in jaxpr.eqns for inner in _inner(e.params.values()))


def _inner(values: Iterable[Any]) -> Iterable[Any]:
    for value in values:
        if isinstance(value, (tuple, list)):
            yield from _inner(value)
        elif hasattr(value, "eqns"):
            yield getattr(value, "jaxpr", value)


def in_hlo(text: str) -> int:
    """Of HLO text."""
    shapes = dict(_HLO_SHAPE.findall(text))
    return sum(_elements(shapes.get(name, ""), ",") == POOL for name in _HLO.findall(text))


def in_torch_mlir(text: str) -> int:
    """Of MLIR in the torch dialect."""
    return sum(_elements(shape, ",") == POOL for shape in _TORCH_MLIR.findall(text))


def in_linalg(text: str) -> int:
    """Of MLIR in the linalg dialect."""
    return sum(_elements(shape, "x") == POOL for shape in _LINALG.findall(text))


def in_onnx(graph: Any) -> int:
    """Of an ONNX IR graph and those in its nodes."""
    import onnx_ir

    nodes = onnx_ir.traversal.RecursiveGraphIterator(graph)
    return sum(node.op_type.startswith("Gather") and _onnx_elements(node.inputs[0]) == POOL for node in nodes)


def _onnx_elements(value: Any) -> int:
    sizes = () if value is None or value.shape is None else value.shape.dims
    return math.prod(size for size in sizes if isinstance(size, int))


def _elements(shape: str, separator: str) -> int:
    return math.prod(int(size) for size in shape.split(separator) if size)

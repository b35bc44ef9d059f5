"""What the verifier reads off a single node."""

from __future__ import annotations

from typing import Any

from torch._ops import OpOverload
from torch.fx import Node

from passes.ops.schema import base_name


def operator_name(node: Node) -> str:
    """Name of the operator, function or method that a call names, without namespace and overload: `permute`."""
    target: Any = node.target
    if isinstance(target, OpOverload):
        return base_name(target._schema.name)
    return str(target) if node.op == "call_method" else getattr(target, "__name__", "")


def traced(node: Node) -> Any:
    """The recorded value of a node."""
    return node.meta.get("val", node.meta.get("example_value"))

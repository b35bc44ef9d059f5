"""The operator behind each Python operator, torch function and tensor method that FX graphs hold.

A callable that is not listed here, is no operator overload and is not a builtin of the name of an aten operator
resolves to nothing, and nothing is assumed of such a call.
"""

from __future__ import annotations

import builtins
import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch._ops import OpOverload
from torch.fx import Node

Spelling = tuple[str, tuple[str, ...]]
"""An operator's qualified name, and the names of the arguments in the order in which this spelling takes them."""


def _spelling(op: str, names: str) -> Spelling:
    return op, tuple(names.split())


GETITEM = "python::getitem"
SETITEM = "python::setitem"
GETATTR = "python::getattr"

# Functions written in Python, whose signature is not the schema's.
PYTHON_CALLS: Mapping[Callable[..., Any], Spelling] = {
    operator.getitem: _spelling(GETITEM, "self index"),
    operator.setitem: _spelling(SETITEM, "self index value"),
    builtins.getattr: _spelling(GETATTR, "self name"),
    F.silu: _spelling("aten::silu", "self inplace"),
    F.relu: _spelling("aten::relu", "self inplace"),
    F.softmax: _spelling("aten::softmax", "self dim _stacklevel dtype"),
    F.dropout: _spelling("aten::dropout", "input p train inplace"),
    F.rms_norm: _spelling("aten::rms_norm", "input normalized_shape weight eps"),
    F.layer_norm: _spelling("aten::layer_norm", "input normalized_shape weight bias eps"),
    F.embedding: _spelling(
        "aten::embedding", "indices weight padding_idx max_norm norm_type scale_grad_by_freq sparse"
    ),
    torch.split: _spelling("aten::split", "self split_size dim"),
    torch.sym_int: _spelling("aten::Int", "a"),
}

# Tensor methods without an aten operator of their own name.
PYTHON_METHODS: Mapping[str, Spelling] = {
    **dict.fromkeys(
        (
            "float",
            "double",
            "half",
            "bfloat16",
            "int",
            "long",
            "short",
            "bool",
            "char",
            "byte",
            "cpu",
            "type",
        ),
        _spelling("aten::to", "self dtype"),
    ),
    "__getitem__": PYTHON_CALLS[operator.getitem],
    "__setitem__": PYTHON_CALLS[operator.setitem],
    "dim": _spelling("aten::dim", "self"),
    "ndimension": _spelling("aten::dim", "self"),
    "nelement": _spelling("aten::numel", "self"),
    "element_size": _spelling("aten::element_size", "self"),
}

# Keyword names under which torch functions take arguments of operators.
ARGUMENT_SYNONYMS: Mapping[str, str] = {"input": "self", "axis": "dim", "training": "train"}

OPERATOR_NAMES: Mapping[Callable[..., Any], str] = {
    operator.add: "add", operator.sub: "sub", operator.mul: "mul", operator.truediv: "true_divide",
    operator.floordiv: "floor_divide", operator.mod: "remainder", operator.neg: "neg", operator.pow: "pow",
    operator.matmul: "matmul", operator.and_: "bitwise_and", operator.or_: "bitwise_or", operator.xor: "bitwise_xor",
    operator.invert: "bitwise_not", operator.eq: "eq", operator.ne: "ne", operator.lt: "lt", operator.le: "le",
    operator.gt: "gt", operator.ge: "ge", operator.lshift: "bitwise_left_shift",
    operator.rshift: "bitwise_right_shift", operator.abs: "abs", operator.pos: "positive",
    operator.iadd: "add_", operator.isub: "sub_", operator.imul: "mul_", operator.itruediv: "div_",
    operator.ifloordiv: "floor_divide_", operator.iand: "bitwise_and_", operator.ior: "bitwise_or_",
}  # fmt: skip


def spelling(node: Node) -> str:
    """What a node calls, as its graph spells it: `aten.cat.default`, `Tensor.permute`, `softmax`."""
    if node.op == "call_function" and not isinstance(node.target, OpOverload):
        return str(getattr(node.target, "__name__", node.target))
    return f"Tensor.{node.target}" if node.op == "call_method" else str(node.target)

"""Argument values and types: from Python objects to document values, and back."""

from __future__ import annotations

import cmath
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.fx import Node as FxNode

from passes.errors import DeadkvError
from tracing.graph.document import Const, Dim, Group, Ref, ScalarType, TensorType, Type, Value
from tracing.graph.escape import quoted, shortened
from tracing.graph.symbols import SymbolNames
from tracing.graph.targets import object_name

_SYMBOLIC = {torch.SymInt: "int", torch.SymFloat: "float", torch.SymBool: "bool"}
_SCALARS = {bool: "bool", int: "int", float: "float"}


def _torch_constant(kind: type) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        found = vars(torch).get(text)
        if not isinstance(found, kind):
            raise ValueError(text)
        return found

    return read


def _none(text: str) -> None:
    if text != "None":
        raise ValueError(text)


def _bool(text: str) -> bool:
    return {"True": True, "False": False}[text]


def _ellipsis(text: str) -> Any:
    return {"...": ...}[text]


# kind -> (the class it stands for, its canonical text, the way back)
CONSTANTS: Mapping[str, tuple[type, Callable[[Any], str], Callable[[str], Any]]] = {
    "none": (type(None), str, _none),
    "bool": (bool, str, _bool),
    "int": (int, str, int),
    "float": (float, repr, float),
    "complex": (complex, str, complex),
    "str": (str, str, str),
    "ellipsis": (type(...), lambda _: "...", _ellipsis),
    "dtype": (torch.dtype, lambda v: str(v).removeprefix("torch."), _torch_constant(torch.dtype)),
    "layout": (torch.layout, lambda v: str(v).removeprefix("torch."), _torch_constant(torch.layout)),
    "memory_format": (
        torch.memory_format,
        lambda v: str(v).removeprefix("torch."),
        _torch_constant(torch.memory_format),
    ),
    "device": (torch.device, str, torch.device),
}
_KIND_OF = {kind_class: kind for kind, (kind_class, _, _) in CONSTANTS.items()}


def encode(value: Any, names: SymbolNames) -> Value:
    """The document value of one torch.fx argument; what has no written form becomes the name of its class."""
    if isinstance(value, FxNode):
        return Ref(value.name)
    if isinstance(value, dict):
        return Group("dict", tuple(encode(item, names) for pair in value.items() for item in pair))
    for kind, container in (("list", list), ("tuple", tuple)):
        if isinstance(value, container):
            return Group(kind, tuple(encode(item, names) for item in value))
    for kind, window in (("slice", slice), ("range", range)):
        if isinstance(value, window):
            return Group(kind, tuple(encode(v, names) for v in (value.start, value.stop, value.step)))
    return _encode_constant(value, names)


def _encode_constant(value: Any, names: SymbolNames) -> Const:
    if type(value) in _SYMBOLIC:
        text = names.text(value)
        return Const("int", text) if text.lstrip("-").isdecimal() else Const("sym", text)
    kind = _KIND_OF.get(type(value))
    if kind is None:
        return Const("object", object_name(value))
    return Const(kind, CONSTANTS[kind][1](value))


def constant(const: Const) -> Any:
    """The Python object of a constant of a kind in `CONSTANTS`; raises DeadkvError if the text is not one's text."""
    _, write, read = CONSTANTS[const.kind]
    try:
        value = read(const.text)
        canonical = write(value) == const.text
    except (ValueError, KeyError, RuntimeError, TypeError) as error:
        raise DeadkvError(f"{quoted(const.text)} is not a {const.kind} of torch {torch.__version__}") from error
    if not canonical:
        raise DeadkvError(f"{quoted(const.text)} is not how the {const.kind} {shortened(write(value))} is written")
    return value


def is_finite(const: Const) -> bool:
    """Whether a float or complex constant is neither infinite nor NaN."""
    return cmath.isfinite(complex(const.text))


def _dim(size: Any, names: SymbolNames) -> Dim:
    if isinstance(size, torch.SymInt):
        text = names.text(size)
        return int(text) if text.lstrip("-").isdecimal() else text
    return int(size)


def contiguous_stride(shape: tuple[Any, ...]) -> tuple[Any, ...]:
    """The stride of a dense row-major tensor, in elements; a dimension of size 0 counts as 1."""
    strides: list[Any] = []
    step: Any = 1
    for size in reversed(shape):
        strides.append(step)
        step = step * (1 if isinstance(size, int) and size == 0 else size)
    return tuple(reversed(strides))


def tensor_type(tensor: torch.Tensor, names: SymbolNames) -> TensorType:
    """dtype, shape and, where it is not the contiguous one, stride of a real, fake or meta tensor."""
    dtype = str(tensor.dtype).removeprefix("torch.")
    shape = tuple(_dim(size, names) for size in tensor.shape)
    if tensor.layout is not torch.strided:
        return TensorType(dtype, shape)
    stride = tuple(_dim(step, names) for step in tensor.stride())
    dense = tuple(_dim(step, names) for step in contiguous_stride(tuple(tensor.shape)))
    ignorable = all(a == b or size == 1 for a, b, size in zip(stride, dense, shape, strict=True))
    return TensorType(dtype, shape, None if ignorable or 0 in shape else stride)


def type_of(value: Any, names: SymbolNames) -> Type | None:
    """The type of a traced value (`node.meta["val"]`); None where it has none that a document can write."""
    if isinstance(value, torch.Tensor):
        return tensor_type(value, names)
    if isinstance(value, tuple | list):
        return tuple(type_of(item, names) for item in value)
    if type(value) in _SYMBOLIC:
        return ScalarType(_SYMBOLIC[type(value)], names.text(value))
    if type(value) in _SCALARS:
        return ScalarType(_SCALARS[type(value)], repr(value))
    return None

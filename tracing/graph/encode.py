"""Arguments and traced values of torch.fx nodes as the values and types of a document."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.fx import Node as FxNode

from tracing.graph.document import Const, Dim, Group, Ref, ScalarType, TensorType, Type, Value
from tracing.graph.symbols import SymbolNames
from tracing.graph.targets import object_name
from tracing.graph.values import CONSTANTS, contiguous_stride

_SYMBOLIC = {torch.SymInt: "int", torch.SymFloat: "float", torch.SymBool: "bool"}
_SCALARS = {bool: "bool", int: "int", float: "float"}
_KINDS = {kind_class: (kind, write) for kind, (kind_class, write, _) in CONSTANTS.items()}
_CONTAINERS: tuple[tuple[type, str, Callable[[Any], Iterable[Any]]], ...] = (
    (dict, "dict", lambda found: (item for pair in found.items() for item in pair)),
    (list, "list", iter),
    (tuple, "tuple", iter),
    (slice, "slice", lambda found: (found.start, found.stop, found.step)),
    (range, "range", lambda found: (found.start, found.stop, found.step)),
)
_INTEGERS = frozenset({int})


class Encoder:
    """Writes the values of one document; its symbols are named in the order in which they are met."""

    def __init__(self) -> None:
        self._names = SymbolNames()
        self._static: dict[tuple[torch.dtype, tuple[int, ...], tuple[int, ...]], TensorType] = {}

    def values(self, found: Iterable[Any]) -> tuple[Value, ...]:
        """The document values of arguments; what has no written form becomes the name of its class."""
        written: list[Value] = []
        for item in found:
            if isinstance(item, FxNode):
                written.append(Ref(item.name))
            elif (constant := _KINDS.get(type(item))) is not None:
                kind, write = constant
                written.append(Const(kind, write(item)))
            else:
                written.append(self._container(item))
        return tuple(written)

    def _container(self, found: Any) -> Value:
        for container, kind, items in _CONTAINERS:
            if isinstance(found, container):
                return Group(kind, self.values(items(found)))
        if type(found) not in _SYMBOLIC:
            return Const("object", object_name(found))
        text = self._names.text(found)
        return Const("int" if _is_integer(text) else "sym", text)

    def type(self, found: Any) -> Type | None:
        """The type of a traced value (`node.meta["val"]`); None where it has none that a document can write."""
        if isinstance(found, torch.Tensor):
            return self.tensor_type(found)
        if isinstance(found, tuple | list):
            return tuple(self.type(item) for item in found)
        if type(found) in _SYMBOLIC:
            return ScalarType(_SYMBOLIC[type(found)], self._names.text(found))
        if type(found) in _SCALARS:
            return ScalarType(_SCALARS[type(found)], repr(found))
        return None

    def tensor_type(self, tensor: torch.Tensor) -> TensorType:
        """dtype, shape and, where it is not the contiguous one, stride of a real, fake or meta tensor."""
        if tensor.layout is not torch.strided:
            return TensorType(_dtype(tensor.dtype), tuple(map(self._dim, tensor.shape)))
        layout = tensor.dtype, tensor.shape, tensor.stride()
        if not _INTEGERS.issuperset(map(type, (*layout[1], *layout[2]))):
            return self._strided(*layout)
        known = self._static.get(layout)
        if known is None:
            known = self._static[layout] = self._strided(*layout)
        return known

    def _strided(self, dtype: torch.dtype, sizes: tuple[Any, ...], steps: tuple[Any, ...]) -> TensorType:
        shape, stride = tuple(map(self._dim, sizes)), tuple(map(self._dim, steps))
        dense = tuple(map(self._dim, contiguous_stride(tuple(sizes))))
        ignorable = all(a == b or size == 1 for a, b, size in zip(stride, dense, shape, strict=True))
        return TensorType(_dtype(dtype), shape, None if ignorable or 0 in shape else stride)

    def _dim(self, size: Any) -> Dim:
        if not isinstance(size, torch.SymInt):
            return int(size)
        text = self._names.text(size)
        return int(text) if _is_integer(text) else text


def _dtype(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _is_integer(text: str) -> bool:
    return text.lstrip("-").isdecimal()

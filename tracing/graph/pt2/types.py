"""What values are in torch's export schema, as types of the graph file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sympy
import torch
from torch._export.serde import schema

from passes.errors import DeadkvError
from tracing.graph.pt2.expressions import plain
from tracing.graph.symbols import parse, rename, symbols_of
from tracing.graph.values import contiguous_stride

# torch/_export/serde/schema.py gives dtypes, layouts and memory formats numbers; "Half" is float16 and so on.
_DTYPES = {
    "BYTE": "uint8", "CHAR": "int8", "SHORT": "int16", "INT": "int32", "LONG": "int64", "HALF": "float16",
    "FLOAT": "float32", "DOUBLE": "float64", "COMPLEXHALF": "complex32", "COMPLEXFLOAT": "complex64",
    "COMPLEXDOUBLE": "complex128", "BOOL": "bool", "BFLOAT16": "bfloat16", "UINT16": "uint16", "UINT32": "uint32",
    "UINT64": "uint64", "FLOAT8E4M3FN": "float8_e4m3fn", "FLOAT8E5M2": "float8_e5m2",
    "FLOAT8E4M3FNUZ": "float8_e4m3fnuz", "FLOAT8E5M2FNUZ": "float8_e5m2fnuz", "FLOAT8E8M0FNU": "float8_e8m0fnu",
}  # fmt: skip
_LAYOUTS = {
    "SparseCoo": "sparse_coo", "SparseCsr": "sparse_csr", "SparseCsc": "sparse_csc", "SparseBsr": "sparse_bsr",
    "SparseBsc": "sparse_bsc", "_mkldnn": "_mkldnn", "Strided": "strided",
}  # fmt: skip
_MEMORY_FORMATS = {
    "ContiguousFormat": "contiguous_format", "ChannelsLast": "channels_last", "ChannelsLast3d": "channels_last_3d",
    "PreserveFormat": "preserve_format",
}  # fmt: skip


def dtype(number: int) -> str:
    """`float32` for 7."""
    return _DTYPES[schema.ScalarType(number).name]


def layout(number: int) -> str:
    """`strided` for 7."""
    return _LAYOUTS[schema.Layout(number).name]


def memory_format(number: int) -> str:
    """`contiguous_format` for 1."""
    return _MEMORY_FORMATS[schema.MemoryFormat(number).name]


def device(found: Mapping[str, Any]) -> str:
    """`cuda:0` for type cuda and index 0."""
    index = found.get("index")
    return str(torch.device(found["type"] if index is None else f"{found['type']}:{index}"))


class Sizes:
    """Sizes and strides: numbers, or expressions whose symbols are renamed to s0, u0, ... in order of first use."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._counts: dict[str, int] = {}

    def tensor(self, meta: Mapping[str, Any]) -> dict[str, Any]:
        """The type of a tensor, without a stride where it is the contiguous one."""
        sizes = [_dim(size) for size in meta["sizes"]]
        strides = [_dim(step) for step in meta["strides"]]
        found = {"dtype": dtype(meta["dtype"]), "shape": [self._dim(size) for size in sizes]}
        plain = layout(meta["layout"]) == "strided" and 0 not in sizes
        return {**found, "stride": [self._dim(s) for s in strides]} if plain and not _dense(sizes, strides) else found

    def scalar(self, kind: str, found: Mapping[str, Any]) -> dict[str, Any]:
        """The type of an int, float or bool: its value, or the expression of a symbolic one."""
        if "as_expr" in found:
            return {"scalar": kind, "value": self.text(found["as_expr"]["expr_str"])}
        return {"scalar": kind, "value": repr(found[f"as_{kind}"])}

    def text(self, expression: str) -> str:
        """An expression in canonical symbols."""
        return self._renamed(plain(expression))

    def _renamed(self, expression: str) -> str:
        for name in symbols_of(expression):
            if name not in self._names:
                prefix = name.rstrip("0123456789")
                self._names[name] = f"{prefix}{self._counts.get(prefix, 0)}"
                self._counts[prefix] = self._counts.get(prefix, 0) + 1
        return rename(expression, self._names)

    def _dim(self, found: int | str) -> int | str:
        return found if isinstance(found, int) else self._renamed(found)


def _dim(found: Mapping[str, Any]) -> int | str:
    if "as_int" in found:
        if type(found["as_int"]) is not int:
            raise DeadkvError("a size is neither a number nor an expression")
        return found["as_int"]
    return plain(found["as_expr"]["expr_str"])


def _dense(sizes: Sequence[int | str], strides: Sequence[int | str]) -> bool:
    dense = contiguous_stride(tuple(map(_expression, sizes)))
    return all(
        size == 1 or _expression(step) == wanted for size, step, wanted in zip(sizes, strides, dense, strict=True)
    )


def _expression(found: int | str) -> int | sympy.Expr:
    return found if isinstance(found, int) else parse(found)

"""Sizes of values, and how to write them."""

from __future__ import annotations

import math

from tracing.graph.document import Const, TensorType, Type
from tracing.graph.values import constant

_UNITS = ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB"))


def nbytes(found: Type | None) -> int | None:
    """Bytes of a dense tensor, or of all tensors of a tuple; None where a size is symbolic or the type unknown."""
    match found:
        case TensorType(dtype, shape):
            if any(isinstance(dim, str) for dim in shape):
                return None
            return math.prod(int(dim) for dim in shape) * int(constant(Const("dtype", dtype)).itemsize)
        case tuple():
            sizes = [nbytes(item) for item in found]
            return None if None in sizes else sum(size for size in sizes if size is not None)
    return None


def bytes_text(size: int) -> str:
    """`268 MB`: decimal units."""
    for unit, name in _UNITS:
        if size >= unit:
            digits = 0 if size >= 100 * unit else 1 if size >= 10 * unit else 2
            return f"{size / unit:.{digits}f} {name}"
    return f"{size} B"

"""The recorded calls once more, on values that samples avoid: NaN, infinities, signed zeros, extreme integers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from tests.support.lowering import Case

_INF, _NAN = float("inf"), float("nan")
_VALUES = {
    torch.float32: (_NAN, _INF, -_INF, -0.0, 0.0, 1e30, -1.5, 0.5, 2.5),
    torch.bfloat16: (_NAN, _INF, -_INF, -0.0, 0.0, 1e30, 0.5, 2.5),
    torch.float16: (_NAN, _INF, -_INF, -0.0, 0.0, 65504.0, 0.5, 2.5),
    torch.int32: (0, -1, 1, 2**31 - 1, -(2**31), 7, -7),
    torch.int64: (0, -1, 1, 2**31 - 1, -(2**31), 7, -7),
}
_BY_INDEX = ("index", "gather", "scatter", "embedding")
_NOT_COMPARED = {
    "gelu": "torch's vectorized kernel makes NaN of infinity where its scalar one does not",
    "_scaled_dot_product_flash_attention_for_cpu": "torch's kernel leaves NaN out of its maximum",
    "prod": "torch multiplies half precision in half precision, and overflows on the way",
    "_to_copy": "what an integer type cannot hold is undefined in torch",
    "bmm": "an overflow on the way depends on the order of the sum", "mm": "the same", "addmm": "the same",
    "baddbmm": "the same", "mv": "the same", "dot": "the same",
}  # fmt: skip
"""Operators whose results on edge values torch leaves to its kernels, with the reason."""


def edge_calls(calls: Iterable[Case]) -> Iterator[Case]:
    """`calls` on edge values, as far as torch takes them."""
    for call in calls:
        name = call.op._schema.name.removeprefix("aten::")
        if name in _NOT_COMPARED or any(part in name for part in _BY_INDEX):
            continue
        edge = _on_edges(call)
        if _is_taken(edge):
            yield edge


def _on_edges(call: Case) -> Case:
    tensors = iter(range(1, 100))
    args, kwargs = pytree.tree_map_only(Tensor, lambda tensor: _edged(tensor, next(tensors)), (call.args, call.kwargs))
    return Case(call.op, args, kwargs)


def _edged(tensor: Tensor, number: int) -> Tensor:
    """Edge values in the tensor's shape, in another order for each operand of a call."""
    if tensor.dtype not in _VALUES or not tensor.numel():
        return tensor
    values = torch.tensor(_VALUES[tensor.dtype], dtype=tensor.dtype)
    order = (torch.arange(tensor.numel()) * (2 * number + 1) + 3 * number) % len(values)
    return values[order].reshape(tensor.shape)


def _is_taken(call: Case) -> bool:
    try:
        call.op(*call.args, **call.kwargs)
    except (RuntimeError, IndexError):
        return False
    return True

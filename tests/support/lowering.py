"""How an operator's lowering is compared with torch eager."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import torch
from torch.utils import _pytree as pytree

from tracing.backends.hlo.conversion import to_numpy, to_tensor
from tracing.backends.hlo.dtypes import narrowed, to_torch
from tracing.backends.hlo.ops import LOWERINGS

aten = torch.ops.aten

# Relative and absolute error by result dtype: float32 within a few units in the last place of an O(1) value, half
# precision within one rounding step.
_TOLERANCE = {torch.float32: (1e-5, 1e-5), torch.float16: (1e-3, 1e-3), torch.bfloat16: (1.6e-2, 1e-2)}
_LOOSER = {"baddbmm": 4, "addmm": 4}
"""Operators that torch rounds once more than we do in half precision, and by how much their errors may be larger."""

_UNINITIALIZED = ("empty", "empty_like", "new_empty")
"""Operators of which only shape and dtype are compared."""

# Hundreds of small ops: XLA's optimizations would cost more than they save.
_QUICK_COMPILATION = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}


@dataclass(frozen=True)
class Case:
    """One call of one aten overload."""

    op: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The operator's name, without namespace and overload."""
        return str(self.op._schema.name).removeprefix("aten::")

    @property
    def label(self) -> str:
        return str(self.op).removeprefix("aten.")


def case(op: Any, *args: Any, **kwargs: Any) -> Case:
    return Case(op, args, kwargs)


def floats(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def ints(*shape: int, low: int = -9, high: int = 10, dtype: torch.dtype = torch.int32, seed: int = 0) -> torch.Tensor:
    return torch.randint(low, high, shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def bools(*shape: int, seed: int = 0) -> torch.Tensor:
    return ints(*shape, low=0, high=2, seed=seed).to(torch.bool)


def run_lowerings(calls: Sequence[Case], table: Mapping[Any, Callable[..., Any]] = LOWERINGS) -> list[Any]:
    """Each call's flat results as torch tensors, or the exception its lowering raised; compiled all at once."""
    failures: dict[int, Exception] = {}

    def run(values: list[list[Any]]) -> list[list[Any]]:
        return [attempt(index, call, tensors) for index, (call, tensors) in enumerate(zip(calls, values, strict=True))]

    def attempt(index: int, call: Case, tensors: list[Any]) -> list[Any]:
        try:
            return _flat(table[call.op], call, tensors)
        except Exception as error:
            failures[index] = error
            return []

    compiled = jax.jit(run, compiler_options=_QUICK_COMPILATION)
    arrays = jax.device_get(compiled([[to_numpy(t, call.label) for t in _tensors(call)] for call in calls]))
    tensors = [[to_tensor(array, to_torch(array.dtype)) for array in listed] for listed in arrays]
    return [failures.get(index, results) for index, results in enumerate(tensors)]


def _tensors(call: Case) -> list[torch.Tensor]:
    return [leaf for leaf in pytree.tree_leaves((call.args, call.kwargs)) if isinstance(leaf, torch.Tensor)]


def _flat(function: Callable[..., Any], call: Case, tensors: Sequence[Any]) -> list[Any]:
    """Calls `function` with the traced values in place of the case's tensors."""
    values = iter(tensors)
    leaves, spec = pytree.tree_flatten((call.args, call.kwargs))
    filled = [next(values) if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves]
    args, kwargs = pytree.tree_unflatten(filled, spec)
    results = function(*args, **kwargs)
    return list(results) if isinstance(results, (tuple, list)) else [results]


def check(call: Case, actual: Any) -> None:
    """Same number of results, shapes, dtypes (64 bits as 32) and values as torch eager; `actual` from run_lowerings."""
    if isinstance(actual, Exception):
        raise actual
    expected = pytree.tree_leaves(call.op(*call.args, **call.kwargs))
    assert len(actual) == len(expected)
    if call.name == "topk":
        actual = [actual[0], _ranks(call, *actual)]
        expected = [expected[0], _ranks(call, *expected)]
    for ours, theirs in zip(actual, expected, strict=True):
        _check_result(call, ours, theirs.to(narrowed(theirs.dtype)))


def _check_result(call: Case, ours: torch.Tensor, theirs: torch.Tensor) -> None:
    if call.name in _UNINITIALIZED:
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
        return
    rtol, atol = _TOLERANCE.get(theirs.dtype, (0, 0))
    factor = _LOOSER.get(call.name, 1)
    torch.testing.assert_close(ours, theirs, rtol=factor * rtol, atol=factor * atol, equal_nan=True)


def _ranks(call: Case, values: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    """What the indices of a topk point at: which of equal elements it takes is left open by torch."""
    source, dim = call.args[0], call.args[2] if len(call.args) > 2 else call.kwargs.get("dim", -1)
    assert indices.shape == values.shape
    pointed_at = source.gather(dim, indices.long()) if source.dim() else source
    return pointed_at.to(narrowed(source.dtype))

"""How an op's lowering is compared with torch eager, and proof that the comparison can fail."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import pytest
import torch
from jax import lax
from torch.utils import _pytree as pytree

from tracing.backends.hlo import ops
from tracing.backends.hlo.conversion import to_numpy, to_tensor
from tracing.backends.hlo.dtypes import narrowed, to_torch
from tracing.backends.hlo.ops import LOWERINGS

aten = torch.ops.aten

# Relative and absolute error by result dtype: float32 within a few units in the last place of an O(1) value, half
# precision within one rounding step.
_TOLERANCE = {torch.float32: (1e-5, 1e-5), torch.float16: (1e-3, 1e-3), torch.bfloat16: (1.6e-2, 1e-2)}

# Hundreds of small ops: XLA's optimizations would cost more than they save.
_QUICK_COMPILATION = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}


@dataclass(frozen=True)
class Case:
    """One call of one aten overload."""

    op: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)

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
    for ours, theirs in zip(actual, expected, strict=True):
        theirs = theirs.to(narrowed(theirs.dtype))
        rtol, atol = _TOLERANCE.get(theirs.dtype, (0, 0))
        torch.testing.assert_close(ours, theirs, rtol=rtol, atol=atol, equal_nan=True)


def test_a_right_lowering_passes() -> None:
    call = case(aten.add.Tensor, floats(2, 3), floats(3, seed=1))
    check(call, *run_lowerings([call]))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda x, y: lax.mul(x, y),
        lambda x, y: lax.reshape(lax.add(x, y), (6,)),
        lambda x, y: lax.convert_element_type(lax.add(x, y), jax.numpy.bfloat16),
        lambda x, y: [lax.add(x, y)] * 2,
    ],
    ids=["value", "shape", "dtype", "count"],
)
def test_a_wrong_lowering_is_caught(wrong: Callable[..., Any]) -> None:
    call = case(aten.add.Tensor, floats(2, 3), floats(2, 3, seed=1))
    with pytest.raises(AssertionError):
        check(call, *run_lowerings([call], {aten.add.Tensor: wrong}))


def test_a_lowering_that_raises_is_reported() -> None:
    call = case(aten.add.Tensor, floats(2, 3), floats(2, 3, seed=1))
    with pytest.raises(TypeError):
        check(call, *run_lowerings([call], {aten.add.Tensor: lambda x, y: lax.add(x, lax.reshape(y, (3, 2)))}))


def test_no_op_is_in_two_tables() -> None:
    kinds = [getattr(ops, name) for name in vars(ops) if hasattr(getattr(ops, name), "LOWERINGS")]
    assert sum(len(kind.LOWERINGS) for kind in kinds) == len(LOWERINGS)
    assert len(kinds) == 12

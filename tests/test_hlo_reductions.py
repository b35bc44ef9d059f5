"""Lowerings of reductions, scans, norms and sorts against torch eager."""

from typing import Any

import pytest
import torch

from tests.support.lowering import bools, case, check, floats, ints, run_lowerings
from tracing.backends.hlo.ops import normalization, reductions, sorting

aten = torch.ops.aten
X = floats(2, 3, 4)
HALF = (torch.float16, torch.bfloat16)
DISTINCT = torch.randperm(24, generator=torch.Generator().manual_seed(0)).reshape(2, 3, 4).to(torch.float32)

CASES = [
    *(case(op.default, x) for op in (aten.sum, aten.prod) for x in (X, ints(3, 4), bools(3, 4), floats())),
    *(case(aten.sum.dim_IntList, X, dim, keep) for dim in ([1], [0, -1], [], None) for keep in (False, True)),
    *(case(aten.sum.dim_IntList, floats(3, 300, dtype=t), [1]) for t in HALF),
    case(aten.sum.dim_IntList, floats(3, 4, dtype=torch.bfloat16), [1], dtype=torch.float32),
    case(aten.sum.default, ints(3, 4), dtype=torch.float32),
    case(aten.prod.dim_int, X, 1, True),
    *(case(aten.mean.default, x) for x in (X, floats(3, 300, dtype=torch.bfloat16))),
    *(case(aten.mean.dim, X, dim, keep) for dim in ([-1], [0, 2], None) for keep in (False, True)),
    case(aten.mean.dim, ints(3, 4), [1], dtype=torch.float32),
    *(case(aten.var.correction, X, dim, correction=c) for dim in ([-1], [0, 1], None) for c in (0, 1, None)),
    case(aten.var.correction, X, [1], correction=2, keepdim=True),
    case(aten.var_mean.correction, X, [-1], correction=0, keepdim=True),
    *(case(op.default, X, dim, keep) for op in (aten.amax, aten.amin) for dim in ([-1], [0, 1], []) for keep in (0, 1)),
    case(aten.amax.default, bools(3, 4), [1]),
    *(case(op.default, x) for op in (aten.max, aten.min) for x in (X, ints(3, 4))),
    *(case(op.dim, DISTINCT, dim, keep) for op in (aten.max, aten.min) for dim in (0, -1) for keep in (False, True)),
    *(case(op.default, DISTINCT, *a) for op in (aten.argmax, aten.argmin) for a in ((), (1,), (-1, 1), (None, 1))),
    case(aten.argmax.default, floats()),
    case(aten.argmax.default, torch.tensor([1.0, 3.0, 3.0])),
    *(case(op.default, x) for op in (aten.any, aten.all) for x in (bools(3, 4), floats(3, 4), torch.zeros(3))),
    *(case(op.dim, bools(3, 4), dim, keep) for op in (aten.any, aten.all) for dim in (0, -1) for keep in (False, True)),
    *(case(op.dims, bools(2, 3, 4), dims) for op in (aten.any, aten.all) for dims in ([0, 2], None)),
    *(case(op.default, X, dim) for op in (aten.cumsum, aten.cumprod) for dim in (0, -1)),
    *(case(op.default, x, 0) for op in (aten.cumsum, aten.cumprod) for x in (ints(5), bools(5), floats())),
    case(aten.cumsum.default, bools(3, 4), 1, dtype=torch.int32),
    case(aten.cumsum.default, floats(3, 300, dtype=torch.bfloat16), 1, dtype=torch.float32),
    *(case(op.default, X, d, False) for op in (aten._softmax, aten._log_softmax) for d in (0, -1)),
    *(case(op.default, floats(3, 5, dtype=t), 1, False) for op in (aten._softmax, aten._log_softmax) for t in HALF),
    *(case(op.default, floats(), 0, False) for op in (aten._softmax, aten._log_softmax)),
    case(aten._softmax.default, torch.tensor([[0.0, -torch.inf], [-torch.inf, -torch.inf]]), 1, False),
    *(case(aten.sort.default, DISTINCT, dim, down) for dim in (0, -1) for down in (False, True)),
    case(aten.sort.default, floats()),
    case(aten.sort.default, torch.tensor([1.0, torch.nan, -torch.inf, 0.5])),
    *(case(aten.sort.stable, ints(20, low=0, high=4), stable=True, dim=0, descending=d) for d in (False, True)),
    *(case(aten.topk.default, DISTINCT, 2, dim, big) for dim in (0, 1, -1) for big in (True, False)),
    case(aten.topk.default, floats(), 1),
    case(aten.native_layer_norm.default, X, [4], floats(4, seed=1), floats(4, seed=2), 1e-5),
    case(aten.native_layer_norm.default, X, [3, 4], None, None, 1e-6),
]


@pytest.fixture(scope="module")
def results() -> list[Any]:
    return run_lowerings(CASES)


@pytest.mark.parametrize("index", range(len(CASES)), ids=lambda index: CASES[index].label)
def test_equals_torch(index: int, results: list[Any]) -> None:
    check(CASES[index], results[index])


def test_every_lowering_has_a_case() -> None:
    tables = (reductions.LOWERINGS, normalization.LOWERINGS, sorting.LOWERINGS)
    assert {op for table in tables for op in table} == {call.op for call in CASES}

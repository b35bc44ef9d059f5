"""Lowerings of gathers and scatters: equal to torch where torch allows the index, and the stated mode where not."""

from typing import Any

import pytest
import torch

from tests.support.lowering import bools, case, check, floats, ints, run_lowerings
from tracing.backends.hlo.arrays import UnsupportedUseError
from tracing.backends.hlo.ops.indexing import LOWERINGS

aten = torch.ops.aten
POOL = floats(5, 2, 3)
TABLE = torch.tensor([[4, 0], [2, 2]], dtype=torch.int32)
ROWS = torch.tensor([3, 0, 3])
PUTS = (aten.index_put.default, aten._unsafe_index_put.default)


def _long(*shape: int, high: int, seed: int = 0) -> torch.Tensor:
    return ints(*shape, low=0, high=high, dtype=torch.int64, seed=seed)


def _unique(*shape: int) -> torch.Tensor:
    """Indices along the last dimension that no row repeats."""
    return floats(*shape, seed=3).argsort(-1)


CASES = [
    *(case(aten.index_select.default, POOL, 0, t.reshape(-1)) for t in (TABLE, TABLE.long())),
    case(aten.index_select.default, POOL, -1, ROWS.clamp(max=2)),
    case(aten.index_select.default, POOL.to(torch.float8_e4m3fn), 0, ROWS),
    case(aten.index_select.default, floats(), 0, torch.tensor([0])),
    case(aten.embedding.default, floats(7, 4), _long(2, 3, high=7)),
    case(aten.embedding.default, floats(7, 4, dtype=torch.bfloat16), TABLE, -1, False, False),
    *(case(aten.gather.default, POOL, dim, _long(2, 2, 3, high=2, seed=dim)) for dim in (0, 1, 2)),
    case(aten.gather.default, ints(3, 4), -1, _long(3, 2, high=4)),
    *(
        case(op.Tensor, POOL, indices)
        for op in (aten.index, aten._unsafe_index)
        for indices in (
            [TABLE],
            [None, torch.tensor([1, 0, -1])],
            [None, None, torch.tensor([[2], [-3]])],
            [torch.tensor([[4], [-5]]), torch.tensor([0, 1])],
            [ROWS, None, torch.tensor([2, 0, 1])],
            [None, torch.tensor(1), torch.tensor([0, 2])],
            [ROWS, ROWS % 2, ROWS % 3],
        )
    ),
    *(case(op, POOL, [torch.tensor([4, 0, 2])], floats(3, 2, 3, seed=1)) for op in PUTS),
    *(case(op, POOL, [torch.tensor([-1, 0])], floats(3, seed=1)) for op in PUTS),
    case(aten.index_put.default, POOL, [None, torch.tensor([1])], floats(5, 1, 3, seed=1)),
    case(aten.index_put.default, POOL, [torch.tensor([1, 2]), None, torch.tensor([0, 1])], floats(2, 2, seed=1)),
    case(aten.index_put.default, POOL, [ROWS], floats(3, 2, 3, seed=1), True),
    case(aten.index_copy.default, POOL, 0, torch.tensor([4, 1]), floats(2, 2, 3, seed=1)),
    case(aten.index_copy.default, POOL, -1, torch.tensor([2]), floats(5, 2, 1, seed=1)),
    case(aten.index_add.default, POOL, 0, ROWS, floats(3, 2, 3, seed=1), alpha=2),
    case(aten.index_fill.int_Scalar, POOL, 1, torch.tensor([0]), 7),
    case(aten.index_fill.int_Tensor, POOL, 0, ROWS, torch.tensor(7.0)),
    *(case(aten.scatter.src, floats(2, 5), -1, _unique(2, 5)[:, :n], floats(2, 5, seed=1)) for n in (5, 3)),
    case(aten.scatter.src, floats(4, 3), 0, _unique(3, 4).t().contiguous(), floats(4, 3, seed=1)),
    case(aten.scatter.value, floats(2, 5), 1, _long(2, 3, high=5), 7.0),
    case(aten.scatter_add.default, floats(2, 5), 1, _long(2, 5, high=3), floats(2, 5, seed=1)),
    *(
        case(aten.scatter_reduce.two, floats(2, 5), 1, _long(2, 5, high=3), floats(2, 5, seed=1), reduce)
        for reduce in ("sum", "prod", "amax", "amin")
    ),
    *(case(aten.select_scatter.default, POOL, floats(5, 3, seed=1), 1, i) for i in (0, -1)),
    case(aten.slice_scatter.default, POOL, floats(2, 2, 3, seed=1), 0, 1, 3),
    case(aten.slice_scatter.default, POOL, floats(3, 2, 3, seed=1), 0, 0, 9, 2),
    case(aten.slice_scatter.default, POOL, floats(5, 2, 3, seed=1)),
]

# What a compiled graph does where torch raises: (call, the same call with the index it amounts to).
OUT_OF_RANGE = [
    (
        case(aten.index_select.default, POOL, 0, torch.tensor([-1, 9, 2], dtype=torch.int32)),
        case(aten.index_select.default, POOL, 0, torch.tensor([0, 4, 2])),
    ),
    (
        case(aten.embedding.default, floats(7, 4), torch.tensor([-1, 7])),
        case(aten.embedding.default, floats(7, 4), torch.tensor([0, 6])),
    ),
    (
        case(aten.gather.default, floats(2, 5), 1, torch.tensor([[-1, 5], [2, -9]])),
        case(aten.gather.default, floats(2, 5), 1, torch.tensor([[0, 4], [2, 0]])),
    ),
    (
        case(aten.index.Tensor, POOL, [torch.tensor([-6, 5])]),
        case(aten.index.Tensor, POOL, [torch.tensor([0, 4])]),
    ),
    (
        case(aten.index_put.default, POOL, [torch.tensor([5, -6, 1])], torch.tensor(7.0)),
        case(aten.index_put.default, POOL, [torch.tensor([1])], torch.tensor(7.0)),
    ),
    (
        case(aten.index_copy.default, POOL, 0, torch.tensor([-1, 5, 1]), floats(3, 2, 3, seed=1)),
        case(aten.index_copy.default, POOL, 0, torch.tensor([1]), floats(3, 2, 3, seed=1)[2:]),
    ),
    (
        case(aten.scatter.src, floats(5), 0, torch.tensor([-1, 5, 1]), floats(3, seed=1)),
        case(aten.scatter.src, floats(5), 0, torch.tensor([1]), floats(3, seed=1)[2:]),
    ),
]


@pytest.fixture(scope="module")
def results() -> list[Any]:
    return run_lowerings([*CASES, *(call for call, _ in OUT_OF_RANGE)])


@pytest.mark.parametrize("index", range(len(CASES)), ids=lambda index: CASES[index].label)
def test_equals_torch(index: int, results: list[Any]) -> None:
    check(CASES[index], results[index])


@pytest.mark.parametrize("index", range(len(OUT_OF_RANGE)), ids=lambda index: OUT_OF_RANGE[index][0].label)
def test_reads_are_clamped_and_writes_dropped(index: int, results: list[Any]) -> None:
    call, equivalent = OUT_OF_RANGE[index]
    with pytest.raises((IndexError, RuntimeError)):
        call.op(*call.args)
    check(equivalent, results[len(CASES) + index])


def test_every_lowering_has_a_case() -> None:
    assert set(LOWERINGS) == {call.op for call in CASES}


@pytest.mark.parametrize(
    "call",
    [
        case(aten.index.Tensor, POOL, [bools(5)]),
        case(aten.scatter_reduce.two, floats(5), 0, ROWS, floats(3), "mean"),
        case(aten.scatter_reduce.two, floats(5), 0, ROWS, floats(3), "sum", include_self=False),
    ],
    ids=["mask", "mean", "exclude_self"],
)
def test_what_hlo_cannot_say_is_refused(call: Any) -> None:
    (result,) = run_lowerings([call])
    assert isinstance(result, UnsupportedUseError)

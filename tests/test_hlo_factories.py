"""Lowerings of constants, matrix products and attention against torch eager."""

from typing import Any

import pytest
import torch

from tests.support.lowering import case, check, floats, ints, run_lowerings
from tracing.backends.hlo.arrays import UnsupportedUseError
from tracing.backends.hlo.ops import attention, checks, factories, matmul

aten = torch.ops.aten
ATTENTION = aten._scaled_dot_product_flash_attention_for_cpu.default
X = floats(2, 3)
Q, K, V = (floats(2, 4, 5, 8, seed=seed) for seed in range(3))
DTYPES = (torch.float32, torch.bfloat16, torch.int64, torch.bool)

CASES = [
    *(case(aten.full.default, [2, 3], value) for value in (7, 2.5, True, -1)),
    case(aten.full.default, [], 1.5, dtype=torch.bfloat16, device=torch.device("cpu"), pin_memory=False),
    case(aten.full.default, [2], -1, dtype=torch.int32),
    *(case(op.default, [2, 3], dtype=t) for op in (aten.zeros, aten.ones) for t in (*DTYPES, None)),
    *(case(op.default, ints(2, 3), dtype=t) for op in (aten.zeros_like, aten.ones_like) for t in (*DTYPES, None)),
    case(aten.full_like.default, ints(2, 3), 4),
    case(aten.full_like.default, X, -torch.inf, dtype=torch.bfloat16),
    case(aten.new_full.default, X, [2], 3),
    case(aten.new_full.default, X, [2], 3, dtype=torch.int32),
    *(case(op.default, ints(2), [3, 2], dtype=t) for op in (aten.new_zeros, aten.new_ones) for t in (None, *DTYPES)),
    case(aten.fill.Scalar, ints(2, 3), 7),
    case(aten.fill.Tensor, X, torch.tensor(7)),
    case(aten.zero.default, X),
    case(aten.arange.default, 7),
    case(aten.arange.default, 2.5),
    case(aten.arange.start, 2, 9, dtype=torch.int32),
    case(aten.arange.start, 1, 4, dtype=torch.float32),
    *(case(aten.arange.start_step, *a) for a in ((0, 10, 3), (10, 0, -4), (0.5, 3.0, 0.25), (3, 3, 1))),
    case(aten.arange.start_step, 0, 8, 2, dtype=torch.bfloat16),
    case(aten.eye.default, 3),
    case(aten.eye.m, 2, 3, dtype=torch.int64),
    *(case(aten.scalar_tensor.default, 3.5, dtype=t) for t in (None, *DTYPES)),
    case(aten.mm.default, floats(3, 4), floats(4, 5, seed=1)),
    case(aten.mm.default, ints(3, 4), ints(4, 5, seed=1)),
    case(aten.mm.default, floats(3, 64, dtype=torch.bfloat16), floats(64, 5, dtype=torch.bfloat16, seed=1)),
    case(aten.bmm.default, floats(2, 3, 4), floats(2, 4, 5, seed=1)),
    case(aten.mv.default, floats(3, 4), floats(4, seed=1)),
    case(aten.dot.default, floats(4), floats(4, seed=1)),
    case(aten.addmm.default, floats(5), floats(3, 4), floats(4, 5, seed=1)),
    case(aten.addmm.default, floats(3, 5), floats(3, 4), floats(4, 5, seed=1), beta=2, alpha=0.5),
    case(aten.baddbmm.default, floats(2, 3, 5), floats(2, 3, 4), floats(2, 4, 5, seed=1)),
    case(ATTENTION, Q, K, V),
    case(ATTENTION, Q, K, V, 0.0, True, scale=0.3),
    case(ATTENTION, Q, K, V, attn_mask=floats(2, 1, 5, 5, seed=3)),
    case(ATTENTION, Q.bfloat16(), K.bfloat16(), V.bfloat16()),
]
UNINITIALIZED = [
    case(aten.empty.memory_format, [2, 3], dtype=torch.int32),
    case(aten.empty_like.default, X),
    case(aten.new_empty.default, X, [4]),
]


@pytest.fixture(scope="module")
def results() -> list[Any]:
    return run_lowerings([*CASES, *UNINITIALIZED])


@pytest.mark.parametrize("index", range(len(CASES)), ids=lambda index: CASES[index].label)
def test_equals_torch(index: int, results: list[Any]) -> None:
    check(CASES[index], results[index])


@pytest.mark.parametrize("index", range(len(UNINITIALIZED)), ids=lambda index: UNINITIALIZED[index].label)
def test_an_uninitialized_tensor_is_zeros(index: int, results: list[Any]) -> None:
    call = UNINITIALIZED[index]
    expected = torch.zeros_like(call.op(*call.args, **call.kwargs))
    torch.testing.assert_close(results[len(CASES) + index], [expected], rtol=0, atol=0)


def test_a_metadata_assert_becomes_nothing() -> None:
    (assertion,) = checks.LOWERINGS.values()
    assert assertion(X, [2, 3], [3, 1], torch.float32) is None


def test_every_lowering_has_a_case() -> None:
    assert {*factories.LOWERINGS, *matmul.LOWERINGS, *attention.LOWERINGS} == {
        call.op for call in (*CASES, *UNINITIALIZED)
    }


def test_random_dropout_is_refused() -> None:
    (result,) = run_lowerings([case(ATTENTION, Q, K, V, 0.5)])
    assert isinstance(result, UnsupportedUseError)


def test_an_integer_beyond_32_bits_is_refused() -> None:
    (result,) = run_lowerings([case(aten.full.default, [2], 2**31)])
    assert isinstance(result, UnsupportedUseError)
    assert "2147483648 does not fit int32" in str(result)

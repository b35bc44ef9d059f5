"""Edge values on which a lowering once differed from torch without a word."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from tests.support.lowering import Case, case, check, floats, run_lowerings
from tracing import capture
from tracing.backends.hlo.execute import execute

aten = torch.ops.aten
_BEYOND = torch.tensor([100.0, 449.0, 465.0, -1000.0, math.inf, -math.inf, math.nan, 57344.0, 61440.0, 250.0, 1e-9])
_FLOAT8 = (torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz)
_SOURCES = (torch.float32, torch.bfloat16, torch.float16)
_POWERS = torch.tensor([2, -1, -1, 1, 0, -3, 2**31 - 1], dtype=torch.int32)
_EXPONENTS = torch.tensor([-1, -3, -2, -2, 3, 2, -7], dtype=torch.int32)
_ODD = torch.tensor([math.inf, -math.inf, math.nan, 1.0, -1.0, 0.0, -0.0])
_SCALAR, _FIRST = torch.tensor(2.0), torch.tensor([0])

CASES = [
    *(case(aten._to_copy.default, _BEYOND.to(source), dtype=to) for to in _FLOAT8 for source in _SOURCES),
    case(aten._to_copy.default, torch.tensor([448, 1000, -5]), dtype=torch.float8_e4m3fn),
    case(aten.index_fill.int_Scalar, floats(4), 0, torch.tensor([1, -1]), 9.0),
    case(aten.index_fill.int_Tensor, floats(2, 4), 1, torch.tensor([-4, 2]), torch.tensor(9.0)),
    case(aten.index_fill.int_Scalar, _SCALAR, 0, _FIRST, 9.0),
    case(aten.index_copy.default, _SCALAR, 0, _FIRST, torch.tensor(3.0)),
    case(aten.index_add.default, _SCALAR, 0, _FIRST, torch.tensor(3.0), alpha=2),
    case(aten.scatter.value, _SCALAR, 0, torch.tensor(0), 9.0),
    case(aten.pow.Tensor_Tensor, _POWERS, _EXPONENTS),
    case(aten.pow.Scalar, 2, torch.tensor([-1, 0, 3], dtype=torch.int32)),
    *(case(aten.pow.Tensor_Scalar, _ODD, exponent) for exponent in (0.5, -0.5, -2.0, 0)),
    *(case(aten.div.Tensor_mode, _ODD, torch.tensor(y), rounding_mode="floor") for y in (0.0, -0.0, 2.0, -math.inf)),
    case(aten.hardtanh.default, torch.tensor([-3, 0, 3]), -1.5, 1.5),
    case(aten.arange.default, 3.1, dtype=torch.int64),
    case(aten.arange.default, 3.1, dtype=torch.int32),
    case(aten.scatter_add.default, torch.zeros(3, dtype=torch.bool), 0, _FIRST, torch.tensor([True])),
    case(aten.native_layer_norm.default, floats(2, 3, dtype=torch.bfloat16), [3], None, None, 1e-5),
]


@pytest.mark.parametrize("call", CASES, ids=lambda call: call.label)
def test_edge_values(call: Case) -> None:
    check(call, *run_lowerings([call]))


def test_zero_keeps_its_sign_in_a_floored_quotient() -> None:
    call = case(aten.div.Tensor_mode, torch.tensor([-0.0, 0.0]), torch.tensor(2.0), rounding_mode="floor")
    ((found,),) = run_lowerings([call])
    assert torch.equal(found.signbit(), call.op(*call.args, **call.kwargs).signbit())


def _masks() -> list[Tensor]:
    seen = torch.tensor([[True, True], [False, False]])
    return [seen, torch.zeros(2, 2).masked_fill(~seen, -math.inf)]


@pytest.mark.parametrize("mask", _masks(), ids=["bool", "additive"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("heads", [1, 2], ids=["one head", "grouped"])
def test_a_query_that_sees_no_key_attends_to_nothing(mask: Tensor, dtype: torch.dtype, heads: int) -> None:
    """As an idle row of a padded batch does."""
    mask = mask if mask.dtype is torch.bool else mask.to(dtype)
    query, key = floats(1, heads, 2, 4, dtype=dtype), floats(1, 1, 2, 4, dtype=dtype, seed=1)

    def attend(query: Tensor, key: Tensor, mask: Tensor) -> Tensor:
        return scaled_dot_product_attention(query, key, key, attn_mask=mask, enable_gqa=heads > 1)

    (found,) = execute(capture(attend, (query, key, mask)), (query, key, mask)).outputs
    assert not found[0, :, 1].any()
    torch.testing.assert_close(found, attend(query, key, mask))

"""Element-wise lowerings against torch eager."""

import math
from typing import Any

import pytest
import torch

from tests.support.lowering import Case, bools, case, check, floats, ints, run_lowerings
from tracing.backends.hlo.ops import binary, unary

aten = torch.ops.aten
HALF = (torch.float16, torch.bfloat16)

_POSITIVE = floats(3, 4).abs() + 0.1
_UNIT = floats(3, 4).clamp(-0.9, 0.9)
_ODD = torch.tensor([math.nan, math.inf, -math.inf, 0.0, -0.0, 1.5, -2.5, 0.5])

_ANY_FLOAT = (
    "abs neg sign trunc floor ceil relu exp exp2 expm1 sin cos tan atan sinh cosh tanh asinh erf sigmoid reciprocal "
    "gelu silu leaky_relu elu softplus isnan isinf logical_not round hardtanh"
).split()
_POSITIVE_ONLY = "log log1p log2 log10 sqrt rsqrt".split()
_UNIT_ONLY = "asin acos atanh".split()
_TAKES_INTEGERS = "abs neg sign trunc floor ceil relu exp sqrt sigmoid reciprocal isnan isinf logical_not round".split()

_BINARY = "add sub mul div remainder fmod eq ne lt le gt ge".split()
_BITWISE = "bitwise_and bitwise_or bitwise_xor".split()


def _unary_cases() -> list[Case]:
    domains = {**dict.fromkeys(_ANY_FLOAT, floats(3, 4)), **dict.fromkeys(_POSITIVE_ONLY, _POSITIVE)}
    domains |= {**dict.fromkeys(_UNIT_ONLY, _UNIT), "acosh": _POSITIVE + 1}
    calls = [case(getattr(aten, name).default, x) for name, x in domains.items()]
    calls += [case(getattr(aten, name).default, x.to(t)) for name, x in domains.items() for t in HALF]
    calls += [case(getattr(aten, name).default, _ODD) for name in _ANY_FLOAT if name != "gelu"]
    return calls + [case(getattr(aten, name).default, ints(3, 4).abs() + 1) for name in _TAKES_INTEGERS]


def _binary_cases() -> list[Case]:
    x, y = floats(3, 4), floats(4, seed=1)
    i, j = ints(3, 4), ints(4, low=1, seed=1)
    pairs = [(x, y), (x, i), (i, j), (i, x), (x.to(torch.bfloat16), y), (x.to(torch.bfloat16), torch.tensor(2.0))]
    calls = [case(getattr(aten, name).Tensor, *pair) for name in _BINARY for pair in pairs]
    calls += [case(getattr(aten, name).Tensor, v, 3) for name in _BINARY[:4] for v in (x, i, x.half())]
    calls += [case(getattr(aten, name).Scalar, x, 2.5) for name in _BINARY]
    calls += [case(getattr(aten, name).Scalar, i, 3) for name in _BINARY]
    return calls


def _bitwise_cases() -> list[Case]:
    i, j = ints(3, 4), ints(3, 4, seed=1)
    calls = [case(getattr(aten, name).Tensor, *pair) for name in _BITWISE for pair in ((i, j), (i > 0, j > 0))]
    return calls + [case(getattr(aten, name).Scalar, i, 5) for name in _BITWISE]


CASES = [
    *_unary_cases(),
    *_binary_cases(),
    *_bitwise_cases(),
    case(aten.add.Tensor, bools(4), bools(4, seed=1)),
    case(aten.mul.Tensor, bools(4), bools(4, seed=1)),
    case(aten.add.Tensor, floats(3), floats(3, seed=1), alpha=2),
    case(aten.sub.Tensor, ints(3), ints(3, seed=1), alpha=3),
    case(aten.rsub.Tensor, floats(3), floats(3, seed=1), alpha=2),
    case(aten.rsub.Scalar, floats(3), 1.0),
    case(aten.div.Tensor, floats(3), torch.zeros(3)),
    *(
        case(op, x, y, rounding_mode=mode)
        for mode in ("floor", "trunc", None)
        for op, x, y in (
            (aten.div.Tensor_mode, floats(5), floats(5, seed=1)),
            (aten.div.Tensor_mode, ints(5), ints(5, low=1, seed=1)),
            (aten.div.Tensor_mode, torch.tensor([0.3, -0.3, 6.0]), torch.tensor([0.1, 0.1, 0.1])),
            (aten.div.Scalar_mode, ints(5), -4),
        )
    ),
    case(aten.floor_divide.default, ints(5), ints(5, low=-3, high=0, seed=1)),
    case(aten.remainder.Tensor, torch.tensor([5, -5, 5, -5, 4]), torch.tensor([3, 3, -3, -3, 2])),
    case(aten.fmod.Tensor, torch.tensor([5.5, -5.5]), torch.tensor([3.0, 3.0])),
    case(aten.round.decimals, floats(5), decimals=2),
    *(case(aten.gelu.default, floats(4, dtype=t), approximate="tanh") for t in (torch.float32, *HALF)),
    case(aten.leaky_relu.default, floats(4), 0.3),
    case(aten.elu.default, floats(4), 1.3, 1.1, 0.7),
    case(aten.softplus.default, floats(4) * 20, 2, 10),
    *(case(aten.pow.Tensor_Scalar, _POSITIVE, e) for e in (2, 3, -1, 0.5, 2.5, 0)),
    case(aten.pow.Tensor_Scalar, ints(4), 3),
    case(aten.pow.Tensor_Scalar, _POSITIVE.bfloat16(), 3),
    case(aten.pow.Tensor_Tensor, _POSITIVE, floats(4, seed=1)),
    case(aten.pow.Tensor_Tensor, ints(6), ints(6, low=0, high=7, seed=1)),
    case(aten.pow.Scalar, 500000.0, floats(4)),
    case(aten.pow.Scalar, 2, ints(4, low=0)),
    case(aten.atan2.default, floats(4), floats(4, seed=1)),
    *(case(op.default, floats(4), floats(3, 4, seed=1)) for op in (aten.maximum, aten.minimum)),
    *(case(op.default, _ODD, torch.ones(8)) for op in (aten.maximum, aten.minimum)),
    *(
        case(op.default, x, bools(4, seed=1))
        for op in (aten.logical_and, aten.logical_or, aten.logical_xor)
        for x in (bools(4), ints(4, low=0, high=2), floats(4))
    ),
    case(aten.bitwise_not.default, ints(4)),
    case(aten.bitwise_not.default, bools(4)),
    case(aten.bitwise_left_shift.Tensor, ints(4, low=0), ints(4, low=0, high=5, seed=1)),
    case(aten.bitwise_right_shift.Tensor, ints(4), ints(4, low=0, high=3, seed=1)),
    case(aten.clamp.default, floats(9), -0.5, 0.5),
    case(aten.clamp.default, ints(9), None, 3),
    case(aten.clamp.default, ints(9), 0.5, None),
    case(aten.clamp.default, _ODD, -1, 1),
    case(aten.clamp.default, floats(9), 1.0, -1.0),
    case(aten.clamp.Tensor, floats(3, 4), floats(4, seed=1) - 1, floats(4, seed=1) + 1),
    case(aten.clamp_min.default, floats(9), 0),
    case(aten.clamp_max.default, ints(9), 0),
    case(aten.clamp_min.Tensor, floats(9), torch.tensor(0.1)),
    case(aten.clamp_max.Tensor, floats(9), floats(9, seed=1)),
    case(aten.hardtanh.default, floats(9), -0.2, 0.3),
    case(aten.where.self, bools(3, 1), floats(4), ints(3, 4)),
    case(aten.where.self, bools(3, 4), floats(3, 4), torch.tensor(-math.inf)),
    case(aten.where.ScalarSelf, bools(4), 1.5, floats(4)),
    case(aten.where.ScalarOther, bools(4), ints(4), -1),
    case(aten.where.Scalar, bools(4), 1, 2),
    case(aten.masked_fill.Scalar, floats(3, 4), bools(4), -math.inf),
    case(aten.masked_fill.Scalar, floats(3, 4), bools(3, 4), torch.finfo(torch.float32).min),
    case(aten.masked_fill.Scalar, ints(4), bools(4), -1),
    case(aten.masked_fill.Tensor, floats(3, 4), bools(3, 4), torch.tensor(7.0)),
]


@pytest.fixture(scope="module")
def results() -> list[Any]:
    return run_lowerings(CASES)


@pytest.mark.parametrize("index", range(len(CASES)), ids=lambda index: CASES[index].label)
def test_equals_torch(index: int, results: list[Any]) -> None:
    check(CASES[index], results[index])


def test_every_lowering_has_a_case() -> None:
    assert {*unary.LOWERINGS, *binary.LOWERINGS} == {call.op for call in CASES}

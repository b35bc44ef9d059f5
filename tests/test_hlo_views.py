"""Lowerings of views, copies and assembled tensors against torch eager."""

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from tests.support.lowering import Case, bools, case, check, floats, ints, run_lowerings
from tracing.backends.hlo.ops import assembly, views

aten = torch.ops.aten
X = floats(2, 3, 4)
FLOAT8 = (torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz)

CASES = [
    *(case(op.default, X) for op in (aten.alias, aten.clone, aten.detach, aten.lift_fresh_copy)),
    case(aten.clone.default, X, memory_format=torch.contiguous_format),
    *(
        case(op.default, X, size)
        for op in (aten.view, aten._unsafe_view, aten._reshape_copy)
        for size in ([6, 4], [-1], [2, -1, 2, 2])
    ),
    case(aten.view.default, floats(), [1, 1]),
    case(aten.view.default, floats(0, 3), [3, 0]),
    case(aten.view.dtype, ints(2, 4), torch.float32),
    case(aten.view.dtype, ints(2, 4), torch.int16),
    case(aten.view.dtype, ints(2, 4, dtype=torch.int16), torch.int32),
    case(aten.view.dtype, floats(2, 4, dtype=torch.bfloat16), torch.int16),
    case(aten.view.dtype, ints(2, 4, low=0, dtype=torch.uint8), torch.float8_e4m3fn),
    *(case(aten.permute.default, X, dims) for dims in ([2, 0, 1], [0, -1, 1])),
    case(aten.transpose.int, X, 0, -1),
    case(aten.transpose.int, floats(), 0, -1),
    *(case(aten.t.default, floats(*shape)) for shape in ((2, 3), (3,), ())),
    *(case(aten.unsqueeze.default, X, dim) for dim in (0, 2, -1)),
    case(aten.squeeze.default, floats(1, 3, 1)),
    *(case(aten.squeeze.dim, floats(1, 3, 1), dim) for dim in (0, 1, -1)),
    case(aten.squeeze.dims, floats(1, 3, 1), [0, 1, 2]),
    case(aten.expand.default, floats(3, 1), [2, 3, 4]),
    case(aten.expand.default, floats(3, 1), [-1, 4], implicit=True),
    case(aten.expand.default, floats(), [2, 2]),
    *(
        case(aten.slice.Tensor, X, *bounds)
        for bounds in ((1, 1), (-1, 0, 4, 2), (2, -3, -1), (0, 1, 9223372036854775807), (2, 3, 1), (1, -9, 9))
    ),
    *(case(aten.select.int, X, dim, index) for dim, index in ((0, 1), (-1, -1), (1, 0))),
    case(aten.split.Tensor, floats(7, 2), 3),
    case(aten.split.Tensor, floats(2, 6), 2, -1),
    case(aten.split_with_sizes.default, floats(2, 6), [1, 2, 3], 1),
    case(aten.unbind.int, X, 1),
    *(case(aten._to_copy.default, X, dtype=t) for t in (torch.bfloat16, torch.int32, torch.int64, torch.bool, None)),
    *(case(aten._to_copy.default, floats(4, dtype=t), dtype=torch.float32) for t in FLOAT8),
    *(case(aten._to_copy.default, floats(4), dtype=t) for t in FLOAT8),
    case(aten._to_copy.default, ints(4), dtype=torch.uint32),
    case(aten._to_copy.default, floats(4), dtype=torch.float64),
    case(aten.copy.default, X, ints(4)),
    case(aten.cat.default, [floats(2, 3), floats(1, 3, seed=1)]),
    case(aten.cat.default, [floats(2, 3), ints(2, 2)], -1),
    case(aten.cat.default, [floats(0), floats(2, 3)], 1),
    case(aten.stack.default, [floats(2, 3), floats(2, 3, seed=1)], 1),
    case(aten.stack.default, [floats(2, 3), ints(2, 3)], -1),
    case(aten.constant_pad_nd.default, X, [1, 2], 3.5),
    case(aten.constant_pad_nd.default, X, [-1, 0, 2, -1], -math.inf),
    case(aten.flip.default, X, [0, -1]),
    case(aten.repeat.default, floats(2, 3), [2, 1, 3]),
    case(aten.repeat.default, floats(3), [0]),
    *(case(aten.diagonal.default, floats(3, 5), offset) for offset in (0, 1, -1, 4, -2)),
    case(aten.diagonal.default, X, 0, 2, 1),
    case(aten.roll.default, X, [1, -2], [0, 2]),
    case(aten.roll.default, X, [5]),
    *(case(op.default, floats(4, 5), d) for op in (aten.tril, aten.triu) for d in (0, 2, -1)),
    case(aten.tril.default, bools(3, 3)),
]


def _as_copies(calls: list[Case]) -> Iterator[Case]:
    """The same calls of the ops that copy what they view, such as `select_copy.int`."""
    for call in calls:
        name, overload = call.op._schema.name.removeprefix("aten::"), call.op._overloadname
        packet = getattr(aten, f"{name}_copy", None)
        if packet is not None and overload in packet.overloads() and not call.kwargs:
            yield Case(getattr(packet, overload), call.args)


CASES += _as_copies(CASES)


@pytest.fixture(scope="module")
def results() -> list[Any]:
    return run_lowerings(CASES)


@pytest.mark.parametrize("index", range(len(CASES)), ids=lambda index: CASES[index].label)
def test_equals_torch(index: int, results: list[Any]) -> None:
    check(CASES[index], results[index])


def test_every_lowering_has_a_case() -> None:
    assert {*views.LOWERINGS, *assembly.LOWERINGS} == {call.op for call in CASES}

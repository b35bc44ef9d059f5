"""The comparison of a lowering with torch eager can fail."""

from collections.abc import Callable
from typing import Any

import jax
import pytest
import torch
from jax import lax

from tests.support.lowering import case, check, floats, run_lowerings
from tracing.backends.hlo import ops
from tracing.backends.hlo.ops import LOWERINGS

aten = torch.ops.aten


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

"""Every lowering against torch on OpInfo's samples and on edge values; `python -m tests.hlo_oracle` runs many more."""

from __future__ import annotations

import pytest
import torch
from jax import lax

from tests.hlo_oracle.compare import compare
from tests.hlo_oracle.edges import edge_calls
from tests.hlo_oracle.samples import DTYPES, recorded_calls
from tests.support.lowering import case
from tracing.backends.hlo.arrays import Array
from tracing.backends.hlo.ops import LOWERINGS

aten = torch.ops.aten
MOST = 3
"""Calls of each overload and dtype. With 3, the six dtypes take about 40 s of one core."""

LEAST = {
    torch.float32: 450,
    torch.bfloat16: 400,
    torch.float16: 400,
    torch.int32: 350,
    torch.int64: 350,
    torch.bool: 250,
}
"""Fewest sample calls that must be compared, so that the recording cannot run dry unseen."""


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))
def test_lowerings_are_equal_or_refused(dtype: torch.dtype) -> None:
    calls = recorded_calls(dtype, MOST)
    samples, edges = compare(calls), compare(list(edge_calls(calls)))
    assert not samples.wrong + edges.wrong, "\n".join(samples.wrong + edges.wrong)
    assert samples.equal >= LEAST[dtype]
    assert edges.equal >= LEAST[dtype] / 2


def test_a_lowering_that_forgets_nan_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(x: Array) -> Array:
        return lax.select(lax.ne(x, x), lax.full(x.shape, 0, x.dtype), lax.exp(x))

    monkeypatch.setattr(
        "tests.support.lowering.run_lowerings.__defaults__", ({**LOWERINGS, aten.exp.default: forgetful},)
    )
    call = case(aten.exp.default, torch.zeros(9))
    assert not compare([call]).wrong
    (wrong,) = compare(list(edge_calls([call]))).wrong
    assert wrong.startswith("exp.default")

"""Tensors that share memory: refused by both names where the graph writes one of them, right otherwise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from passes.errors import DeadkvError
from tracing import capture, compile_tkg
from tracing.backends.hlo.execute import execute

X = torch.tensor([1.0, 2.0])


class Shared(nn.Module):
    """Two parameters made of one tensor `[4, 2, 2]`; the first is written."""

    def __init__(self, one: Callable[[Tensor], Tensor], other: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        pool = torch.zeros(4, 2, 2)
        self.k = nn.Parameter(one(pool), requires_grad=False)
        self.kv = nn.Parameter(other(pool), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        self.k[1] = x
        return self.kv + 0


@pytest.mark.parametrize(
    "other",
    [lambda p: p.view(16), lambda p: p.transpose(0, 2), lambda p: p[1:3], lambda p: p.view(torch.int32), lambda p: p],
    ids=["flat", "transposed", "part", "dtype", "same"],
)
def test_a_write_that_another_parameter_would_miss_is_refused(other: Callable[[Tensor], Tensor]) -> None:
    graph = capture(Shared(lambda p: p, other), (X,))
    with pytest.raises(DeadkvError, match="'kv' shares memory with 'k', which the graph writes"):
        execute(graph, (X,))


@pytest.mark.parametrize(
    ("one", "other"),
    [(lambda p: p[:, 0], lambda p: p[:, 1]), (lambda p: p[:2], lambda p: p[2:]), (lambda p: p, torch.clone)],
    ids=["interleaved", "halves", "apart"],
)
def test_parts_without_a_common_element_are_memory_apart(
    one: Callable[[Tensor], Tensor], other: Callable[[Tensor], Tensor]
) -> None:
    model = Shared(one, other)
    (found,) = execute(capture(model, (X,)), (X,)).outputs
    assert torch.equal(found, model(X))


def test_memory_that_nobody_writes_may_be_shared() -> None:
    def read(a: Tensor, b: Tensor) -> Tensor:
        return a + b

    (found,) = execute(capture(read, (X, X[:1])), (X, X[:1])).outputs
    assert torch.equal(found, read(X, X[:1]))


def test_inputs_that_share_memory_are_named() -> None:
    def write(a: Tensor, b: Tensor) -> Tensor:
        a.add_(1)
        return b * 2

    x = torch.ones(4)
    with pytest.raises(DeadkvError, match="'b' shares memory with 'a'"):
        execute(capture(write, (x, x[:2])), (x, x[:2]))


def test_nothing_is_written_for_such_a_model(tmp_path: Path) -> None:
    with pytest.raises(DeadkvError, match="'kv' shares memory with 'k'"):
        compile_tkg(Shared(lambda p: p, lambda p: p[1:3]), (X,), backend="hlo", out_dir=tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_write_inside_a_branch_says_where_to_write_instead() -> None:
    class Branch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pool = nn.Parameter(torch.zeros(4, 2), requires_grad=False)

        def forward(self, x: Tensor) -> Tensor:
            torch.cond(x[0] > 0, lambda x, p: (p.mul_(2.0), x + 1)[1], lambda x, p: x - 1, (x, self.pool))
            return x * 2

    with pytest.raises(DeadkvError, match=r"inside a nested graph .* return the new value from the nested graph"):
        execute(capture(Branch(), (X,)), (X,))

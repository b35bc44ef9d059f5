"""Which calls gather along one dimension, by what, along which."""

from __future__ import annotations

import operator
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch.fx import Graph

from passes.ops.schema import resolve
from passes.sites.gathers import gather_operands

aten = torch.ops.aten
GRAPH = Graph()
POOL, INDEX = GRAPH.placeholder("pool"), GRAPH.placeholder("index")
ALL = slice(None)


@pytest.mark.parametrize(
    ("target", "args", "dim"),
    [
        (aten.index_select.default, (POOL, 0, INDEX), 0),
        (aten.index_select.default, (POOL, 2, INDEX), 2),
        (torch.gather, (POOL, 1, INDEX), 1),
        (torch.take_along_dim, (POOL, INDEX, 1), 1),
        (aten.index.Tensor, (POOL, [INDEX]), 0),
        (aten.index.Tensor, (POOL, [None, INDEX]), 1),
        (aten.index.Tensor, (POOL, [None, None, INDEX]), 2),
        (aten._unsafe_index.Tensor, (POOL, [INDEX, None]), 0),
        (operator.getitem, (POOL, INDEX), 0),
        (operator.getitem, (POOL, (ALL, INDEX)), 1),
        (operator.getitem, (POOL, (INDEX, ALL, Ellipsis)), 0),
        (operator.getitem, (POOL, (INDEX, Ellipsis)), 0),
        (F.embedding, (INDEX, POOL), 0),
        (aten.embedding.default, (POOL, INDEX), 0),
    ],
)
def test_a_gather_names_its_tensor_index_and_dimension(target: Any, args: tuple[Any, ...], dim: int) -> None:
    call = resolve(GRAPH.call_function(target, args))
    assert call is not None and gather_operands(call) == (POOL, INDEX, dim)


@pytest.mark.parametrize(
    ("target", "args"),
    [
        (aten.index_select.default, (POOL, -1, INDEX)),
        (aten.index_select.default, (POOL, INDEX, INDEX)),
        (torch.take_along_dim, (POOL, INDEX)),
        (aten.index.Tensor, (POOL, [INDEX, INDEX])),
        (aten.index.Tensor, (POOL, [None, None])),
        (operator.getitem, (POOL, 1)),
        (operator.getitem, (POOL, ALL)),
        (operator.getitem, (POOL, (Ellipsis, INDEX))),
        (operator.getitem, (POOL, (slice(1, None), INDEX))),
        (operator.getitem, (POOL, (1, INDEX))),
        (operator.getitem, ([POOL], INDEX)),
        (aten.relu.default, (POOL,)),
    ],
)
def test_other_calls_are_no_gather_along_one_known_dimension(target: Any, args: tuple[Any, ...]) -> None:
    call = resolve(GRAPH.call_function(target, args))
    assert call is not None and gather_operands(call) is None

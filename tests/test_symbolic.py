"""Graphs with symbolic sizes: a size that outlives its tensor becomes an expression over the inputs' sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.fx import GraphModule

from passes import PrunePrefixCache
from tests.support.builder import GraphBuilder
from tests.support.prunes import check_prune

Body = Callable[[Tensor, Tensor, Tensor], Any]


def site(pool: Tensor, table: Tensor) -> Tensor:
    return pool.index_select(0, table.reshape(-1)).reshape(table.shape[0], -1, 2, 8).permute(0, 2, 1, 3)


def size(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> Any:
    return x + site(past_key_values_0, block_table).size(2)


def all_sizes(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> Any:
    return x.sum() + torch.zeros(site(past_key_values_0, block_table).shape).sum(), block_table.shape[1]


def zeros_like(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> Any:
    return torch.zeros_like(site(past_key_values_0, block_table))


def expand_as(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> Any:
    return x[:, :, :1].expand_as(site(past_key_values_0, block_table)) * 2


def value_in_shape(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> Any:
    return x + torch.nonzero(site(past_key_values_0, block_table)).shape[0]


def inputs(batch: int, blocks: int) -> tuple[Tensor, Tensor, Tensor]:
    table = torch.arange(batch * blocks, dtype=torch.int32).reshape(batch, blocks) % 9
    return torch.randn(batch, 2, 4 * blocks, 8), torch.randn(10, 4, 2, 8), table


def dynamic_graph(body: Body, example: tuple[Tensor, ...]) -> tuple[GraphModule, Callable[..., list[Any]]]:
    """The graph that Dynamo makes with symbolic sizes, and its inputs for given tensors."""
    seen: list[GraphModule] = []
    arguments: list[Any] = []

    def backend(module: GraphModule, given: list[Any]) -> Any:
        seen.append(module)

        def run(*values: Any) -> Any:
            arguments[:] = values
            return module(*values)

        return run

    compiled = torch.compile(body, backend=backend, fullgraph=True, dynamic=True)

    def flat(*values: Any) -> list[Any]:
        compiled(*values)
        return list(arguments)

    flat(*example)
    return seen[0], flat


@pytest.mark.parametrize("body", [size, all_sizes, zeros_like, expand_as], ids=lambda body: body.__name__)
def test_a_symbolic_size_is_re_rooted_on_the_inputs(body: Body) -> None:
    module, flat = dynamic_graph(body, inputs(3, 5))
    for batch, blocks in ((3, 5), (2, 7)):
        result = check_prune(module, flat(*inputs(batch, blocks)), policy="liveness")
        assert [found.status for found in result.report.sites] == ["pruned"]
    assert "index_select" not in {str(node.target) for node in result.graph_module.graph.nodes}


def test_a_size_that_comes_from_data_keeps_the_site() -> None:
    with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True):
        module, _ = dynamic_graph(value_in_shape, inputs(3, 5))
    (found,) = PrunePrefixCache(policy="liveness")(module).report.sites
    assert found.status == "live"
    assert "was not traced" in found.reason or "no function of the inputs' sizes" in found.reason


def test_an_item_is_data() -> None:
    def body(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> Any:
        return x * site(past_key_values_0, block_table)[0, 0, 0, 0].item()

    with torch._dynamo.config.patch(capture_scalar_outputs=True):
        module, _ = dynamic_graph(body, inputs(3, 5))
    (found,) = PrunePrefixCache(policy="liveness")(module).report.sites
    assert found.status == "live"


@pytest.mark.parametrize("dim", [99, "node"])
def test_a_size_at_a_dimension_that_is_not_there_keeps_the_site(dim: object) -> None:
    """A graph from a file may hold such a call; nothing can be folded, and nothing is raised."""
    build = GraphBuilder()
    x, table = build.input("x", 3, 2, 16, 8), build.input("active_block_table", 3, 4, dtype=torch.int32)
    prior = build.site(build.parameter("past_key_values.0", 10, 4, 2, 8), table)
    size = build.graph.call_function(torch.ops.aten.sym_size.int, (prior, x if dim == "node" else dim))
    module = build.module(build.graph.call_function(torch.ops.aten.mul.Tensor, (x, size)))
    (site,) = PrunePrefixCache(policy="liveness")(module).report.sites
    assert site.status == "live"

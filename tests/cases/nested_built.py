"""Rows of nested graphs that no tracer writes: aten submodules, sizes and writes inside, sizes that disagree."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.fx import Node

from tests.cases.building import CaseBuilder, aten
from tests.cases.case import built


def computes(x: Tensor, prior: Tensor) -> dict[str, Any]:
    return {"hidden": x + 1, "cache": [prior * 2]}


def sized(build: CaseBuilder, length: int) -> str:
    """A body that multiplies by its second input's number of positions, traced for `length` of them."""
    inner = build.nested()
    x, prior = inner.input("x", 3, 2, 16, 8), inner.input("prior", 3, 2, length, 8)
    return build.body("layer", inner.module(inner.call(aten.mul.Tensor, x, inner.call(aten.sym_size.int, prior, 2))))


# submodule_operand: GraphModules of aten operators.
@built("submodule_operand", "positional", goes=True)
def _(build: CaseBuilder, x: Node, pool: Node, table: Node) -> object:
    prior = build.site(pool, table)
    layer = build.traced("layer", lambda prior, x: (x + 1,), prior, x)
    return build.item(build.call_module(layer, prior, x), 0)


@built("submodule_operand", "keywords_in_other_order", goes=True)
def _(build: CaseBuilder, x: Node, pool: Node, table: Node) -> object:
    prior = build.site(pool, table)
    layer = build.traced("layer", lambda x, prior: (x + 1,), x, prior)
    return build.item(build.call_module(layer, prior=prior, x=x), 0)


@built("submodule_operand", "size_read_inside", goes=True)
def _(build: CaseBuilder, x: Node, pool: Node, table: Node) -> object:
    return build.item(build.call_module(sized(build, 16), x, build.site(pool, table)), 0)


@built("submodule_operand", "callers_that_share_a_body", goes=True, before=2, after=1)
def _(build: CaseBuilder, x: Node, pool: Node, table: Node) -> object:
    prior, again = build.site(pool, table), build.site(pool, table)
    layer = build.traced("layer", computes, x, prior)
    first = build.item(build.call_module(layer, x, prior), "hidden")
    second = build.call_module(layer, first, prior=again)
    return build.item(second, "hidden"), build.item(build.item(second, "cache"), 0)


@built("submodule_operand", "twin_sizes_disagree", goes=False)
def _(build: CaseBuilder, x: Node, pool: Node, table: Node) -> object:
    return build.item(build.call_module(sized(build, 32), x, build.site(pool, table)), 0)


@built("submodule_operand", "twin_written_to_the_pool_inside", goes=False)
def _(build: CaseBuilder, x: Node, pool: Node, table: Node) -> object:
    def writes(x: Tensor, prior: Tensor, pool: Tensor) -> tuple[Tensor]:
        pool[0].copy_(prior[0, :, :4].transpose(0, 1))
        return (x + 1,)

    prior = build.site(pool, table)
    layer = build.traced("layer", writes, x, prior, pool)
    return build.item(build.call_module(layer, x, prior, pool), 0)


# invoke_subgraph: as graphs of other makers have it.
@built("invoke_subgraph", "one_identifier_two_bodies", goes=True, before=2)
def _(build: CaseBuilder, x: Node, pool: Node, table: Node) -> object:
    prior = build.site(pool, table)
    again = build.site(pool, table)
    bodies = [build.traced(f"repeated_subgraph{n}", lambda x, prior: (x + 1,), x, prior) for n in range(2)]
    first = build.item(build.invoke(build.graph_of(bodies[0]), "subgraph_0", x, prior), 0)
    return build.item(build.invoke(build.graph_of(bodies[1]), "subgraph_0", first, again), 0)


@built("invoke_subgraph", "size_read_inside", goes=True)
def _(build: CaseBuilder, x: Node, pool: Node, table: Node) -> object:
    prior = build.site(pool, table)
    return build.item(build.invoke(build.graph_of(sized(build, 16)), "subgraph_0", x, prior), 0)


@built("invoke_subgraph", "twin_sizes_disagree", goes=False)
def _(build: CaseBuilder, x: Node, pool: Node, table: Node) -> object:
    prior = build.site(pool, table)
    return build.item(build.invoke(build.graph_of(sized(build, 32)), "subgraph_0", x, prior), 0)


@built("invoke_subgraph", "twin_one_body_of_two_reads", goes=True, before=2, after=1)
def _(build: CaseBuilder, x: Node, pool: Node, table: Node) -> object:
    prior, again = build.site(pool, table), build.site(pool, table)
    ignores = build.traced("ignores", lambda x, prior: (x + 1,), x, prior)
    reads = build.traced("reads", lambda x, prior: (x + prior,), x, prior)
    first = build.item(build.invoke(build.graph_of(ignores), "subgraph_0", x, prior), 0)
    return build.item(build.invoke(build.graph_of(reads), "subgraph_1", first, again), 0)


# tuple_element: dicts of aten submodules.
@built("tuple_element", "list_in_dict", goes=True)
def _(build: CaseBuilder, x: Node, pool: Node, table: Node) -> object:
    prior = build.site(pool, table)
    return build.item(build.call_module(build.traced("layer", computes, x, prior), x, prior), "hidden")


@built("tuple_element", "indices_close_up", goes=True)
def _(build: CaseBuilder, x: Node, pool: Node, table: Node) -> object:
    def results(prior: Tensor, x: Tensor) -> tuple[Any, ...]:
        return prior * 2, (prior + 1, x + 1), [x * 2, prior.sum(), x - 1]

    prior = build.site(pool, table)
    call = build.call_module(build.traced("layer", results, prior, x), prior, x)
    return build.item(build.item(call, 1), 1), build.item(build.item(call, 2), 2)


@built("tuple_element", "twin_container_returned", goes=False)
def _(build: CaseBuilder, x: Node, pool: Node, table: Node) -> object:
    prior = build.site(pool, table)
    call = build.call_module(build.traced("layer", computes, x, prior), x, prior)
    return build.item(call, "hidden"), build.item(call, "cache")

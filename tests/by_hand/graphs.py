"""What the hand-made graphs have in common: inputs, a site, a layer, and takers of its results."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from tests.support.regions import RegionBuilder, erase, keep_values, set_args, set_results

aten = torch.ops.aten


SHAPE = (3, 2, 16, 8)


def start() -> tuple[RegionBuilder, Node, Node, Node]:
    """A graph of two inputs `x` and `y` and a site, `permute`, of a pool."""
    build = RegionBuilder()
    x, y = build.input("x", *SHAPE), build.input("y", *SHAPE)
    table = build.input("block_table", 3, 4, dtype=torch.int32)
    return build, x, y, build.site(build.parameter("past_key_values.0", 10, 4, 2, 8), table)


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    """Inputs of a graph of `start`."""
    torch.default_generator.manual_seed(0)
    return torch.randn(SHAPE), torch.randn(SHAPE), torch.arange(12, dtype=torch.int32).reshape(3, 4) % 9


def drop_site(module: GraphModule) -> None:
    """Erases the site, which must have no use."""
    erase(module, "permute", "view_1", "index_select", "view", "past_key_values_0")


def layer(outer: RegionBuilder) -> GraphModule:
    """`(x, prior, y) -> (prior * 2, x + y, x - 3)`, which also adds 1 to a parameter."""
    build = outer.nested()
    x, prior, y = (build.input(name, *SHAPE) for name in ("x", "prior", "y"))
    build.call(aten.add_.Tensor, build.parameter("steps", 1), 1)
    dead = build.call(aten.mul.Tensor, prior, 2)
    return build.returning((dead, build.call(aten.add.Tensor, x, y), build.call(aten.sub.Tensor, x, 3)))


def prune_layer(body: GraphModule) -> None:
    set_results(body, ("add", "sub"))
    erase(body, "mul", "prior")


def finish(build: RegionBuilder, *calls: Node) -> GraphModule:
    """Returns the sum of the last two results of each call."""
    taken = [build.item(call, number) for call in calls for number in (1, 2)]
    total = taken[0]
    for other in taken[1:]:
        total = build.call(aten.add.Tensor, total, other)
    return build.module(total)


def renumber(module: GraphModule, *calls: str) -> None:
    """The takers of `finish` after each of `calls` lost its first result."""
    takers = iter(["getitem", *(f"getitem_{n}" for n in range(1, 2 * len(calls)))])
    for call in calls:
        keep_values(module, call, 1, 2)
        set_args(module, next(takers), call, 0)
        set_args(module, next(takers), call, 1)

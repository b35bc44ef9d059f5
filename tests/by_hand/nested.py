"""Branches, regions in regions, and what goes inside a region, before and after."""

from __future__ import annotations

import torch
from torch.fx import GraphModule

from tests.by_hand.graphs import SHAPE, drop_site, finish, layer, prune_layer, renumber, start
from tests.support.regions import erase, keep_values, set_args, set_results

aten = torch.ops.aten


# cond.


def cond() -> GraphModule:
    build, x, y, prior = start()
    build.body("yes", layer(build))
    build.body("no", layer(build))
    predicate = build.call(aten.gt.Scalar, build.call(aten.sum.default, x), 0)
    return finish(build, build.cond(predicate, "yes", "no", x, prior, y))


def prune_cond(module: GraphModule) -> None:
    prune_layer(module.yes)
    prune_layer(module.no)
    set_args(module, "cond", "gt", "yes", "no", ("x", "y"))
    renumber(module, "cond")
    drop_site(module)


# A region in a region, that passes on what only the inner one dropped.


def nested() -> GraphModule:
    build, x, y, prior = start()
    middle = build.nested()
    a, b, c = (middle.input(name, *SHAPE) for name in ("a", "b", "c"))
    middle.body("inner", layer(middle))
    call = middle.invoke(middle.graph_of("inner"), "inner_0", a, b, c)
    taken = [middle.item(call, number) for number in (0, 1, 2)]
    build.body("middle", middle.returning(tuple(taken)))
    return finish(build, build.call_module("middle", x, prior, y))


def prune_nested(module: GraphModule) -> None:
    middle = module.middle
    prune_layer(middle.inner)
    set_args(middle, "invoke_subgraph", "inner", "inner_0", "a", "c")
    set_results(middle, ("getitem_1", "getitem_2"))
    erase(middle, "getitem", "b")
    set_args(middle, "getitem_1", "invoke_subgraph", 0)
    set_args(middle, "getitem_2", "invoke_subgraph", 1)
    keep_values(middle, "invoke_subgraph", 1, 2)
    set_args(module, "middle", "x", "y")
    renumber(module, "middle")
    drop_site(module)


# A size of a dead input, folded in the graph.


def folded_size() -> GraphModule:
    build, x, y, prior = start()
    inner = build.nested()
    a, b, c = (inner.input(name, *SHAPE) for name in ("x", "prior", "y"))
    size = inner.graph.call_function(aten.sym_size.int, (b, 2))
    size.meta["val"] = SHAPE[2]
    dead = inner.call(aten.mul.Tensor, b, 2)
    build.body("layer", inner.returning((dead, inner.call(aten.mul.Tensor, a, size), inner.call(aten.neg.default, c))))
    return finish(build, build.call_module("layer", x, prior, y))


def prune_folded_size(module: GraphModule) -> None:
    set_results(module.layer, ("mul_1", "neg"))
    set_args(module.layer, "mul_1", "x", SHAPE[2])
    erase(module.layer, "mul", "sym_size_int", "prior")
    set_args(module, "layer", "x", "y")
    renumber(module, "layer")
    drop_site(module)


# A region whose every result is dead, with a write to storage of its own.


def dead_region() -> GraphModule:
    build, x, y, prior = start()
    inner = build.nested()
    a, b = inner.input("a", *SHAPE), inner.input("b", *SHAPE)
    scratch = inner.call(aten.clone.default, a)
    inner.call(aten.mul_.Tensor, scratch, b)
    build.body("dead", inner.returning((scratch,)))
    build.body("layer", layer(build))
    call = build.call_module("dead", prior, x)
    build.call(aten.zero_.default, build.item(call, 0))
    return finish(build, build.call_module("layer", x, y, y))


def prune_dead_region(module: GraphModule) -> None:
    erase(module, "zero_", "getitem", "dead")
    drop_site(module)


# A graph that yields one bare value, which nobody takes any more.


def bare_result() -> GraphModule:
    build, x, y, prior = start()
    inner = build.nested()
    a, b = inner.input("a", *SHAPE), inner.input("b", *SHAPE)
    inner.call(aten.add_.Tensor, inner.parameter("steps", 1), 1)
    build.body("layer", inner.returning(inner.call(aten.mul.Tensor, a, b)))
    build.call_module("layer", prior, x)
    return build.module(build.call(aten.add.Tensor, x, y))


def prune_bare_result(module: GraphModule) -> None:
    set_results(module.layer, None)
    erase(module.layer, "mul", "a", "b")
    set_args(module, "layer")
    drop_site(module)

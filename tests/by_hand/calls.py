"""Calls of one graph, by call_module and invoke_subgraph, before and after."""

from __future__ import annotations

import torch
from torch.fx import GraphModule

from tests.by_hand.graphs import SHAPE, drop_site, finish, layer, prune_layer, renumber, start
from tests.support.regions import erase, keep_values, node, set_args, set_results, sharing_copy

aten = torch.ops.aten


# call_module, one caller.


def call_module() -> GraphModule:
    build, x, y, prior = start()
    return finish(build, build.call_module(build.body("layer", layer(build)), x, prior, y))


def prune_call_module(module: GraphModule) -> None:
    prune_layer(module.layer)
    set_args(module, "layer", "x", "y")
    renumber(module, "layer")
    drop_site(module)


# call_module, called twice, once by keyword.


def two_callers() -> GraphModule:
    build, x, y, prior = start()
    build.body("layer", layer(build))
    first = build.call_module("layer", x, prior, y)
    return finish(build, first, build.call_module("layer", y, prior=prior, y=x))


def prune_two_callers(module: GraphModule) -> None:
    prune_layer(module.layer)
    set_args(module, "layer", "x", "y")
    node(module, "layer_1").kwargs = {"y": node(module, "x")}
    renumber(module, "layer", "layer_1")
    drop_site(module)


# call_module, called twice, the first of which needs every result.


def split_callers() -> GraphModule:
    build, x, y, prior = start()
    build.body("layer", layer(build))
    first = build.call_module("layer", x, y, y)
    return finish(build, first, build.call_module("layer", build.item(first, 0), prior, x))


def prune_split_callers(module: GraphModule) -> None:
    module.layer_pruned = sharing_copy(module.layer)
    prune_layer(module.layer_pruned)
    node(module, "layer_1").target = "layer_pruned"
    set_args(module, "layer_1", "getitem", "x")
    keep_values(module, "layer_1", 1, 2)
    set_args(module, "getitem_3", "layer_1", 0)
    set_args(module, "getitem_4", "layer_1", 1)
    drop_site(module)


# Results in a dict that holds a tuple.


def dict_results() -> GraphModule:
    build, x, y, prior = start()
    inner = build.nested()
    a, b, c = (inner.input(name, *SHAPE) for name in ("x", "prior", "y"))
    dead, also_dead = inner.call(aten.mul.Tensor, b, 2), inner.call(aten.neg.default, b)
    live = (dead, inner.call(aten.add.Tensor, a, c), inner.call(aten.sub.Tensor, a, 3))
    build.body("layer", inner.returning({"old": also_dead, "new": live}))
    call = build.call_module("layer", x, prior, y)
    return finish(build, build.item(call, "new"))


def prune_dict_results(module: GraphModule) -> None:
    set_results(module.layer, {"new": ("add", "sub")})
    erase(module.layer, "neg", "mul", "prior")
    set_args(module, "layer", "x", "y")
    keep_new = node(module, "layer").meta["val"]["new"][1:]
    node(module, "layer").meta["val"] = {"new": keep_new}
    node(module, "getitem").meta["val"] = keep_new
    set_args(module, "getitem_1", "getitem", 0)
    set_args(module, "getitem_2", "getitem", 1)
    drop_site(module)


# invoke_subgraph, one region for two layers.


def invoke_shared() -> GraphModule:
    build, x, y, prior = start()
    graph = build.graph_of(build.body("region", layer(build)))
    first = build.invoke(graph, "region_0", x, prior, y)
    return finish(build, first, build.invoke(graph, "region_0", y, prior, x))


def prune_invoke_shared(module: GraphModule) -> None:
    prune_layer(module.region)
    set_args(module, "invoke_subgraph", "region", "region_0", "x", "y")
    set_args(module, "invoke_subgraph_1", "region", "region_0", "y", "x")
    renumber(module, "invoke_subgraph", "invoke_subgraph_1")
    drop_site(module)


# invoke_subgraph, the first call of which needs every result.


def invoke_split() -> GraphModule:
    build, x, y, prior = start()
    graph = build.graph_of(build.body("region", layer(build)))
    first = build.invoke(graph, "region_0", x, y, y)
    return finish(build, first, build.invoke(graph, "region_0", build.item(first, 0), prior, x))


def prune_invoke_split(module: GraphModule) -> None:
    module.region_pruned = sharing_copy(module.region)
    prune_layer(module.region_pruned)
    with module.graph.inserting_before(node(module, "invoke_subgraph_1")):
        module.graph.get_attr("region_pruned")
    set_args(module, "invoke_subgraph_1", "region_pruned", "region_0_pruned", "getitem", "x")
    keep_values(module, "invoke_subgraph_1", 1, 2)
    set_args(module, "getitem_3", "invoke_subgraph_1", 0)
    set_args(module, "getitem_4", "invoke_subgraph_1", 1)
    drop_site(module)

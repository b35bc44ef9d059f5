"""Graphs that look like a hand-made prune's, for which it would be wrong, and prunes of them."""

from __future__ import annotations

import operator

import torch
from torch.fx import GraphModule

from tests.by_hand.edits import Edit, add_call, all_of, inside, without
from tests.by_hand.graphs import SHAPE, drop_site, finish, layer, renumber, start
from tests.by_hand.nested import folded_size
from tests.support.regions import erase, set_args, set_results

aten = torch.ops.aten
higher_order = torch.ops.higher_order


def taken_by_one(module: GraphModule) -> None:
    """The second caller also takes the result that is about to go."""
    add_call(operator.getitem, "layer_1", 0, name="taken")(module)
    set_results(module, ("add", "taken"))


def only_slices() -> GraphModule:
    """A scan that runs as often as `prior` has slices, and reads none."""
    build, _, _, prior = start()
    body = build.nested()
    total, _ = body.input("total", 1), body.input("prior", *SHAPE[1:])
    build.body("body", body.returning((body.call(aten.add.Tensor, total, 1), body.call(aten.mul.Tensor, total, 2))))
    call = build.scan("body", [build.call(aten.zeros.default, [1])], [prior])
    return build.module(build.item(call, 0), build.item(call, 1))


def prune_only_slices(module: GraphModule) -> None:
    erase(module.body, "prior")
    set_args(module, "scan", "body", ["zeros"], [], ())
    drop_site(module)


def two_shapes() -> GraphModule:
    """The body of `folded_size`, called once more with a shorter `prior`."""
    build, x, y, prior = start()
    build.body("layer", folded_size().layer)
    short = build.call(aten.slice.Tensor, prior, 2, 0, 4)
    calls = []
    for operands in ((x, prior, y), (x, short, y)):
        calls.append(build.graph.call_module("layer", operands))
        calls[-1].meta["val"] = (x.meta["val"],) * 3
    return finish(build, *calls)


def prune_two_shapes(module: GraphModule) -> None:
    set_results(module.layer, ("mul_1", "neg"))
    set_args(module.layer, "mul_1", "x", SHAPE[2])
    erase(module.layer, "mul", "sym_size_int", "prior")
    set_args(module, "layer", "x", "y")
    set_args(module, "layer_1", "x", "y")
    renumber(module, "layer", "layer_1")
    erase(module, "slice_1")
    drop_site(module)


def prune_extra_first(prune: Edit, path: str) -> Edit:
    """A prune that takes a node called `extra` out of a nested graph before all else."""
    return all_of(inside(path, without("extra")), prune)


def dead_loop() -> GraphModule:
    """A loop whose results nobody takes."""
    build, x, y, prior = start()
    count = build.input("count", dtype=torch.int64)
    steers, body = build.nested(), build.nested()
    for inner in (steers, body):
        inner.input("i", dtype=torch.int64)
        inner.input("prior", *SHAPE)
    i, prior_in = list(body.graph.nodes)
    build.body("steers", steers.returning(steers.call(aten.lt.Scalar, next(iter(steers.graph.nodes)), 3)))
    build.body("body", body.returning((body.call(aten.add.Tensor, i, 1), body.call(aten.mul.Tensor, prior_in, 2))))
    build.while_loop("steers", "body", (count, prior))
    return build.module(build.call(aten.add.Tensor, x, y))


def shared_with_an_unknown_operator() -> GraphModule:
    """The graph of `call_module`, which an operator is also given of which nothing is known."""
    build, x, y, prior = start()
    call = build.call_module(build.body("layer", layer(build)), x, prior, y)
    wrapped = build.graph.call_function(higher_order.wrap, (build.graph_of("layer"), x, y, y))
    wrapped.meta["val"] = call.meta["val"]
    return finish(build, call, wrapped)


def bare_taken(module: GraphModule) -> None:
    """Somebody takes the result of `bare_result`."""
    set_args(module, "add", "x", "layer")


def site_output(module: GraphModule) -> None:
    set_results(module, ("add", "permute"))


def unregistered(target: object) -> Edit:
    """Makes the operator of a case one that nobody registered."""

    def edit(module: GraphModule) -> None:
        for found in module.graph.nodes:
            if getattr(found.target, "namespace", "") == "verifylib":
                found.target = target

    return edit

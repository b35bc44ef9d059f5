"""Loops before and after: carries, slices and constant operands go in step."""

from __future__ import annotations

import torch
from torch.fx import GraphModule, Node

from tests.by_hand.graphs import SHAPE, drop_site, finish, renumber, start
from tests.support.regions import RegionBuilder, erase, set_args, set_results

aten = torch.ops.aten


# while_loop: the carry `prior` feeds only itself, with the help of `unread`.


def while_loop() -> GraphModule:
    build, x, y, prior = start()
    count = build.input("count", dtype=torch.int64)
    steers, body = build.nested(), build.nested()
    _, i, _, _, _ = loop_inputs(steers)
    build.body("steers", steers.returning(steers.call(aten.lt.Scalar, i, 3)))
    prior_in, i, x_in, unread, y_in = loop_inputs(body)
    next_prior = body.call(aten.mul.Tensor, prior_in, unread)
    next_i, next_x = body.call(aten.add.Tensor, i, 1), body.call(aten.sub.Tensor, x_in, y_in)
    build.body("body", body.returning((next_prior, next_i, next_x)))
    return finish(build, build.while_loop("steers", "body", (prior, count, x), x, y))


def loop_inputs(build: RegionBuilder) -> tuple[Node, ...]:
    """Carries `prior`, `i`, `x` and constant operands `unread`, `y`."""
    prior, i = build.input("prior", *SHAPE), build.input("i", dtype=torch.int64)
    return prior, i, *(build.input(name, *SHAPE) for name in ("x", "unread", "y"))


def prune_while_loop(module: GraphModule) -> None:
    set_results(module.body, ("add", "sub"))
    erase(module.body, "mul", "prior", "unread")
    erase(module.steers, "prior", "unread")
    set_args(module, "while_loop", "steers", "body", ("count", "x"), ("y",))
    renumber(module, "while_loop")
    drop_site(module)


# scan: the carry `dead` and the slices `prior` feed only each other.


def scan() -> GraphModule:
    build, x, _, prior = start()
    zeros = build.call(aten.zeros.default, list(SHAPE[1:]))
    ones = build.call(aten.ones.default, list(SHAPE[1:]))
    body = build.nested()
    names = ("dead", "total", "prior", "x", "unread", "y")
    dead, total, prior_in, x_in, unread, y_in = (body.input(name, *SHAPE[1:]) for name in names)
    next_dead = body.call(aten.mul.Tensor, body.call(aten.sub.Tensor, dead, prior_in), unread)
    results = next_dead, body.call(aten.add.Tensor, total, x_in), body.call(aten.div.Tensor, x_in, y_in)
    build.body("body", body.returning(results))
    return finish(build, build.scan("body", (ones, zeros), (prior, x), ones, zeros))


def prune_scan(module: GraphModule) -> None:
    set_results(module.body, ("add", "div"))
    erase(module.body, "mul", "sub", "dead", "prior", "unread")
    set_args(module, "scan", "body", ["zeros"], ["x"], ("zeros",))
    renumber(module, "scan")
    drop_site(module)

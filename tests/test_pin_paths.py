"""The path from a live site to what keeps it: the shortest one, through writes and nested graphs."""

from __future__ import annotations

import pytest
import torch
from torch.fx import GraphModule, Node

from passes import PrunePrefixCache
from tests.support.builder import GraphBuilder
from tests.support.regions import RegionBuilder

aten = torch.ops.aten
X = (3, 2, 16, 8)


def pinned_by(module: GraphModule) -> tuple[str, ...]:
    (site,) = PrunePrefixCache(policy="liveness").explain(module).sites
    assert site.status == "live"
    return tuple(name for name in site.pinned_by if name not in ("view_1", "permute"))


def start(build: GraphBuilder) -> tuple[Node, Node]:
    x = build.input("x", *X)
    table = build.input("active_block_table", 3, 4, dtype=torch.int32)
    return x, build.site(build.parameter("past_key_values.0", 10, 4, 2, 8), table)


@pytest.mark.parametrize("short_first", [True, False])
def test_the_shortest_way_is_named_whichever_comes_first(short_first: bool) -> None:
    build = GraphBuilder()
    _, prior = start(build)
    short = build.call(aten.neg.default, prior) if short_first else None
    long = build.call(aten.exp.default, build.call(aten.relu.default, prior))
    short = build.call(aten.neg.default, prior) if short is None else short
    assert pinned_by(build.module(long, short)) == ("neg", "output")


@pytest.mark.parametrize(
    ("steps", "path"),
    [
        (1, ("exp", "output")),
        (2, ("exp", "exp_1", "output")),
        (3, ("copy_", "neg", "output")),
        (4, ("copy_", "neg", "output")),
    ],
)
def test_a_write_counts_one_step_and_what_reads_it_another(steps: int, path: tuple[str, ...]) -> None:
    """Of two ways of the same length, the one that leaves the site later in the graph is named."""
    build = GraphBuilder()
    x, prior = start(build)
    buffer = build.call(aten.relu.default, x)
    build.call(aten.copy_.default, buffer, prior)
    read = build.call(aten.neg.default, buffer)
    way = prior
    for _ in range(steps):
        way = build.call(aten.exp.default, way)
    assert pinned_by(build.module(read, way)) == path


def test_a_path_leads_into_the_branch_that_reads_and_out_through_what_takes_the_result() -> None:
    build = RegionBuilder()
    x, prior = start(build)
    for name, read in (("ignores", False), ("reads", True)):
        inner = build.nested()
        given, past = inner.input("given", *X), inner.input("past", *X)
        first = inner.call(aten.mul.Tensor, given, past) if read else inner.call(aten.neg.default, given)
        build.body(name, inner.returning((inner.call(aten.relu.default, given), first)))
    predicate = build.call(aten.gt.Scalar, build.call(aten.sum.default, x), 0)
    call = build.cond(predicate, "ignores", "reads", x, prior)
    module = build.returning((build.call(aten.exp.default, build.item(call, 1)), build.item(call, 0)))
    assert pinned_by(module) == ("cond", "cond.reads/mul", "getitem", "exp", "output")


def test_a_path_goes_round_a_loop_to_the_carry_that_is_taken() -> None:
    build = RegionBuilder()
    x, prior = start(build)
    inner = build.nested()
    hidden, past, row = inner.input("hidden", *X), inner.input("past", *X), inner.input("row", *X)
    doubled = inner.call(aten.mul.Tensor, past, 2)
    results = (inner.call(aten.add.Tensor, hidden, past), doubled, inner.call(aten.neg.default, row))
    build.body("combine", inner.returning(results))
    call = build.scan("combine", [x, prior], [build.call(aten.stack.default, [x, x])])
    assert pinned_by(build.returning((build.item(call, 0),))) == ("scan", "scan/add", "getitem", "output")


def test_a_path_leads_to_the_condition_of_a_loop() -> None:
    build = RegionBuilder()
    x, prior = start(build)
    for name in ("condition", "step"):
        inner = build.nested()
        hidden, past = inner.input("hidden", *X), inner.input("past", *X)
        goes_on = inner.call(aten.gt.Scalar, inner.call(aten.sum.default, past), 0)
        build.body(name, inner.returning(goes_on if name == "condition" else (inner.call(aten.neg.default, hidden),)))
    call = build.while_loop("condition", "step", [x], prior)
    assert pinned_by(build.returning((build.item(call, 0),)))[:3] == (
        "while_loop", "while_loop.condition/sum_1", "while_loop.condition/gt",
    )  # fmt: skip


def test_of_two_that_take_one_result_the_later_is_named() -> None:
    build = RegionBuilder()
    x, prior = start(build)
    inner = build.nested()
    given, past = inner.input("given", *X), inner.input("past", *X)
    build.body("layer", inner.returning((inner.call(aten.add.Tensor, given, past),)))
    call = build.call_module("layer", x, prior)
    first = build.call(aten.exp.default, build.item(call, 0))
    assert pinned_by(build.returning((first, build.item(call, 0)))) == ("layer", "layer/add", "getitem_1", "output")

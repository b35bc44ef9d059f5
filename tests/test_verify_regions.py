"""The verifier on nested graphs, markers and contracted operators: what may change with them, and what may not.

Every pruned graph here is made by hand, so that the verifier is tested without the pass.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from passes import PrunePrefixCache, PruneVerificationError, register_contract, register_marker, verify_prune
from passes.verify import correspondence, judgement
from tests.support.prunes import assert_same_behaviour
from tests.support.regions import (
    RegionBuilder,
    erase,
    keep_values,
    node,
    set_args,
    set_results,
    sharing_copy,
)

aten = torch.ops.aten
higher_order = torch.ops.higher_order
Edit = Callable[[GraphModule], None]
SHAPE = (3, 2, 16, 8)

_LIBRARY = torch.library.Library("verifylib", "DEF")


def _define(schema: str, body: Callable[..., object], fake: Callable[..., object] | None = None) -> None:
    name = schema.split("(")[0]
    _LIBRARY.define(schema)
    torch.library.impl(_LIBRARY, name, "CompositeExplicitAutograd")(body)
    torch.library.register_fake(f"verifylib::{name}", fake or body, lib=_LIBRARY)


def _fill(into: Tensor, x: Tensor) -> None:
    into.copy_(x)


_define("mark(Tensor[] lanes, int id) -> Tensor[]", lambda lanes, id: [lane.clone() for lane in lanes])  # noqa: A006
_define("mark_pair(Tensor a, Tensor b) -> (Tensor, Tensor)", lambda a, b: (a.clone(), b.clone()))
_define("unmarked(Tensor[] lanes, int id) -> Tensor[]", lambda lanes, id: [lane.clone() for lane in lanes])  # noqa: A006
_define("fill(Tensor(a!) into, Tensor x) -> ()", _fill, lambda into, x: None)
_define("unknown_fill(Tensor(a!) into, Tensor x) -> ()", _fill, lambda into, x: None)
verifylib = torch.ops.verifylib


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    with ExitStack() as stack:
        for registration in (
            register_marker("verifylib::mark"),
            register_marker("verifylib::mark_pair"),
            register_contract("verifylib::fill", reads={"x"}),
        ):
            stack.callback(registration.remove)
        yield


def start() -> tuple[RegionBuilder, Node, Node, Node]:
    """A graph of two inputs `x` and `y` and a site, `permute`, of a pool."""
    build = RegionBuilder()
    x, y = build.input("x", *SHAPE), build.input("y", *SHAPE)
    table = build.input("block_table", 3, 4, dtype=torch.int32)
    return build, x, y, build.site(build.parameter("past_key_values.0", 10, 4, 2, 8), table)


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    """Inputs of a graph of `start`."""
    torch.manual_seed(0)
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


# Markers.


def marker() -> GraphModule:
    build, x, y, prior = start()
    return finish(build, build.call(verifylib.mark.default, [prior, x, y], 7))


def prune_marker(module: GraphModule) -> None:
    set_args(module, "mark", ["x", "y"], 7)
    renumber(module, "mark")
    drop_site(module)


def fixed_marker() -> GraphModule:
    build, x, y, prior = start()
    call = build.call(verifylib.mark_pair.default, prior, build.call(aten.add.Tensor, x, y))
    build.item(call, 0)
    return build.module(build.call(aten.neg.default, build.item(call, 1)))


def prune_fixed_marker(module: GraphModule) -> None:
    erase(module, "getitem")
    set_args(module, "mark_pair", "add", "add")
    drop_site(module)


# A contracted operator that writes only the site.


def contracted() -> GraphModule:
    build, x, y, prior = start()
    build.call(verifylib.fill.default, prior, x)
    return build.module(build.call(aten.add.Tensor, x, y))


def prune_contracted(module: GraphModule) -> None:
    erase(module, "fill")
    drop_site(module)


@dataclass(frozen=True)
class Case:
    """A graph, and how to prune it by hand."""

    before: Callable[[], GraphModule]
    prune: Edit


CASES = {
    case.before.__name__: case
    for case in (
        Case(call_module, prune_call_module),
        Case(two_callers, prune_two_callers),
        Case(split_callers, prune_split_callers),
        Case(dict_results, prune_dict_results),
        Case(invoke_shared, prune_invoke_shared),
        Case(invoke_split, prune_invoke_split),
        Case(cond, prune_cond),
        Case(while_loop, prune_while_loop),
        Case(scan, prune_scan),
        Case(nested, prune_nested),
        Case(folded_size, prune_folded_size),
        Case(dead_region, prune_dead_region),
        Case(bare_result, prune_bare_result),
        Case(marker, prune_marker),
        Case(fixed_marker, prune_fixed_marker),
        Case(contracted, prune_contracted),
    )
}


def pruned(name: str) -> tuple[GraphModule, GraphModule]:
    """The graph of a case before and after."""
    before = CASES[name].before()
    after = sharing_copy(before)
    CASES[name].prune(after)
    after.graph.lint()
    return before, after


@pytest.mark.parametrize("name", CASES)
def test_a_right_prune_is_accepted_and_runs_the_same(name: str) -> None:
    before, after = pruned(name)
    verify_prune(before, after)
    extra = (torch.tensor(0),) if name == "while_loop" else ()
    assert_same_behaviour(before, after, (*inputs(), *extra))


@pytest.mark.parametrize("name", CASES)
def test_a_graph_is_verified_against_itself(name: str) -> None:
    before = CASES[name].before()
    verify_prune(before, sharing_copy(before))


# What no prune may do: (case, what is done to the right result, what the refusal says).


def put(name: str, *args: object) -> Edit:
    """Gives a node of the outermost graph other arguments."""
    return lambda module: set_args(module, name, *args)


def inside(path: str, edit: Edit) -> Edit:
    """An edit of a nested graph."""
    return lambda module: edit(module.get_submodule(path))


def all_of(*edits: Edit) -> Edit:
    def edit(module: GraphModule) -> None:
        for step in edits:
            step(module)

    return edit


def without(*names: str) -> Edit:
    return lambda module: erase(module, *names)


def results(*values: str) -> Edit:
    """Gives a graph another output."""
    return lambda module: set_results(module, values)


def aim(name: str, target: str) -> Edit:
    """Makes a call_module or get_attr name another module."""
    return lambda module: setattr(node(module, name), "target", target)


def put_back(path: str) -> Edit:
    """Puts the unpruned body of a case where the pruned one was."""

    def edit(module: GraphModule) -> None:
        build = RegionBuilder()
        original = layer(build)
        original.steps = module.get_submodule(path).steps
        module.set_submodule(path, original)

    return edit


def another_parameter(path: str) -> Edit:
    return lambda module: setattr(module.get_submodule(path), "steps", nn.Parameter(torch.zeros(1)))


def renamed_parameter(module: GraphModule) -> None:
    module.layer.register_parameter("rounds", module.layer.steps)
    del module.layer.steps
    node(module.layer, "steps").target = "rounds"


def a_new_parameter(module: GraphModule) -> None:
    module.layer.register_parameter("more", nn.Parameter(torch.zeros(1)))


def a_carry_more(path: str, name: str) -> Edit:
    """Gives a graph an input that it did not have."""

    def edit(module: GraphModule) -> None:
        graph = module.get_submodule(path).graph
        with graph.inserting_before(next(iter(graph.nodes))):
            graph.placeholder(name)

    return edit


def an_insertion(module: GraphModule) -> None:
    with module.graph.inserting_before(node(module, "output")):
        module.graph.call_function(aten.zero_.default, (node(module, "add"),))


def drop_live(operand_call: Edit) -> Edit:
    """The body of `layer` loses `y`, which its sum needs."""
    return all_of(inside("layer", all_of(put("add", "x", "x"), without("y"))), operand_call)


def another_body(module: GraphModule) -> None:
    module.other = sharing_copy(module.layer)
    node(module, "layer").target = "other"


def swap(first: str, second: str) -> Edit:
    def edit(module: GraphModule) -> None:
        node(module, second).append(node(module, first))

    return edit


TAMPERS: tuple[tuple[str, str, Edit, str], ...] = (
    ("call_module", "live_operand", drop_live(put("layer", "x")), r"path %y -> layer:%y -> %add -> %output -> %layer"),
    ("call_module", "operands_swapped", put("layer", "y", "x"), "input %x was given x and now is given y"),
    ("call_module", "operand_not_dropped", put("layer", "x", "x", "y"), "no longer fit together"),
    (
        "call_module",
        "renumbered_wrongly",
        put("getitem", "layer", 1),
        "%getitem: it now takes another result of %layer",
    ),
    ("call_module", "taken_out_of_range", put("getitem", "layer", 2), "%getitem: it took a result of %layer that is"),
    ("call_module", "write", inside("layer", without("add_")), r"%add_ in %layer: it writes the storage of %steps"),
    (
        "call_module",
        "constant",
        inside("layer", put("sub", "x", 4)),
        r"argument 1 became 4.*path layer:%sub -> %output",
    ),
    ("call_module", "float_constant", inside("layer", put("sub", "x", 3.0)), "argument 1 became 3.0"),
    ("call_module", "operator", inside("layer", aim("sub", aten.add.Tensor)), "another computation"),
    ("call_module", "order", inside("layer", swap("add", "sub")), "%sub in %layer: it now runs before %add"),
    ("call_module", "results_swapped", inside("layer", results("sub", "add")), "results are not those before"),
    ("call_module", "result_doubled", inside("layer", results("add", "sub", "sub")), "results are not those before"),
    ("call_module", "live_result", inside("layer", results("add")), "no longer fit|recorded value|that is gone"),
    ("call_module", "another_body", another_body, "layer became other"),
    ("call_module", "body_put_back", put_back("layer"), "no longer fit together"),
    ("call_module", "parameter_replaced", another_parameter("layer"), "parameters changed: steps is another object"),
    ("call_module", "parameter_renamed", renamed_parameter, "parameters changed: steps is gone"),
    ("call_module", "parameter_added", a_new_parameter, "parameters changed: more is new"),
    ("call_module", "input_added", a_carry_more("layer", "z"), "no longer fit together"),
    ("call_module", "insertion", inside("layer", an_insertion), "%zero_.* was inserted"),
    ("call_module", "recorded_value", lambda module: keep_values(module, "layer", 0), "its recorded value"),
    ("call_module", "whole_result", put("output", ("layer",)), "became layer|reads %layer whole"),
    ("two_callers", "keyword", lambda m: setattr(node(m, "layer_1"), "kwargs", {"y": node(m, "y")}), "%y was given x"),
    ("two_callers", "one_caller", put("getitem_2", "layer_1", 1), "%getitem_2: it now takes another result"),
    ("split_callers", "wrong_caller", aim("layer", "layer_pruned"), "no longer fit together"),
    ("split_callers", "right_path", lambda m: setattr(m, "layer", m.layer_pruned), "no longer fit together"),
    (
        "split_callers",
        "parameter",
        another_parameter("layer_pruned"),
        "%layer_1.* parameters changed: steps is another",
    ),
    ("dict_results", "not_renumbered", put("getitem_1", "getitem", 1), "%getitem_1: it now takes another result"),
    ("dict_results", "key", inside("layer", lambda m: set_results(m, {"old": ("add", "sub")})), "not those before"),
    ("invoke_shared", "operand", put("invoke_subgraph_1", "region", "region_0", "x", "y"), "%x was given y"),
    ("invoke_shared", "identifier", put("invoke_subgraph", "region", "region_1", "x", "y"), "no name of a pruned copy"),
    ("invoke_shared", "result_of_one", inside("region", results("add")), "recorded value|that is gone"),
    ("invoke_shared", "write", inside("region", without("add_")), "%add_ in %invoke_subgraph: it writes the storage"),
    (
        "invoke_split",
        "identifier",
        put("invoke_subgraph_1", "region_pruned", "region_0", "getitem", "x"),
        "the identifier region_0 stands for two different graphs",
    ),
    ("invoke_split", "graph", put("invoke_subgraph_1", "region", "region_0", "getitem", "x"), "no longer fit together"),
    (
        "invoke_split",
        "constant",
        inside("region_pruned", put("sub", "x", 4)),
        r"path invoke_subgraph_1:%sub -> %output -> %invoke_subgraph_1 -> %getitem_4 -> %add_2 -> %output",
    ),
    ("cond", "one_branch", put_back("no"), "no longer fit together"),
    ("cond", "another_input", inside("no", aim("x", "z")), "%x in %cond"),
    ("cond", "predicate", put("cond", "x", "yes", "no", ("x", "y")), "it was steered by"),
    ("cond", "branches_swapped", put("cond", "gt", "no", "yes", ("x", "y")), "steps is another object"),
    ("cond", "operands_swapped", put("cond", "gt", "yes", "no", ("y", "x")), "%x was given x and now is given y"),
    ("cond", "one_result", inside("no", results("sub", "add")), "results are not those before"),
    ("cond", "constant", inside("no", put("sub", "x", 4)), "%sub in %cond: argument 1 became 4"),
    (
        "while_loop",
        "carry_not_yielded",
        all_of(inside("body", results("add")), put("while_loop", "steers", "body", ("count", "x"), ("y",))),
        "no longer fit together|not its carries",
    ),
    ("while_loop", "carry_as_operand", put("while_loop", "steers", "body", ("count",), ("x", "y")), "bound in another"),
    ("while_loop", "operand_as_carry", put("while_loop", "steers", "body", ("count", "x", "y"), ()), "no longer fit"),
    ("while_loop", "carries_swapped", inside("body", results("sub", "add")), "results are not those before"),
    (
        "while_loop",
        "start_swapped",
        put("while_loop", "steers", "body", ("x", "count"), ("y",)),
        "input %i was given count and now is given x",
    ),
    ("while_loop", "condition", inside("steers", put("lt", "i", 4)), "%lt in %while_loop: argument 1 became 4"),
    (
        "while_loop",
        "condition_reads",
        inside("steers", results("x")),
        "%output in %while_loop: it yields another value",
    ),
    ("while_loop", "not_renumbered", put("getitem", "while_loop", 1), "%getitem: it now takes another result"),
    ("scan", "no_slices", put("scan", "body", ["zeros"], [], ("zeros",)), "no longer fit together"),
    ("scan", "slices_as_operand", put("scan", "body", ["zeros"], [], ("x", "zeros")), "bound in another way"),
    ("scan", "carries_swapped", inside("body", results("div", "add")), "results are not those before"),
    ("scan", "other_slices", put("scan", "body", ["zeros"], ["y"], ("zeros",)), "%x was given x and now is given y"),
    ("scan", "not_renumbered", put("getitem_1", "scan", 0), "%getitem_1: it now takes another result"),
    ("nested", "inner_constant", inside("middle.inner", put("sub", "x", 4)), "middle:invoke_subgraph:%sub -> %output"),
    ("nested", "inner_write", inside("middle.inner", without("add_")), "%add_ in %invoke_subgraph in %middle"),
    ("nested", "inner_not_renumbered", inside("middle", put("getitem_1", "invoke_subgraph", 1)), "in %middle: it now"),
    (
        "nested",
        "inner_operands",
        inside("middle", put("invoke_subgraph", "inner", "inner_0", "c", "a")),
        "%x was given",
    ),
    ("nested", "parameter", another_parameter("middle.inner"), "parameters changed"),
    ("folded_size", "wrong_size", inside("layer", put("mul_1", "x", 15)), "%prior|argument 1 became 15"),
    ("folded_size", "a_float", inside("layer", put("mul_1", "x", 16.0)), "argument 1 became 16.0"),
    ("bare_result", "taken", put("output", ("layer",)), "became|reads %layer whole"),
    ("dead_region", "live_region", all_of(put("getitem_1", "x", 0)), "became"),
    ("marker", "not_renumbered", put("getitem", "mark", 1), "%getitem: it now takes another result of %mark"),
    ("marker", "lanes_swapped", put("mark", ["y", "x"], 7), "its lanes are not those before"),
    ("marker", "live_lane", put("mark", ["x"], 7), "that is gone"),
    ("marker", "identity", put("mark", ["x", "y"], 8), "became"),
    ("fixed_marker", "live_lane", put("mark_pair", "x", "x"), "its lanes are not those before|another result"),
    ("fixed_marker", "other_operand", put("mark_pair", "x", "add"), "its lanes are not those before"),
    ("contracted", "operand", put("add", "x", "x"), "argument 1 became x"),
)


@pytest.mark.parametrize(
    ("name", "tamper", "message"), [pytest.param(c, t, m, id=f"{c}-{i}") for c, i, t, m in TAMPERS]
)
def test_a_wrong_prune_is_rejected(name: str, tamper: Edit, message: str) -> None:
    before, after = pruned(name)
    tamper(after)
    with pytest.raises(PruneVerificationError, match=message):
        verify_prune(before, after)


# Graphs that look like a case, of which the case's prune is wrong.


def changed(before: Callable[[], GraphModule], edit: Edit) -> Callable[[], GraphModule]:
    """A case's graph before, changed."""

    def build() -> GraphModule:
        module = before()
        edit(module)
        return module

    return build


def add_call(target: object, *args: str, name: str) -> Edit:
    """Adds a call before the output of a graph, whose arguments are nodes."""

    def edit(module: GraphModule) -> None:
        operands = tuple(node(module, arg) if isinstance(arg, str) else arg for arg in args)
        with module.graph.inserting_before(node(module, "output")):
            made = module.graph.create_node("call_function", target, operands, name=name)  # type: ignore[arg-type]
        made.meta = dict(operands[0].meta)
        module.recompile()

    return edit


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


def prune_write_first(prune: Edit, path: str) -> Edit:
    """A prune that takes a node called `extra` out of a graph before all else."""
    return all_of(inside(path, without("extra")) if path else without("extra"), prune)


def dead_loop() -> GraphModule:
    """A loop whose results nobody takes."""
    build, x, y, prior = start()
    count = build.input("count", dtype=torch.int64)
    steers, body = build.nested(), build.nested()
    for inner in (steers, body):
        inner.input("i", dtype=torch.int64), inner.input("prior", *SHAPE)
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


WRONG: tuple[tuple[str, Callable[[], GraphModule], Edit, str], ...] = (
    (
        "one_caller_takes_the_result",
        changed(two_callers, taken_by_one),
        all_of(put("taken", "layer_1", 0), prune_two_callers),
        "%taken: it took a result|%taken: it now takes another result of %layer_1",
    ),
    (
        "operand_read_in_the_body",
        changed(call_module, inside("layer", put("add", "x", "prior"))),
        all_of(inside("layer", put("add", "x", "x")), prune_call_module),
        r"path %permute -> layer:%prior -> %add -> %output -> %layer -> %getitem -> %add -> %output",
    ),
    (
        "operand_written_in_the_body",
        changed(call_module, inside("layer", add_call(aten.zero_.default, "prior", name="extra"))),
        prune_write_first(prune_call_module, "layer"),
        "%extra in %layer: it writes the storage of %prior, which outlives it",
    ),
    (
        "write_through_a_view_in_the_body",
        changed(
            call_module,
            inside(
                "layer",
                all_of(
                    add_call(aten.detach.default, "x", name="extra_view"),
                    add_call(aten.zero_.default, "extra_view", name="extra"),
                ),
            ),
        ),
        prune_write_first(all_of(inside("layer", without("extra_view")), prune_call_module), "layer"),
        "%extra in %layer: it writes the storage of %x, which outlives it",
    ),
    (
        "random_in_the_body",
        changed(call_module, inside("layer", add_call(aten.bernoulli.default, "x", name="extra"))),
        prune_write_first(prune_call_module, "layer"),
        "%extra in %layer: it draws random numbers",
    ),
    (
        "one_branch_reads",
        changed(cond, inside("no", put("add", "prior", "y"))),
        all_of(inside("no", put("add", "x", "y")), prune_cond),
        "path %permute -> cond:%prior -> %add",
    ),
    (
        "carry_steers_the_loop",
        changed(while_loop, inside("steers", put("lt", "prior", 3))),
        all_of(inside("steers", put("lt", "i", 3)), prune_while_loop),
        "path %permute -> while_loop:%prior -> %lt -> %output -> %while_loop",
    ),
    (
        "carry_feeds_another",
        changed(while_loop, inside("body", put("sub", "x", "prior"))),
        all_of(inside("body", put("sub", "x", "y")), prune_while_loop),
        "path %permute -> while_loop:%prior -> %sub",
    ),
    (
        "carries_are_swapped",
        changed(while_loop, inside("body", results("sub", "add", "mul"))),
        prune_while_loop,
        "its results are not those before less some",
    ),
    (
        "carries_are_swapped_and_both_stay_named",
        changed(while_loop, inside("body", results("sub", "add", "mul"))),
        all_of(inside("body", results("add", "mul")), lambda m: None, prune_while_loop),
        "its results are not those before less some",
    ),
    (
        "scan_carry_feeds_another",
        changed(scan, inside("body", put("add", "total", "dead"))),
        all_of(inside("body", put("add", "total", "x")), prune_scan),
        "scan:%dead -> %add",
    ),
    ("the_last_slices", only_slices, prune_only_slices, "nothing is left that says how many rounds it runs"),
    (
        "inner_result_is_returned",
        changed(nested, lambda m: add_call(operator.getitem, "middle", 0, name="taken")(m)),
        all_of(put("taken", "middle", 0), prune_nested),
        "%taken: it now takes another result of %middle",
    ),
    ("folded_for_another_shape", two_shapes, prune_two_shapes, "holds for another tensor than the call gives"),
    (
        "dead_region_writes_its_operand",
        changed(dead_region, inside("dead", put("mul_", "b", "b"))),
        prune_dead_region,
        "%dead: its graph runs %mul_, which writes the storage of %b",
    ),
    (
        "dead_region_draws",
        changed(dead_region, inside("dead", add_call(aten.bernoulli.default, "a", name="extra"))),
        prune_dead_region,
        "%dead: its graph runs %extra, and of that: it draws random numbers",
    ),
    (
        "dead_region_calls_an_unknown_operator",
        changed(dead_region, inside("dead", add_call(verifylib.unknown_fill.default, "a", "b", name="extra"))),
        prune_dead_region,
        "%dead: its graph runs %extra, and of that: nothing is known of the operator",
    ),
    (
        "write_to_a_region_result_that_is_an_operand",
        changed(dead_region, inside("dead", results("b"))),
        prune_dead_region,
        "%zero_: it writes the storage of %x, which outlives it",
    ),
    (
        "dead_loop",
        dead_loop,
        all_of(without("while_loop", "body", "steers"), drop_site),
        "%while_loop: it is a loop, which may not end",
    ),
    (
        "marker_removed",
        changed(fixed_marker, results("add")),
        all_of(without("neg", "getitem_1", "getitem", "mark_pair"), drop_site),
        "%mark_pair: it is a boundary marker, which stays",
    ),
    (
        "marker_without_lanes",
        changed(marker, all_of(results("x"), without("add", "getitem_1", "getitem"))),
        all_of(put("mark", [], 7), drop_site),
        "its lanes are not those before less some",
    ),
    (
        "marker_lane_is_taken",
        changed(marker, put("getitem", "mark", 0)),
        prune_marker,
        "%getitem: it now takes another result of %mark",
    ),
    ("graph_of_an_unknown_operator", shared_with_an_unknown_operator, prune_call_module, "it reads another object"),
    ("bare_result_is_taken", changed(bare_result, bare_taken), prune_bare_result, "%add: it reads %layer whole"),
    ("unregistered_lanes", changed(marker, unregistered(verifylib.unmarked.default)), prune_marker, "became"),
    (
        "unknown_operator",
        changed(contracted, unregistered(verifylib.unknown_fill.default)),
        prune_contracted,
        "%fill: nothing is known of the operator verifylib.unknown_fill.default",
    ),
    (
        "contracted_write_to_an_input",
        changed(contracted, put("fill", "y", "x")),
        prune_contracted,
        "%fill: it writes the storage of %y, which outlives it",
    ),
    (
        "contracted_write_is_read",
        changed(contracted, site_output),
        all_of(site_output, without("fill")),
        "%fill: it writes the storage of %permute, which outlives it",
    ),
)


@pytest.mark.parametrize(("before", "prune", "message"), [pytest.param(*case[1:], id=case[0]) for case in WRONG])
def test_what_is_right_elsewhere_is_rejected_here(before: Callable[[], GraphModule], prune: Edit, message: str) -> None:
    module = before()
    after = sharing_copy(module)
    prune(after)
    with pytest.raises(PruneVerificationError, match=message):
        verify_prune(module, after)


def test_a_graph_is_judged_once_however_many_calls_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[GraphModule] = []

    def correspond(before: GraphModule, after: GraphModule, within: object) -> object:
        judged.append(before)
        return correspondence.correspond(before, after, within)  # type: ignore[arg-type]

    monkeypatch.setattr(judgement, "correspond", correspond)
    before, after = pruned("invoke_shared")
    verify_prune(before, after)
    assert judged == [before, before.region]


def test_the_report_of_the_pass_must_say_what_changed_in_regions() -> None:
    before = changed(invoke_shared, lambda module: None)()
    result = PrunePrefixCache(policy="liveness")(before)
    report = result.report
    assert report.summary["gathers_after"] == 0 and len(report.regions) == 2
    verify_prune(before, result.graph_module, report)
    first = report.regions[0]
    for wrong, message in (
        (replace(report, regions=report.regions[1:]), "%invoke_subgraph: its graph region changed, but the report"),
        (replace(report, regions=(*report.regions, first)), "says that region changed with invoke_subgraph, but"),
        (replace(report, regions=(replace(first, operands=()), *report.regions[1:])), "wrong about the inputs"),
        (replace(report, regions=(replace(first, results=(1,)), *report.regions[1:])), "wrong about the results"),
        (replace(report, regions=(replace(first, becomes="else"), *report.regions[1:])), "wrong about the path"),
        (replace(report, regions=(replace(first, removed=()), *report.regions[1:])), "was removed, but the report"),
    ):
        with pytest.raises(PruneVerificationError, match=message):
            verify_prune(before, result.graph_module, wrong)

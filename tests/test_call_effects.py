"""What one call does besides computing: what it writes, what its result may share, why it must stay."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch.fx import Graph, Node

from passes.facts import graph_facts
from passes.ops.effects import Effects, effects, opaque_effects
from passes.ops.schema import resolve
from passes.registration import DEFAULT_CONTRACTS
from tests.cases import ops
from tests.support.builder import GraphBuilder
from tests.support.regions import RegionBuilder

aten = torch.ops.aten


def of(target: Any, *args: Any, **kwargs: Any) -> Effects:
    """Effects of a call on the inputs that `args` names."""
    graph = Graph()
    given = tuple(graph.placeholder(arg) if arg in ("x", "y", "z") else arg for arg in args)
    if isinstance(target, str):
        return effects(resolve(graph.call_method(target, given, kwargs)))
    return effects(resolve(graph.call_function(target, given, kwargs)))


def names(nodes: tuple[Node, ...]) -> str:
    return " ".join(node.name for node in nodes)


@pytest.mark.parametrize(
    ("target", "args", "writes", "aliases"),
    [
        (aten.add.Tensor, ("x", "y"), "", ""),
        (aten.add_.Tensor, ("x", "y"), "x", "x"),
        (operator.iadd, ("x", "y"), "x", "x"),
        ("copy_", ("x", "y"), "x", "x"),
        (operator.setitem, ("x", 0, "y"), "x", ""),
        (aten.view.default, ("x", [-1]), "", "x"),
        (aten._unsafe_view.default, ("x", [-1]), "", "x"),
        ("reshape", ("x", -1), "", "x"),
        ("contiguous", ("x",), "", "x"),
        ("expand_as", ("x", "y"), "", "x"),
        ("float", ("x",), "", "x"),
        (torch.matmul, ("x", "y"), "", ""),
        (torch.take_along_dim, ("x", "y", 0), "", ""),
        (aten.clone.default, ("x",), "", ""),
        (aten.mul.out, ("x", "y"), "", ""),
        (operator.getitem, ("x", 0), "", "x"),
        (getattr, ("x", "T"), "", "x"),
        (getattr, ("x", "shape"), "", ""),
        (F.relu, ("x",), "", ""),
        (F.relu, ("x", True), "x", ""),
        (F.embedding, ("x", "y"), "", ""),
        (F.embedding, ("x", "y", None, 1.0), "y", ""),
        ("element_size", ("x",), "", ""),
    ],
)
def test_a_call_writes_and_shares(target: Any, args: tuple[Any, ...], writes: str, aliases: str) -> None:
    found = of(target, *args)
    assert found.reason is None and not found.opaque
    assert names(found.writes) == writes
    assert set(writes.split()) <= {"x", "y"} and set(aliases.split()) <= set(names(found.aliases).split())
    if not aliases and not writes:
        assert found.aliases == ()


def test_an_index_of_tensors_copies_and_any_other_index_is_a_view() -> None:
    build = GraphBuilder()
    x = build.input("x", 3, 4)
    vector, number = build.input("v", 2, dtype=torch.int64), build.input("n", dtype=torch.int64)
    for index, copies in ((vector, True), ((0, vector), True), (number, False), (slice(None), False), (0, False)):
        call = resolve(build.graph.call_function(operator.getitem, (x, index)))
        assert (effects(call).aliases == ()) == copies


@pytest.mark.parametrize(
    ("target", "args", "kwargs", "reason"),
    [
        (aten.rand_like.default, ("x",), {}, "random"),
        (aten.bernoulli.default, ("x",), {}, "random"),
        ("bernoulli", ("x",), {}, "random"),
        (F.dropout, ("x",), {}, "random"),
        (F.dropout, ("x", 0.5, False), {}, None),
        (F.dropout, ("x", 0), {}, None),
        (aten.dropout.default, ("x", 0.5, True), {}, "random"),
        (aten.dropout.default, ("x", 0.5, False), {}, None),
        (F.scaled_dot_product_attention, ("x", "y", "z"), {"dropout_p": 0.5}, "random"),
        (F.scaled_dot_product_attention, ("x", "y", "z"), {}, None),
        (aten._assert_async.default, ("x",), {}, "asserts"),
        (aten.relu.default, ("x",), {}, None),
    ],
)
def test_a_call_that_draws_or_asserts_must_stay(
    target: Any, args: tuple[Any, ...], kwargs: dict[str, Any], reason: str | None
) -> None:
    found = of(target, *args, **kwargs).reason
    assert found is None if reason is None else found is not None and reason in found


@pytest.mark.parametrize(
    ("target", "args"),
    [
        (ops.attend_unknown, ("x", "y")),
        (len, ("x",)),
        ("unknown_method", ("x",)),
        ("unsqueeze_", ("x", 0)),
        (aten.resize_.default, ("x", [3])),
        (aten.native_batch_norm.default, ("x", None, None, "y", "z", True, 0.1, 1e-5)),
        (getattr, ("x", "grad")),
        (torch.ops._c10d_functional.wait_tensor.default, ("x",)),
    ],
)
def test_of_other_calls_the_worst_is_assumed(target: Any, args: tuple[Any, ...]) -> None:
    found = of(target, *args)
    assert found.opaque and found.reason


def test_an_opaque_call_writes_shares_and_keeps_all_that_it_is_given() -> None:
    graph = Graph()
    x, y = graph.placeholder("x"), graph.placeholder("y")
    node = graph.call_function(ops.attend_unknown, (x, y))
    found = opaque_effects(resolve(node), node)
    assert (found.opaque, found.writes, found.aliases, found.keeps) == (True, (x, y), (x, y), True)
    known = graph.call_function(aten.relu.default, (x,))
    assert opaque_effects(resolve(known), known) == Effects()


Bodies = Callable[[RegionBuilder, Node, Node], Any]


def of_body(results: Bodies, *, scanned: bool = False) -> tuple[Effects, tuple[Node, Node]]:
    """Effects of a call of a graph of two inputs, and what it is given for them."""
    build = RegionBuilder()
    given = build.input("x", 3, 4), build.input("y", 3, 4)
    inner = build.nested()
    a, b = inner.input("a", 3, 4), inner.input("b", *((4,) if scanned else (3, 4)))
    build.body("body", inner.returning(results(inner, a, b)))
    call = build.scan("body", given[:1], given[1:]) if scanned else build.call_module("body", *given)
    return graph_facts(build.returning((build.item(call, 0),)), DEFAULT_CONTRACTS)[call].effects, given


def test_a_call_of_a_graph_that_only_computes_has_no_effect() -> None:
    for scanned in (False, True):
        found, _ = of_body(lambda build, a, b: (build.call(aten.neg.default, a),), scanned=scanned)
        assert found == Effects()


def test_a_call_of_a_graph_must_stay_if_something_in_it_must() -> None:
    found, _ = of_body(lambda build, a, b: (build.call(aten.neg.default, a), build.call(aten.rand_like.default, b)))
    assert found.reason == "runs %rand_like, which draws random numbers"


def test_a_call_of_a_graph_writes_the_operands_that_it_writes() -> None:
    found, (_, y) = of_body(lambda build, a, b: (build.call(aten.neg.default, a), build.call(aten.add_.Tensor, b, 1)))
    assert found.writes == (y,) and found.aliases == (y,)
    assert found.reason == "runs %add_, which writes storage that outlives it"


def test_a_result_may_be_an_operand_and_in_a_loop_any_of_them() -> None:
    found, (x, _) = of_body(lambda build, a, b: (build.call(aten.t.default, a), build.call(aten.neg.default, b)))
    assert found.aliases == (x,) and found.writes == () and not found.keeps
    found, given = of_body(lambda build, a, b: (a, build.call(aten.neg.default, b)), scanned=True)
    assert found.aliases == given


def test_a_result_that_is_a_parameter_of_the_graph_is_kept_by_it() -> None:
    found, _ = of_body(lambda build, a, b: (build.parameter("weight", 3, 4),))
    assert found.keeps

"""What the random graphs of tests/fuzz found, each as a small graph: cases of the pass, of the verifier, of neither."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.fx import GraphModule

from passes import PruneVerificationError, verify_prune
from tests.fuzz import kernels
from tests.support.builder import GraphBuilder
from tests.support.regions import erase, node, sharing_copy
from tests.test_regions import Decode, X, graph_at, pruned

aten = torch.ops.aten


def test_a_changed_copy_of_a_graph_holds_the_very_same_parameters() -> None:
    """Seed 556: the copy beside a shared graph has the parameter once more, under a path of its own."""
    build = Decode()
    inner = build.nested()
    x, prior = inner.input("x", *X), inner.input("prior", *X)
    scale = inner.parameter("scale", *X)
    build.body("layer", inner.returning((inner.call(aten.add.Tensor, x, scale), inner.call(aten.neg.default, prior))))
    first, second = (build.invoke(build.graph_of("layer"), "layer", build.x, given) for given in (build.prior, build.x))
    module = build.returning((build.item(first, 0), build.item(second, 0), build.item(second, 1)))
    after, _ = pruned(module)
    assert after.get_parameter("layer_pruned.scale") is module.get_parameter("layer.scale")
    assert list(dict(after.named_parameters())) == list(dict(module.named_parameters()))


@pytest.mark.parametrize(("function", "is_left"), [(torch.full, False), (lambda sizes, value: None, True)])
def test_sizes_given_as_one_node_before_other_arguments_are_understood(function: Any, is_left: bool) -> None:
    """Seed 12517: `torch.full(%size, 2.0)`, its sizes taken for the first of several numbers, counted as unknown."""
    build = Decode()
    size = build.graph.call_function(getattr, (build.prior, "shape"), name="size")
    size.meta["val"] = build.prior.meta["val"].shape
    build.graph.call_function(function, (size, 2.0), name="made")
    after, report = pruned(build.returning((build.x,)))
    assert report.summary["gathers_after"] == 0
    assert any(found.name == "made" for found in after.graph.nodes) == is_left


@pytest.mark.parametrize("attribute", ["data", "real", "mT", "shape"])
def test_a_tensor_is_no_size_that_another_could_be_put_for(attribute: str) -> None:
    """Seed 295: `x.data` was compared with its stand-in as a number, and torch raised an error."""

    def graph(kept: bool) -> GraphModule:
        build = GraphBuilder()
        x, y = build.input("x", 2, 2), build.input("y", 2, 2)
        taken = build.graph.call_function(getattr, (x, attribute), name="taken")
        taken.meta["val"] = getattr(x.meta["val"], attribute)
        if not kept:
            build.graph.erase_node(taken)
        return build.module(taken if kept else y)

    with pytest.raises(PruneVerificationError, match="became y"):
        verify_prune(graph(True), graph(False))


def test_an_input_that_happened_to_hold_a_number_is_not_that_number() -> None:
    """A size of 2 may become the constant 2, not an input that was 2 when the graph was traced."""

    def graph(*, folded: bool, constant: bool = False) -> GraphModule:
        build = GraphBuilder()
        x, n = build.input("x", 2, 2), build.graph.placeholder("n")
        n.meta["val"] = 2
        size = None if folded else build.call(aten.sym_size.int, x, 0)
        return build.module(build.call(aten.mul.Tensor, x, size or (2 if constant else n)))

    verify_prune(graph(folded=False), graph(folded=True, constant=True))
    with pytest.raises(PruneVerificationError, match="argument 1 became n"):
        verify_prune(graph(folded=False), graph(folded=True))


def bare(prior_is_read: bool = False) -> GraphModule:
    """A graph that writes a pool and yields one bare value, of which its caller needs the shape."""
    build = Decode()
    inner = build.nested()
    pool, prior = inner.input("pool", 10, 4, 2, 8), inner.input("prior", *X)
    inner.call(aten.zero_.default, pool)
    build.body("store", inner.returning(inner.call(aten.neg.default, prior)))
    stored = build.call_module("store", build.pool, build.prior)
    made = build.call(aten.mul.Tensor if prior_is_read else aten.ones_like.default, stored, *[0] * prior_is_read)
    return build.returning((build.call(aten.add.Tensor, build.x, made),))


def test_a_bare_result_may_go_if_only_its_shape_was_taken() -> None:
    """Seed 1000814: the verifier refused `ones_like` of a result that the nested graph no longer yields."""
    after, report = pruned(bare())
    assert report.summary["gathers_after"] == 0
    assert graph_at(after, "store").graph.output_node().args == (None,)
    assert pruned(bare(prior_is_read=True))[1].summary["gathers_after"] == 1


@pytest.mark.parametrize(
    ("other", "message"), [("store", "whole, whose results changed"), ("x", "argument 0 became x")]
)
def test_a_call_that_still_takes_a_result_that_is_gone_is_rejected(other: str, message: str) -> None:
    before = bare()
    after, _ = pruned(before)
    made = node(after, "ones_like")
    made.target, made.args, made.kwargs = aten.ones_like.default, (node(after, other),), {}
    with pytest.raises(PruneVerificationError, match=message):
        verify_prune(before, after)


@pytest.mark.parametrize("sizes", [[-1], [0, 1], [1]])
def test_a_factory_of_another_size_is_rejected(sizes: list[int]) -> None:
    """FakeTensor takes -1 for 0, and torch raises when the graph runs."""

    def graph(made: list[int] | None) -> GraphModule:
        build = GraphBuilder()
        x = build.input("x", 0)
        module = build.module(build.call(aten.empty_like.default, x))
        if made is not None:
            call = node(module, "empty_like")
            call.target, call.args, call.kwargs = aten.empty.memory_format, (made,), {"dtype": torch.float32}
        return module

    verify_prune(graph(None), graph([0]))
    with pytest.raises(PruneVerificationError, match=r"negative size|its shape becomes"):
        verify_prune(graph(None), graph(sizes))


def test_a_stand_in_of_a_negative_size_is_rejected() -> None:
    """Seed 3001758: of a tensor that stands for an unread operand the verifier asked only what makes it."""
    build = Decode()
    before = build.returning((build.call(kernels.strict, build.x, build.prior, build.x, build.x, 0, 0),))
    after, _ = pruned(before)
    (made,) = (found for found in after.graph.nodes if found.target is aten.empty.memory_format)
    assert made.args == ([0],)
    made.args = ([-1],)
    with pytest.raises(PruneVerificationError, match="negative size"):
        verify_prune(before, after)


@pytest.mark.parametrize("name", ["view_as", "reshape_as", "expand_as", "type_as"])
@pytest.mark.parametrize("into_pool", [False, True])
def test_a_write_through_a_view_writes_its_first_operand_only(name: str, into_pool: bool) -> None:
    """Seed 2003821: a dead write through `view_as(copy, kept)` was refused as one to `kept`."""
    build = Decode()
    kept = build.call(aten.neg.default, build.pool)
    target = build.pool if into_pool else build.call(aten.clone.default, build.pool)
    build.call(aten.zero_.default, build.call(getattr(aten, name).default, target, kept))
    before = build.returning((build.x, kept))
    after = sharing_copy(before)
    erase(after, "zero_", name, *[] if into_pool else ["clone"])
    if into_pool:
        with pytest.raises(PruneVerificationError, match="which outlives it"):
            verify_prune(before, after)
    else:
        verify_prune(before, after)

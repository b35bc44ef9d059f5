"""Calls that read only metadata of the site: what they become, and when the site stays for them."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx import Graph, GraphModule, Node
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, StatelessSymbolicContext

from passes import PrunePrefixCache, PruneResult
from passes.demand.shapes import ShapeRoots
from passes.rewrites import NewCall
from tests.support.builder import GraphBuilder, decode_inputs
from tests.support.prunes import check_prune

aten = torch.ops.aten
X = (3, 2, 16, 8)
Use = Callable[[GraphBuilder, Node, Node], Any]


def graph_of(use: Use) -> GraphModule:
    """A graph that returns what `use` makes of `x` and the site."""
    build = GraphBuilder()
    x, table = build.input("x", *X), build.input("active_block_table", 3, 4, dtype=torch.int32)
    return build.module(use(build, x, build.site(build.parameter("past_key_values.0", 10, 4, 2, 8), table)))


def pruned(use: Use) -> PruneResult:
    return check_prune(graph_of(use), decode_inputs(), policy="liveness")


def untraced(build: GraphBuilder, target: Any, *args: Any) -> Node:
    """A call without a value of its own."""
    return build.graph.call_function(target, args)


@pytest.mark.parametrize(
    ("name", "value"),
    [("shape", torch.Size(X)), ("dtype", torch.float32), ("device", torch.device("cpu")), ("ndim", 4)],
)
def test_an_attribute_becomes_a_constant(name: str, value: Any) -> None:
    result = pruned(lambda build, x, prior: untraced(build, builtins.getattr, prior, name))
    assert [site.status for site in result.report.sites] == ["pruned"]
    (found,) = result.graph_module(*decode_inputs())
    assert found == value


@pytest.mark.parametrize(
    ("target", "args", "value"),
    [
        (aten.sym_size.int, (-1,), 8),
        (aten.sym_size.int, (-4,), 3),
        (aten.sym_size.int, (3,), 8),
        (aten.sym_stride.int, (1,), 8),
        (aten.sym_numel.default, (), 768),
        (aten.dim.default, (), 4),
    ],
)
def test_a_size_becomes_a_constant(target: Any, args: tuple[int, ...], value: int) -> None:
    result = pruned(lambda build, x, prior: build.call(target, prior, *args))
    assert result.report.sites[0].status == "pruned"
    assert result.graph_module.graph.output_node().args == ((value,),)


@pytest.mark.parametrize("dim", [-5, 4, 5])
def test_a_size_at_a_dimension_that_is_not_there_keeps_the_site(dim: int) -> None:
    module = graph_of(lambda build, x, prior: untraced(build, aten.sym_size.int, prior, dim))
    (site,) = PrunePrefixCache(policy="liveness")(module).report.sites
    assert site.status == "live" and "was not traced" in site.reason


@pytest.mark.parametrize(
    ("asserted", "goes"),
    [
        ((list(X), None, None), True),
        ((list(X), [256, 8, 16, 1], torch.float32), True),
        (([3, 2, 8, 16], None, None), False),
        ((None, [256, 128, 8, 1], None), False),
        ((None, None, torch.float16), False),
        ((list(X), None, torch.float16), False),
        (([3, 2, 16], None, None), False),
    ],
)
def test_an_assertion_goes_only_if_the_trace_proves_all_of_it(asserted: tuple[Any, ...], goes: bool) -> None:
    def use(build: GraphBuilder, x: Node, prior: Node) -> Node:
        untraced(build, aten._assert_tensor_metadata.default, prior, *asserted)
        return x

    (site,) = PrunePrefixCache(policy="liveness")(graph_of(use)).report.sites
    assert site.status == ("pruned" if goes else "live")
    assert goes or "does not prove" in site.reason


@pytest.mark.parametrize(("size", "left"), [([12], []), ([11], ["view", "_assert_tensor_metadata"])])
def test_an_assertion_of_what_only_the_site_used_goes_with_it_if_it_is_proven(size: list[int], left: list[str]) -> None:
    """Otherwise it stays, and what it asserts something of; the site goes all the same."""

    def use(build: GraphBuilder, x: Node, prior: Node) -> Node:
        index = next(node for node in build.graph.nodes if node.target is aten.index_select.default).args[2]
        untraced(build, aten._assert_tensor_metadata.default, index, size)
        return x

    result = PrunePrefixCache(policy="liveness")(graph_of(use))
    assert result.report.sites[0].status == "pruned"
    calls = [node for node in result.graph_module.graph.nodes if node.op == "call_function"]
    assert [node.target._schema.name.removeprefix("aten::") for node in calls] == left


@pytest.mark.parametrize("layout", [{"device": torch.device("meta")}, {"layout": torch.sparse_coo}])
def test_an_assertion_of_another_device_or_layout_stays(layout: dict[str, Any]) -> None:
    def use(build: GraphBuilder, x: Node, prior: Node) -> Node:
        build.graph.call_function(aten._assert_tensor_metadata.default, (prior,), layout)
        return x

    assert PrunePrefixCache(policy="liveness")(graph_of(use)).report.sites[0].status == "live"


@pytest.mark.parametrize(
    ("target", "args"),
    [
        (aten.zeros_like.default, ()),
        (aten.ones_like.default, ()),
        (aten.full_like.default, (2.5,)),
        (aten.new_zeros.default, ([4, 2],)),
        (aten.new_ones.default, ([4, 2],)),
        (aten.new_full.default, ([4, 2], 7.0)),
    ],
)
@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 2, 1, 3), (3, 1, 0, 2)])
def test_a_factory_keeps_value_strides_and_what_was_recorded(
    target: Any, args: tuple[Any, ...], order: tuple[int, ...]
) -> None:
    """`check_prune` compares values, dtypes and strides; every new node has a value, as the traced ones have."""
    result = pruned(lambda build, x, prior: build.call(target, build.call(aten.permute.default, prior, order), *args))
    assert result.report.sites[0].status == "pruned"
    for node in result.graph_module.graph.nodes:
        if node.op == "call_function" and node.target is not aten.permute.default:
            assert isinstance(node.meta["val"], torch.Tensor)


def test_what_is_like_a_view_with_gaps_is_dense() -> None:
    result = pruned(lambda b, x, prior: b.call(aten.zeros_like.default, b.call(aten.slice.Tensor, prior, 2, 0, 16, 2)))
    assert result.report.sites[0].status == "pruned"


def test_a_fill_value_of_the_site_keeps_it() -> None:
    def use(build: GraphBuilder, x: Node, prior: Node) -> Node:
        fill = build.call(aten.sum.default, prior)
        full = untraced(build, aten.full_like.default, x, fill)
        full.meta["val"] = x.meta["val"]
        return full

    assert PrunePrefixCache(policy="liveness")(graph_of(use)).report.sites[0].status == "live"


@pytest.mark.parametrize(
    ("target", "source"),
    [
        (aten.expand_as.default, [3, 2, 1, 8]),
        (aten.view_as.default, [3, 2, 16, 8]),
        (aten.reshape_as.default, [3, 16, 16]),
        (aten.type_as.default, [3, 2, 16, 8]),
    ],
)
def test_a_call_that_takes_another_tensors_shape_or_dtype_takes_it_as_constants(target: Any, source: list[int]) -> None:
    def use(build: GraphBuilder, x: Node, prior: Node) -> Node:
        return build.call(target, build.call(aten.full.default, source, 1.5, dtype=torch.float64), prior)

    assert pruned(use).report.sites[0].status == "pruned"


def test_a_cast_from_another_device_keeps_the_site() -> None:
    """`type_as` moves to the device of the site as well."""

    def use(build: GraphBuilder, x: Node, prior: Node) -> Node:
        other = build.call(aten.empty.memory_format, list(X), device=torch.device("meta"))
        cast = untraced(build, aten.type_as.default, other, prior)
        cast.meta["val"] = prior.meta["val"]
        return cast

    assert PrunePrefixCache(policy="liveness")(graph_of(use)).report.sites[0].status == "live"


def term(expression: Callable[[Any, Any], Any], *, aten_level: bool = True) -> Any:
    """The term of a size that is `expression` of the two symbolic sizes of an input."""
    dynamic = StatelessSymbolicContext(dynamic_sizes=[DimDynamic.DYNAMIC] * 2)
    mode = FakeTensorMode(shape_env=ShapeEnv(), static_shapes=False)
    x = Graph().placeholder("x")
    x.meta["val"] = mode.from_tensor(torch.empty(6, 4), symbolic_context=dynamic)
    return ShapeRoots(x.graph).term(expression(*x.meta["val"].shape), aten=aten_level)


def evaluated(value: Any, tensor: torch.Tensor) -> Any:
    """What a term yields for an input."""
    if isinstance(value, NewCall):
        args = [evaluated(arg, tensor) for arg in value.args]
        return getattr(args[0], value.target)(*args[1:]) if value.op == "call_method" else value.target(*args)
    return tensor if isinstance(value, Node) else value


@pytest.mark.parametrize("aten_level", [True, False])
@pytest.mark.parametrize(
    "expression",
    [
        lambda a, b: a,
        lambda a, b: b,
        lambda a, b: a + b,
        lambda a, b: a * b + 3,
        lambda a, b: a - b,
        lambda a, b: a * a,
        lambda a, b: a * a * a * b,
        lambda a, b: (a + b) // 3,
    ],
)
def test_a_size_is_computed_from_the_sizes_of_the_inputs(expression: Callable[..., Any], aten_level: bool) -> None:
    found = term(expression, aten_level=aten_level)
    for sizes in ((6, 4), (5, 7), (2, 9)):
        assert evaluated(found, torch.empty(sizes)) == expression(*sizes)


def test_an_expression_of_any_other_operator_is_not_written_out() -> None:
    assert term(lambda a, b: a % b) is None
    assert term(lambda a, b: a + a % b) is None


def test_a_constant_size_is_itself() -> None:
    assert term(lambda a, b: 4) == 4
